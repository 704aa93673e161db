// Elements where indices lead. An index out of its dimension is told, and leads nowhere.
#include "quern.cuh"

// The first bad index of the first step that had one; in a lane's memory.
struct Fault {
    u32 lock;
    u32 op;        // number of the operator, 0 for none
    u64 step;
    u64 position;
    i64 index;
    u64 size;
};

struct Indexing {
    Elementwise each;   // of a gather: inputs are slices and indices. Of a check: the indices
    u64 size;           // of the dimension that indices lead into
    u64 axis_stride;    // how far apart its slices are
    u64 step;
    u32 op;
    u32 unused;
    Fault* fault;
};

DEVICE void tell(const Indexing& p, u64 position, i64 index) {
    Fault* fault = p.fault;
    while (atomicCAS(&fault->lock, 0u, 1u) != 0u) {
    }
    __threadfence();
    volatile Fault* seen = fault;
    if (seen->op == 0 || (seen->step == p.step && position < seen->position)) {
        seen->op = p.op;
        seen->step = p.step;
        seen->position = position;
        seen->index = index;
        seen->size = p.size;
    }
    __threadfence();
    atomicExch(&fault->lock, 0u);
}

template <typename I> DEVICE void check(const Indexing& p) {
    u64 first = ~0ull;
    i64 bad = 0;
    each_element<1>(p.each, 0, [&](u64 i, const u64* at) {
        i64 index = input<I>(p.each, 0)[at[0]];
        // A negative one is larger than any size.
        if (first == ~0ull && u64(index) >= p.size) {
            first = i;
            bad = index;
        }
    });
    if (first != ~0ull) tell(p, first, bad);
}
KERNEL(check_i32, Indexing) { check<i32>(p); }
KERNEL(check_i64, Indexing) { check<i64>(p); }

template <typename T, typename I> DEVICE void gather(const Indexing& p) {
    T* out = static_cast<T*>(p.each.out);
    each_element<2>(p.each, 0, [&](u64 i, const u64* at) {
        u64 index = u64(i64(input<I>(p.each, 1)[at[1]]));
        if (index < p.size) out[i] = input<T>(p.each, 0)[at[0] + index * p.axis_stride];
    });
}
#define GATHER(T) \
    KERNEL(gather_##T##_i32, Indexing) { gather<T, i32>(p); } \
    KERNEL(gather_##T##_i64, Indexing) { gather<T, i64>(p); }
EACH_SIZE(GATHER)

// A scatter-add goes through the indices in parts of so many: each is sorted by one block, then
// all threads add what goes to each place, in the order of the indices. FP16 and BF16 are rounded
// once for each part.
#define PART 2048

struct Scatter {
    u64 begin;        // of the part
    u32 count;        // of the part's indices
    u32 rounded;      // the same, up to a power of 2
    u64 total;        // of all indices
    u64 size;
    u64 inner;        // elements within a slice
    u64 columns;      // elements that one index leads to: inner, times what lies around
    u32 index_rank;
    u32 update_rank;
    u64 index_dims[MAX_RANK];
    u64 index_strides[MAX_RANK];
    u64 update_dims[MAX_RANK];
    u64 update_strides[MAX_RANK];
    const void* indices;
    const void* updates;
    u64* sorted;      // as many as `rounded`: index × PART + position in the part
    void* out;
};

template <typename I> DEVICE void sort(const Scatter& p) {
    __shared__ u64 keys[PART];
    for (u32 i = threadIdx.x; i < p.rounded; i += blockDim.x) {
        u64 key = ~0ull;
        if (i < p.count) {
            u64 at = place(p.index_rank, p.index_dims, p.index_strides, p.begin + i);
            u64 index = u64(i64(static_cast<const I*>(p.indices)[at]));
            if (index < p.size) key = index * PART + i;
        }
        keys[i] = key;
    }
    __syncthreads();
    // Bitonic; keys differ, so that it does not matter that it is not stable.
    for (u32 run = 2; run <= p.rounded; run *= 2) {
        for (u32 apart = run / 2; apart > 0; apart /= 2) {
            for (u32 i = threadIdx.x; i < p.rounded; i += blockDim.x) {
                u32 other = i ^ apart;
                if (other > i) {
                    u64 a = keys[i], b = keys[other];
                    if ((a > b) == ((i & run) == 0)) {
                        keys[i] = b;
                        keys[other] = a;
                    }
                }
            }
            __syncthreads();
        }
    }
    for (u32 i = threadIdx.x; i < p.rounded; i += blockDim.x) p.sorted[i] = keys[i];
}
KERNEL_WITH_BARRIERS(sort_i32, Scatter) { sort<i32>(p); }
KERNEL_WITH_BARRIERS(sort_i64, Scatter) { sort<i64>(p); }

template <typename T> DEVICE void add(const Scatter& p) {
    typedef typename Element<T>::Compute C;
    T* out = static_cast<T*>(p.out);
    for (u64 job = this_thread(); job < p.columns * p.count; job += all_threads()) {
        u64 column = job % p.columns;
        u32 entry = u32(job / p.columns);
        u64 key = p.sorted[entry], index = key / PART;
        bool follows = key == ~0ull || (entry > 0 && p.sorted[entry - 1] / PART == index);
        if (follows) continue;
        u64 outer = column / p.inner, inside = column % p.inner;
        T* to = out + (outer * p.size + index) * p.inner + inside;
        C sum = widen(*to);
        while (true) {
            u64 position = p.begin + key % PART;
            u64 update = (outer * p.total + position) * p.inner + inside;
            u64 at = place(p.update_rank, p.update_dims, p.update_strides, update);
            sum = Arithmetic<C>::add(sum, widen(static_cast<const T*>(p.updates)[at]));
            if (++entry == p.count) break;
            key = p.sorted[entry];
            if (key / PART != index) break;
        }
        *to = Element<T>::narrow(sum);
    }
}
#define SCATTER_ADD(name, suffix, T) \
    KERNEL(name##_##suffix, Scatter) { add<T>(p); }
EACH_NUMBER(SCATTER_ADD, scatter_add)
