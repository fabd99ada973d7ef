/* The modules of GenTL: library, system, interface and device, one of each. The stream is in stream.c. */
#include "camera.h"

#include <stdio.h>
#include <string.h>

#define SYSTEM_ID "rakelight"
#define INTERFACE_ID "rakelight-bench"
#define STREAM_ID "Stream0"

int rk_initialised;
static int condition_made, system_open, interface_open, device_opening;
static char system_module, interface_module, device_module, remote_module; /* their addresses are the handles */
static RK_THREAD_LOCAL GC_ERROR last_error;

void rk_enter(void) { rk_lock(&rk_mutex_all); }

GC_ERROR rk_leave(GC_ERROR code) {
    rk_unlock(&rk_mutex_all);
    if (code) last_error = code;
    return code;
}

HANDLE_T device_handle(void) { return &device_module; }

/* The serial number is also the device's id, by which a consumer opens it. */
const char *camera_serial(void) {
    static char serial[RK_TEXT_BYTES];
    if (!rk_environment("RAKELIGHT_SERIAL", serial, sizeof serial)) snprintf(serial, sizeof serial, "SIM-0001");
    return serial;
}

int module_of(HANDLE_T handle) {
    if (handle == &system_module && system_open) return MODULE_SYSTEM;
    if (handle == &interface_module && interface_open) return MODULE_INTERFACE;
    if (handle == &device_module && rk_cam.open) return MODULE_DEVICE;
    if (handle == &remote_module && rk_cam.open) return MODULE_REMOTE;
    return stream_is_open_locked(handle) ? MODULE_STREAM : -1;
}

static GC_ERROR check_locked(HANDLE_T handle, int module) {
    if (!rk_initialised) return GC_ERR_NOT_INITIALIZED;
    return handle && module_of(handle) == module ? GC_ERR_SUCCESS : GC_ERR_INVALID_HANDLE;
}

/* --------------------------------------------------------------------------------------------------------------- library */
GC_API GCInitLib(void) {
    GC_ERROR status = GC_ERR_SUCCESS;
    rk_enter();
    if (rk_initialised) status = GC_ERR_RESOURCE_IN_USE;
    else if (!condition_made && rk_cond_init(&rk_changed)) status = GC_ERR_ERROR;
    else rk_initialised = condition_made = 1;
    return rk_leave(status);
}

static void close_device_locked(void) {
    if (!rk_cam.open) return;
    stream_close_locked();
    sensor_stop_locked();
    rk_unlock(&rk_mutex_all);
    link_close();
    rk_lock(&rk_mutex_all);
    rk_cam.open = 0;
}

GC_API GCCloseLib(void) {
    rk_enter();
    GC_ERROR status = rk_initialised ? GC_ERR_SUCCESS : GC_ERR_NOT_INITIALIZED;
    if (!status) {
        close_device_locked();
        rk_initialised = system_open = interface_open = 0;
    }
    return rk_leave(status);
}

GC_API GCGetLastError(GC_ERROR *code, char *text, size_t *size) {
    char message[64];
    snprintf(message, sizeof message, last_error ? "rakelight simulated camera: error %d" : "no error", (int)last_error);
    if (!code || !size) return GC_ERR_INVALID_PARAMETER;
    *code = last_error;
    return info_bytes(message, strlen(message) + 1, text, size);
}

static GC_ERROR system_info(int32_t command, int32_t *type, void *out, size_t *size) {
    char path[1024];
    const char *name;
    rk_own_path(path, sizeof path);
    name = strrchr(path, '/') ? strrchr(path, '/') + 1 : strrchr(path, '\\') ? strrchr(path, '\\') + 1 : path;
    switch (command) {
    case TL_INFO_ID: return info_text(SYSTEM_ID, type, out, size);
    case TL_INFO_VENDOR: return info_text(RK_VENDOR, type, out, size);
    case TL_INFO_MODEL: return info_text("rakelight simulator", type, out, size);
    case TL_INFO_VERSION: return info_text(RK_VERSION, type, out, size);
    case TL_INFO_TLTYPE: return info_text(RK_TLTYPE, type, out, size);
    case TL_INFO_NAME: return info_text(name, type, out, size);
    case TL_INFO_PATHNAME: return info_text(path, type, out, size);
    case TL_INFO_DISPLAYNAME: return info_text("rakelight simulator", type, out, size);
    case TL_INFO_CHAR_ENCODING: return info_i32(1, type, out, size); /* UTF-8 */
    case TL_INFO_GENTL_VER_MAJOR: return info_u32(1, type, out, size);
    case TL_INFO_GENTL_VER_MINOR: return info_u32(6, type, out, size);
    default: return GC_ERR_NOT_AVAILABLE;
    }
}

GC_API GCGetInfo(int32_t command, int32_t *type, void *out, size_t *size) {
    rk_enter();
    return rk_leave(rk_initialised ? system_info(command, type, out, size) : GC_ERR_NOT_INITIALIZED);
}

/* ---------------------------------------------------------------------------------------------------------------- system */
GC_API TLOpen(HANDLE_T *out) {
    GC_ERROR status = GC_ERR_SUCCESS;
    rk_enter();
    if (!rk_initialised) status = GC_ERR_NOT_INITIALIZED;
    else if (!out) status = GC_ERR_INVALID_PARAMETER;
    else if (system_open) status = GC_ERR_RESOURCE_IN_USE;
    else {
        system_open = 1;
        *out = &system_module;
    }
    return rk_leave(status);
}

GC_API TLClose(HANDLE_T system) {
    rk_enter();
    GC_ERROR status = check_locked(system, MODULE_SYSTEM);
    if (!status) {
        close_device_locked();
        system_open = interface_open = 0;
    }
    return rk_leave(status);
}

GC_API TLGetInfo(HANDLE_T system, int32_t command, int32_t *type, void *out, size_t *size) {
    rk_enter();
    GC_ERROR status = check_locked(system, MODULE_SYSTEM);
    return rk_leave(status ? status : system_info(command, type, out, size));
}

static GC_ERROR tell_none_changed(GC_ERROR status, uint8_t *changed) {
    if (!status && changed) *changed = 0;
    return rk_leave(status);
}

static GC_ERROR tell_count(GC_ERROR status, uint32_t *count) {
    if (!status && !count) status = GC_ERR_INVALID_PARAMETER;
    if (!status) *count = 1;
    return rk_leave(status);
}

static GC_ERROR tell_id(GC_ERROR status, uint32_t index, const char *id, char *out, size_t *size) {
    if (!status && index) status = GC_ERR_INVALID_INDEX;
    return rk_leave(status ? status : info_text(id, NULL, out, size));
}

GC_API TLUpdateInterfaceList(HANDLE_T system, uint8_t *changed, uint64_t timeout) {
    (void)timeout;
    rk_enter();
    return tell_none_changed(check_locked(system, MODULE_SYSTEM), changed);
}

GC_API TLGetNumInterfaces(HANDLE_T system, uint32_t *count) {
    rk_enter();
    return tell_count(check_locked(system, MODULE_SYSTEM), count);
}

GC_API TLGetInterfaceID(HANDLE_T system, uint32_t index, char *out, size_t *size) {
    rk_enter();
    return tell_id(check_locked(system, MODULE_SYSTEM), index, INTERFACE_ID, out, size);
}

static GC_ERROR interface_info(int32_t command, int32_t *type, void *out, size_t *size) {
    switch (command) {
    case INTERFACE_INFO_ID: return info_text(INTERFACE_ID, type, out, size);
    case INTERFACE_INFO_DISPLAYNAME: return info_text("rakelight simulated bench", type, out, size);
    case INTERFACE_INFO_TLTYPE: return info_text(RK_TLTYPE, type, out, size);
    default: return GC_ERR_NOT_AVAILABLE;
    }
}

GC_API TLGetInterfaceInfo(HANDLE_T system, const char *id, int32_t command, int32_t *type, void *out, size_t *size) {
    rk_enter();
    GC_ERROR status = check_locked(system, MODULE_SYSTEM);
    if (!status && (!id || strcmp(id, INTERFACE_ID))) status = GC_ERR_INVALID_ID;
    return rk_leave(status ? status : interface_info(command, type, out, size));
}

GC_API TLOpenInterface(HANDLE_T system, const char *id, HANDLE_T *out) {
    rk_enter();
    GC_ERROR status = check_locked(system, MODULE_SYSTEM);
    if (!status && (!id || strcmp(id, INTERFACE_ID))) status = GC_ERR_INVALID_ID;
    if (!status && !out) status = GC_ERR_INVALID_PARAMETER;
    if (!status && interface_open) status = GC_ERR_RESOURCE_IN_USE;
    if (!status) {
        interface_open = 1;
        *out = &interface_module;
    }
    return rk_leave(status);
}

/* ------------------------------------------------------------------------------------------------------------- interface */
GC_API IFClose(HANDLE_T iface) {
    rk_enter();
    GC_ERROR status = check_locked(iface, MODULE_INTERFACE);
    if (!status) {
        close_device_locked();
        interface_open = 0;
    }
    return rk_leave(status);
}

GC_API IFGetInfo(HANDLE_T iface, int32_t command, int32_t *type, void *out, size_t *size) {
    rk_enter();
    GC_ERROR status = check_locked(iface, MODULE_INTERFACE);
    return rk_leave(status ? status : interface_info(command, type, out, size));
}

GC_API IFGetParentTL(HANDLE_T iface, HANDLE_T *out) {
    rk_enter();
    GC_ERROR status = check_locked(iface, MODULE_INTERFACE);
    if (!status && !out) status = GC_ERR_INVALID_PARAMETER;
    if (!status) *out = &system_module;
    return rk_leave(status);
}

GC_API IFUpdateDeviceList(HANDLE_T iface, uint8_t *changed, uint64_t timeout) {
    (void)timeout;
    rk_enter();
    return tell_none_changed(check_locked(iface, MODULE_INTERFACE), changed);
}

GC_API IFGetNumDevices(HANDLE_T iface, uint32_t *count) {
    rk_enter();
    return tell_count(check_locked(iface, MODULE_INTERFACE), count);
}

GC_API IFGetDeviceID(HANDLE_T iface, uint32_t index, char *out, size_t *size) {
    rk_enter();
    return tell_id(check_locked(iface, MODULE_INTERFACE), index, camera_serial(), out, size);
}

static GC_ERROR device_info(int32_t command, int32_t *type, void *out, size_t *size) {
    int status = rk_cam.open ? DEVICE_ACCESS_STATUS_OPEN_READWRITE : DEVICE_ACCESS_STATUS_READWRITE;
    switch (command) {
    case DEVICE_INFO_ID:
    case DEVICE_INFO_SERIAL_NUMBER: return info_text(camera_serial(), type, out, size);
    case DEVICE_INFO_VENDOR: return info_text(RK_VENDOR, type, out, size);
    case DEVICE_INFO_MODEL:
    case DEVICE_INFO_DISPLAYNAME: return info_text(RK_MODEL, type, out, size);
    case DEVICE_INFO_TLTYPE: return info_text(RK_TLTYPE, type, out, size);
    case DEVICE_INFO_ACCESS_STATUS: return info_i32(status, type, out, size);
    case DEVICE_INFO_USER_DEFINED_NAME: return info_text("", type, out, size);
    case DEVICE_INFO_VERSION: return info_text(RK_VERSION, type, out, size);
    case DEVICE_INFO_TIMESTAMP_FREQUENCY: return info_u64(1000000000u, type, out, size);
    default: return GC_ERR_NOT_AVAILABLE;
    }
}

GC_API IFGetDeviceInfo(HANDLE_T iface, const char *id, int32_t command, int32_t *type, void *out, size_t *size) {
    rk_enter();
    GC_ERROR status = check_locked(iface, MODULE_INTERFACE);
    if (!status && (!id || strcmp(id, camera_serial()))) status = GC_ERR_INVALID_ID;
    return rk_leave(status ? status : device_info(command, type, out, size));
}

/* Plugs the camera in: its sensor is what the scene says. Gives the mutex up while it talks to the scene. */
static GC_ERROR open_device_locked(void) {
    rk_scene_sensor scene;
    char serial[RK_TEXT_BYTES];
    snprintf(serial, sizeof serial, "%s", camera_serial());
    memset(&rk_cam, 0, sizeof rk_cam);
    device_opening = 1;
    rk_unlock(&rk_mutex_all);
    GC_ERROR status = link_open(serial, &scene);
    rk_lock(&rk_mutex_all);
    device_opening = 0;
    if (status) return status;
    rk_cam.reg[REG_SENSOR_WIDTH].u = scene.present ? scene.width : 1368;
    rk_cam.reg[REG_SENSOR_HEIGHT].u = scene.present ? scene.height : 912;
    rk_cam.reg[REG_MONO_SENSOR].u = !scene.present || !scene.colour;
    rk_cam.reg[REG_COLOUR_SENSOR].u = !scene.present || scene.colour;
    camera_reset_locked(serial);
    rk_cam.open = 1;
    return GC_ERR_SUCCESS;
}

GC_API IFOpenDevice(HANDLE_T iface, const char *id, int32_t access, HANDLE_T *out) {
    rk_enter();
    GC_ERROR status = check_locked(iface, MODULE_INTERFACE);
    if (!status && (!id || strcmp(id, camera_serial()))) status = GC_ERR_INVALID_ID;
    if (!status && (!out || access < DEVICE_ACCESS_READONLY || access > DEVICE_ACCESS_EXCLUSIVE))
        status = GC_ERR_INVALID_PARAMETER;
    if (!status && (rk_cam.open || device_opening)) status = GC_ERR_RESOURCE_IN_USE;
    if (!status) status = open_device_locked();
    if (!status) *out = &device_module;
    return rk_leave(status);
}

/* ---------------------------------------------------------------------------------------------------------------- device */
GC_API DevClose(HANDLE_T device) {
    rk_enter();
    GC_ERROR status = check_locked(device, MODULE_DEVICE);
    if (!status) close_device_locked();
    return rk_leave(status);
}

GC_API DevGetInfo(HANDLE_T device, int32_t command, int32_t *type, void *out, size_t *size) {
    rk_enter();
    GC_ERROR status = check_locked(device, MODULE_DEVICE);
    return rk_leave(status ? status : device_info(command, type, out, size));
}

GC_API DevGetParentIF(HANDLE_T device, HANDLE_T *out) {
    rk_enter();
    GC_ERROR status = check_locked(device, MODULE_DEVICE);
    if (!status && !out) status = GC_ERR_INVALID_PARAMETER;
    if (!status) *out = &interface_module;
    return rk_leave(status);
}

GC_API DevGetPort(HANDLE_T device, HANDLE_T *out) {
    rk_enter();
    GC_ERROR status = check_locked(device, MODULE_DEVICE);
    if (!status && !out) status = GC_ERR_INVALID_PARAMETER;
    if (!status && rk_cam.unplugged) status = GC_ERR_IO;
    if (!status) *out = &remote_module;
    return rk_leave(status);
}

GC_API DevGetNumDataStreams(HANDLE_T device, uint32_t *count) {
    rk_enter();
    return tell_count(check_locked(device, MODULE_DEVICE), count);
}

GC_API DevGetDataStreamID(HANDLE_T device, uint32_t index, char *out, size_t *size) {
    rk_enter();
    return tell_id(check_locked(device, MODULE_DEVICE), index, STREAM_ID, out, size);
}

GC_API DevOpenDataStream(HANDLE_T device, const char *id, HANDLE_T *out) {
    rk_enter();
    GC_ERROR status = check_locked(device, MODULE_DEVICE);
    if (!status && (!id || strcmp(id, STREAM_ID))) status = GC_ERR_INVALID_ID;
    if (!status && !out) status = GC_ERR_INVALID_PARAMETER;
    if (!status && rk_cam.unplugged) status = GC_ERR_IO;
    if (!status) status = stream_open_locked();
    if (!status) *out = stream_handle();
    return rk_leave(status);
}
