// Kernels of whole rows: a block for each row, which it goes through several times.
#include "quern.cuh"

struct Rows {
    u64 rows;
    u64 length;
    u32 rank;     // of what lies around rows
    u32 logarithm;
    u64 dims[MAX_RANK];
    u64 strides[MAX_RANK];
    u64 stride;   // between elements of a row
    const void* data;
    const void* scale;
    u64 scale_stride;
    const void* bias;  // none for RMS norm
    u64 bias_stride;
    void* out;
    double epsilon;
};

template <typename T> DEVICE void softmax(const Rows& p) {
    typedef typename Element<T>::Compute C;
    for (u64 row = blockIdx.x; row < p.rows; row += gridDim.x) {
        const T* x = static_cast<const T*>(p.data) + place(p.rank, p.dims, p.strides, row);
        T* out = static_cast<T*>(p.out) + row * p.length;
        Exponentials<C> all = Exponentials<C>::none();
        for (u64 k = threadIdx.x; k < p.length; k += blockDim.x) {
            C value = widen(x[k * p.stride]);
            all.template take<1>(&value);
        }
        all = across_block(all, [](Exponentials<C> a, Exponentials<C> b) { return join(a, b); });
        C scale = C(1) / all.sum, log = log_of(all.sum);
        for (u64 k = threadIdx.x; k < p.length; k += blockDim.x) {
            C below = widen(x[k * p.stride]) - all.max;
            out[k] = Element<T>::narrow(p.logarithm ? below - log : exp_of(below) * scale);
        }
    }
}

template <typename C> DEVICE C sum_of_block(C mine) {
    return across_block(mine, [](C a, C b) { return a + b; });
}

// Mean 0 and variance 1, or root mean square 1; then a scale and perhaps a bias.
template <typename T, bool Centred> DEVICE void norm(const Rows& p) {
    typedef typename Element<T>::Compute C;
    for (u64 row = blockIdx.x; row < p.rows; row += gridDim.x) {
        const T* x = static_cast<const T*>(p.data) + place(p.rank, p.dims, p.strides, row);
        T* out = static_cast<T*>(p.out) + row * p.length;
        C mean = 0;
        if (Centred) {
            for (u64 k = threadIdx.x; k < p.length; k += blockDim.x) mean += widen(x[k * p.stride]);
            mean = sum_of_block(mean) / C(p.length);
        }
        C square = 0;
        for (u64 k = threadIdx.x; k < p.length; k += blockDim.x) {
            C from = widen(x[k * p.stride]) - mean;
            square += from * from;
        }
        C factor = C(1) / sqrt_of(sum_of_block(square) / C(p.length) + C(p.epsilon));
        for (u64 k = threadIdx.x; k < p.length; k += blockDim.x) {
            C value = (widen(x[k * p.stride]) - mean) * factor;
            value *= widen(static_cast<const T*>(p.scale)[k * p.scale_stride]);
            if (Centred) value += widen(static_cast<const T*>(p.bias)[k * p.bias_stride]);
            out[k] = Element<T>::narrow(value);
        }
    }
}

#define ROWS(none, suffix, T) \
    KERNEL_WITH_BARRIERS(softmax_##suffix, Rows) { softmax<T>(p); } \
    KERNEL_WITH_BARRIERS(layer_norm_##suffix, Rows) { norm<T, true>(p); } \
    KERNEL_WITH_BARRIERS(rms_norm_##suffix, Rows) { norm<T, false>(p); }
EACH_FLOAT(ROWS, )
