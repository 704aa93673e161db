// Elements where indices lead. An index out of its dimension is told, and leads nowhere.
#include "quern.cuh"

struct Indexing {
    Elementwise each;   // of a gather: inputs are slices and indices. Of a check: the indices
    Checked checked;    // the size is that of the dimension that indices lead into
    u64 axis_stride;    // how far apart its slices are
};

template <typename I> DEVICE void check(const Indexing& p) {
    u64 first = ~0ull;
    i64 bad = 0;
    each_element<1>(p.each, 0, [&](u64 i, const u64* at) {
        i64 index = input<I>(p.each, 0)[at[0]];
        // A negative one is larger than any size.
        if (first == ~0ull && u64(index) >= p.checked.size) {
            first = i;
            bad = index;
        }
    });
    if (first != ~0ull) tell(p.checked, first, bad);
}
KERNEL(check_i32, Indexing) { check<i32>(p); }
KERNEL(check_i64, Indexing) { check<i64>(p); }

template <typename T, typename I> DEVICE void gather(const Indexing& p) {
    T* out = static_cast<T*>(p.each.out);
    each_element<2>(p.each, 0, [&](u64 i, const u64* at) {
        u64 index = u64(i64(input<I>(p.each, 1)[at[1]]));
        if (index < p.checked.size) out[i] = input<T>(p.each, 0)[at[0] + index * p.axis_stride];
    });
}
#define GATHER(T) \
    KERNEL(gather_##T##_i32, Indexing) { gather<T, i32>(p); } \
    KERNEL(gather_##T##_i64, Indexing) { gather<T, i64>(p); }
EACH_SIZE(GATHER)

// A scatter-add goes through the indices in parts, one after another. Each part is sorted by what
// its indices name and, where they name the same, by where they are, so that the updates of each
// place stand together, in the order of the indices. The place belongs to the thread, or the block,
// that finds where they begin: nothing else writes there, and no atomic is needed. FP16 and BF16
// are rounded once for each part.
#define PART 65536

// Indices that a block sorts.
#define RUN 2048

// Updates of one place that a thread adds up alone; more of them are added by a block.
#define ALONE 32

// What an index out of its dimension counts as.
#define NOWHERE ((1ull << 47) - 1)

struct Scatter {
    u64 begin;        // of the part
    u64 total;        // of all indices
    u64 size;
    u64 inner;        // elements within a slice
    u64 columns;      // elements that one index leads to: inner, times what lies around
    u32 count;        // of the part's indices
    u32 width;        // columns side by side of a block: a power of 2
    u32 chunk;        // entries of a block
    u32 index_rank;
    u32 update_rank;
    u32 unused;
    u64 index_dims[MAX_RANK];
    u64 index_strides[MAX_RANK];
    u64 update_dims[MAX_RANK];
    u64 update_strides[MAX_RANK];
    const void* indices;
    const void* updates;
    u64* runs;        // keys, index × PART + position in the part: every RUN of them sorted
    u64* sorted;      // all of them sorted; the same memory where there is one run
    void* out;
};

// A block for each run.
template <typename I> DEVICE void sort(const Scatter& p) {
    __shared__ u64 keys[RUN];
    for (u32 begin = blockIdx.x * RUN; begin < p.count; begin += gridDim.x * RUN) {
        u32 count = p.count - begin < RUN ? p.count - begin : RUN, rounded = 1;
        while (rounded < count) rounded *= 2;
        for (u32 i = threadIdx.x; i < rounded; i += blockDim.x) {
            u64 key = ~0ull;
            if (i < count) {
                u64 number = p.begin + begin + i;
                u64 at = place(p.index_rank, p.index_dims, p.index_strides, number);
                u64 index = u64(i64(static_cast<const I*>(p.indices)[at]));
                key = (index < p.size ? index : NOWHERE) * PART + begin + i;
            }
            keys[i] = key;
        }
        __syncthreads();
        // Bitonic; keys differ, so that it does not matter that it is not stable.
        for (u32 run = 2; run <= rounded; run *= 2) {
            for (u32 apart = run / 2; apart > 0; apart /= 2) {
                for (u32 i = threadIdx.x; i < rounded; i += blockDim.x) {
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
        for (u32 i = threadIdx.x; i < count; i += blockDim.x) p.runs[begin + i] = keys[i];
        __syncthreads();
    }
}
KERNEL_WITH_BARRIERS(sort_i32, Scatter) { sort<i32>(p); }
KERNEL_WITH_BARRIERS(sort_i64, Scatter) { sort<i64>(p); }

// Puts each key after all smaller ones, which it counts in each run.
KERNEL(merge_runs, Scatter) {
    for (u32 i = u32(this_thread()); i < p.count; i += u32(all_threads())) {
        u64 key = p.runs[i];
        u32 smaller = 0;
        for (u32 begin = 0; begin < p.count; begin += RUN) {
            u32 from = begin, to = p.count - begin < RUN ? p.count : begin + RUN;
            while (from < to) {
                u32 middle = (from + to) / 2;
                if (p.runs[middle] < key) {
                    from = middle + 1;
                } else {
                    to = middle;
                }
            }
            smaller += from - begin;
        }
        p.sorted[smaller] = key;
    }
}

// Whether so many entries on an index is still the same.
DEVICE bool goes_on(const Scatter& p, u32 entry, u32 far) {
    return far < p.count - entry && p.sorted[entry + far] / PART == p.sorted[entry] / PART;
}

// Whether the updates of a place begin at an entry.
DEVICE bool begins(const Scatter& p, u32 entry) {
    return p.sorted[entry] / PART != NOWHERE && (entry == 0 || !goes_on(p, entry - 1, 1));
}

// A column of what is added to, and of what is added.
template <typename T> struct Column {
    typedef typename Element<T>::Compute C;
    const Scatter& p;
    T* out;
    u64 update;  // the number of the first of the part's

    DEVICE Column(const Scatter& p, u64 outer) : p(p) {
        u64 inside = innermost(outer, p.inner);
        out = static_cast<T*>(p.out) + outer * p.size * p.inner + inside;
        update = (outer * p.total + p.begin) * p.inner + inside;
    }
    DEVICE C add(C sum, u32 entry) const {
        u64 at = update + p.sorted[entry] % PART * p.inner;
        at = place(p.update_rank, p.update_dims, p.update_strides, at);
        return Arithmetic<C>::add(sum, widen(static_cast<const T*>(p.updates)[at]));
    }
    DEVICE T* place_of(u32 entry) const { return out + p.sorted[entry] / PART * p.inner; }
};

// A thread for each place, which finds where its updates begin.
template <typename T> DEVICE void add_alone(const Scatter& p) {
    typedef typename Element<T>::Compute C;
#pragma unroll 1
    for (u64 job = this_thread(); job < p.columns * p.count; job += all_threads()) {
        u64 rest = job, column = innermost(rest, p.columns);
        u32 entry = u32(rest);
        if (!begins(p, entry) || goes_on(p, entry, ALONE)) continue;
        Column<T> own(p, column);
        T* to = own.place_of(entry);
        C sum = widen(*to);
#pragma unroll 1
        for (bool more = true; more; ++entry) {
            sum = own.add(sum, entry);
            more = goes_on(p, entry, 1);
        }
        *to = Element<T>::narrow(sum);
    }
}

// A block takes some columns side by side, and some entries; where more updates of one place begin
// at these than a thread adds up alone, each row of the block's threads adds up a piece of them, and
// then pieces are joined. Which elements are added in which order depends on the indices and on
// shapes alone.
template <typename T> DEVICE void add_together(const Scatter& p) {
    typedef typename Element<T>::Compute C;
    __shared__ C pieces[MAX_THREADS];
    u32 rows = blockDim.x / p.width, row = threadIdx.x / p.width;
    u32 chunks = (p.count + p.chunk - 1) / p.chunk;
    u64 aside = (p.columns + p.width - 1) / p.width;
#pragma unroll 1
    for (u64 job = blockIdx.x; job < aside * chunks; job += gridDim.x) {
        u64 rest = job;
        u32 first = u32(innermost(rest, chunks)) * p.chunk;
        u32 last = p.count - first < p.chunk ? p.count : first + p.chunk;
        u64 column = rest * p.width + threadIdx.x % p.width;
        bool inside = column < p.columns;
        Column<T> own(p, column);
#pragma unroll 1
        for (u32 entry = first; entry < last; ++entry) {
            if (!begins(p, entry) || !goes_on(p, entry, ALONE)) continue;
            u32 within = ALONE, length = p.count - entry;
            while (length - within > 1) {
                u32 middle = (within + length) / 2;
                if (goes_on(p, entry, middle)) {
                    within = middle;
                } else {
                    length = middle;
                }
            }
            u32 piece = (length + rows - 1) / rows;
            u32 end = (row + 1) * piece < length ? (row + 1) * piece : length;
            C sum = 0;
#pragma unroll 1
            for (u32 k = row * piece; inside && k < end; ++k) sum = own.add(sum, entry + k);
            pieces[threadIdx.x] = sum;
            __syncthreads();
            for (u32 half = rows / 2; half > 0; half /= 2) {
                if (row < half)
                    pieces[threadIdx.x] = Arithmetic<C>::add(
                        pieces[threadIdx.x], pieces[threadIdx.x + half * p.width]);
                __syncthreads();
            }
            if (row == 0 && inside) {
                T* to = own.place_of(entry);
                *to = Element<T>::narrow(Arithmetic<C>::add(widen(*to), pieces[threadIdx.x]));
            }
            __syncthreads();
        }
    }
}
#define SCATTER_ADD(none, suffix, T) \
    KERNEL(scatter_add_##suffix##_alone, Scatter) { add_alone<T>(p); } \
    KERNEL_WITH_BARRIERS(scatter_add_##suffix##_together, Scatter) { add_together<T>(p); }
EACH_NUMBER(SCATTER_ADD, )
