// What all kernels share: element types and what they are computed in, where elements lie, and
// how threads share work. The structs are those of src/launch/parameters.rs, field by field.
// Compiled by NVRTC without any other header, and for the mock driver by a C++ compiler.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define MAX_RANK 8
#define MAX_INPUTS 3
#define MAX_THREADS 256

#ifdef QUERN_MOCK
#include "on_host.h"
#else
#define DEVICE __device__ __forceinline__
// A kernel takes one struct of parameters. `_WITH_BARRIERS`: its threads wait for each other.
#define KERNEL(name, Parameters) \
    extern "C" __global__ void __launch_bounds__(MAX_THREADS) \
        name(const __grid_constant__ Parameters p)
#define KERNEL_WITH_BARRIERS(name, Parameters) KERNEL(name, Parameters)
#define INFINITY_F32 __int_as_float(0x7f800000)
#define INFINITY_F64 __longlong_as_double(0x7ff0000000000000LL)
#endif

struct f16 { u16 bits; };
struct bf16 { u16 bits; };
struct b1 { u8 byte; };
struct b2 { u16 bytes; };
struct b4 { u32 bytes; };
struct b8 { u64 bytes; };

// Runs M(…, suffix of the kernel's name, element type) for each of a family.
#define EACH_INTEGER(M, ...) M(__VA_ARGS__, u8, u8) M(__VA_ARGS__, i32, i32) M(__VA_ARGS__, i64, i64)
#define EACH_FLOAT(M, ...) \
    M(__VA_ARGS__, f16, f16) M(__VA_ARGS__, bf16, bf16) \
    M(__VA_ARGS__, f32, float) M(__VA_ARGS__, f64, double)
#define EACH_NUMBER(M, ...) EACH_INTEGER(M, __VA_ARGS__) EACH_FLOAT(M, __VA_ARGS__)
#define EACH_SIZE(M) M(b1) M(b2) M(b4) M(b8)

// ---- what elements are computed in

#ifndef QUERN_MOCK
DEVICE float widen(f16 x) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
}
DEVICE f16 narrow_f16(float x) {
    f16 narrow;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
    return narrow;
}
DEVICE float widen(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }
DEVICE bf16 narrow_bf16(float x) {
    bf16 narrow;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
    return narrow;
}
#endif
DEVICE u8 widen(u8 x) { return x; }
DEVICE i32 widen(i32 x) { return x; }
DEVICE i64 widen(i64 x) { return x; }
DEVICE float widen(float x) { return x; }
DEVICE double widen(double x) { return x; }

// Compute: what elements are computed in. Total: what many of them are added up in.
template <typename T> struct Element;
#define DIRECT(T, TotalType) \
    template <> struct Element<T> { \
        typedef T Compute; \
        typedef TotalType Total; \
        static DEVICE T narrow(T x) { return x; } \
    };
DIRECT(u8, i64)
DIRECT(i32, i64)
DIRECT(i64, i64)
DIRECT(float, float)
DIRECT(double, double)
template <> struct Element<f16> {
    typedef float Compute;
    typedef float Total;
    static DEVICE f16 narrow(float x) { return narrow_f16(x); }
};
template <> struct Element<bf16> {
    typedef float Compute;
    typedef float Total;
    static DEVICE bf16 narrow(float x) { return narrow_bf16(x); }
};

// ---- arithmetic: integers wrap, whatever C++ thinks of that

template <typename C> struct Arithmetic {
    static DEVICE C add(C a, C b) { return a + b; }
    static DEVICE C sub(C a, C b) { return a - b; }
    static DEVICE C mul(C a, C b) { return a * b; }
    static DEVICE C div(C a, C b) { return a / b; }
};
template <typename C, typename Unsigned> struct Wrapping {
    static DEVICE C add(C a, C b) { return C(Unsigned(a) + Unsigned(b)); }
    static DEVICE C sub(C a, C b) { return C(Unsigned(a) - Unsigned(b)); }
    static DEVICE C mul(C a, C b) { return C(Unsigned(a) * Unsigned(b)); }
    static DEVICE C div(C a, C b) {
        if (b == 0) return 0;
        return b == C(-1) && C(-1) < C(0) ? sub(0, a) : C(a / b);
    }
};
template <> struct Arithmetic<u8> : Wrapping<u8, u32> {};
template <> struct Arithmetic<i32> : Wrapping<i32, u32> {};
template <> struct Arithmetic<i64> : Wrapping<i64, u64> {};

template <typename C> DEVICE bool is_nan(C x) { return x != x; }
// The larger one, or NaN; and the smaller one.
template <typename C> DEVICE C larger(C a, C b) { return a > b || is_nan(a) ? a : b; }
template <typename C> DEVICE C smaller(C a, C b) { return a < b || is_nan(a) ? a : b; }

// The ends of what a type holds.
template <typename C> struct Bounds;
template <> struct Bounds<u8> {
    static DEVICE u8 lowest() { return 0; }
    static DEVICE u8 highest() { return 255; }
};
template <> struct Bounds<i32> {
    static DEVICE i32 lowest() { return -2147483647 - 1; }
    static DEVICE i32 highest() { return 2147483647; }
};
template <> struct Bounds<i64> {
    static DEVICE i64 lowest() { return -9223372036854775807LL - 1; }
    static DEVICE i64 highest() { return 9223372036854775807LL; }
};
template <> struct Bounds<float> {
    static DEVICE float lowest() { return -INFINITY_F32; }
    static DEVICE float highest() { return INFINITY_F32; }
};
template <> struct Bounds<double> {
    static DEVICE double lowest() { return -INFINITY_F64; }
    static DEVICE double highest() { return INFINITY_F64; }
};

// Functions by the type they are computed in.
DEVICE float exp_of(float x) { return expf(x); }
DEVICE double exp_of(double x) { return exp(x); }
DEVICE float log_of(float x) { return logf(x); }
DEVICE double log_of(double x) { return log(x); }
DEVICE float sqrt_of(float x) { return sqrtf(x); }
DEVICE double sqrt_of(double x) { return sqrt(x); }

// ---- where elements lie

// An element-wise job: `out` is dense; input k's element of an index is Σ index × in[k].strides.
struct View {
    const void* data;
    u64 strides[MAX_RANK];
};
struct Elementwise {
    u64 count;
    u64 first;    // the row-major number of the first element, of which `out` begins
    u32 rank;     // at least 1
    u32 vector;   // whether inputs are dense or one element, aligned for packs
    u64 dims[MAX_RANK];
    void* out;
    View in[MAX_INPUTS];
    u64 values[2];  // bits of constants
};

// The innermost index of a row-major number, of which the outer ones remain.
DEVICE u64 innermost(u64& number, u64 dim) {
    u64 outer;
    if (((number | dim) >> 32) == 0) {
        outer = u32(number) / u32(dim);
    } else {
        outer = number / dim;
    }
    u64 index = number - outer * dim;
    number = outer;
    return index;
}

// Σ index × stride of the i-th index in row-major order; of at least one dimension.
DEVICE u64 place(u32 rank, const u64* dims, const u64* strides, u64 i) {
    u64 at = 0;
#pragma unroll 1
    for (u32 axis = rank - 1; axis > 0; --axis) at += innermost(i, dims[axis]) * strides[axis];
    return at + i * strides[0];
}

DEVICE u64 this_thread() { return u64(blockIdx.x) * blockDim.x + threadIdx.x; }
DEVICE u64 all_threads() { return u64(gridDim.x) * blockDim.x; }
DEVICE u64 least(u64 a, u64 b) { return a < b ? a : b; }

// Runs f(i, places of the inputs' elements) for this thread's share of the elements from `start`, of
// an element-wise job or what else has its count, dimensions and inputs.
template <int N, typename P, typename F> DEVICE void each_element(const P& p, u64 start, F f) {
#pragma unroll 1
    for (u64 i = start + this_thread(); i < p.count; i += all_threads()) {
        u64 at[N];
#pragma unroll
        for (int k = 0; k < N; ++k) at[k] = 0;
        u64 rest = p.first + i;
#pragma unroll 1
        for (u32 axis = p.rank - 1; axis > 0; --axis) {
            u64 index = innermost(rest, p.dims[axis]);
#pragma unroll
            for (int k = 0; k < N; ++k) at[k] += index * p.in[k].strides[axis];
        }
#pragma unroll
        for (int k = 0; k < N; ++k) at[k] += rest * p.in[k].strides[0];
        f(i, at);
    }
}

// Elements that are loaded and stored at once.
template <typename T, int V> struct alignas(sizeof(T) * V) Pack {
    T at[V];
};

template <typename T, int V> DEVICE Pack<T, V> load_pack(const View& view, u64 i) {
    if (view.strides[0] != 0) return static_cast<const Pack<T, V>*>(view.data)[i];
    Pack<T, V> pack;
    T one = *static_cast<const T*>(view.data);
#pragma unroll
    for (int v = 0; v < V; ++v) pack.at[v] = one;
    return pack;
}

template <typename T> DEVICE const T* input(const Elementwise& p, int k) {
    return static_cast<const T*>(p.in[k].data);
}

// out = f(x), and out = f(x, y): `f` knows elements as they are computed in.
template <typename Out, typename In, typename F> DEVICE void map(const Elementwise& p, F f) {
    constexpr int V = sizeof(In) == 8 || sizeof(Out) == 8 ? 2 : 4;
    Out* out = static_cast<Out*>(p.out);
    u64 packs = p.vector ? p.count / V : 0;
#pragma unroll 1
    for (u64 i = this_thread(); i < packs; i += all_threads()) {
        Pack<In, V> x = load_pack<In, V>(p.in[0], i);
        Pack<Out, V> result;
#pragma unroll
        for (int v = 0; v < V; ++v) result.at[v] = Element<Out>::narrow(f(widen(x.at[v])));
        reinterpret_cast<Pack<Out, V>*>(out)[i] = result;
    }
    each_element<1>(p, packs * V, [&](u64 i, const u64* at) {
        out[i] = Element<Out>::narrow(f(widen(input<In>(p, 0)[at[0]])));
    });
}

template <typename Out, typename In, typename F> DEVICE void map2(const Elementwise& p, F f) {
    constexpr int V = sizeof(In) == 8 || sizeof(Out) == 8 ? 2 : 4;
    Out* out = static_cast<Out*>(p.out);
    u64 packs = p.vector ? p.count / V : 0;
#pragma unroll 1
    for (u64 i = this_thread(); i < packs; i += all_threads()) {
        Pack<In, V> x = load_pack<In, V>(p.in[0], i), y = load_pack<In, V>(p.in[1], i);
        Pack<Out, V> result;
#pragma unroll
        for (int v = 0; v < V; ++v)
            result.at[v] = Element<Out>::narrow(f(widen(x.at[v]), widen(y.at[v])));
        reinterpret_cast<Pack<Out, V>*>(out)[i] = result;
    }
    each_element<2>(p, packs * V, [&](u64 i, const u64* at) {
        out[i] = Element<Out>::narrow(
            f(widen(input<In>(p, 0)[at[0]]), widen(input<In>(p, 1)[at[1]])));
    });
}

// Joins what each thread of a block has; all of them get the result. The order is always the same.
template <typename T, typename Join> DEVICE T across_block(T mine, Join join) {
    __shared__ T shared[MAX_THREADS];
    __syncthreads();
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            shared[threadIdx.x] = join(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
    return shared[0];
}

// ---- tensor cores

#ifndef QUERN_MOCK
// Adds the product of 16 x 16 and 16 x 8 elements to 16 x 8 sums, all of which the threads of a warp
// have in their registers as `mma.m16n8k16` wants them (PTX ISA, matrix fragments for it).
#define MULTIPLY_ADD(T) \
    DEVICE void multiply_add(float* sums, const u32* left, const u32* right, T) { \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." #T "." #T ".f32 " \
            "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
            : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) \
            : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), \
              "r"(right[0]), "r"(right[1])); \
    }
MULTIPLY_ADD(f16)
MULTIPLY_ADD(bf16)
#endif

// ---- what several families look for in elements

// Which of some elements is the most extreme; NaN is more extreme than all others.
template <typename C> struct Found {
    C value;
    u64 at;  // beyond every element for none
};

// Whether one is more extreme than another, or comes before it.
template <typename C, bool Max> DEVICE bool beats(const Found<C>& a, const Found<C>& b) {
    if (is_nan(a.value) != is_nan(b.value)) return is_nan(a.value);
    if (a.value == b.value || is_nan(a.value)) return a.at < b.at;
    return Max ? a.value > b.value : a.value < b.value;
}

// The largest element so far, and the sum of exponentials of how far others are below it.
template <typename C> struct Exponentials {
    C max, sum;
    static DEVICE Exponentials none() { return {Bounds<C>::lowest(), 0}; }

    // Elements are scaled together, so that there is at most one exponential more than elements.
    // NaN is never the largest, but spoils the sum; so does an infinity.
    template <int V> DEVICE void take(const C* x) {
        C largest = max;
#pragma unroll
        for (int v = 0; v < V; ++v) largest = x[v] > largest ? x[v] : largest;
        if (largest > max) {
            sum *= exp_of(max - largest);
            max = largest;
        }
#pragma unroll
        for (int v = 0; v < V; ++v)
            if (!(x[v] == Bounds<C>::lowest())) sum += exp_of(x[v] - max);
    }
};

template <typename C> DEVICE Exponentials<C> join(Exponentials<C> a, Exponentials<C> b) {
    C max = larger(a.max, b.max);
    C left = a.max == max ? a.sum : a.sum * exp_of(a.max - max);
    C right = b.max == max ? b.sum : b.sum * exp_of(b.max - max);
    return {max, left + right};
}

// ---- indices that lead where nothing is

// The first bad index of the first step that had one; in a lane's memory.
struct Fault {
    u32 lock;
    u32 op;        // number of the operator, 0 for none
    u64 step;
    u64 position;
    i64 index;
    u64 size;
};

// What indices are held against, and where a bad one is told.
struct Checked {
    u64 size;
    u64 step;
    u32 op;
    u32 unused;
    Fault* fault;
};

DEVICE void tell(const Checked& p, u64 position, i64 index) {
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
