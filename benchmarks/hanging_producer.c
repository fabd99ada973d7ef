/* GenTL calls that never return, for benchmarks/deadlines.py. Compiled into the simulated camera's producer, whose functions
 * of these names are called real_… then (-D on the command line). A call hangs while a file with its name lies in the folder
 * that the environment variable RAKELIGHT_HANG names. */
#include "gentl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#undef IFOpenDevice
#undef DevClose
#undef GCReadPort
#undef GCWritePort
#undef DSStartAcquisition
#undef DSStopAcquisition
#undef EventGetData

GC_API real_IFOpenDevice(HANDLE_T iface, const char *id, int32_t access, HANDLE_T *out);
GC_API real_DevClose(HANDLE_T device);
GC_API real_GCReadPort(HANDLE_T port, uint64_t address, void *out, size_t *size);
GC_API real_GCWritePort(HANDLE_T port, uint64_t address, const void *data, size_t *size);
GC_API real_DSStartAcquisition(HANDLE_T handle, int32_t flags, uint64_t frames);
GC_API real_DSStopAcquisition(HANDLE_T handle, int32_t flags);
GC_API real_EventGetData(HANDLE_T handle, void *out, size_t *size, uint64_t milliseconds);

static void maybe_hang(const char *name) {
    const char *folder = getenv("RAKELIGHT_HANG");
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", name);
    if (folder && access(path, F_OK) == 0)
        for (;;) pause();
}

GC_API IFOpenDevice(HANDLE_T iface, const char *id, int32_t access, HANDLE_T *out) {
    maybe_hang("IFOpenDevice");
    return real_IFOpenDevice(iface, id, access, out);
}

GC_API DevClose(HANDLE_T device) {
    maybe_hang("DevClose");
    return real_DevClose(device);
}

GC_API GCReadPort(HANDLE_T port, uint64_t address, void *out, size_t *size) {
    maybe_hang("GCReadPort");
    return real_GCReadPort(port, address, out, size);
}

GC_API GCWritePort(HANDLE_T port, uint64_t address, const void *data, size_t *size) {
    maybe_hang("GCWritePort");
    return real_GCWritePort(port, address, data, size);
}

GC_API DSStartAcquisition(HANDLE_T handle, int32_t flags, uint64_t frames) {
    maybe_hang("DSStartAcquisition");
    return real_DSStartAcquisition(handle, flags, frames);
}

GC_API DSStopAcquisition(HANDLE_T handle, int32_t flags) {
    maybe_hang("DSStopAcquisition");
    return real_DSStopAcquisition(handle, flags);
}

GC_API EventGetData(HANDLE_T handle, void *out, size_t *size, uint64_t milliseconds) {
    maybe_hang("EventGetData");
    return real_EventGetData(handle, out, size, milliseconds);
}
