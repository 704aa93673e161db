// Sums of what came before: a block for each line, which it goes through from its beginning.
#include "quern.cuh"

struct Scan {
    u64 lines;
    u64 length;
    u32 rank;     // of the dimensions around lines
    u32 unused;
    u64 dims[MAX_RANK];
    u64 strides[MAX_RANK];
    u64 out_strides[MAX_RANK];
    u64 stride;       // between elements of a line
    u64 out_stride;
    const void* data;
    void* out;
};

// Elements of a thread at a time.
#define EACH 4

// Integers are summed up as INT64, floats in FP64, so that only what comes out is rounded.
template <typename T> struct Summed { typedef double Total; };
template <> struct Summed<u8> { typedef i64 Total; };
template <> struct Summed<i32> { typedef i64 Total; };
template <> struct Summed<i64> { typedef i64 Total; };

template <typename T, typename Out> DEVICE void scan(const Scan& p) {
    typedef typename Summed<T>::Total Total;
    typedef Arithmetic<Total> Sum;
    __shared__ Total shared[MAX_THREADS];
    for (u64 line = blockIdx.x; line < p.lines; line += gridDim.x) {
        const T* x = static_cast<const T*>(p.data) + place(p.rank, p.dims, p.strides, line);
        Out* out = static_cast<Out*>(p.out) + place(p.rank, p.dims, p.out_strides, line);
        Total before = 0;
        for (u64 begin = 0; begin < p.length; begin += blockDim.x * EACH) {
            u64 first = begin + threadIdx.x * EACH;
            Total sums[EACH], sum = 0;
#pragma unroll
            for (u32 i = 0; i < EACH; ++i) {
                u64 k = first + i;
                if (k < p.length) sum = Sum::add(sum, Total(widen(x[k * p.stride])));
                sums[i] = sum;
            }
            __syncthreads();
            shared[threadIdx.x] = sum;
            __syncthreads();
            // After each turn a place has the sum of twice as many threads, up to its own.
            for (u32 apart = 1; apart < blockDim.x; apart *= 2) {
                Total more = threadIdx.x >= apart ? shared[threadIdx.x - apart] : Total(0);
                __syncthreads();
                shared[threadIdx.x] = Sum::add(more, shared[threadIdx.x]);
                __syncthreads();
            }
            Total mine = threadIdx.x > 0 ? Sum::add(before, shared[threadIdx.x - 1]) : before;
#pragma unroll
            for (u32 i = 0; i < EACH; ++i) {
                u64 k = first + i;
                typedef typename Element<Out>::Compute C;
                if (k < p.length)
                    out[k * p.out_stride] = Element<Out>::narrow(C(Sum::add(mine, sums[i])));
            }
            before = Sum::add(before, shared[blockDim.x - 1]);
        }
    }
}

#define SCAN(name, Out, suffix, T) \
    KERNEL_WITH_BARRIERS(name##_##suffix, Scan) { scan<T, Out>(p); }
#define SCAN_TO_SAME(name, suffix, T) SCAN(name, T, suffix, T)
EACH_INTEGER(SCAN, cumulative_sum, i64)
EACH_FLOAT(SCAN_TO_SAME, cumulative_sum)
