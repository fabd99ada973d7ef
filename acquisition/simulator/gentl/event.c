/* Events: this producer has one, a new buffer of the stream. */
#include "camera.h"

static struct {
    int registered, waiting;
    uint64_t kills; /* how often waits have been ended */
    int killed;     /* a kill that found nobody waiting: ends the next wait */
} event;

void event_close_locked(void) {
    event.registered = event.killed = 0;
    event.kills++;
    rk_wake_all(&rk_changed);
    while (event.waiting) rk_wait_until(&rk_changed, &rk_mutex_all, RK_FOREVER);
}

static GC_ERROR check_locked(HANDLE_T handle) {
    if (!rk_initialised) return GC_ERR_NOT_INITIALIZED;
    return handle == &event && event.registered ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE;
}

GC_API GCRegisterEvent(HANDLE_T module, int32_t id, HANDLE_T *out) {
    GC_ERROR status = GC_ERR_SUCCESS;
    rk_enter();
    if (!rk_initialised) status = GC_ERR_NOT_INITIALIZED;
    else if (!out) status = GC_ERR_INVALID_PARAMETER;
    else if (module_of(module) < 0) status = GC_ERR_INVALID_HANDLE;
    else if (module_of(module) != MODULE_STREAM || id != EVENT_NEW_BUFFER) status = GC_ERR_NOT_IMPLEMENTED;
    else if (event.registered) status = GC_ERR_RESOURCE_IN_USE;
    else {
        event.registered = 1;
        event.killed = 0;
        *out = &event;
    }
    return rk_leave(status);
}

GC_API GCUnregisterEvent(HANDLE_T module, int32_t id) {
    GC_ERROR status = GC_ERR_SUCCESS;
    rk_enter();
    if (!rk_initialised) status = GC_ERR_NOT_INITIALIZED;
    else if (module_of(module) < 0) status = GC_ERR_INVALID_HANDLE;
    else if (module_of(module) != MODULE_STREAM || id != EVENT_NEW_BUFFER || !event.registered)
        status = GC_ERR_INVALID_PARAMETER;
    else {
        event_close_locked();
        stream_discard_output_locked();
    }
    return rk_leave(status);
}

/* Deadline of a wait of that many milliseconds. */
static uint64_t deadline_of(uint64_t milliseconds) {
    uint64_t now = rk_now_ns();
    return milliseconds >= (RK_FOREVER - now) / 1000000u ? RK_FOREVER : now + milliseconds * 1000000u;
}

static GC_ERROR wait_locked(uint64_t milliseconds) {
    uint64_t deadline = deadline_of(milliseconds), kills = event.kills;
    GC_ERROR status = GC_ERR_SUCCESS;
    event.waiting++;
    for (;;) {
        if (event.killed || event.kills != kills) status = GC_ERR_ABORT;
        else if (stream_pending_locked()) status = GC_ERR_SUCCESS; /* what came before an unplugging is still good */
        else if (rk_cam.unplugged) status = GC_ERR_IO;
        else if (deadline != RK_FOREVER && rk_now_ns() >= deadline) status = GC_ERR_TIMEOUT;
        else {
            rk_wait_until(&rk_changed, &rk_mutex_all, deadline);
            continue;
        }
        break;
    }
    event.waiting--;
    event.killed = 0;
    rk_wake_all(&rk_changed);
    return status;
}

GC_API EventGetData(HANDLE_T handle, void *out, size_t *size, uint64_t milliseconds) {
    rk_new_buffer_data data = {NULL, NULL};
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && !size) status = GC_ERR_INVALID_PARAMETER;
    if (!status && out && *size < sizeof data) {
        *size = sizeof data;
        status = GC_ERR_BUFFER_TOO_SMALL;
    }
    if (!status) status = wait_locked(milliseconds);
    if (!status) {
        rk_buffer *b = stream_next_locked(); /* taken also if there is no room for its data */
        data.buffer = b;
        data.user = b->user;
        status = info_bytes(&data, sizeof data, out, size);
    }
    return rk_leave(status);
}

GC_API EventGetDataInfo(HANDLE_T handle, const void *in, size_t in_size, int32_t command, int32_t *type, void *out,
                        size_t *size) {
    const rk_new_buffer_data *data = in;
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && (!in || in_size < sizeof *data)) status = GC_ERR_INVALID_PARAMETER;
    if (!status && command == EVENT_DATA_ID) status = info_pointer(data->buffer, type, out, size);
    else if (!status && command == EVENT_DATA_VALUE) status = info_pointer(data->user, type, out, size);
    else if (!status) status = GC_ERR_NOT_AVAILABLE;
    return rk_leave(status);
}

static GC_ERROR info_locked(int32_t command, int32_t *type, void *out, size_t *size) {
    switch (command) {
    case EVENT_EVENT_TYPE: return info_i32(EVENT_NEW_BUFFER, type, out, size);
    case EVENT_NUM_IN_QUEUE: return info_size(stream_pending_locked(), type, out, size);
    case EVENT_NUM_FIRED: return info_u64(stream_fired_locked(), type, out, size);
    case EVENT_SIZE_MAX:
    case EVENT_INFO_DATA_SIZE_MAX: return info_size(sizeof(rk_new_buffer_data), type, out, size);
    default: return GC_ERR_NOT_AVAILABLE;
    }
}

GC_API EventGetInfo(HANDLE_T handle, int32_t command, int32_t *type, void *out, size_t *size) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    return rk_leave(status ? status : info_locked(command, type, out, size));
}

GC_API EventFlush(HANDLE_T handle) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status) stream_discard_output_locked();
    return rk_leave(status);
}

GC_API EventKill(HANDLE_T handle) {
    rk_enter();
    GC_ERROR status = check_locked(handle);
    if (!status && event.waiting) event.kills++;
    else if (!status) event.killed = 1;
    rk_wake_all(&rk_changed);
    return rk_leave(status);
}
