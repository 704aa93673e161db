// Elements from one place to another, unchanged: all that is known of them is their size.
#include "quern.cuh"

template <typename T> DEVICE void copy(const Elementwise& p) {
    T* out = static_cast<T*>(p.out);
    each_element<1>(p, 0, [&](u64 i, const u64* at) { out[i] = input<T>(p, 0)[at[0]]; });
}

// Where they go is told like where they come from, as a second input.
template <typename T> DEVICE void put(const Elementwise& p) {
    T* out = static_cast<T*>(p.out);
    each_element<2>(p, 0, [&](u64, const u64* at) { out[at[1]] = input<T>(p, 0)[at[0]]; });
}

template <typename T> DEVICE void fill(const Elementwise& p) {
    T* out = static_cast<T*>(p.out);
    T value;
    memcpy(&value, &p.values[0], sizeof value);
    for (u64 i = this_thread(); i < p.count; i += all_threads()) out[i] = value;
}

// Inputs: the condition, what is taken where it holds, and where it does not.
template <typename T> DEVICE void choose(const Elementwise& p) {
    T* out = static_cast<T*>(p.out);
    each_element<3>(p, 0, [&](u64 i, const u64* at) {
        out[i] = input<u8>(p, 0)[at[0]] ? input<T>(p, 1)[at[1]] : input<T>(p, 2)[at[2]];
    });
}

#define MOVEMENT(T) \
    KERNEL(copy_##T, Elementwise) { copy<T>(p); } \
    KERNEL(put_##T, Elementwise) { put<T>(p); } \
    KERNEL(fill_##T, Elementwise) { fill<T>(p); } \
    KERNEL(where_##T, Elementwise) { choose<T>(p); }
EACH_SIZE(MOVEMENT)
