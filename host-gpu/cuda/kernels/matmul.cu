// Something of each row of one matrix with each column of another: products, and distances between
// rows, where the other matrix is turned. Tile by tile, whatever their strides: products are
// computed here where cuBLASLt is not there.
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

// What a thread keeps of its part of a tile; missing elements are 0.
template <typename C> struct Product {
    static constexpr int UNROLL = DEPTH;  // steps at once
    C sums[EACH][EACH] = {};
    DEVICE void add(u32 i, u32 j, C a, C b) { sums[i][j] += a * b; }
    DEVICE C finish(u32 i, u32 j) const { return sums[i][j]; }
};
template <typename C> struct SquaredEuclidean : Product<C> {
    static constexpr int UNROLL = 4;
    DEVICE void add(u32 i, u32 j, C a, C b) { this->sums[i][j] += (a - b) * (a - b); }
};
template <typename C> struct Euclidean : SquaredEuclidean<C> {
    DEVICE C finish(u32 i, u32 j) const { return sqrt_of(this->sums[i][j]); }
};
template <typename C> struct Manhattan : Product<C> {
    static constexpr int UNROLL = 4;
    DEVICE void add(u32 i, u32 j, C a, C b) { this->sums[i][j] += a < b ? b - a : a - b; }
};
template <typename C> struct Cosine : Product<C> {
    static constexpr int UNROLL = 4;  // more need too many registers
    C left[EACH] = {}, right[EACH] = {};
    DEVICE void add(u32 i, u32 j, C a, C b) {
        this->sums[i][j] += a * b;
        if (j == 0) left[i] += a * a;
        if (i == 0) right[j] += b * b;
    }
    DEVICE C finish(u32 i, u32 j) const {
        C sizes = sqrt_of(left[i]) * sqrt_of(right[j]);
        return left[i] == 0 || right[j] == 0 ? C(1) : C(1) - this->sums[i][j] / sizes;
    }
};

template <template <typename> class Sums, typename T> DEVICE void tiles(const Matmul& p) {
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
        Sums<C> sums;
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
#pragma unroll(Sums<C>::UNROLL)
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
                    for (u32 j = 0; j < EACH; ++j) sums.add(i, j, mine[i], other[j]);
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
                    out[r * p.columns + c] = Element<T>::narrow(sums.finish(i, j));
            }
    }
}

#define TILES(name, Sums, suffix, T) \
    KERNEL_WITH_BARRIERS(name##_##suffix, Matmul) { tiles<Sums, T>(p); }
EACH_FLOAT(TILES, matmul, Product)
EACH_FLOAT(TILES, euclidean, Euclidean)
EACH_FLOAT(TILES, squared_euclidean, SquaredEuclidean)
EACH_FLOAT(TILES, manhattan, Manhattan)
EACH_FLOAT(TILES, cosine, Cosine)
