// Lets a C++ compiler take the kernels' CUDA C: what the language has built in, over the host's.
// Included by kernels/quern.cuh in the place of what is for devices alone.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#define DEVICE inline
#define __shared__ static thread_local
#define INFINITY_F32 std::numeric_limits<float>::infinity()
#define INFINITY_F64 std::numeric_limits<double>::infinity()

namespace mock {

struct Dimensions {
    unsigned x, y, z;
};

// What a thread of a kernel knows of itself.
struct Place {
    Dimensions thread, block, block_size, grid_size;
};
extern thread_local Place* here;

// Waits until all threads of the block are here.
void wait_for_block();

// A kernel by its name. All of them register before anything is loaded.
struct Kernel {
    Kernel(const char* name, void (*run)(const void*), unsigned long parameter_bytes, bool waits);
    const char* name;
    void (*run)(const void*);
    unsigned long parameter_bytes;
    bool waits;
    const Kernel* next;
};
const Kernel* find_kernel(const char* name);

}  // namespace mock

#define threadIdx (mock::here->thread)
#define blockIdx (mock::here->block)
#define blockDim (mock::here->block_size)
#define gridDim (mock::here->grid_size)
#define __syncthreads() mock::wait_for_block()
#define __threadfence() __atomic_thread_fence(__ATOMIC_SEQ_CST)

#define MOCK_KERNEL(name, Parameters, waits) \
    static void name(const Parameters& p); \
    static const mock::Kernel kernel_##name( \
        #name, [](const void* p) { name(*static_cast<const Parameters*>(p)); }, \
        sizeof(Parameters), waits); \
    static void name([[maybe_unused]] const Parameters& p)
#define KERNEL(name, Parameters) MOCK_KERNEL(name, Parameters, false)
#define KERNEL_WITH_BARRIERS(name, Parameters) MOCK_KERNEL(name, Parameters, true)

inline u32 atomicCAS(u32* at, u32 expected, u32 desired) {
    __atomic_compare_exchange_n(at, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}
inline u32 atomicExch(u32* at, u32 value) {
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);
}

template <typename T> inline T atomicAdd(T* at, T value) {
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}

// Sine and cosine of so many half turns.
inline void sincospi(double x, double* sine, double* cosine) {
    *sine = std::sin(x * M_PI);
    *cosine = std::cos(x * M_PI);
}
inline void sincospif(float x, float* sine, float* cosine) {
    *sine = float(std::sin(x * M_PI));
    *cosine = float(std::cos(x * M_PI));
}

struct f16;
struct bf16;
float widen(f16);
float widen(bf16);
f16 narrow_f16(float);
bf16 narrow_bf16(float);
void multiply_add(float* sums, const u32* left, const u32* right, f16);
void multiply_add(float* sums, const u32* left, const u32* right, bf16);
