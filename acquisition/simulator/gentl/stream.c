/* The data stream: buffers that the consumer announces, queues, gets back filled, and takes away again. */
#include "camera.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    rk_buffer *item[RK_MAX_BUFFERS];
    size_t count;
} rk_list;

typedef struct {
    int open, grabbing;
    rk_list all, input, output;
    uint64_t delivered, underrun, started, fired, remaining;
} rk_stream;

static rk_stream stream;
static const rk_layout no_layout;

static void list_add(rk_list *l, rk_buffer *b) { l->item[l->count++] = b; }

static void list_remove(rk_list *l, const rk_buffer *b) {
    for (size_t k = 0; k < l->count; k++)
        if (l->item[k] == b) {
            memmove(l->item + k, l->item + k + 1, (--l->count - k) * sizeof l->item[0]);
            return;
        }
}

static rk_buffer *find_locked(HANDLE_T handle) {
    for (size_t k = 0; k < stream.all.count; k++)
        if (stream.all.item[k] == handle) return stream.all.item[k];
    return NULL;
}

static void to_input_locked(rk_buffer *b) {
    b->state = BUFFER_INPUT;
    b->new_data = b->incomplete = b->too_small = 0;
    b->filled = 0;
    b->chunk_count = 0;
    list_add(&stream.input, b);
}

static void to_idle_locked(rk_list *from) {
    for (size_t k = 0; k < from->count; k++) from->item[k]->state = BUFFER_IDLE;
    from->count = 0;
}

/* ------------------------------------------------------------------------------------------ for the camera's threads */
rk_buffer *stream_take_locked(void) {
    if (!stream.grabbing || !stream.remaining) return NULL;
    if (!stream.input.count) {
        stream.underrun++;
        return NULL;
    }
    rk_buffer *b = stream.input.item[0];
    list_remove(&stream.input, b);
    b->state = BUFFER_FILLING;
    stream.started++;
    return b;
}

void stream_deliver_locked(rk_buffer *b) {
    b->state = BUFFER_OUTPUT;
    b->new_data = 1;
    list_add(&stream.output, b);
    stream.fired++;
    if (stream.remaining != UINT64_MAX) stream.remaining--;
    rk_wake_all(&rk_changed);
}

void stream_return_locked(rk_buffer *b) { to_input_locked(b); }

rk_buffer *stream_next_locked(void) {
    if (!stream.output.count) return NULL;
    rk_buffer *b = stream.output.item[0];
    list_remove(&stream.output, b);
    b->state = BUFFER_IDLE;
    stream.delivered++;
    return b;
}

size_t stream_pending_locked(void) { return stream.output.count; }
uint64_t stream_fired_locked(void) { return stream.fired; }
void stream_discard_output_locked(void) { to_idle_locked(&stream.output); }

/* ------------------------------------------------------------------------------------------------------ opening, closing */
HANDLE_T stream_handle(void) { return &stream; }
int stream_is_open_locked(HANDLE_T handle) { return handle == &stream && stream.open; }

GC_ERROR stream_open_locked(void) {
    if (stream.open) return GC_ERR_RESOURCE_IN_USE;
    memset(&stream, 0, sizeof stream);
    stream.open = 1;
    return GC_ERR_SUCCESS;
}

static void stop_locked(void) {
    sensor_stop_locked(); /* so that no buffer is being filled */
    stream.grabbing = 0;
}

static void forget_locked(rk_buffer *b) {
    list_remove(&stream.all, b);
    if (b->owned) free(b->memory);
    free(b);
}

void stream_close_locked(void) {
    if (!stream.open) return;
    stop_locked();
    event_close_locked();
    stream.input.count = stream.output.count = 0;
    while (stream.all.count) forget_locked(stream.all.item[0]);
    stream.open = 0;
}

static GC_ERROR check_locked(HANDLE_T handle) {
    if (!rk_initialised) return GC_ERR_NOT_INITIALIZED;
    return stream_is_open_locked(handle) ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE;
}

static GC_ERROR check_buffer_locked(HANDLE_T handle, HANDLE_T buffer, rk_buffer **found) {
    GC_ERROR status = check_locked(handle);
    if (status) return status;
    *found = find_locked(buffer);
    return *found ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE;
}

GC_API DSClose(HANDLE_T handle) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status) stream_close_locked();
    return rk_leave(status);
}

/* --------------------------------------------------------------------------------------------------------------- buffers */
static GC_ERROR announce_locked(void *memory, size_t size, void *user, int owned, HANDLE_T *out) {
    rk_buffer *b;
    if (stream.all.count == RK_MAX_BUFFERS) return GC_ERR_OUT_OF_MEMORY;
    for (size_t k = 0; k < stream.all.count; k++)
        if (stream.all.item[k]->memory == memory) return GC_ERR_RESOURCE_IN_USE;
    if ((b = calloc(1, sizeof *b)) == NULL) return GC_ERR_OUT_OF_MEMORY;
    b->memory = memory;
    b->size = size;
    b->user = user;
    b->owned = owned;
    list_add(&stream.all, b);
    *out = b;
    return GC_ERR_SUCCESS;
}

GC_API DSAnnounceBuffer(HANDLE_T handle, void *memory, size_t size, void *user, HANDLE_T *out) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && (!memory || !size || !out)) status = GC_ERR_INVALID_PARAMETER;
    return rk_leave(status ? status : announce_locked(memory, size, user, 0, out));
}

GC_API DSAllocAndAnnounceBuffer(HANDLE_T handle, size_t size, void *user, HANDLE_T *out) {
    void *memory = NULL;
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && (!size || !out)) status = GC_ERR_INVALID_PARAMETER;
    if (!status && (memory = malloc(size)) == NULL) status = GC_ERR_OUT_OF_MEMORY;
    if (!status && (status = announce_locked(memory, size, user, 1, out)) != 0) free(memory);
    return rk_leave(status);
}

GC_API DSAnnounceCompositeBuffer(HANDLE_T handle, size_t n, void **segments, size_t *sizes, void *user, HANDLE_T *out) {
    (void)n, (void)segments, (void)sizes, (void)user, (void)out;
    rk_enter();
    GC_ERROR status = check_locked(handle);
    return rk_leave(status ? status : GC_ERR_NOT_IMPLEMENTED);
}

GC_API DSRevokeBuffer(HANDLE_T handle, HANDLE_T buffer, void **memory, void **user) {
    rk_buffer *b;
    rk_enter();
    GC_ERROR status = check_buffer_locked(handle, buffer, &b);
    if (!status && rk_cam.unplugged) sensor_stop_locked(); /* a consumer that met an error need not stop in order */
    if (!status && (b->state != BUFFER_IDLE || rk_cam.running)) status = GC_ERR_BUSY;
    if (!status) {
        if (memory) *memory = b->owned ? NULL : b->memory;
        if (user) *user = b->user;
        forget_locked(b);
    }
    return rk_leave(status);
}

GC_API DSQueueBuffer(HANDLE_T handle, HANDLE_T buffer) {
    rk_buffer *b;
    rk_enter();
    GC_ERROR status = check_buffer_locked(handle, buffer, &b);
    if (!status && b->state != BUFFER_IDLE) status = GC_ERR_RESOURCE_IN_USE;
    if (!status && rk_cam.unplugged) status = GC_ERR_IO;
    if (!status) to_input_locked(b);
    return rk_leave(status);
}

GC_API DSGetBufferID(HANDLE_T handle, uint32_t index, HANDLE_T *out) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && !out) status = GC_ERR_INVALID_PARAMETER;
    if (!status && index >= stream.all.count) status = GC_ERR_INVALID_INDEX;
    if (!status) *out = stream.all.item[index];
    return rk_leave(status);
}

static GC_ERROR flush_locked(int32_t what) {
    switch (what) {
    case ACQ_QUEUE_OUTPUT_DISCARD: to_idle_locked(&stream.output); return GC_ERR_SUCCESS;
    case ACQ_QUEUE_ALL_DISCARD:
        to_idle_locked(&stream.output);
        to_idle_locked(&stream.input);
        return GC_ERR_SUCCESS;
    case ACQ_QUEUE_INPUT_TO_OUTPUT:
        while (stream.input.count) {
            rk_buffer *b = stream.input.item[0];
            list_remove(&stream.input, b);
            b->state = BUFFER_OUTPUT;
            b->layout = no_layout;
            list_add(&stream.output, b);
        }
        rk_wake_all(&rk_changed);
        return GC_ERR_SUCCESS;
    case ACQ_QUEUE_ALL_TO_INPUT: to_idle_locked(&stream.output); /* fall through */
    case ACQ_QUEUE_UNQUEUED_TO_INPUT:
        for (size_t k = 0; k < stream.all.count; k++)
            if (stream.all.item[k]->state == BUFFER_IDLE) to_input_locked(stream.all.item[k]);
        return GC_ERR_SUCCESS;
    default: return GC_ERR_INVALID_PARAMETER;
    }
}

GC_API DSFlushQueue(HANDLE_T handle, int32_t what) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && rk_cam.unplugged) sensor_stop_locked();
    return rk_leave(status ? status : flush_locked(what));
}

/* ----------------------------------------------------------------------------------------------------------- acquisition */
GC_API DSStartAcquisition(HANDLE_T handle, int32_t flags, uint64_t frames) {
    (void)flags;
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && rk_cam.unplugged) status = GC_ERR_IO;
    if (!status && stream.grabbing) status = GC_ERR_RESOURCE_IN_USE;
    if (!status) {
        stream.grabbing = 1;
        stream.remaining = frames;
        stream.delivered = stream.underrun = stream.started = 0;
    }
    return rk_leave(status);
}

/* Also ends the camera's own acquisition, so that afterwards nothing writes into the consumer's memory. */
GC_API DSStopAcquisition(HANDLE_T handle, int32_t flags) {
    (void)flags;
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && !stream.grabbing) status = GC_ERR_RESOURCE_IN_USE;
    if (!status) stop_locked();
    return rk_leave(status);
}

static GC_ERROR stream_info_locked(int32_t command, int32_t *type, void *out, size_t *size) {
    rk_layout l;
    switch (command) {
    case STREAM_INFO_ID: return info_text("Stream0", type, out, size);
    case STREAM_INFO_NUM_DELIVERED: return info_u64(stream.delivered, type, out, size);
    case STREAM_INFO_NUM_UNDERRUN: return info_u64(stream.underrun, type, out, size);
    case STREAM_INFO_NUM_ANNOUNCED: return info_size(stream.all.count, type, out, size);
    case STREAM_INFO_NUM_QUEUED: return info_size(stream.input.count, type, out, size);
    case STREAM_INFO_NUM_AWAIT_DELIVERY: return info_size(stream.output.count, type, out, size);
    case STREAM_INFO_NUM_STARTED: return info_u64(stream.started, type, out, size);
    case STREAM_INFO_PAYLOAD_SIZE:
        camera_layout_locked(&l);
        return info_size(layout_payload(&l), type, out, size);
    case STREAM_INFO_IS_GRABBING: return info_bool(stream.grabbing, type, out, size);
    case STREAM_INFO_DEFINES_PAYLOADSIZE: return info_bool(0, type, out, size);
    case STREAM_INFO_TLTYPE: return info_text(RK_TLTYPE, type, out, size);
    case STREAM_INFO_NUM_CHUNKS_MAX: return info_size(RK_CHUNK_COUNT, type, out, size);
    case STREAM_INFO_BUF_ANNOUNCE_MIN: return info_size(1, type, out, size);
    case STREAM_INFO_BUF_ALIGNMENT: return info_size(1, type, out, size);
    default: return GC_ERR_NOT_AVAILABLE;
    }
}

GC_API DSGetInfo(HANDLE_T handle, int32_t command, int32_t *type, void *out, size_t *size) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    return rk_leave(status ? status : stream_info_locked(command, type, out, size));
}

GC_API DSGetParentDev(HANDLE_T handle, HANDLE_T *device) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && !device) status = GC_ERR_INVALID_PARAMETER;
    if (!status) *device = device_handle();
    return rk_leave(status);
}

/* ------------------------------------------------------------------------------------------------- what is in a buffer */
static GC_ERROR buffer_info_locked(const rk_buffer *b, int32_t command, int32_t *type, void *out, size_t *size) {
    const rk_layout *l = &b->layout;
    switch (command) {
    case BUFFER_INFO_BASE: return info_pointer(b->memory, type, out, size);
    case BUFFER_INFO_SIZE: return info_size(b->size, type, out, size);
    case BUFFER_INFO_USER_PTR: return info_pointer(b->user, type, out, size);
    case BUFFER_INFO_TIMESTAMP:
    case BUFFER_INFO_TIMESTAMP_NS: return info_u64(b->timestamp_ns, type, out, size);
    case BUFFER_INFO_NEW_DATA: return info_bool(b->new_data, type, out, size);
    case BUFFER_INFO_IS_QUEUED: return info_bool(b->state != BUFFER_IDLE, type, out, size);
    case BUFFER_INFO_IS_ACQUIRING: return info_bool(b->state == BUFFER_FILLING, type, out, size);
    case BUFFER_INFO_IS_INCOMPLETE: return info_bool(b->incomplete, type, out, size);
    case BUFFER_INFO_TLTYPE: return info_text(RK_TLTYPE, type, out, size);
    case BUFFER_INFO_SIZE_FILLED:
    case BUFFER_INFO_DATA_SIZE: return info_size(b->filled, type, out, size);
    case BUFFER_INFO_WIDTH: return info_size(l->width, type, out, size);
    case BUFFER_INFO_HEIGHT:
    case BUFFER_INFO_DELIVERED_IMAGEHEIGHT: return info_size(l->height, type, out, size);
    case BUFFER_INFO_XOFFSET: return info_size(l->offset_x, type, out, size);
    case BUFFER_INFO_YOFFSET: return info_size(l->offset_y, type, out, size);
    case BUFFER_INFO_XPADDING:
    case BUFFER_INFO_YPADDING:
    case BUFFER_INFO_IMAGEOFFSET: return info_size(0, type, out, size);
    case BUFFER_INFO_FRAMEID: return info_u64(b->id, type, out, size);
    case BUFFER_INFO_IMAGEPRESENT: return info_bool(l->width != 0, type, out, size);
    case BUFFER_INFO_PAYLOADTYPE: return info_size(PAYLOAD_TYPE_IMAGE, type, out, size);
    case BUFFER_INFO_PIXELFORMAT: return info_u64(l->format, type, out, size);
    case BUFFER_INFO_PIXELFORMAT_NAMESPACE: return info_u64(PIXELFORMAT_NAMESPACE_PFNC_32BIT, type, out, size);
    case BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE:
        return info_size(b->chunk_count ? b->filled - layout_chunk_offset(l) : 0, type, out, size);
    case BUFFER_INFO_PIXEL_ENDIANNESS: return info_i32(PIXELENDIANNESS_LITTLE, type, out, size);
    case BUFFER_INFO_DATA_LARGER_THAN_BUFFER: return info_bool(b->too_small, type, out, size);
    case BUFFER_INFO_CONTAINS_CHUNKDATA: return info_bool(b->chunk_count != 0, type, out, size);
    case BUFFER_INFO_IS_COMPOSITE: return info_bool(0, type, out, size);
    default: return GC_ERR_NOT_AVAILABLE;
    }
}

GC_API DSGetBufferInfo(HANDLE_T handle, HANDLE_T buffer, int32_t command, int32_t *type, void *out, size_t *size) {
    rk_buffer *b;
    rk_enter();
    GC_ERROR status = check_buffer_locked(handle, buffer, &b);
    return rk_leave(status ? status : buffer_info_locked(b, command, type, out, size));
}

GC_API DSGetBufferInfoStacked(HANDLE_T handle, HANDLE_T buffer, rk_buffer_stack_entry *entry, size_t count) {
    rk_buffer *b;
    rk_enter();
    GC_ERROR status = check_buffer_locked(handle, buffer, &b);
    if (!status && !entry) status = GC_ERR_INVALID_PARAMETER;
    for (size_t k = 0; !status && k < count; k++) {
        int32_t type = 0; /* members of packed structures may be unaligned: go by copies */
        size_t size = entry[k].size;
        entry[k].result = buffer_info_locked(b, entry[k].command, &type, entry[k].buffer, &size);
        entry[k].type = type;
        entry[k].size = size;
    }
    return rk_leave(status);
}

GC_API DSGetBufferChunkData(HANDLE_T handle, HANDLE_T buffer, rk_chunk_data *chunks, size_t *count) {
    rk_buffer *b;
    rk_enter();
    GC_ERROR status = check_buffer_locked(handle, buffer, &b);
    if (!status && !count) status = GC_ERR_INVALID_PARAMETER;
    if (!status && !b->chunk_count) status = GC_ERR_NO_DATA;
    if (!status) {
        size_t bytes = *count * sizeof *chunks;
        status = info_bytes(b->chunk, b->chunk_count * sizeof *chunks, chunks, &bytes);
        *count = b->chunk_count;
    }
    return rk_leave(status);
}
