/* The camera's end of the scene link; the messages are laid down in docs/scene-link.md. */
#include "camera.h"

#include <stdlib.h>
#include <string.h>

enum { HELLO = 1, STATE, RENDER, FRAME_SHM, FRAME, FAULT, TRIGGER, LINE };
enum { HEADER_BYTES = 24, HELLO_BYTES = 68, HELLO_REPLY_BYTES = 536, SMALL_BYTES = 64, VERSION = 1 };
#define HELLO_MS 2000u
#define REPLY_NS 10000000000u

typedef struct {
    int present, closing;
    rk_socket socket;
    rk_thread reader;
    rk_map map;
    uint64_t seq, waiting; /* last request; the one an answer is awaited for, 0: none */
    int answered;
    rk_shot shot;
    unsigned char *inline_pixels; /* grows to the largest inline frame */
    uint64_t inline_size, expected;
} rk_link;

static rk_link link_one;
static rk_mutex send_mutex = RK_MUTEX_INIT;

static unsigned char *put(unsigned char *p, uint64_t value, int bytes) {
    for (int k = 0; k < bytes; k++) *p++ = (unsigned char)(value >> 8 * k);
    return p;
}

static unsigned char *put_double(unsigned char *p, double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return put(p, bits, 8);
}

static uint64_t get(const unsigned char *p, int bytes) {
    uint64_t value = 0;
    for (int k = 0; k < bytes; k++) value |= (uint64_t)p[k] << 8 * k;
    return value;
}

static void gone_locked(void) {
    if (!link_one.closing) rk_cam.unplugged = 1;
    rk_wake_all(&rk_changed);
}

/* Sends payload (behind room for the header). A scene that does not read for half a second counts as gone. */
static void send_message(unsigned char *message, uint32_t type, uint64_t seq, size_t payload) {
    memcpy(message, "RKL1", 4);
    put(put(put(message + 4, type, 4), seq, 8), payload, 8);
    rk_lock(&send_mutex);
    int failed = rk_send(link_one.socket, message, HEADER_BYTES + payload);
    rk_unlock(&send_mutex);
    if (failed) {
        rk_lock(&rk_mutex_all);
        gone_locked();
        rk_unlock(&rk_mutex_all);
    }
}

static int drain(uint64_t bytes) {
    unsigned char waste[4096];
    while (bytes) {
        size_t n = bytes < sizeof waste ? (size_t)bytes : sizeof waste;
        if (rk_receive(link_one.socket, waste, n)) return -1;
        bytes -= n;
    }
    return 0;
}

static void answer(uint64_t seq, rk_verdict verdict, const unsigned char *pixels, uint64_t bytes) {
    rk_lock(&rk_mutex_all);
    if (link_one.waiting == seq && !link_one.answered) {
        link_one.answered = 1;
        link_one.shot.verdict = verdict;
        link_one.shot.pixels = pixels;
        link_one.shot.bytes = bytes;
        rk_wake_all(&rk_changed);
    }
    rk_unlock(&rk_mutex_all);
}

/* Inline pixels go into memory of our own: the consumer may stop and take its buffers back at any moment. */
static int receive_pixels(uint64_t seq, uint64_t length) {
    rk_lock(&rk_mutex_all);
    int wanted = link_one.waiting == seq && !link_one.answered;
    uint64_t expected = link_one.expected;
    rk_unlock(&rk_mutex_all);
    if (!wanted) return drain(length);
    if (length != expected) {
        if (drain(length)) return -1;
        answer(seq, SHOT_INCOMPLETE, NULL, length < expected ? length : 0);
        return 0;
    }
    if (length > link_one.inline_size) {
        unsigned char *larger = realloc(link_one.inline_pixels, (size_t)length);
        if (!larger) return -1;
        link_one.inline_pixels = larger;
        link_one.inline_size = length;
    }
    if (rk_receive(link_one.socket, link_one.inline_pixels, (size_t)length)) return -1;
    answer(seq, SHOT_WHOLE, link_one.inline_pixels, length);
    return 0;
}

static void on_shared_frame(uint64_t seq, uint64_t offset, uint64_t length) {
    uint64_t size = link_one.map.size;
    rk_lock(&rk_mutex_all);
    uint64_t expected = link_one.expected;
    rk_unlock(&rk_mutex_all);
    if (offset > size || length > size - offset || length != expected) answer(seq, SHOT_INCOMPLETE, NULL, 0);
    else answer(seq, SHOT_WHOLE, link_one.map.data + offset, length);
}

static void on_fault(uint64_t seq, uint64_t what, uint64_t bytes) {
    if (what == 1) answer(seq, SHOT_DROP, NULL, 0);
    else if (what == 3) answer(seq, SHOT_DUPLICATE, NULL, 0);
    else if (what == 4) {
        rk_lock(&rk_mutex_all);
        gone_locked();
        rk_unlock(&rk_mutex_all);
    } else answer(seq, SHOT_INCOMPLETE, NULL, bytes);
}

static int receive_message(void) {
    unsigned char head[HEADER_BYTES], p[SMALL_BYTES] = {0};
    if (rk_receive(link_one.socket, head, sizeof head) || memcmp(head, "RKL1", 4)) return -1;
    uint64_t type = get(head + 4, 4), seq = get(head + 8, 8), length = get(head + 16, 8);
    if (type == FRAME) return receive_pixels(seq, length);
    if (length > sizeof p) return drain(length);
    if (length && rk_receive(link_one.socket, p, (size_t)length)) return -1;
    if (type == FRAME_SHM && length >= 16) on_shared_frame(seq, get(p, 8), get(p + 8, 8));
    else if (type == FAULT && length >= 12) on_fault(seq, get(p, 4), get(p + 4, 8));
    else if (type == TRIGGER && length >= 12 && get(p, 4) <= 1) {
        rk_lock(&rk_mutex_all);
        sensor_trigger_locked(get(p, 4) ? SOURCE_SOFTWARE : SOURCE_LINE, get(p + 4, 8));
        rk_unlock(&rk_mutex_all);
    }
    return 0;
}

/* Thread: while a scene is connected. */
static void reader_body(void) {
    while (!receive_message()) continue;
    rk_lock(&rk_mutex_all);
    gone_locked();
    rk_unlock(&rk_mutex_all);
}

static GC_ERROR greet(const char *serial, rk_scene_sensor *sensor) {
    unsigned char message[HEADER_BYTES + HELLO_REPLY_BYTES] = {0}, *p = message + HEADER_BYTES;
    char path[513] = {0};
    size_t n = strlen(serial);
    rk_receive_timeout(link_one.socket, HELLO_MS);
    memcpy(put(p, VERSION, 4), serial, n < 64 ? n : 64);
    memcpy(message, "RKL1", 4);
    put(put(put(message + 4, HELLO, 4), 0, 8), HELLO_BYTES, 8);
    if (rk_send(link_one.socket, message, HEADER_BYTES + HELLO_BYTES) ||
        rk_receive(link_one.socket, message, HEADER_BYTES))
        return GC_ERR_RESOURCE_IN_USE; /* the scene serves another camera, and closes or ignores this one */
    if (memcmp(message, "RKL1", 4) || get(message + 4, 4) != HELLO || get(message + 16, 8) != HELLO_REPLY_BYTES ||
        rk_receive(link_one.socket, p, HELLO_REPLY_BYTES) || get(p, 4) != VERSION)
        return GC_ERR_IO;
    sensor->width = (uint32_t)get(p + 4, 4);
    sensor->height = (uint32_t)get(p + 8, 4);
    sensor->colour = (uint32_t)get(p + 12, 4);
    if (sensor->width < 16 || sensor->height < 2 || sensor->width > 65536 || sensor->height > 65536) return GC_ERR_IO;
    memcpy(path, p + 24, 512);
    if (get(p + 16, 8) && rk_map_open(&link_one.map, path, get(p + 16, 8))) return GC_ERR_IO;
    rk_receive_timeout(link_one.socket, 0);
    return GC_ERR_SUCCESS;
}

GC_ERROR link_open(const char *serial, rk_scene_sensor *sensor) {
    char address[256], whole[256], *colon;
    memset(sensor, 0, sizeof *sensor);
    memset(&link_one, 0, sizeof link_one);
    link_one.socket = RK_NO_SOCKET;
    whole[0] = 0;
    if (rk_environment("RAKELIGHT_SCENE", address, sizeof address) && (colon = strrchr(address, ':')) != NULL) {
        memcpy(whole, address, sizeof whole);
        *colon = 0;
        link_one.socket = rk_connect(address, colon + 1);
    }
    if (link_one.socket == RK_NO_SOCKET) return whole[0] ? GC_ERR_IO : GC_ERR_SUCCESS; /* named, but nobody answers */
    GC_ERROR status = greet(serial, sensor);
    if (!status && rk_thread_start(&link_one.reader, reader_body)) status = GC_ERR_ERROR;
    if (status) {
        rk_map_close(&link_one.map);
        rk_close(link_one.socket);
        return status;
    }
    link_one.present = sensor->present = 1;
    return GC_ERR_SUCCESS;
}

void link_close(void) {
    if (!link_one.present) return;
    rk_lock(&rk_mutex_all);
    link_one.closing = 1;
    rk_unlock(&rk_mutex_all);
    rk_shutdown(link_one.socket);
    rk_thread_join(link_one.reader);
    rk_close(link_one.socket);
    rk_map_close(&link_one.map);
    free(link_one.inline_pixels);
    memset(&link_one, 0, sizeof link_one);
}

int link_present(void) { return link_one.present; }

void link_state(int acquiring, uint32_t source, double exposure_us, double gain_db) {
    unsigned char message[HEADER_BYTES + 24], *p = message + HEADER_BYTES;
    if (!link_one.present) return;
    p = put(put(p, (uint64_t)acquiring, 4), source, 4);
    put_double(put_double(p, exposure_us), gain_db);
    send_message(message, STATE, 0, 24);
}

void link_line(uint32_t level, uint64_t at_ns) {
    unsigned char message[HEADER_BYTES + 16];
    if (!link_one.present) return;
    put(put(put(message + HEADER_BYTES, 1, 4), level, 4), at_ns, 8);
    send_message(message, LINE, 0, 16);
}

rk_shot link_render(const rk_exposure *e, const rk_layout *l) {
    unsigned char message[HEADER_BYTES + 80], *p = message + HEADER_BYTES;
    rk_shot shot = {SHOT_INCOMPLETE, NULL, 0};
    p = put(put(put(put(p, e->id, 8), e->trigger_ns, 8), e->start_ns, 8), e->end_ns, 8);
    p = put(put(put(put(p, l->width, 4), l->height, 4), l->offset_x, 4), l->offset_y, 4);
    p = put(put(p, l->format, 4), e->source, 4);
    put(put_double(put_double(p, e->exposure_us), e->gain_db), l->image_bytes, 8);
    rk_lock(&rk_mutex_all);
    uint64_t seq = link_one.waiting = ++link_one.seq;
    link_one.answered = 0;
    link_one.expected = l->image_bytes;
    rk_unlock(&rk_mutex_all);
    send_message(message, RENDER, seq, 80);
    uint64_t deadline = rk_now_ns() + REPLY_NS;
    rk_lock(&rk_mutex_all);
    while (!link_one.answered && !rk_cam.stopping && !rk_cam.unplugged && rk_now_ns() < deadline)
        rk_wait_until(&rk_changed, &rk_mutex_all, deadline);
    if (rk_cam.stopping || rk_cam.unplugged) shot.verdict = SHOT_STOPPED;
    else if (link_one.answered) shot = link_one.shot;
    link_one.waiting = 0; /* what comes later is read and forgotten */
    rk_unlock(&rk_mutex_all);
    return shot;
}
