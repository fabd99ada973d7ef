/* Exposures in real time: triggers, the edges of ExposureActive, and the way of the pixels into the consumer's buffers.
 *
 * A trigger is judged by the moment of its edge alone: it is missed if that lies before the end of exposure and readout of
 * the frame before. How long the scene takes to render plays no part: exposures that have begun wait in the camera's
 * memory, and are rendered in order. */
#include "camera.h"

#include <string.h>

static int limit_reached_locked(void) { return rk_cam.limit && rk_cam.taken >= rk_cam.limit; }

static uint64_t backlog_locked(void) {
    uint64_t done = rk_cam.rendered < rk_cam.edged ? rk_cam.rendered : rk_cam.edged;
    return rk_cam.taken - done;
}

static void expose_locked(uint32_t source, uint64_t at_ns) {
    rk_camera *c = &rk_cam;
    rk_exposure *e = &c->ring[c->taken % RK_BACKLOG];
    e->id = (c->id_first - 1 + c->taken) % c->id_last + 1; /* 1 follows id_last */
    e->trigger_ns = e->start_ns = at_ns;
    e->exposure_us = c->reg[REG_EXPOSURE_TIME].d;
    e->gain_db = c->reg[REG_GAIN].d;
    e->end_ns = at_ns + (uint64_t)(e->exposure_us * 1e3);
    e->ready_ns = c->ready_ns = e->end_ns + camera_readout_ns_locked();
    e->triggers = c->triggers;
    e->exposures = ++c->exposures;
    e->source = source;
    c->taken++;
    rk_wake_all(&rk_changed);
}

void sensor_trigger_locked(uint32_t source, uint64_t edge_ns) {
    rk_camera *c = &rk_cam;
    uint64_t wanted = c->reg[REG_TRIGGER_SOURCE].u ? SOURCE_LINE : SOURCE_SOFTWARE;
    uint64_t now = rk_now_ns();
    if (edge_ns == 0 || edge_ns > now) edge_ns = now;
    if (!c->running || c->stopping || !c->reg[REG_TRIGGER_MODE].u || source != wanted) return;
    if (edge_ns < c->started_ns || limit_reached_locked()) return; /* not armed yet, or no more */
    c->triggers++;
    if (edge_ns >= c->ready_ns && backlog_locked() < RK_BACKLOG) expose_locked(source, edge_ns);
    else rk_wake_all(&rk_changed);
}

/* When the next frame without trigger begins; RK_FOREVER while there is none to come. */
static uint64_t next_free_locked(void) {
    rk_camera *c = &rk_cam;
    if (c->reg[REG_TRIGGER_MODE].u || limit_reached_locked() || backlog_locked() >= 2) return RK_FOREVER;
    uint64_t next = c->ready_ns > c->started_ns ? c->ready_ns : c->started_ns;
    if (c->reg[REG_ACQUISITION_FRAME_RATE_ENABLE].u && c->taken) {
        uint64_t before = c->ring[(c->taken - 1) % RK_BACKLOG].start_ns;
        uint64_t paced = before + (uint64_t)(1e9 / c->reg[REG_ACQUISITION_FRAME_RATE].d);
        if (paced > next) next = paced;
    }
    return next;
}

static int active(const rk_camera *c) { return c->running && !c->stopping && !c->unplugged; }

/* Thread: tells the scene each edge of ExposureActive when it happens, and starts the frames of a free-running camera. */
static void sensor_body(void) {
    rk_camera *c = &rk_cam;
    int raised = 0;
    rk_lock(&rk_mutex_all);
    while (active(c)) {
        uint64_t now = rk_now_ns(), wake = next_free_locked();
        if (c->edged < c->taken) {
            const rk_exposure *e = &c->ring[c->edged % RK_BACKLOG];
            uint64_t edge = raised ? e->end_ns : e->start_ns;
            if (now >= edge) {
                raised = !raised;
                if (!raised) c->edged++;
                rk_unlock(&rk_mutex_all);
                link_line((uint32_t)raised, edge);
                rk_lock(&rk_mutex_all);
                continue;
            }
            if (edge < wake) wake = edge;
        }
        if (now >= next_free_locked()) {
            expose_locked(SOURCE_FREE, now);
            continue;
        }
        rk_wait_until(&rk_changed, &rk_mutex_all, wake);
    }
    rk_unlock(&rk_mutex_all);
    if (raised) link_line(0, rk_now_ns()); /* a strobe that follows the line must not stay lit */
}

static void wait_locked(uint64_t until_ns) {
    while (active(&rk_cam) && rk_now_ns() < until_ns) rk_wait_until(&rk_changed, &rk_mutex_all, until_ns);
}

static size_t put_chunk(rk_buffer *b, size_t at, int chunk, const void *value, size_t size) {
    rk_chunk_data *entry = &b->chunk[b->chunk_count++];
    memcpy(b->memory + at, value, size);
    entry->id = RK_CHUNK_ID + (unsigned)chunk;
    entry->offset = (ptrdiff_t)at;
    entry->length = size;
    return at + size;
}

static void put_chunks(rk_buffer *b, const rk_exposure *e) {
    uint64_t counters[2] = {e->triggers, e->exposures};
    const void *value[RK_CHUNK_COUNT] = {&e->start_ns, &e->id, &e->exposure_us, &e->gain_db, counters};
    size_t at = layout_chunk_offset(&b->layout);
    for (int k = 0; k < RK_CHUNK_COUNT; k++)
        if (b->layout.chunks >> k & 1) at = put_chunk(b, at, k, value[k], k == CHUNK_COUNTER_VALUE ? 16 : 8);
    if (b->chunk_count) b->filled = at;
}

/* Fills a buffer (not under the mutex: it is nobody else's meanwhile). */
static void fill(rk_buffer *b, const rk_exposure *e, const rk_layout *layout, const rk_shot *shot) {
    uint64_t bytes = shot->bytes < layout->image_bytes ? shot->bytes : layout->image_bytes;
    b->id = e->id;
    b->timestamp_ns = e->start_ns;
    b->layout = *layout;
    b->chunk_count = 0;
    b->too_small = layout_payload(layout) > b->size;
    b->incomplete = shot->verdict != SHOT_WHOLE || bytes < layout->image_bytes || b->too_small;
    if (bytes > b->size) bytes = b->size;
    b->filled = (size_t)bytes;
    if (shot->pixels) memcpy(b->memory, shot->pixels, (size_t)bytes);
    else if (shot->verdict == SHOT_WHOLE && !b->too_small) test_picture(b->memory, layout);
    if (!b->incomplete) put_chunks(b, e);
}

static void render_one_locked(const rk_exposure *e) {
    rk_camera *c = &rk_cam;
    rk_shot shot = {SHOT_WHOLE, NULL, c->layout.image_bytes};
    rk_layout layout = c->layout;
    wait_locked(e->end_ns);
    if (!active(c)) return;
    if (link_present()) {
        rk_unlock(&rk_mutex_all);
        shot = link_render(e, &layout);
        rk_lock(&rk_mutex_all);
    }
    if (!active(c) || shot.verdict == SHOT_STOPPED) return;
    if (shot.verdict == SHOT_DROP || (shot.verdict == SHOT_DUPLICATE && !c->has_last)) return;
    rk_exposure shown = shot.verdict == SHOT_DUPLICATE ? c->last : *e;
    if (shot.verdict == SHOT_DUPLICATE) shot = c->last_shot; /* the consumer may have wiped the buffer it was in */
    if (shot.verdict == SHOT_WHOLE) {
        c->has_last = 1;
        c->last = shown;
        c->last_shot = shot;
    }
    rk_buffer *b = stream_take_locked();
    if (!b) return;
    rk_unlock(&rk_mutex_all);
    fill(b, &shown, &layout, &shot);
    rk_lock(&rk_mutex_all);
    wait_locked(e->ready_ns);
    if (active(c)) stream_deliver_locked(b);
    else stream_return_locked(b);
}

/* Thread: asks for the pixels of each exposure after its end, and delivers it not before its readout is over. */
static void render_body(void) {
    rk_camera *c = &rk_cam;
    rk_lock(&rk_mutex_all);
    while (active(c)) {
        if (c->rendered == c->taken) {
            rk_wait_until(&rk_changed, &rk_mutex_all, RK_FOREVER);
            continue;
        }
        rk_exposure e = c->ring[c->rendered % RK_BACKLOG];
        render_one_locked(&e);
        c->rendered++;
        rk_wake_all(&rk_changed);
    }
    rk_unlock(&rk_mutex_all);
}

static void tell_state_locked(int acquiring) {
    uint32_t source = !rk_cam.reg[REG_TRIGGER_MODE].u ? SOURCE_FREE : rk_cam.reg[REG_TRIGGER_SOURCE].u ? SOURCE_LINE : SOURCE_SOFTWARE;
    double exposure_us = rk_cam.reg[REG_EXPOSURE_TIME].d, gain_db = rk_cam.reg[REG_GAIN].d;
    rk_unlock(&rk_mutex_all);
    link_state(acquiring, source, exposure_us, gain_db);
    rk_lock(&rk_mutex_all);
}

GC_ERROR sensor_start_locked(void) {
    rk_camera *c = &rk_cam;
    if (c->running && limit_reached_locked()) sensor_stop_locked(); /* nothing more would have come of it */
    if (c->running) return GC_ERR_BUSY;
    uint64_t mode = c->reg[REG_ACQUISITION_MODE].u;
    c->running = 1;
    c->stopping = 1; /* no trigger counts until the scene knows */
    c->limit = mode == 0 ? 0 : mode == 1 ? 1 : c->reg[REG_ACQUISITION_FRAME_COUNT].u;
    c->taken = c->edged = c->rendered = c->triggers = c->exposures = 0;
    c->ready_ns = 0;
    c->has_last = 0;
    camera_layout_locked(&c->layout);
    tell_state_locked(1);
    c->started_ns = rk_now_ns();
    c->stopping = 0;
    rk_wake_all(&rk_changed);
    if (rk_thread_start(&c->sensor, sensor_body)) {
        c->running = 0;
        return GC_ERR_ERROR;
    }
    if (rk_thread_start(&c->render, render_body)) {
        c->running = 0;
        rk_wake_all(&rk_changed);
        rk_unlock(&rk_mutex_all);
        rk_thread_join(c->sensor);
        rk_lock(&rk_mutex_all);
        return GC_ERR_ERROR;
    }
    return GC_ERR_SUCCESS;
}

void sensor_stop_locked(void) {
    rk_camera *c = &rk_cam;
    while (c->running && c->stopping) rk_wait_until(&rk_changed, &rk_mutex_all, RK_FOREVER); /* somebody else is at it */
    if (!c->running) return;
    c->stopping = 1;
    rk_wake_all(&rk_changed);
    rk_unlock(&rk_mutex_all);
    rk_thread_join(c->sensor);
    rk_thread_join(c->render);
    rk_lock(&rk_mutex_all);
    tell_state_locked(0);
    c->running = 0;
    c->stopping = 0;
    rk_wake_all(&rk_changed);
}
