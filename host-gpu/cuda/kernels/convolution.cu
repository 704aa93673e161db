// Convolutions of images and their gradients, as products of matrices: of what windows see, which
// is never written down but looked up where a tile of it is needed, and of weights or gradients.
// Which elements are added in which order depends on shapes alone.
#include "quern.cuh"

// An index of the matrix of what windows see, by its three coordinates: a channel and a pixel of the
// window, or an image and a place of the window.
struct Side {
    u64 count;
    u64 dims[2];   // of the two inner coordinates
    i64 outer;     // how far the outer one leads in images
    i64 steps[2];  // how far the inner ones lead, in rows and columns of images
    i64 shifts[2]; // and where they begin
    i64 other[3];  // how far the coordinates lead in the other factor, or in what comes out
};

// Of each group: a matrix of `rows`, times what windows see, whose columns are those of the result.
struct Convolution {
    u64 groups;
    u64 rows;
    Side columns;
    Side depth;      // what is added up
    u64 size[2];     // rows and columns of images, below 1 << 30; beyond them is 0
    i64 strides[2];
    u64 row;         // how far rows of the other factor are apart
    u64 out_row;
    u64 group;       // and groups of it
    u64 seen_group;
    u64 out_group;
    u64 pieces;      // in how many pieces the depth is added up; if more than 1, into `partial`
    u64 piece;
    const void* factor;
    const void* seen;
    void* out;
    void* partial;
};

// Where an index leads.
struct Entry {
    i64 seen;   // in images, from where coordinates of 0 do
    i64 other;  // in the other factor, or in what comes out
    i32 row, column;
};

// Where nothing is, whatever it is added to: sizes are below as much.
#define NOWHERE (-(1 << 30))

DEVICE Entry entry(const Convolution& p, const Side& side, u64 number, u64 end) {
    if (number >= end) return {0, 0, NOWHERE, NOWHERE};
    i64 inner = i64(innermost(number, side.dims[1])), middle = i64(innermost(number, side.dims[0]));
    i64 outer = i64(number);
    i64 row = middle * side.steps[0] + side.shifts[0];
    i64 column = inner * side.steps[1] + side.shifts[1];
    return {outer * side.outer + row * p.strides[0] + column * p.strides[1],
            outer * side.other[0] + middle * side.other[1] + inner * side.other[2],
            i32(row), i32(column)};
}

// What is seen at a column and a depth.
template <typename T>
DEVICE T look(const Convolution& p, const T* seen, const Entry& column, const Entry& depth) {
    bool inside = u32(column.row + depth.row) < u32(p.size[0]) &&
        u32(column.column + depth.column) < u32(p.size[1]);
    return inside ? seen[column.seen + depth.seen] : T{};
}

template <typename T> DEVICE T* of_group(void* data, u64 group, u64 apart) {
    return static_cast<T*>(data) + group * apart;
}
template <typename T> DEVICE const T* of_group(const void* data, u64 group, u64 apart) {
    return static_cast<const T*>(data) + group * apart;
}

// ---- many rows: tile by tile

// A block computes a tile of 64 x 128, each thread 32 elements of it; the next piece of both factors
// is on its way to registers meanwhile.
#define ROWS 64
#define COLUMNS 128
#define DEPTH 16
#define OF_FACTOR (ROWS * DEPTH / MAX_THREADS)
#define OF_SEEN (COLUMNS * DEPTH / MAX_THREADS)
#define OF_TILE (ROWS * COLUMNS / MAX_THREADS)

struct Spot {
    u32 row, column;
};

// What a block has of both factors, and a thread of their product: one element after another.
// Lines are 4 longer, so that the threads of a warp meet different banks, and packs stay aligned.
template <typename T> struct Factors {
    typedef typename Element<T>::Compute C;
    alignas(32) C factor[DEPTH][ROWS + 4];
    alignas(32) C seen[DEPTH][COLUMNS + 4];

    DEVICE void put_factor(u32 row, u32 depth, T value) { factor[depth][row] = widen(value); }
    DEVICE void put_seen(u32 column, u32 depth, T value) { seen[depth][column] = widen(value); }
    DEVICE void put_seen_depths(u32 column, u32 depth, const T* values) {
#pragma unroll
        for (u32 k = 0; k < OF_SEEN; ++k) put_seen(column, depth + k, values[k]);
    }

    // Threads are 16 x 16: rows 4 y + i, and columns 4 x + j, the second half of them 64 further.
    static DEVICE Spot spot(u32 number) {
        u32 i = number / 8, j = number % 8;
        return {threadIdx.x / 16 * 4 + i, threadIdx.x % 16 * 4 + j % 4 + j / 4 * (COLUMNS / 2)};
    }
    DEVICE void add(C* sums) const {
        Spot first = spot(0);
#pragma unroll 4
        for (u32 d = 0; d < DEPTH; ++d) {
            typedef Pack<C, 4> Four;
            Four rows = *reinterpret_cast<const Four*>(&factor[d][first.row]);
            Four near = *reinterpret_cast<const Four*>(&seen[d][first.column]);
            Four far = *reinterpret_cast<const Four*>(&seen[d][first.column + COLUMNS / 2]);
#pragma unroll
            for (u32 i = 0; i < 4; ++i)
#pragma unroll
                for (u32 j = 0; j < 4; ++j) {
                    sums[8 * i + j] += rows.at[i] * near.at[j];
                    sums[8 * i + 4 + j] += rows.at[i] * far.at[j];
                }
        }
    }
};

// The same by tensor cores: each warp multiplies 32 x 32 elements, as 2 x 4 fragments. Lines go
// along the depth, two elements of which a thread takes at once; they are 8 longer.
template <typename T> struct Fragments {
    alignas(16) T factor[ROWS][DEPTH + 8];
    alignas(16) T seen[COLUMNS][DEPTH + 8];

    DEVICE void put_factor(u32 row, u32 depth, T value) { factor[row][depth] = value; }
    DEVICE void put_seen(u32 column, u32 depth, T value) { seen[column][depth] = value; }
    DEVICE void put_seen_depths(u32 column, u32 depth, const T* values) {
        Pack<T, OF_SEEN> pack;
#pragma unroll
        for (u32 k = 0; k < OF_SEEN; ++k) pack.at[k] = values[k];
        *reinterpret_cast<Pack<T, OF_SEEN>*>(&seen[column][depth]) = pack;
    }

    static DEVICE u32 warp_row() { return threadIdx.x / 32 % 2 * 32; }
    static DEVICE u32 warp_column() { return threadIdx.x / 64 * 32; }
    static DEVICE Spot spot(u32 number) {
        u32 row = number / 16 * 16 + number % 4 / 2 * 8, column = number / 4 % 4 * 8 + number % 2;
        u32 lane = threadIdx.x % 32;
        return {warp_row() + row + lane / 4, warp_column() + column + lane % 4 * 2};
    }
    DEVICE void add(float* sums) const {
        u32 line = threadIdx.x % 32 / 4, depth = threadIdx.x % 4 * 2;
        auto two = [&](const T* at) { return *reinterpret_cast<const u32*>(at); };
        u32 left[2][4], right[4][2];
#pragma unroll
        for (u32 i = 0; i < 2; ++i)
#pragma unroll
            for (u32 k = 0; k < 4; ++k)
                left[i][k] = two(
                    &factor[warp_row() + 16 * i + k % 2 * 8 + line][depth + k / 2 * 8]);
#pragma unroll
        for (u32 j = 0; j < 4; ++j)
#pragma unroll
            for (u32 k = 0; k < 2; ++k)
                right[j][k] = two(&seen[warp_column() + 8 * j + line][depth + 8 * k]);
#pragma unroll
        for (u32 i = 0; i < 2; ++i)
#pragma unroll
            for (u32 j = 0; j < 4; ++j)
                multiply_add(sums + 16 * i + 4 * j, left[i], right[j], T{});
    }
};
template <> struct Factors<f16> : Fragments<f16> {};
template <> struct Factors<bf16> : Fragments<bf16> {};

// What a block knows of a tile.
template <typename T> struct Shared {
    Factors<T> factors;
    Entry columns[COLUMNS];
    Entry depths[2][DEPTH];
};

// A tile's place in the result.
struct Tile {
    u64 group, piece, row, column;
    DEVICE Tile(const Convolution& p, u64 job) {
        row = innermost(job, (p.rows + ROWS - 1) / ROWS) * ROWS;
        column = innermost(job, (p.columns.count + COLUMNS - 1) / COLUMNS) * COLUMNS;
        piece = innermost(job, p.pieces);
        group = job;
    }
};

// A thread's share of the next piece of both factors. Neighbouring threads load what lies side by
// side: of the other factor along the depth, of what windows see where the places are.
template <typename T, bool ByDepth> struct Loads {
    T factor[OF_FACTOR], seen[OF_SEEN];

    static DEVICE u32 column(u32 k) {
        return ByDepth ? threadIdx.x / DEPTH + k * (MAX_THREADS / DEPTH) : threadIdx.x % COLUMNS;
    }
    static DEVICE u32 depth(u32 k) {
        return ByDepth ? threadIdx.x % DEPTH : threadIdx.x / COLUMNS * OF_SEEN + k;
    }

    DEVICE void load(const Convolution& p, const Shared<T>& shared, const Tile& tile, u64 turn) {
        const Entry* depths = shared.depths[turn % 2];
        const T* other = of_group<T>(p.factor, tile.group, p.group);
        const T* images = of_group<T>(p.seen, tile.group, p.seen_group);
        const Entry& own = depths[threadIdx.x % DEPTH];
#pragma unroll
        for (u32 k = 0; k < OF_FACTOR; ++k) {
            u64 row = tile.row + threadIdx.x / DEPTH + k * (MAX_THREADS / DEPTH);
            bool inside = row < p.rows && own.row != NOWHERE;
            factor[k] = inside ? other[i64(row * p.row) + own.other] : T{};
        }
#pragma unroll
        for (u32 k = 0; k < OF_SEEN; ++k)
            seen[k] = look(p, images, shared.columns[column(k)], depths[depth(k)]);
    }

    DEVICE void store(Factors<T>& to) const {
#pragma unroll
        for (u32 k = 0; k < OF_FACTOR; ++k)
            to.put_factor(threadIdx.x / DEPTH + k * (MAX_THREADS / DEPTH), threadIdx.x % DEPTH,
                          factor[k]);
        if (!ByDepth) return to.put_seen_depths(column(0), depth(0), seen);
#pragma unroll
        for (u32 k = 0; k < OF_SEEN; ++k) to.put_seen(column(k), depth(k), seen[k]);
    }
};

template <typename T, bool ByDepth> DEVICE void tiles(const Convolution& p) {
    typedef typename Element<T>::Compute C;
    __shared__ Shared<T> shared;
    u64 down = (p.rows + ROWS - 1) / ROWS, aside = (p.columns.count + COLUMNS - 1) / COLUMNS;
#pragma unroll 1
    for (u64 job = blockIdx.x; job < p.groups * p.pieces * down * aside; job += gridDim.x) {
        Tile tile(p, job);
        u64 begin = tile.piece * p.piece, end = least(begin + p.piece, p.depth.count);
        auto fill = [&](u64 turn) {
            if (threadIdx.x < DEPTH)
                shared.depths[turn % 2][threadIdx.x] =
                    entry(p, p.depth, begin + turn * DEPTH + threadIdx.x, end);
        };
        if (threadIdx.x < COLUMNS)
            shared.columns[threadIdx.x] =
                entry(p, p.columns, tile.column + threadIdx.x, p.columns.count);
        fill(0);
        fill(1);
        __syncthreads();
        Loads<T, ByDepth> loads;
        C sums[OF_TILE] = {};
        loads.load(p, shared, tile, 0);
        u64 turns = (end - begin + DEPTH - 1) / DEPTH;
#pragma unroll 1
        for (u64 turn = 0; turn < turns; ++turn) {
            loads.store(shared.factors);
            __syncthreads();
            if (turn + 1 < turns) loads.load(p, shared, tile, turn + 1);
            // No thread looks at those of this turn any more.
            fill(turn + 2);
            shared.factors.add(sums);
            __syncthreads();
        }
#pragma unroll
        for (u32 k = 0; k < OF_TILE; ++k) {
            Spot spot = Factors<T>::spot(k);
            u64 row = tile.row + spot.row, column = tile.column + spot.column;
            if (row >= p.rows || column >= p.columns.count) continue;
            if (p.pieces > 1) {
                u64 all = p.groups * p.rows * p.columns.count;
                u64 at = (tile.group * p.rows + row) * p.columns.count + column;
                static_cast<C*>(p.partial)[tile.piece * all + at] = sums[k];
            } else {
                T* out = of_group<T>(p.out, tile.group, p.out_group);
                out[i64(row * p.out_row) + shared.columns[spot.column].other] =
                    Element<T>::narrow(sums[k]);
            }
        }
        __syncthreads();
    }
}

// Joins the pieces of each element.
template <typename T> DEVICE void finish(const Convolution& p) {
    typedef typename Element<T>::Compute C;
    u64 all = p.groups * p.rows * p.columns.count;
    for (u64 i = this_thread(); i < all; i += all_threads()) {
        C sum = 0;
        for (u64 piece = 0; piece < p.pieces; ++piece)
            sum += static_cast<const C*>(p.partial)[piece * all + i];
        u64 group = i, number = innermost(group, p.columns.count), row = innermost(group, p.rows);
        Entry column = entry(p, p.columns, number, p.columns.count);
        T* out = of_group<T>(p.out, group, p.out_group);
        out[i64(row * p.out_row) + column.other] = Element<T>::narrow(sum);
    }
}

// ---- few rows, as of convolutions of single channels: one element after another

// Rows of a thread, which looks up what they see once.
#define FEW 4

template <typename T> DEVICE void few(const Convolution& p) {
    typedef typename Element<T>::Compute C;
    u64 down = (p.rows + FEW - 1) / FEW;
    for (u64 i = this_thread(); i < p.groups * down * p.columns.count; i += all_threads()) {
        u64 group = i, number = innermost(group, p.columns.count);
        u64 row = innermost(group, down) * FEW;
        Entry column = entry(p, p.columns, number, p.columns.count);
        const T* factor = of_group<T>(p.factor, group, p.group);
        const T* seen = of_group<T>(p.seen, group, p.seen_group);
        u32 rows = u32(least(p.rows - row, FEW));
        C sums[FEW] = {};
        const Side& depth = p.depth;
#pragma unroll 1
        for (u64 outer = 0; outer < depth.count / (depth.dims[0] * depth.dims[1]); ++outer)
#pragma unroll 1
            for (u64 down = 0; down < depth.dims[0]; ++down) {
                i64 at_row = i64(down) * depth.steps[0] + depth.shifts[0];
                if (u64(column.row + at_row) >= p.size[0]) continue;
#pragma unroll 2
                for (u64 aside = 0; aside < depth.dims[1]; ++aside) {
                    i64 at_column = i64(aside) * depth.steps[1] + depth.shifts[1];
                    if (u64(column.column + at_column) >= p.size[1]) continue;
                    C pixel = widen(seen[column.seen + i64(outer) * depth.outer +
                        at_row * p.strides[0] + at_column * p.strides[1]]);
                    const T* of_rows = factor + i64(row * p.row) + i64(outer) * depth.other[0] +
                        i64(down) * depth.other[1] + i64(aside) * depth.other[2];
#pragma unroll
                    for (u32 r = 0; r < FEW; ++r)
                        if (r < rows) sums[r] += pixel * widen(of_rows[r * p.row]);
                }
            }
        T* out = of_group<T>(p.out, group, p.out_group);
#pragma unroll
        for (u32 r = 0; r < FEW; ++r)
            if (r < rows)
                out[i64((row + r) * p.out_row) + column.other] = Element<T>::narrow(sums[r]);
    }
}

// ---- few elements of much depth, as gradients of single channels: a block for each

template <typename T> DEVICE void deep(const Convolution& p) {
    typedef typename Element<T>::Compute C;
    for (u64 i = blockIdx.x; i < p.groups * p.rows * p.columns.count; i += gridDim.x) {
        u64 group = i, number = innermost(group, p.columns.count), row = innermost(group, p.rows);
        Entry column = entry(p, p.columns, number, p.columns.count);
        const T* factor = of_group<T>(p.factor, group, p.group);
        const T* seen = of_group<T>(p.seen, group, p.seen_group);
        C sum = 0;
        for (u64 k = threadIdx.x; k < p.depth.count; k += blockDim.x) {
            Entry depth = entry(p, p.depth, k, p.depth.count);
            sum += widen(look(p, seen, column, depth)) * widen(factor[i64(row * p.row) + depth.other]);
        }
        sum = across_block(sum, [](C a, C b) { return a + b; });
        T* out = of_group<T>(p.out, group, p.out_group);
        if (threadIdx.x == 0) out[i64(row * p.out_row) + column.other] = Element<T>::narrow(sum);
    }
}

// `by_places`: columns are places of windows. `by_windows`: they are channels and pixels of windows.
#define CONVOLUTION(none, suffix, T) \
    KERNEL_WITH_BARRIERS(convolution_##suffix##_by_places, Convolution) { tiles<T, false>(p); } \
    KERNEL_WITH_BARRIERS(convolution_##suffix##_by_windows, Convolution) { tiles<T, true>(p); } \
    KERNEL(convolution_##suffix##_finish, Convolution) { finish<T>(p); } \
    KERNEL(convolution_##suffix##_few, Convolution) { few<T>(p); } \
    KERNEL_WITH_BARRIERS(convolution_##suffix##_deep, Convolution) { deep<T>(p); }
EACH_FLOAT(CONVOLUTION, )
