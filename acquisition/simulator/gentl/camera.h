/* The simulated camera: its state, and what its parts offer one another.
 *
 * One mutex (rk_mutex_all) guards everything; one condition (rk_changed) tells of every change. Threads: the consumer's
 * own; "sensor" (exposure edges, free running) and "render" (pixels, delivery) while acquiring; "reader" (messages of the
 * scene) while a scene is connected. Functions named *_locked expect the mutex to be held. */
#ifndef RK_CAMERA_H
#define RK_CAMERA_H

#include "gentl.h"
#include "platform.h"
#include "sfnc.h" /* made by sfnc.py */

#define RK_VENDOR "rakelight"
#define RK_MODEL "rakelight simulated camera"
#define RK_VERSION "1.0.0"
#define RK_TLTYPE "Custom" /* chunks are then told by DSGetBufferChunkData, not by a trailer */
#define RK_BACKLOG 256     /* exposed frames that wait for their pixels */
#define RK_MAX_BUFFERS 1024

enum { SOURCE_FREE = 0, SOURCE_SOFTWARE = 1, SOURCE_LINE = 2 };

typedef struct { /* one exposure, as it was when it began */
    uint64_t id, trigger_ns, start_ns, end_ns, ready_ns, triggers, exposures;
    double exposure_us, gain_db;
    uint32_t source;
} rk_exposure;

typedef struct { /* what stays the same during an acquisition */
    uint32_t width, height, offset_x, offset_y, format;
    uint64_t image_bytes;
    unsigned chunks; /* bit k: chunk k */
} rk_layout;

typedef union {
    uint64_t u;
    double d;
} rk_number;

typedef enum { SHOT_WHOLE, SHOT_DROP, SHOT_INCOMPLETE, SHOT_DUPLICATE, SHOT_STOPPED } rk_verdict;

typedef struct { /* the scene's answer; pixels stay valid until it sends others */
    rk_verdict verdict;
    const unsigned char *pixels;
    uint64_t bytes;
} rk_shot;

typedef struct {
    int open, unplugged;
    int running, stopping;     /* an acquisition's threads exist; are being ended */
    rk_number reg[REG_COUNT];
    char text[TEXT_COUNT][RK_TEXT_BYTES];
    unsigned chunk_enabled;
    uint64_t opened_ns, temperature_env, readout_us_env, id_first, id_last;
    uint64_t triggers, exposures; /* since the start of the acquisition */
    uint64_t started_ns, ready_ns, limit;
    rk_layout layout;
    rk_exposure ring[RK_BACKLOG];
    uint64_t taken, edged, rendered; /* exposures begun; with both edges told; done */
    int has_last;                    /* a whole frame went before, to be delivered again if the scene says so */
    rk_exposure last;
    rk_shot last_shot;
    rk_thread sensor, render;
} rk_camera;

typedef enum { BUFFER_IDLE, BUFFER_INPUT, BUFFER_FILLING, BUFFER_OUTPUT } rk_buffer_state;

typedef struct {
    unsigned char *memory;
    size_t size;
    void *user;
    int owned; /* memory is ours */
    rk_buffer_state state;
    int new_data, incomplete, too_small;
    size_t filled;
    uint64_t id, timestamp_ns;
    rk_layout layout;
    rk_chunk_data chunk[RK_CHUNK_COUNT];
    size_t chunk_count;
} rk_buffer;

extern rk_mutex rk_mutex_all;
extern rk_cond rk_changed;
extern rk_camera rk_cam;

/* camera.c: registers */
void camera_reset_locked(const char *serial);
GC_ERROR camera_read_locked(uint64_t address, void *data, size_t size);
GC_ERROR camera_write_locked(uint64_t address, const void *data, size_t size);
void camera_layout_locked(rk_layout *layout);
size_t layout_payload(const rk_layout *layout);
size_t layout_chunk_offset(const rk_layout *layout);
uint64_t camera_readout_ns_locked(void);

/* sensor.c: exposures */
GC_ERROR sensor_start_locked(void);
void sensor_stop_locked(void); /* gives the mutex up while it waits for the threads */
void sensor_trigger_locked(uint32_t source, uint64_t edge_ns);

/* link.c: the scene */
typedef struct {
    int present; /* else the test picture is shown */
    uint32_t width, height, colour;
} rk_scene_sensor;
GC_ERROR link_open(const char *serial, rk_scene_sensor *sensor);
void link_close(void);
void link_state(int acquiring, uint32_t source, double exposure_us, double gain_db);
void link_line(uint32_t level, uint64_t at_ns);
rk_shot link_render(const rk_exposure *exposure, const rk_layout *layout);
int link_present(void);

/* pixels.c */
unsigned pixel_bits(uint32_t format);
void test_picture(unsigned char *out, const rk_layout *layout);

/* stream.c: buffers */
rk_buffer *stream_take_locked(void); /* a buffer to fill, or NULL (counted as underrun) */
void stream_deliver_locked(rk_buffer *buffer);
void stream_return_locked(rk_buffer *buffer);
rk_buffer *stream_next_locked(void);       /* delivered and not yet fetched, the oldest; or NULL */
size_t stream_pending_locked(void);
uint64_t stream_fired_locked(void);
void stream_discard_output_locked(void);
GC_ERROR stream_open_locked(void);
void stream_close_locked(void);
int stream_is_open_locked(HANDLE_T handle);
HANDLE_T stream_handle(void);

/* event.c */
void event_close_locked(void); /* ends every wait */

/* modules.c: shared by all exported functions */
extern int rk_initialised;
GC_ERROR rk_leave(GC_ERROR code); /* gives the mutex up, remembers an error for GCGetLastError, returns the code */
void rk_enter(void);
HANDLE_T device_handle(void);
const char *camera_serial(void);
int module_of(HANDLE_T port); /* MODULE_*, or -1 if nothing open has this handle */
enum { MODULE_SYSTEM, MODULE_INTERFACE, MODULE_DEVICE, MODULE_STREAM, MODULE_REMOTE, MODULE_COUNT };

/* info.c: the in/out protocol of all info functions: no buffer asks for the size, a short one is refused */
GC_ERROR info_bytes(const void *data, size_t bytes, void *buffer, size_t *size);
GC_ERROR info_text(const char *text, int32_t *type, void *buffer, size_t *size);
GC_ERROR info_size(size_t value, int32_t *type, void *buffer, size_t *size);
GC_ERROR info_u64(uint64_t value, int32_t *type, void *buffer, size_t *size);
GC_ERROR info_u32(uint32_t value, int32_t *type, void *buffer, size_t *size);
GC_ERROR info_i32(int32_t value, int32_t *type, void *buffer, size_t *size);
GC_ERROR info_bool(int value, int32_t *type, void *buffer, size_t *size);
GC_ERROR info_pointer(const void *value, int32_t *type, void *buffer, size_t *size);

#endif
