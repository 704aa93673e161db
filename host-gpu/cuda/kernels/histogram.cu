// Counts of elements by where they lie between bounds.
#include "quern.cuh"

struct Histogram {
    Elementwise each;  // the counts are its output, and 0 to begin with
    double min;
    double max;
    double density;    // bins for a difference of 1
    u32 bins;
    u32 unused;
};

// Bins that a block counts for itself, before it adds to those of all.
#define OWN_BINS 2048

template <typename T> DEVICE void histogram(const Histogram& p) {
    __shared__ u32 own[OWN_BINS];
    u64* counts = static_cast<u64*>(p.each.out);
    bool for_itself = p.bins <= OWN_BINS;
    for (u32 bin = threadIdx.x; for_itself && bin < p.bins; bin += blockDim.x) own[bin] = 0;
    __syncthreads();
    each_element<1>(p.each, 0, [&](u64, const u64* at) {
        double x = double(widen(input<T>(p.each, 0)[at[0]]));
        // Not for NaN either.
        if (x >= p.min && x <= p.max) {
            u32 bin = u32((x - p.min) * p.density);
            bin = bin < p.bins ? bin : p.bins - 1;
            if (for_itself) {
                atomicAdd(&own[bin], 1u);
            } else {
                atomicAdd(&counts[bin], u64(1));
            }
        }
    });
    __syncthreads();
    for (u32 bin = threadIdx.x; for_itself && bin < p.bins; bin += blockDim.x)
        if (own[bin] > 0) atomicAdd(&counts[bin], u64(own[bin]));
}

#define HISTOGRAM(name, suffix, T) \
    KERNEL_WITH_BARRIERS(name##_##suffix, Histogram) { histogram<T>(p); }
EACH_NUMBER(HISTOGRAM, histogram)
