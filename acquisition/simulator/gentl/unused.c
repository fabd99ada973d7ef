/* What GenTL has for images of several parts, composite buffers and flows, none of which this camera makes. A producer
 * must export these all the same: consumers call what is missing, at address 0. */
#include "camera.h"

static GC_ERROR refuse(HANDLE_T stream, GC_ERROR code) {
    rk_enter();
    if (!rk_initialised) code = GC_ERR_NOT_INITIALIZED;
    else if (!stream_is_open_locked(stream)) code = GC_ERR_INVALID_HANDLE;
    return rk_leave(code);
}

GC_API DSGetNumBufferParts(HANDLE_T stream, HANDLE_T buffer, uint32_t *count) {
    (void)buffer, (void)count;
    return refuse(stream, GC_ERR_NO_DATA);
}

GC_API DSGetBufferPartInfo(HANDLE_T stream, HANDLE_T buffer, uint32_t part, int32_t command, int32_t *type, void *out,
                           size_t *size) {
    (void)buffer, (void)part, (void)command, (void)type, (void)out, (void)size;
    return refuse(stream, GC_ERR_NO_DATA);
}

GC_API DSGetBufferPartInfoStacked(HANDLE_T stream, HANDLE_T buffer, rk_part_stack_entry *entries, size_t count) {
    (void)buffer, (void)entries, (void)count;
    return refuse(stream, GC_ERR_NO_DATA);
}

GC_API DSGetNumFlows(HANDLE_T stream, uint32_t *count) {
    (void)count;
    return refuse(stream, GC_ERR_NOT_IMPLEMENTED);
}

GC_API DSGetFlowInfo(HANDLE_T stream, uint32_t flow, int32_t command, int32_t *type, void *out, size_t *size) {
    (void)flow, (void)command, (void)type, (void)out, (void)size;
    return refuse(stream, GC_ERR_NOT_IMPLEMENTED);
}

GC_API DSGetNumBufferSegments(HANDLE_T stream, HANDLE_T buffer, uint32_t *count) {
    (void)buffer, (void)count;
    return refuse(stream, GC_ERR_NOT_IMPLEMENTED);
}

GC_API DSGetBufferSegmentInfo(HANDLE_T stream, HANDLE_T buffer, uint32_t segment, int32_t command, int32_t *type, void *out,
                              size_t *size) {
    (void)buffer, (void)segment, (void)command, (void)type, (void)out, (void)size;
    return refuse(stream, GC_ERR_NOT_IMPLEMENTED);
}
