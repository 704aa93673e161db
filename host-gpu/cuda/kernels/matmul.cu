// Products of matrices, tile by tile, whatever their strides: for where cuBLASLt is not there.
#include "quern.cuh"

struct Matmul {
    u64 batches;
    u64 rows, columns, inner;
    u32 rank;     // of the dimensions around matrices
    u32 unused;
    u64 dims[MAX_RANK];
    u64 left_strides[MAX_RANK];
    u64 right_strides[MAX_RANK];
    u64 left_row, left_inner;
    u64 right_inner, right_column;
    const void* left;
    const void* right;
    void* out;
};

// A block of 16 x 16 threads computes a tile of 64 x 64, each thread 4 x 4 of it.
#define TILE 64
#define DEPTH 16
#define SIDE 16
#define EACH (TILE / SIDE)

template <typename T> DEVICE void matmul(const Matmul& p) {
    typedef typename Element<T>::Compute C;
    // One more than a row, so that the threads of a warp meet different banks.
    __shared__ C left[DEPTH][TILE + 1];
    __shared__ C right[DEPTH][TILE + 1];
    u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    u64 down = (p.rows + TILE - 1) / TILE, aside = (p.columns + TILE - 1) / TILE;
    for (u64 job = blockIdx.x; job < p.batches * down * aside; job += gridDim.x) {
        u64 batch = job / (down * aside);
        u64 row = job / aside % down * TILE, column = job % aside * TILE;
        const T* a = static_cast<const T*>(p.left) + place(p.rank, p.dims, p.left_strides, batch);
        const T* b = static_cast<const T*>(p.right) + place(p.rank, p.dims, p.right_strides, batch);
        C sums[EACH][EACH] = {};
        for (u64 k = 0; k < p.inner; k += DEPTH) {
            for (u32 at = threadIdx.x; at < TILE * DEPTH; at += MAX_THREADS) {
                // Neighbouring threads load what lies side by side, as far as strides go.
                bool by_row = p.left_inner > p.left_row;
                u32 r = by_row ? at % TILE : at / DEPTH, d = by_row ? at / TILE : at % DEPTH;
                bool inside = row + r < p.rows && k + d < p.inner;
                left[d][r] = inside
                    ? C(widen(a[(row + r) * p.left_row + (k + d) * p.left_inner])) : C(0);
                bool by_column = p.right_inner >= p.right_column;
                u32 c = by_column ? at % TILE : at / DEPTH;
                u32 e = by_column ? at / TILE : at % DEPTH;
                inside = column + c < p.columns && k + e < p.inner;
                right[e][c] = inside
                    ? C(widen(b[(k + e) * p.right_inner + (column + c) * p.right_column])) : C(0);
            }
            __syncthreads();
#pragma unroll
            for (u32 d = 0; d < DEPTH; ++d) {
                C mine[EACH], other[EACH];
#pragma unroll
                for (u32 i = 0; i < EACH; ++i) {
                    mine[i] = left[d][y + i * SIDE];
                    other[i] = right[d][x + i * SIDE];
                }
#pragma unroll
                for (u32 i = 0; i < EACH; ++i)
#pragma unroll
                    for (u32 j = 0; j < EACH; ++j) sums[i][j] += mine[i] * other[j];
            }
            __syncthreads();
        }
        T* out = static_cast<T*>(p.out) + batch * p.rows * p.columns;
#pragma unroll
        for (u32 i = 0; i < EACH; ++i)
#pragma unroll
            for (u32 j = 0; j < EACH; ++j) {
                u64 r = row + y + i * SIDE, c = column + x + j * SIDE;
                if (r < p.rows && c < p.columns)
                    out[r * p.columns + c] = Element<T>::narrow(sums[i][j]);
            }
    }
}

#define MATMUL(name, suffix, T) \
    KERNEL_WITH_BARRIERS(name##_##suffix, Matmul) { matmul<T>(p); }
EACH_FLOAT(MATMUL, matmul)
