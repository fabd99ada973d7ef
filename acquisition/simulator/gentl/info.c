/* How every info function of GenTL hands a value out. */
#include "camera.h"

#include <string.h>

GC_ERROR info_bytes(const void *data, size_t bytes, void *buffer, size_t *size) {
    if (!size) return GC_ERR_INVALID_PARAMETER;
    size_t room = *size;
    *size = bytes;
    if (!buffer) return GC_ERR_SUCCESS;
    if (room < bytes) return GC_ERR_BUFFER_TOO_SMALL;
    memcpy(buffer, data, bytes);
    return GC_ERR_SUCCESS;
}

static GC_ERROR typed(int32_t kind, const void *data, size_t bytes, int32_t *type, void *buffer, size_t *size) {
    if (type) *type = kind;
    return info_bytes(data, bytes, buffer, size);
}

GC_ERROR info_text(const char *text, int32_t *type, void *buffer, size_t *size) {
    return typed(INFO_DATATYPE_STRING, text, strlen(text) + 1, type, buffer, size);
}

GC_ERROR info_size(size_t value, int32_t *type, void *buffer, size_t *size) {
    return typed(INFO_DATATYPE_SIZET, &value, sizeof value, type, buffer, size);
}

GC_ERROR info_u64(uint64_t value, int32_t *type, void *buffer, size_t *size) {
    return typed(INFO_DATATYPE_UINT64, &value, sizeof value, type, buffer, size);
}

GC_ERROR info_u32(uint32_t value, int32_t *type, void *buffer, size_t *size) {
    return typed(INFO_DATATYPE_UINT32, &value, sizeof value, type, buffer, size);
}

GC_ERROR info_i32(int32_t value, int32_t *type, void *buffer, size_t *size) {
    return typed(INFO_DATATYPE_INT32, &value, sizeof value, type, buffer, size);
}

GC_ERROR info_bool(int value, int32_t *type, void *buffer, size_t *size) {
    uint8_t byte = value != 0;
    return typed(INFO_DATATYPE_BOOL8, &byte, sizeof byte, type, buffer, size);
}

GC_ERROR info_pointer(const void *value, int32_t *type, void *buffer, size_t *size) {
    return typed(INFO_DATATYPE_PTR, &value, sizeof value, type, buffer, size);
}
