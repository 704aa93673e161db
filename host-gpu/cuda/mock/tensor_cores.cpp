// Products of small matrices by the threads of a warp, as mma.m16n8k16 has them in registers (PTX
// ISA): all threads of a block must come here together.
#include "quern.cuh"

namespace {

// What a thread brings: pairs of elements.
struct Fragments {
    u32 left[4], right[2];
};
thread_local Fragments all[MAX_THREADS];

template <typename T> float element(u32 pair, unsigned number) {
    return widen(T{u16(pair >> (16 * number))});
}

template <typename T> void add_product(float* sums, const u32* left, const u32* right) {
    unsigned thread = threadIdx.x, lane = thread % 32;
    memcpy(all[thread].left, left, sizeof all->left);
    memcpy(all[thread].right, right, sizeof all->right);
    mock::wait_for_block();
    const Fragments* warp = all + thread - lane;
    for (unsigned number = 0; number < 4; ++number) {
        unsigned row = lane / 4 + number / 2 * 8, column = lane % 4 * 2 + number % 2;
        for (unsigned k = 0; k < 16; ++k) {
            u32 a = warp[row % 8 * 4 + k % 8 / 2].left[row / 8 + k / 8 * 2];
            u32 b = warp[column * 4 + k % 8 / 2].right[k / 8];
            sums[number] += element<T>(a, k % 2) * element<T>(b, k % 2);
        }
    }
    mock::wait_for_block();
}

}  // namespace

void multiply_add(float* sums, const u32* left, const u32* right, f16) {
    add_product<f16>(sums, left, right);
}
void multiply_add(float* sums, const u32* left, const u32* right, bf16) {
    add_product<bf16>(sums, left, right);
}
