// FP16 and BF16 on the host, as conversions of a device have them: to the nearest, ties to even.
#include "quern.cuh"

float widen(f16 x) {
    _Float16 half;
    memcpy(&half, &x, sizeof half);
    return float(half);
}

f16 narrow_f16(float x) {
    _Float16 half = _Float16(x);
    f16 narrow;
    memcpy(&narrow, &half, sizeof half);
    return narrow;
}

float widen(bf16 x) {
    u32 bits = u32(x.bits) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

bf16 narrow_bf16(float x) {
    if (x != x) return {0x7fff};
    u32 bits;
    memcpy(&bits, &x, sizeof bits);
    return {u16((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
