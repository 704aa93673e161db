// One element of many. Which elements are joined in which order depends on shapes alone, never on
// the device, so that a sum is always the same.
#include "quern.cuh"

struct Reduce {
    u64 lines;    // how many results there are
    u64 length;   // of how many elements each is made
    u64 pieces;   // in how many pieces a line is folded; if more than 1, into `partial`
    u64 piece;    // elements of a piece
    u32 kept_rank;
    u32 gone_rank;
    u64 kept_dims[MAX_RANK];
    u64 kept_strides[MAX_RANK];
    u64 gone_dims[MAX_RANK];
    u64 gone_strides[MAX_RANK];
    const void* data;
    void* out;
    void* partial;
};

template <typename T> struct Sum {
    typedef typename Element<T>::Total Total;
    static DEVICE Total empty() { return 0; }
    static DEVICE Total of(typename Element<T>::Compute x) { return Total(x); }
    static DEVICE Total join(Total a, Total b) { return Arithmetic<Total>::add(a, b); }
    static DEVICE Total finish(Total total, u64) { return total; }
};
template <typename T> struct Mean : Sum<T> {
    typedef typename Element<T>::Total Total;
    // Not a division, which is a call on devices, and makes FP64 spill registers: within the last
    // place of the result as well.
    static DEVICE Total finish(Total total, u64 count) { return total * (Total(1) / Total(count)); }
};
template <typename T> struct Product : Sum<T> {
    typedef typename Element<T>::Total Total;
    static DEVICE Total empty() { return 1; }
    static DEVICE Total join(Total a, Total b) { return Arithmetic<Total>::mul(a, b); }
};
template <typename T> struct Largest {
    typedef typename Element<T>::Compute Total;
    static DEVICE Total empty() { return Bounds<Total>::lowest(); }
    static DEVICE Total of(Total x) { return x; }
    static DEVICE Total join(Total a, Total b) { return larger(a, b); }
    static DEVICE Total finish(Total total, u64) { return total; }
};
template <typename T> struct Smallest : Largest<T> {
    typedef typename Element<T>::Compute Total;
    static DEVICE Total empty() { return Bounds<Total>::highest(); }
    static DEVICE Total join(Total a, Total b) { return smaller(a, b); }
};
template <typename T> struct Any : Largest<T> {};
template <typename T> struct Every : Smallest<T> {
    static DEVICE u8 empty() { return 1; }
};

// Keeps what became of a line, or of a piece of it.
template <typename R, typename Out>
DEVICE void keep(const Reduce& p, u64 line, u64 piece, typename R::Total total) {
    if (p.pieces > 1) {
        static_cast<typename R::Total*>(p.partial)[line * p.pieces + piece] = total;
    } else {
        static_cast<Out*>(p.out)[line] = Element<Out>::narrow(R::finish(total, p.length));
    }
}

// A block for each piece of a line: for elements that lie near each other along it.
template <typename R, typename T, typename Out> DEVICE void along(const Reduce& p) {
    typedef typename R::Total Total;
    for (u64 job = blockIdx.x; job < p.lines * p.pieces; job += gridDim.x) {
        u64 line = job / p.pieces, piece = job % p.pieces;
        u64 begin = piece * p.piece, end = least(begin + p.piece, p.length);
        const T* x = static_cast<const T*>(p.data) +
            place(p.kept_rank, p.kept_dims, p.kept_strides, line);
        Total total = R::empty();
        if (p.gone_rank <= 1) {
#pragma unroll 4
            for (u64 k = begin + threadIdx.x; k < end; k += blockDim.x)
                total = R::join(total, R::of(widen(x[k * p.gone_strides[0]])));
        } else {
#pragma unroll 1
            for (u64 k = begin + threadIdx.x; k < end; k += blockDim.x)
                total = R::join(total,
                    R::of(widen(x[place(p.gone_rank, p.gone_dims, p.gone_strides, k)])));
        }
        total = across_block(total, [](Total a, Total b) { return R::join(a, b); });
        if (threadIdx.x == 0) keep<R, Out>(p, line, piece, total);
    }
}

// Lines side by side, 32 to a block of 256 threads: for elements that lie near those of other lines.
template <typename R, typename T, typename Out> DEVICE void across(const Reduce& p) {
    typedef typename R::Total Total;
    __shared__ Total shared[MAX_THREADS];
    u32 column = threadIdx.x % 32, row = threadIdx.x / 32;
    u64 jobs = (p.lines + 31) / 32 * p.pieces;
    for (u64 job = blockIdx.x; job < jobs; job += gridDim.x) {
        u64 line = job / p.pieces * 32 + column, piece = job % p.pieces;
        u64 begin = piece * p.piece, end = least(begin + p.piece, p.length);
        Total total = R::empty();
        if (line < p.lines) {
            const T* x = static_cast<const T*>(p.data) +
                place(p.kept_rank, p.kept_dims, p.kept_strides, line);
            if (p.gone_rank <= 1) {
#pragma unroll 4
                for (u64 k = begin + row; k < end; k += MAX_THREADS / 32)
                    total = R::join(total, R::of(widen(x[k * p.gone_strides[0]])));
            } else {
#pragma unroll 1
                for (u64 k = begin + row; k < end; k += MAX_THREADS / 32)
                    total = R::join(total,
                        R::of(widen(x[place(p.gone_rank, p.gone_dims, p.gone_strides, k)])));
            }
        }
        __syncthreads();
        shared[threadIdx.x] = total;
        __syncthreads();
        if (row == 0 && line < p.lines) {
            for (u32 other = 1; other < MAX_THREADS / 32; ++other)
                total = R::join(total, shared[other * 32 + column]);
            keep<R, Out>(p, line, piece, total);
        }
    }
}

// Joins the pieces of each line.
template <typename R, typename Out> DEVICE void finish(const Reduce& p) {
    typedef typename R::Total Total;
    for (u64 line = blockIdx.x; line < p.lines; line += gridDim.x) {
        const Total* pieces = static_cast<const Total*>(p.partial) + line * p.pieces;
        Total total = R::empty();
        for (u64 piece = threadIdx.x; piece < p.pieces; piece += blockDim.x)
            total = R::join(total, pieces[piece]);
        total = across_block(total, [](Total a, Total b) { return R::join(a, b); });
        if (threadIdx.x == 0)
            static_cast<Out*>(p.out)[line] = Element<Out>::narrow(R::finish(total, p.length));
    }
}

#define REDUCE(name, R, Out, suffix, T) \
    KERNEL_WITH_BARRIERS(name##_##suffix##_along, Reduce) { along<R<T>, T, Out>(p); } \
    KERNEL_WITH_BARRIERS(name##_##suffix##_across, Reduce) { across<R<T>, T, Out>(p); } \
    KERNEL_WITH_BARRIERS(name##_##suffix##_finish, Reduce) { finish<R<T>, Out>(p); }
#define REDUCE_TO_SAME(name, R, suffix, T) REDUCE(name, R, T, suffix, T)

EACH_INTEGER(REDUCE, sum, Sum, i64)
EACH_FLOAT(REDUCE_TO_SAME, sum, Sum)
EACH_INTEGER(REDUCE, product, Product, i64)
EACH_FLOAT(REDUCE_TO_SAME, product, Product)
EACH_FLOAT(REDUCE_TO_SAME, mean, Mean)
EACH_NUMBER(REDUCE_TO_SAME, max_along, Largest)
EACH_NUMBER(REDUCE_TO_SAME, min_along, Smallest)
REDUCE(any, Any, u8, u8, u8)
REDUCE(all, Every, u8, u8, u8)

// Where in each line the first extreme element is.
template <typename T, bool Max> DEVICE void arg(const Reduce& p) {
    typedef typename Element<T>::Compute C;
    for (u64 line = blockIdx.x; line < p.lines; line += gridDim.x) {
        const T* x = static_cast<const T*>(p.data) +
            place(p.kept_rank, p.kept_dims, p.kept_strides, line);
        Found<C> best = {Max ? Bounds<C>::lowest() : Bounds<C>::highest(), ~0ull};
        for (u64 k = threadIdx.x; k < p.length; k += blockDim.x) {
            Found<C> found = {
                widen(x[place(p.gone_rank, p.gone_dims, p.gone_strides, k)]), k};
            if (beats<C, Max>(found, best)) best = found;
        }
        best = across_block(best, [](const Found<C>& a, const Found<C>& b) {
            return beats<C, Max>(b, a) ? b : a;
        });
        if (threadIdx.x == 0) static_cast<i64*>(p.out)[line] = i64(best.at);
    }
}

#define ARG(name, max, suffix, T) \
    KERNEL_WITH_BARRIERS(name##_##suffix, Reduce) { arg<T, max>(p); }
EACH_NUMBER(ARG, arg_max, true)
EACH_NUMBER(ARG, arg_min, false)
