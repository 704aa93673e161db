// Elements along an axis in order. Each becomes an integer that has its order, together with the
// place where it was: so what is sorted is never equal, and equal elements stay in order. Runs of
// a line are sorted by a block each, and runs merged two by two, of which no more is kept than is
// asked for.
#include "quern.cuh"

struct Order {
    u64 first;        // number of the first line
    u64 lines;
    u64 length;       // elements of a line
    u64 count;        // of which so many come out
    u64 room;         // entries of a line, as they lie between kernels
    u64 runs;         // of a line
    u64 elements;     // of which a run is made, but for the last one
    u64 run;          // entries that are kept of them
    u64 merged;       // the same of what becomes of two runs
    u32 rank;         // of the dimensions around lines
    u32 descending;
    u64 dims[MAX_RANK];
    u64 strides[MAX_RANK];
    u64 out_strides[MAX_RANK];
    u64 stride;       // between elements of a line
    u64 out_stride;
    const void* data;
    void* values;
    i64* places;
    const void* from;
    void* to;
};

// ---- integers that have the order of elements; NaN comes last whatever the order, -0 is 0

// Floats as their bits.
struct Bits32 { u32 bits; };
struct Bits64 { u64 bits; };

template <typename Bits> DEVICE Bits key_of_float(Bits bits, Bits infinity, bool descending) {
    const Bits sign = Bits(1) << (sizeof(Bits) * 8 - 1);
    if (Bits(bits & Bits(~sign)) > infinity) return Bits(~Bits(0));
    if (bits == sign) bits = 0;
    if (descending) bits ^= sign;
    return bits & sign ? Bits(~bits) : Bits(bits | sign);
}
DEVICE u32 key_of(u8 x, bool descending) { return descending ? 255u - x : x; }
DEVICE u32 key_of(i32 x, bool descending) {
    u32 key = u32(x) ^ 0x80000000u;
    return descending ? ~key : key;
}
DEVICE u64 key_of(i64 x, bool descending) {
    u64 key = u64(x) ^ 0x8000000000000000ull;
    return descending ? ~key : key;
}
DEVICE u32 key_of(f16 x, bool descending) { return key_of_float<u16>(x.bits, 0x7c00, descending); }
DEVICE u32 key_of(bf16 x, bool descending) { return key_of_float<u16>(x.bits, 0x7f80, descending); }
DEVICE u32 key_of(Bits32 x, bool descending) {
    return key_of_float<u32>(x.bits, 0x7f800000u, descending);
}
DEVICE u64 key_of(Bits64 x, bool descending) {
    return key_of_float<u64>(x.bits, 0x7ff0000000000000ull, descending);
}

// ---- entries: a key and a place below it

// Of 32 bits each, in one word.
struct Narrow {
    static constexpr u32 RUN = 2048;  // that a block sorts in its shared memory
    u64 word;
    static DEVICE Narrow of(u64 key, u64 place) { return {key << 32 | place}; }
    static DEVICE Narrow last() { return {~0ull}; }
    DEVICE u64 place() const { return u32(word); }
    DEVICE bool before(const Narrow& other) const { return word < other.word; }
};
// Of 64 bits each.
struct Wide {
    static constexpr u32 RUN = 1024;
    u64 key, at;
    static DEVICE Wide of(u64 key, u64 place) { return {key, place}; }
    static DEVICE Wide last() { return {~0ull, ~0ull}; }
    DEVICE u64 place() const { return at; }
    DEVICE bool before(const Wide& other) const {
        return key < other.key || (key == other.key && at < other.at);
    }
};

template <typename T> DEVICE const T* line_of(const Order& p, u64 line) {
    return static_cast<const T*>(p.data) + place(p.rank, p.dims, p.strides, line);
}

// Puts an element where it belongs in a line.
template <typename T>
DEVICE void put(const Order& p, u64 line, const T* x, u64 position, u64 from) {
    u64 at = place(p.rank, p.dims, p.out_strides, line) + position * p.out_stride;
    static_cast<T*>(p.values)[at] = x[from * p.stride];
    p.places[at] = i64(from);
}

// Sorts each run of each line. A line of one run is done then.
template <typename T, typename Entry> DEVICE void sort_runs(const Order& p) {
    __shared__ Entry entries[Entry::RUN];
    u32 size = u32(p.elements);  // a power of 2
    for (u64 job = blockIdx.x; job < p.lines * p.runs; job += gridDim.x) {
        u64 line = job / p.runs, begin = job % p.runs * p.elements;
        const T* x = line_of<T>(p, p.first + line);
        __syncthreads();
        for (u32 i = threadIdx.x; i < size; i += blockDim.x) {
            u64 k = begin + i;
            entries[i] = k < p.length ? Entry::of(key_of(x[k * p.stride], p.descending), k)
                                      : Entry::last();
        }
        __syncthreads();
        // Bitonic; entries differ, so that it does not matter that it is not stable.
        for (u32 run = 2; run <= size; run *= 2) {
            for (u32 apart = run / 2; apart > 0; apart /= 2) {
                for (u32 pair = threadIdx.x; pair < size / 2; pair += blockDim.x) {
                    u32 i = 2 * pair - (pair & (apart - 1)), other = i + apart;
                    Entry a = entries[i], b = entries[other];
                    if (b.before(a) == ((i & run) == 0)) {
                        entries[i] = b;
                        entries[other] = a;
                    }
                }
                __syncthreads();
            }
        }
        u64 kept = least(p.run, p.length - begin);
        Entry* to = static_cast<Entry*>(p.to) + line * p.room + job % p.runs * p.run;
        for (u32 i = threadIdx.x; i < kept; i += blockDim.x) {
            if (p.runs == 1) {
                put(p, p.first + line, x, i, entries[i].place());
            } else {
                to[i] = entries[i];
            }
        }
    }
}

// How many entries the run of a number has.
DEVICE u64 entries_of(const Order& p, u64 number) {
    u64 begin = number * p.elements;
    return begin < p.length ? least(p.run, p.length - begin) : 0;
}

// Entries that a thread merges.
#define MERGED 8

// Merges runs two by two.
template <typename Entry> DEVICE void merge_runs(const Order& p) {
    u64 pairs = (p.runs + 1) / 2, pieces = (p.merged + MERGED - 1) / MERGED;
    for (u64 job = this_thread(); job < p.lines * pairs * pieces; job += all_threads()) {
        u64 line = job / pieces / pairs, pair = job / pieces % pairs;
        u64 begin = job % pieces * MERGED;
        const Entry* left = static_cast<const Entry*>(p.from) + line * p.room + 2 * pair * p.run;
        const Entry* right = left + p.run;
        u64 lefts = entries_of(p, 2 * pair), rights = entries_of(p, 2 * pair + 1);
        u64 end = least(least(begin + MERGED, p.merged), lefts + rights);
        if (begin >= end) continue;
        // Of the first `begin` entries of both, how many are of the left run.
        u64 low = begin > rights ? begin - rights : 0, high = least(begin, lefts);
        while (low < high) {
            u64 middle = (low + high) / 2;
            if (left[middle].before(right[begin - 1 - middle])) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        u64 l = low, r = begin - low;
        Entry* to = static_cast<Entry*>(p.to) + line * p.room + pair * p.merged;
#pragma unroll 1
        for (u64 i = begin; i < end; ++i) {
            bool from_left = r >= rights || (l < lefts && left[l].before(right[r]));
            to[i] = *(from_left ? left + l : right + r);
            (from_left ? l : r) += 1;
        }
    }
}

// Writes what comes out of each line, of which one run is left.
template <typename T, typename Entry> DEVICE void pick(const Order& p) {
    for (u64 job = this_thread(); job < p.lines * p.count; job += all_threads()) {
        u64 line = job / p.count, position = job % p.count;
        const Entry* entries = static_cast<const Entry*>(p.from) + line * p.room;
        put(p, p.first + line, line_of<T>(p, p.first + line), position, entries[position].place());
    }
}

#define SORT(Entry, entry, suffix, T) \
    KERNEL_WITH_BARRIERS(sort_runs_##suffix##_##entry, Order) { sort_runs<T, Entry>(p); }
#define EACH_SHORT(M, ...) \
    M(__VA_ARGS__, u8, u8) M(__VA_ARGS__, i32, i32) \
    M(__VA_ARGS__, f16, f16) M(__VA_ARGS__, bf16, bf16) M(__VA_ARGS__, f32, Bits32)
EACH_SHORT(SORT, Narrow, narrow)
EACH_SHORT(SORT, Wide, wide)
SORT(Wide, wide, i64, i64)
SORT(Wide, wide, f64, Bits64)
KERNEL(merge_runs_narrow, Order) { merge_runs<Narrow>(p); }
KERNEL(merge_runs_wide, Order) { merge_runs<Wide>(p); }
#define PICK(Entry, entry, T) \
    KERNEL(pick_##T##_##entry, Order) { pick<T, Entry>(p); }
PICK(Narrow, narrow, b1)
PICK(Narrow, narrow, b2)
PICK(Narrow, narrow, b4)
PICK(Wide, wide, b1)
PICK(Wide, wide, b2)
PICK(Wide, wide, b4)
PICK(Wide, wide, b8)
