// Attention with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022): a block lets a tile
// of queries meet the keys tile by tile, so that the products of all queries with all keys are
// never there at once. Keys that causality hides from all queries of a tile are not looked at.
#include "quern.cuh"

struct Attention {
    u64 batches;
    u64 queries, keys, width, value_width;
    u32 rank;     // of the dimensions around matrices
    u32 causal;
    u32 masked;   // 0: no mask; 1: it says which keys are seen; 2: it is added to the products
    u32 unused;
    u64 dims[MAX_RANK];
    u64 query_strides[MAX_RANK];
    u64 key_strides[MAX_RANK];
    u64 value_strides[MAX_RANK];
    u64 mask_strides[MAX_RANK];
    u64 query_row, query_column;
    u64 key_row, key_column;
    u64 value_row, value_column;
    u64 mask_row, mask_column;
    const void* query;
    const void* key;
    const void* value;
    const void* mask;
    void* out;
    double scale;
};

// A block of 16 x 16 threads lets 64 queries meet 64 keys, each thread 4 x 4 of them.
#define TILE 64
#define SIDE 16
#define EACH (TILE / SIDE)

// Of how many columns of queries and keys products are added up at a time, and of how many keys
// values: so that all tiles fit a block's shared memory.
template <typename C> struct Depth { static constexpr u32 STEPS = 16; };
template <> struct Depth<double> { static constexpr u32 STEPS = 8; };

// Rows of a matrix from `first` on, `STEPS` columns of them from `column` on, turned; 0 beyond its
// ends. Neighbouring threads load what lies side by side, as far as strides go.
template <typename T, u32 WIDE, u32 STEPS, typename C>
DEVICE void load_turned(C (*tile)[WIDE + 1], const T* x, u64 first, u64 rows, u64 column,
                        u64 columns, u64 row_stride, u64 column_stride) {
    bool by_row = column_stride > row_stride;
    for (u32 at = threadIdx.x; at < WIDE * STEPS; at += MAX_THREADS) {
        u32 r = by_row ? at % WIDE : at / STEPS, c = by_row ? at / WIDE : at % STEPS;
        bool inside = first + r < rows && column + c < columns;
        tile[c][r] = inside
            ? C(widen(x[(first + r) * row_stride + (column + c) * column_stride])) : C(0);
    }
}

// What a mask makes of the product of a query and a key.
template <typename T, typename C>
DEVICE C masked(const Attention& p, u64 around, u64 query, u64 key, C score) {
    u64 at = around + query * p.mask_row + key * p.mask_column;
    if (p.masked == 1)
        return static_cast<const u8*>(p.mask)[at] ? score : Bounds<C>::lowest();
    return score + C(widen(static_cast<const T*>(p.mask)[at]));
}

// A block computes `COLUMNS` columns of what 64 queries get: wider values are several blocks'.
template <typename T, u32 COLUMNS> DEVICE void attend(const Attention& p) {
    typedef typename Element<T>::Compute C;
    constexpr u32 STEPS = Depth<C>::STEPS;
    constexpr u32 WIDE = COLUMNS / SIDE;  // columns of a thread
    constexpr u32 STAGED = COLUMNS + 1 > 2 * (TILE + 1) ? COLUMNS + 1 : 2 * (TILE + 1);
    // One more than a row, so that the threads of a warp meet different banks.
    __shared__ C weights[TILE][TILE + 1];
    __shared__ C staged[STEPS * STAGED];
    C (*left)[TILE + 1] = reinterpret_cast<C (*)[TILE + 1]>(staged);
    C (*right)[TILE + 1] = left + STEPS;
    C (*values)[COLUMNS + 1] = reinterpret_cast<C (*)[COLUMNS + 1]>(staged);
    u32 x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    u64 down = (p.queries + TILE - 1) / TILE, aside = (p.value_width + COLUMNS - 1) / COLUMNS;
    for (u64 job = blockIdx.x; job < p.batches * down * aside; job += gridDim.x) {
        u64 batch = job % p.batches, column = job / p.batches % aside * COLUMNS;
        // The last queries see most keys where causality counts: they come first.
        u64 first = (down - 1 - job / p.batches / aside) * TILE;
        const T* query = static_cast<const T*>(p.query) +
            place(p.rank, p.dims, p.query_strides, batch);
        const T* key = static_cast<const T*>(p.key) + place(p.rank, p.dims, p.key_strides, batch);
        const T* value = static_cast<const T*>(p.value) +
            place(p.rank, p.dims, p.value_strides, batch);
        u64 around = p.masked ? place(p.rank, p.dims, p.mask_strides, batch) : 0;
        C result[EACH][WIDE] = {}, sums[EACH] = {}, most[EACH];
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) most[i] = Bounds<C>::lowest();
        u64 end = p.causal ? least(p.keys, first + TILE) : p.keys;
#pragma unroll 1
        for (u64 begin = 0; begin < end; begin += TILE) {
            C scores[EACH][EACH] = {};
#pragma unroll 1
            for (u64 k = 0; k < p.width; k += STEPS) {
                __syncthreads();
                load_turned<T, TILE, STEPS>(left, query, first, p.queries, k, p.width,
                                            p.query_row, p.query_column);
                load_turned<T, TILE, STEPS>(right, key, begin, p.keys, k, p.width,
                                            p.key_row, p.key_column);
                __syncthreads();
#pragma unroll
                for (u32 d = 0; d < STEPS; ++d) {
                    C mine[EACH], other[EACH];
#pragma unroll
                    for (u32 i = 0; i < EACH; ++i) {
                        mine[i] = left[d][y + i * SIDE];
                        other[i] = right[d][x + i * SIDE];
                    }
#pragma unroll
                    for (u32 i = 0; i < EACH; ++i)
#pragma unroll
                        for (u32 j = 0; j < EACH; ++j) scores[i][j] += mine[i] * other[j];
                }
            }
            // The largest of each row: of four columns here, of all by the 16 threads of the row.
            __syncthreads();
#pragma unroll
            for (u32 i = 0; i < EACH; ++i) {
                u64 q = first + y + i * SIDE;
                C largest = Bounds<C>::lowest();
#pragma unroll
                for (u32 j = 0; j < EACH; ++j) {
                    u64 k = begin + x + j * SIDE;
                    C score = scores[i][j] * C(p.scale);
                    bool hidden = k >= p.keys || q >= p.queries || (p.causal && k > q);
                    if (hidden) {
                        score = Bounds<C>::lowest();
                    } else if (p.masked) {
                        score = masked<T>(p, around, q, k, score);
                    }
                    scores[i][j] = score;
                    largest = larger(largest, score);
                }
                weights[y + i * SIDE][x] = largest;
            }
            __syncthreads();
#pragma unroll
            for (u32 i = 0; i < EACH; ++i) {
                C before = most[i], now = before;
                for (u32 k = 0; k < SIDE; ++k) now = larger(now, weights[y + i * SIDE][k]);
                most[i] = now;
                C factor = before == now || before == Bounds<C>::lowest()
                    ? C(1) : exp_of(before - now);
                sums[i] *= factor;
#pragma unroll
                for (u32 j = 0; j < WIDE; ++j) result[i][j] *= factor;
            }
            __syncthreads();
#pragma unroll
            for (u32 i = 0; i < EACH; ++i)
#pragma unroll
                for (u32 j = 0; j < EACH; ++j)
                    // Where nothing is seen yet, the largest has no distance to itself.
                    weights[y + i * SIDE][x + j * SIDE] = most[i] == Bounds<C>::lowest()
                        ? C(0) : exp_of(scores[i][j] - most[i]);
#pragma unroll 1
            for (u64 k = 0; k < least(TILE, end - begin); k += STEPS) {
                __syncthreads();
                // Values turned twice are rows again.
                load_turned<T, COLUMNS, STEPS>(values, value, column, p.value_width, begin + k,
                                               p.keys, p.value_column, p.value_row);
                __syncthreads();
#pragma unroll
                for (u32 d = 0; d < STEPS; ++d) {
                    C mine[EACH], other[WIDE];
#pragma unroll
                    for (u32 i = 0; i < EACH; ++i) mine[i] = weights[y + i * SIDE][k + d];
#pragma unroll
                    for (u32 j = 0; j < WIDE; ++j) other[j] = values[d][x + j * SIDE];
#pragma unroll
                    for (u32 i = 0; i < EACH; ++i) {
                        sums[i] += mine[i];
#pragma unroll
                        for (u32 j = 0; j < WIDE; ++j) result[i][j] += mine[i] * other[j];
                    }
                }
            }
        }
        T* out = static_cast<T*>(p.out) + batch * p.queries * p.value_width;
#pragma unroll
        for (u32 i = 0; i < EACH; ++i) {
            u64 q = first + y + i * SIDE;
            C share = sums[i] == C(0) ? C(0) : C(1) / sums[i];
#pragma unroll
            for (u32 j = 0; j < WIDE; ++j) {
                u64 c = column + x + j * SIDE;
                if (q < p.queries && c < p.value_width)
                    out[q * p.value_width + c] = Element<T>::narrow(result[i][j] * share);
            }
        }
    }
}

#define ATTENTION(suffix, T, COLUMNS) \
    KERNEL_WITH_BARRIERS(attention_##suffix##_##COLUMNS, Attention) { attend<T, COLUMNS>(p); }
ATTENTION(f16, f16, 64)
ATTENTION(f16, f16, 128)
ATTENTION(bf16, bf16, 64)
ATTENTION(bf16, bf16, 128)
ATTENTION(f32, float, 64)
ATTENTION(f32, float, 128)
ATTENTION(f64, double, 64)
