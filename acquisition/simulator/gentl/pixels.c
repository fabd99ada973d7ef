/* Pixel formats of the PFNC, and the picture that is shown when there is no scene. */
#include "camera.h"

unsigned pixel_bits(uint32_t format) { return format >> 16 & 0xffu; /* where the PFNC keeps them */ }

/* 12-bit value of the test picture: a diagonal ramp that steps by one grey level of 8 bits each pixel. */
static unsigned ramp(uint32_t x, uint32_t y) { return (x + y) << 4 & 0xfffu; }

static void put_row8(unsigned char *out, const rk_layout *l, uint32_t y) {
    for (uint32_t x = 0; x < l->width; x++) out[x] = (unsigned char)(ramp(x + l->offset_x, y) >> 4);
}

static void put_row16(unsigned char *out, const rk_layout *l, uint32_t y, unsigned shift) {
    for (uint32_t x = 0; x < l->width; x++) {
        unsigned v = ramp(x + l->offset_x, y) >> shift;
        out[2 * x] = (unsigned char)v;
        out[2 * x + 1] = (unsigned char)(v >> 8);
    }
}

/* Packed formats fill bytes from the least significant bit on; a row is a whole number of bytes as widths are multiples
 * of 4. */
static void put_row_packed(unsigned char *out, const rk_layout *l, uint32_t y, unsigned bits) {
    uint32_t held = 0;
    unsigned n = 0;
    for (uint32_t x = 0; x < l->width; x++) {
        held |= ramp(x + l->offset_x, y) >> (12 - bits) << n;
        for (n += bits; n >= 8; n -= 8, held >>= 8) *out++ = (unsigned char)held;
    }
}

static void put_row_rgb(unsigned char *out, const rk_layout *l, uint32_t y) {
    for (uint32_t x = 0; x < l->width; x++) {
        uint32_t u = x + l->offset_x;
        out[3 * x] = (unsigned char)(u + y);
        out[3 * x + 1] = (unsigned char)u;
        out[3 * x + 2] = (unsigned char)y;
    }
}

void test_picture(unsigned char *out, const rk_layout *l) {
    size_t row = (size_t)l->width * pixel_bits(l->format) / 8;
    for (uint32_t k = 0; k < l->height; k++, out += row) {
        uint32_t y = k + l->offset_y;
        switch (l->format) {
        case PFNC_Mono10p: put_row_packed(out, l, y, 10); break;
        case PFNC_Mono12p:
        case PFNC_BayerRG12p: put_row_packed(out, l, y, 12); break;
        case PFNC_Mono10:
        case PFNC_BayerRG10: put_row16(out, l, y, 2); break;
        case PFNC_Mono12:
        case PFNC_BayerRG12: put_row16(out, l, y, 0); break;
        case PFNC_RGB8: put_row_rgb(out, l, y); break;
        default: put_row8(out, l, y);
        }
    }
}
