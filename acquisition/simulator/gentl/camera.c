/* Registers of the simulated camera: what can be read and written, and when. Addresses: sfnc.py. */
#include "camera.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RK_END 0x10000u /* beyond all registers */
#define LINK_BYTES_PER_US 400 /* of a camera whose readout nobody has set */

rk_mutex rk_mutex_all = RK_MUTEX_INIT;
rk_cond rk_changed;
rk_camera rk_cam;

static uint64_t environment_number(const char *name, uint64_t otherwise) {
    char text[32];
    if (!rk_environment(name, text, sizeof text)) return otherwise;
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    return *end ? otherwise : value;
}

/* A camera as it is when it has just been plugged in. REG_SENSOR_*, REG_MONO_SENSOR and REG_COLOUR_SENSOR are set by who
 * opens it, before. */
void camera_reset_locked(const char *serial) {
    rk_camera *c = &rk_cam;
    uint64_t width = c->reg[REG_SENSOR_WIDTH].u, height = c->reg[REG_SENSOR_HEIGHT].u;
    c->reg[REG_WIDTH_MAX].u = c->reg[REG_WIDTH].u = width - width % 4;
    c->reg[REG_HEIGHT_MAX].u = c->reg[REG_HEIGHT].u = height - height % 2;
    c->reg[REG_PIXEL_FORMAT].u = c->reg[REG_MONO_SENSOR].u ? PFNC_Mono8 : PFNC_BayerRG8;
    c->reg[REG_DEVICE_LINK_THROUGHPUT_LIMIT].u = LINK_BYTES_PER_US * 1000000u;
    c->reg[REG_ACQUISITION_FRAME_COUNT].u = 1;
    c->reg[REG_ACQUISITION_FRAME_RATE].d = 10;
    c->reg[REG_EXPOSURE_TIME].d = 10000;
    snprintf(c->text[TEXT_DEVICE_VENDOR_NAME], RK_TEXT_BYTES, "%s", RK_VENDOR);
    snprintf(c->text[TEXT_DEVICE_MODEL_NAME], RK_TEXT_BYTES, "%s", RK_MODEL);
    snprintf(c->text[TEXT_DEVICE_VERSION], RK_TEXT_BYTES, "%s", RK_VERSION);
    snprintf(c->text[TEXT_DEVICE_SERIAL_NUMBER], RK_TEXT_BYTES, "%s", serial);
    c->opened_ns = rk_now_ns();
    c->temperature_env = environment_number("RAKELIGHT_TEMPERATURE_C", 0);
    c->readout_us_env = environment_number("RAKELIGHT_READOUT_US", 0);
    c->id_last = environment_number("RAKELIGHT_ID_BITS", 64) == 16 ? 65535u : UINT64_MAX;
    c->id_first = environment_number("RAKELIGHT_FIRST_ID", 1);
    if (c->id_first < 1 || c->id_first > c->id_last) c->id_first = 1;
}

void camera_layout_locked(rk_layout *l) {
    const rk_number *r = rk_cam.reg;
    l->width = (uint32_t)r[REG_WIDTH].u;
    l->height = (uint32_t)r[REG_HEIGHT].u;
    l->offset_x = (uint32_t)r[REG_OFFSET_X].u;
    l->offset_y = (uint32_t)r[REG_OFFSET_Y].u;
    l->format = (uint32_t)r[REG_PIXEL_FORMAT].u;
    l->image_bytes = (uint64_t)l->width * l->height * pixel_bits(l->format) / 8;
    l->chunks = r[REG_CHUNK_MODE_ACTIVE].u ? rk_cam.chunk_enabled : 0;
}

size_t layout_chunk_offset(const rk_layout *l) { return ((size_t)l->image_bytes + 7) / 8 * 8; }

size_t layout_payload(const rk_layout *l) {
    size_t bytes = l->chunks ? layout_chunk_offset(l) : (size_t)l->image_bytes;
    for (int k = 0; k < RK_CHUNK_COUNT; k++)
        if (l->chunks >> k & 1) bytes += k == CHUNK_COUNTER_VALUE ? 16 : 8;
    return bytes;
}

/* From the end of an exposure until its frame is out: RAKELIGHT_READOUT_US, or the time of its bytes on the link; no less
 * than a link throughput limit allows. */
uint64_t camera_readout_ns_locked(void) {
    rk_layout l;
    camera_layout_locked(&l);
    uint64_t bytes = layout_payload(&l);
    uint64_t ns = rk_cam.readout_us_env ? rk_cam.readout_us_env * 1000u : bytes * 1000u / LINK_BYTES_PER_US;
    if (rk_cam.reg[REG_DEVICE_LINK_THROUGHPUT_LIMIT_MODE].u) {
        double limited = (double)bytes * 1e9 / (double)rk_cam.reg[REG_DEVICE_LINK_THROUGHPUT_LIMIT].u;
        if (limited > (double)ns) ns = (uint64_t)limited;
    }
    return ns;
}

static double resulting_rate_locked(void) {
    double rate = 1e9 / (rk_cam.reg[REG_EXPOSURE_TIME].d * 1e3 + (double)camera_readout_ns_locked());
    int limited = rk_cam.reg[REG_ACQUISITION_FRAME_RATE_ENABLE].u && !rk_cam.reg[REG_TRIGGER_MODE].u;
    double wanted = rk_cam.reg[REG_ACQUISITION_FRAME_RATE].d;
    return limited && wanted < rate ? wanted : rate;
}

static int exposing_locked(void) {
    uint64_t now = rk_now_ns();
    const rk_exposure *last = rk_cam.taken ? &rk_cam.ring[(rk_cam.taken - 1) % RK_BACKLOG] : NULL;
    return rk_cam.running && last && now >= last->start_ns && now < last->end_ns;
}

/* Value of a register, computed where it is not merely stored. */
static rk_number number_locked(int reg) {
    rk_number v = rk_cam.reg[reg];
    rk_layout l;
    uint64_t line = rk_cam.reg[REG_LINE_SELECTOR].u;
    switch (reg) {
    case REG_DEVICE_TEMPERATURE: /* a warm-up from 30 to 38 degrees in some ten minutes, or as warm as was asked for */
        v.d = rk_cam.temperature_env ? (double)rk_cam.temperature_env : 38 - 8 * exp(-(double)(rk_now_ns() - rk_cam.opened_ns) / 300e9);
        break;
    case REG_RESULTING_FRAME_RATE: v.d = resulting_rate_locked(); break;
    case REG_SENSOR_READOUT_TIME: v.d = (double)camera_readout_ns_locked() / 1e3; break;
    case REG_PAYLOAD_SIZE:
        camera_layout_locked(&l);
        v.u = layout_payload(&l);
        break;
    case REG_LINE_MODE:
    case REG_LINE_SOURCE: v.u = line; break; /* Line0: Input, Off; Line1: Output, ExposureActive */
    case REG_LINE_STATUS: v.u = line == 1 && exposing_locked(); break;
    case REG_COUNTER_EVENT_SOURCE: v.u = rk_cam.reg[REG_COUNTER_SELECTOR].u; break;
    case REG_COUNTER_VALUE: v.u = rk_cam.reg[REG_COUNTER_SELECTOR].u ? rk_cam.exposures : rk_cam.triggers; break;
    case REG_CHUNK_ENABLE: v.u = rk_cam.chunk_enabled >> rk_cam.reg[REG_CHUNK_SELECTOR].u & 1; break;
    default: break;
    }
    return v;
}

GC_ERROR camera_read_locked(uint64_t address, void *data, size_t size) {
    if (address >= RK_END || size > RK_END) return GC_ERR_INVALID_ADDRESS; /* their sum shall not wrap around */
    if (address >= RK_TEXTS && address + size <= RK_TEXTS + sizeof rk_cam.text) {
        memcpy(data, (const char *)rk_cam.text + (address - RK_TEXTS), size);
        return GC_ERR_SUCCESS;
    }
    if (address < RK_NUMBERS || address % 8 || size % 8 || address + size > RK_NUMBERS + 8 * REG_COUNT)
        return GC_ERR_INVALID_ADDRESS;
    for (size_t k = 0; k < size / 8; k++) {
        rk_number v = number_locked((int)((address - RK_NUMBERS) / 8 + k));
        memcpy((char *)data + 8 * k, &v, 8);
    }
    return GC_ERR_SUCCESS;
}

static int format_offered(uint64_t format) {
    switch (format) {
    case PFNC_Mono8:
    case PFNC_Mono10:
    case PFNC_Mono10p:
    case PFNC_Mono12:
    case PFNC_Mono12p: return rk_cam.reg[REG_MONO_SENSOR].u != 0;
    case PFNC_BayerRG8:
    case PFNC_BayerRG10:
    case PFNC_BayerRG12:
    case PFNC_BayerRG12p:
    case PFNC_RGB8: return rk_cam.reg[REG_COLOUR_SENSOR].u != 0;
    default: return 0;
    }
}

static GC_ERROR command_locked(int reg) {
    switch (reg) {
    case REG_ACQUISITION_START: return sensor_start_locked();
    case REG_ACQUISITION_STOP: sensor_stop_locked(); break;
    case REG_TRIGGER_SOFTWARE: sensor_trigger_locked(SOURCE_SOFTWARE, rk_now_ns()); break;
    case REG_TIMESTAMP_LATCH: rk_cam.reg[REG_TIMESTAMP_LATCH_VALUE].u = rk_now_ns(); break;
    default: rk_cam.triggers = rk_cam.exposures = 0; /* REG_COUNTER_RESET */
    }
    return GC_ERR_SUCCESS;
}

static GC_ERROR write_whole_locked(int reg, uint64_t v) {
    const rk_number *r = rk_cam.reg;
    uint64_t low = 0, high = 1, step = 1;
    switch (reg) { /* limits as in sfnc.py; a consumer that goes past its node map is held to them here */
    case REG_WIDTH: low = 16, high = r[REG_WIDTH_MAX].u - r[REG_OFFSET_X].u, step = 4; break;
    case REG_HEIGHT: low = 2, high = r[REG_HEIGHT_MAX].u - r[REG_OFFSET_Y].u, step = 2; break;
    case REG_OFFSET_X: high = r[REG_WIDTH_MAX].u - r[REG_WIDTH].u, step = 4; break;
    case REG_OFFSET_Y: high = r[REG_HEIGHT_MAX].u - r[REG_HEIGHT].u, step = 2; break;
    case REG_DEVICE_LINK_THROUGHPUT_LIMIT: low = 1000000u, high = LINK_BYTES_PER_US * 1000000u; break;
    case REG_ACQUISITION_FRAME_COUNT: low = 1, high = 65535u; break;
    case REG_ACQUISITION_MODE: high = 2; break;
    case REG_CHUNK_SELECTOR: high = RK_CHUNK_COUNT - 1; break;
    case REG_TRIGGER_SELECTOR:
    case REG_TRIGGER_ACTIVATION:
    case REG_EXPOSURE_MODE:
    case REG_GAIN_SELECTOR: high = 0; break;
    default: break;
    }
    if (reg == REG_PIXEL_FORMAT ? !format_offered(v) : v < low || v > high || v % step) return GC_ERR_INVALID_VALUE;
    if (reg == REG_CHUNK_ENABLE) {
        unsigned bit = 1u << r[REG_CHUNK_SELECTOR].u;
        rk_cam.chunk_enabled = v ? rk_cam.chunk_enabled | bit : rk_cam.chunk_enabled & ~bit;
    }
    rk_cam.reg[reg].u = v;
    rk_wake_all(&rk_changed); /* the sensor may now run free, or wait for a trigger */
    return GC_ERR_SUCCESS;
}

static GC_ERROR write_float_locked(int reg, double v) {
    double low = reg == REG_EXPOSURE_TIME ? 20 : reg == REG_GAIN ? 0 : 0.01;
    double high = reg == REG_EXPOSURE_TIME ? 1e7 : reg == REG_GAIN ? 24 : 1e4;
    if (!(v >= low && v <= high)) return GC_ERR_INVALID_VALUE; /* also not a number */
    rk_cam.reg[reg].d = reg == REG_EXPOSURE_TIME ? floor(v + 0.5) : v;
    rk_wake_all(&rk_changed);
    return GC_ERR_SUCCESS;
}

GC_ERROR camera_write_locked(uint64_t address, const void *data, size_t size) {
    rk_number v;
    if (address >= RK_END || address < RK_NUMBERS || address % 8 || size != 8 || address + 8 > RK_NUMBERS + 8 * REG_COUNT)
        return address >= RK_TEXTS && address < RK_TEXTS + sizeof rk_cam.text ? GC_ERR_ACCESS_DENIED : GC_ERR_INVALID_ADDRESS;
    int reg = (int)((address - RK_NUMBERS) / 8);
    memcpy(&v, data, 8);
    switch (reg) {
    case REG_WIDTH:
    case REG_HEIGHT:
    case REG_OFFSET_X:
    case REG_OFFSET_Y:
    case REG_PIXEL_FORMAT:
    case REG_DEVICE_LINK_THROUGHPUT_LIMIT:
    case REG_DEVICE_LINK_THROUGHPUT_LIMIT_MODE:
    case REG_ACQUISITION_MODE:
    case REG_ACQUISITION_FRAME_COUNT:
    case REG_CHUNK_MODE_ACTIVE:
    case REG_CHUNK_ENABLE: return rk_cam.running ? GC_ERR_ACCESS_DENIED : write_whole_locked(reg, v.u);
    case REG_ACQUISITION_FRAME_RATE_ENABLE:
    case REG_TRIGGER_SELECTOR:
    case REG_TRIGGER_MODE:
    case REG_TRIGGER_SOURCE:
    case REG_TRIGGER_ACTIVATION:
    case REG_EXPOSURE_MODE:
    case REG_GAIN_SELECTOR:
    case REG_LINE_SELECTOR:
    case REG_COUNTER_SELECTOR:
    case REG_CHUNK_SELECTOR:
    case REG_TLPARAMS_LOCKED: return write_whole_locked(reg, v.u);
    case REG_ACQUISITION_FRAME_RATE:
    case REG_EXPOSURE_TIME:
    case REG_GAIN: return write_float_locked(reg, v.d);
    case REG_ACQUISITION_START:
    case REG_ACQUISITION_STOP:
    case REG_TRIGGER_SOFTWARE:
    case REG_TIMESTAMP_LATCH:
    case REG_COUNTER_RESET: return command_locked(reg);
    default: return GC_ERR_ACCESS_DENIED;
    }
}
