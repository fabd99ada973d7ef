/* Ports: the registers of each module and the XML that describes them. */
#include "camera.h"

#include <stdio.h>
#include <string.h>

#define XML_AT 0x100000u /* beyond all registers, in each module */
#define ID_BYTES 64

extern const unsigned char rk_camera_xml[]; /* made by sfnc.py */
extern const size_t rk_camera_xml_size;

typedef struct {
    const char *module, *port, *feature, *file;
} rk_port;

static const rk_port ports[MODULE_COUNT] = {{"TLSystem", "TLPort", "TLID", "rakelight_system.xml"},
                                            {"TLInterface", "InterfacePort", "InterfaceID", "rakelight_interface.xml"},
                                            {"TLDevice", "DevicePort", "DeviceID", "rakelight_device.xml"},
                                            {"TLDataStream", "StreamPort", "StreamID", "rakelight_stream.xml"},
                                            {"Device", "Device", "", "rakelight_camera.xml"}};

static const char *id_of(int module) {
    switch (module) {
    case MODULE_SYSTEM: return "rakelight";
    case MODULE_INTERFACE: return "rakelight-bench";
    case MODULE_STREAM: return "Stream0";
    default: return camera_serial();
    }
}

/* The description of a module; those on the host's side have one feature, their id. */
static const unsigned char *xml_of(int module, size_t *size) {
    static char text[MODULE_COUNT][1400];
    const rk_port *p = &ports[module];
    if (module == MODULE_REMOTE) {
        *size = rk_camera_xml_size;
        return rk_camera_xml;
    }
    int n = snprintf(
        text[module], sizeof text[module],
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<RegisterDescription ModelName=\"%s\" VendorName=\"rakelight\" StandardNameSpace=\"None\" SchemaMajorVersion=\"1\" "
        "SchemaMinorVersion=\"1\" SchemaSubMinorVersion=\"0\" MajorVersion=\"1\" MinorVersion=\"0\" SubMinorVersion=\"0\" "
        "ProductGuid=\"5f0c3a52-6a0e-4b8e-9d53-0f5f7f1f6b%02d\" VersionGuid=\"5f0c3a52-6a0e-4b8e-9d53-0f5f7f1f6c%02d\" "
        "xmlns=\"http://www.genicam.org/GenApi/Version_1_1\">\n"
        "<Category Name=\"Root\" NameSpace=\"Standard\"><pFeature>%s</pFeature></Category>\n"
        "<StringReg Name=\"%s\" NameSpace=\"Standard\"><Address>0x0</Address><Length>%d</Length><AccessMode>RO</AccessMode>"
        "<pPort>%s</pPort></StringReg>\n<Port Name=\"%s\" NameSpace=\"Standard\"/>\n</RegisterDescription>\n",
        p->module, module, module, p->feature, p->feature, ID_BYTES, p->port, p->port);
    *size = (size_t)n;
    return (const unsigned char *)text[module];
}

static GC_ERROR read_locked(int module, uint64_t address, void *out, size_t size) {
    size_t xml_size;
    const unsigned char *xml = xml_of(module, &xml_size);
    char id[ID_BYTES] = {0};
    if (module == MODULE_REMOTE && rk_cam.unplugged) return GC_ERR_IO;
    if (address >= XML_AT && address - XML_AT <= xml_size && size <= xml_size - (address - XML_AT)) {
        memcpy(out, xml + (address - XML_AT), size);
        return GC_ERR_SUCCESS;
    }
    if (module == MODULE_REMOTE) return camera_read_locked(address, out, size);
    if (address > ID_BYTES || size > ID_BYTES - address) return GC_ERR_INVALID_ADDRESS;
    snprintf(id, sizeof id, "%s", id_of(module));
    memcpy(out, id + address, size);
    return GC_ERR_SUCCESS;
}

static GC_ERROR write_locked(int module, uint64_t address, const void *data, size_t size) {
    if (module != MODULE_REMOTE) return GC_ERR_ACCESS_DENIED;
    return rk_cam.unplugged ? GC_ERR_IO : camera_write_locked(address, data, size);
}

static GC_ERROR find_locked(HANDLE_T port, int *module) {
    if (!rk_initialised) return GC_ERR_NOT_INITIALIZED;
    *module = port ? module_of(port) : -1;
    return *module < 0 ? GC_ERR_INVALID_HANDLE : GC_ERR_SUCCESS;
}

GC_API GCReadPort(HANDLE_T port, uint64_t address, void *out, size_t *size) {
    int module;
    rk_enter();
    GC_ERROR status = find_locked(port, &module);
    if (!status && (!out || !size)) status = GC_ERR_INVALID_PARAMETER;
    return rk_leave(status ? status : read_locked(module, address, out, *size));
}

GC_API GCWritePort(HANDLE_T port, uint64_t address, const void *data, size_t *size) {
    int module;
    rk_enter();
    GC_ERROR status = find_locked(port, &module);
    if (!status && (!data || !size)) status = GC_ERR_INVALID_PARAMETER;
    return rk_leave(status ? status : write_locked(module, address, data, *size));
}

/* Stacked accesses end at the first that fails; *count is then how many went well. */
static GC_ERROR stacked(HANDLE_T port, rk_port_stack_entry *entry, size_t *count, int writing) {
    int module;
    size_t done = 0;
    rk_enter();
    GC_ERROR status = find_locked(port, &module);
    if (!status && (!entry || !count)) status = GC_ERR_INVALID_PARAMETER;
    if (status) return rk_leave(status);
    for (; !status && done < *count; done += !status) {
        const rk_port_stack_entry *e = &entry[done];
        status = !e->buffer ? GC_ERR_INVALID_PARAMETER
                 : writing  ? write_locked(module, e->address, e->buffer, e->size)
                            : read_locked(module, e->address, e->buffer, e->size);
    }
    *count = done;
    return rk_leave(status);
}

GC_API GCReadPortStacked(HANDLE_T port, rk_port_stack_entry *entries, size_t *count) {
    return stacked(port, entries, count, 0);
}

GC_API GCWritePortStacked(HANDLE_T port, rk_port_stack_entry *entries, size_t *count) {
    return stacked(port, entries, count, 1);
}

static GC_ERROR port_info(int module, int32_t command, int32_t *type, void *out, size_t *size) {
    switch (command) {
    case PORT_INFO_ID: return info_text(id_of(module), type, out, size);
    case PORT_INFO_VENDOR: return info_text(RK_VENDOR, type, out, size);
    case PORT_INFO_MODEL: return info_text(RK_MODEL, type, out, size);
    case PORT_INFO_TLTYPE: return info_text(RK_TLTYPE, type, out, size);
    case PORT_INFO_MODULE: return info_text(ports[module].module, type, out, size);
    case PORT_INFO_LITTLE_ENDIAN:
    case PORT_INFO_ACCESS_READ: return info_bool(1, type, out, size);
    case PORT_INFO_ACCESS_WRITE: return info_bool(module == MODULE_REMOTE, type, out, size);
    case PORT_INFO_BIG_ENDIAN:
    case PORT_INFO_ACCESS_NA:
    case PORT_INFO_ACCESS_NI: return info_bool(0, type, out, size);
    case PORT_INFO_VERSION: return info_text(RK_VERSION, type, out, size);
    case PORT_INFO_PORTNAME: return info_text(ports[module].port, type, out, size);
    default: return GC_ERR_NOT_AVAILABLE;
    }
}

GC_API GCGetPortInfo(HANDLE_T port, int32_t command, int32_t *type, void *out, size_t *size) {
    int module;
    rk_enter();
    GC_ERROR status = find_locked(port, &module);
    return rk_leave(status ? status : port_info(module, command, type, out, size));
}

static void url_of(int module, char *url, size_t room) {
    size_t size;
    xml_of(module, &size);
    snprintf(url, room, "local:///%s;%X;%lX?SchemaVersion=1.1.0", ports[module].file, XML_AT, (unsigned long)size);
}

static GC_ERROR url_info(int module, int32_t command, int32_t *type, void *out, size_t *size) {
    char url[128];
    size_t xml_size;
    xml_of(module, &xml_size);
    url_of(module, url, sizeof url);
    switch (command) {
    case URL_INFO_URL: return info_text(url, type, out, size);
    case URL_INFO_SCHEMA_VER_MAJOR:
    case URL_INFO_SCHEMA_VER_MINOR:
    case URL_INFO_FILE_VER_MAJOR: return info_i32(1, type, out, size);
    case URL_INFO_FILE_VER_MINOR:
    case URL_INFO_FILE_VER_SUBMINOR:
    case URL_INFO_SCHEME: return info_i32(0, type, out, size); /* scheme: local */
    case URL_INFO_FILE_REGISTER_ADDRESS: return info_u64(XML_AT, type, out, size);
    case URL_INFO_FILE_SIZE: return info_u64(xml_size, type, out, size);
    case URL_INFO_FILENAME: return info_text(ports[module].file, type, out, size);
    default: return GC_ERR_NOT_AVAILABLE;
    }
}

GC_API GCGetNumPortURLs(HANDLE_T port, uint32_t *count) {
    int module;
    rk_enter();
    GC_ERROR status = find_locked(port, &module);
    if (!status && !count) status = GC_ERR_INVALID_PARAMETER;
    if (!status) *count = 1;
    return rk_leave(status);
}

GC_API GCGetPortURLInfo(HANDLE_T port, uint32_t index, int32_t command, int32_t *type, void *out, size_t *size) {
    int module;
    rk_enter();
    GC_ERROR status = find_locked(port, &module);
    if (!status && index) status = GC_ERR_INVALID_INDEX;
    return rk_leave(status ? status : url_info(module, command, type, out, size));
}

GC_API GCGetPortURL(HANDLE_T port, char *out, size_t *size) {
    int module;
    rk_enter();
    GC_ERROR status = find_locked(port, &module);
    return rk_leave(status ? status : url_info(module, URL_INFO_URL, NULL, out, size));
}
