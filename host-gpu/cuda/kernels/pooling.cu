// Windows of images that become one pixel each, and their gradients. No thread writes where
// another does: of a gradient each takes a pixel, and asks the windows that see it, in their order.
#include "quern.cuh"

// Images are N×C×H×W; what comes out is dense.
struct Pooling {
    u64 channels;
    u64 image[2];        // rows and columns
    u64 places[2];       // of windows
    u64 window[2];
    u64 strides[2];
    u64 before[2];       // padding above and left
    u64 x_strides[4];
    u64 gradient_strides[4];
    const void* x;
    const void* gradient;
    void* out;
    u64 first, count;    // of elements that are computed: windows, or pixels for a gradient
    u64 window_first, window_count;  // those of which `located` has the pixels
    u64* located;        // in each window of those, the number of the largest pixel in its plane
};

// From the first to before the last.
struct Range {
    u64 begin, end;
    DEVICE u64 length() const { return end - begin; }
};

// Pixels along an axis that a window at a place covers; there is at least one.
DEVICE Range covered(const Pooling& p, int axis, u64 place) {
    u64 begin = place * p.strides[axis], end = begin + p.window[axis] - p.before[axis];
    begin = begin > p.before[axis] ? begin - p.before[axis] : 0;
    return {begin, least(end, p.image[axis])};
}

// Places along an axis of the windows that cover a pixel; there may be none.
DEVICE Range covering(const Pooling& p, int axis, u64 pixel) {
    u64 at = pixel + p.before[axis], stride = p.strides[axis], window = p.window[axis];
    u64 begin = at < window ? 0 : (at - window) / stride + 1;
    u64 end = least(at / stride + 1, p.places[axis]);
    return {least(begin, end), end};
}

// A window, or a pixel: its plane and where it is there.
struct Spot {
    u64 image, channel, row, column;
    DEVICE Spot(const Pooling& p, const u64* size, u64 number) {
        column = innermost(number, size[1]);
        row = innermost(number, size[0]);
        channel = innermost(number, p.channels);
        image = number;
    }
    template <typename T> DEVICE const T* plane(const void* data, const u64* strides) const {
        return static_cast<const T*>(data) + image * strides[0] + channel * strides[1];
    }
    DEVICE u64 plane_number(const Pooling& p) const { return image * p.channels + channel; }
};

// What becomes of a window.
template <typename C> struct Maximum {
    static DEVICE C empty() { return Bounds<C>::lowest(); }
    static DEVICE C join(C a, C b) { return larger(a, b); }
    static DEVICE C finish(C total, u64) { return total; }
};
template <typename C> struct Average {
    static DEVICE C empty() { return 0; }
    static DEVICE C join(C a, C b) { return a + b; }
    static DEVICE C finish(C total, u64 count) { return total / C(count); }
};

// A thread for each window; a mean is that of sums of rows.
template <template <typename> class Pool, typename T> DEVICE void small(const Pooling& p) {
    typedef typename Element<T>::Compute C;
#pragma unroll 1
    for (u64 i = this_thread(); i < p.count; i += all_threads()) {
        Spot spot(p, p.places, i);
        Range rows = covered(p, 0, spot.row), columns = covered(p, 1, spot.column);
        const T* x = spot.plane<T>(p.x, p.x_strides);
        C total = Pool<C>::empty();
        for (u64 row = rows.begin; row < rows.end; ++row) {
            C sum = Pool<C>::empty();
            for (u64 column = columns.begin; column < columns.end; ++column)
                sum = Pool<C>::join(sum, widen(x[row * p.x_strides[2] + column * p.x_strides[3]]));
            total = Pool<C>::join(total, sum);
        }
        total = Pool<C>::finish(total, rows.length() * columns.length());
        static_cast<T*>(p.out)[i] = Element<T>::narrow(total);
    }
}

// A block for each window.
template <template <typename> class Pool, typename T> DEVICE void large(const Pooling& p) {
    typedef typename Element<T>::Compute C;
    for (u64 i = blockIdx.x; i < p.count; i += gridDim.x) {
        Spot spot(p, p.places, i);
        Range rows = covered(p, 0, spot.row), columns = covered(p, 1, spot.column);
        const T* x = spot.plane<T>(p.x, p.x_strides);
        u64 count = rows.length() * columns.length();
        C total = Pool<C>::empty();
        for (u64 k = threadIdx.x; k < count; k += blockDim.x) {
            u64 row = k, column = columns.begin + innermost(row, columns.length());
            row += rows.begin;
            C pixel = widen(x[row * p.x_strides[2] + column * p.x_strides[3]]);
            total = Pool<C>::join(total, pixel);
        }
        total = across_block(total, [](C a, C b) { return Pool<C>::join(a, b); });
        if (threadIdx.x == 0)
            static_cast<T*>(p.out)[i] = Element<T>::narrow(Pool<C>::finish(total, count));
    }
}

template <typename T> DEVICE void average_gradient(const Pooling& p) {
    typedef typename Element<T>::Compute C;
#pragma unroll 1
    for (u64 i = this_thread(); i < p.count; i += all_threads()) {
        Spot spot(p, p.image, i);
        Range down = covering(p, 0, spot.row), aside = covering(p, 1, spot.column);
        const T* gradient = spot.plane<T>(p.gradient, p.gradient_strides);
        C sum = 0;
#pragma unroll 1
        for (u64 row = down.begin; row < down.end; ++row) {
            u64 rows = covered(p, 0, row).length();
            const T* line = gradient + row * p.gradient_strides[2];
#pragma unroll 2
            for (u64 column = aside.begin; column < aside.end; ++column) {
                C count = C(rows * covered(p, 1, column).length());
                sum += widen(line[column * p.gradient_strides[3]]) / count;
            }
        }
        static_cast<T*>(p.out)[i] = Element<T>::narrow(sum);
    }
}

// A pixel and its number in its plane.
template <typename T>
DEVICE Found<typename Element<T>::Compute> pixel(const Pooling& p, const T* x, u64 row, u64 column) {
    return {widen(x[row * p.x_strides[2] + column * p.x_strides[3]]), row * p.image[1] + column};
}

// Whether of all pixels of a window this one is the first of the largest, or the first NaN. Most
// pixels are not, and see so at one of the first others.
template <typename T>
DEVICE bool is_largest(const Pooling& p, const T* x, const Found<typename Element<T>::Compute>& own,
                       Range rows, Range columns) {
    typedef typename Element<T>::Compute C;
    u64 count = rows.length() * columns.length();
#pragma unroll 1
    for (u64 k = 0, row = rows.begin, column = columns.begin; k < count; ++k) {
        if (beats<C, true>(pixel(p, x, row, column), own)) return false;
        if (++column < columns.end) continue;
        column = columns.begin;
        ++row;
    }
    return true;
}

template <typename T> DEVICE void max_gradient(const Pooling& p) {
    typedef typename Element<T>::Compute C;
#pragma unroll 1
    for (u64 i = this_thread(); i < p.count; i += all_threads()) {
        Spot spot(p, p.image, i);
        Range down = covering(p, 0, spot.row), aside = covering(p, 1, spot.column);
        const T* x = spot.plane<T>(p.x, p.x_strides);
        const T* gradient = spot.plane<T>(p.gradient, p.gradient_strides);
        Found<C> own = pixel(p, x, spot.row, spot.column);
        C sum = 0;
#pragma unroll 1
        for (u64 row = down.begin; row < down.end; ++row)
#pragma unroll 1
            for (u64 column = aside.begin; column < aside.end; ++column)
                if (is_largest(p, x, own, covered(p, 0, row), covered(p, 1, column)))
                    sum += widen(gradient[row * p.gradient_strides[2] +
                                          column * p.gradient_strides[3]]);
        static_cast<T*>(p.out)[i] = Element<T>::narrow(sum);
    }
}

// For large windows that overlap the pixels are found first, a block for each of some windows, and
// then their gradients are added to what other windows gave.
template <typename T> DEVICE void locate(const Pooling& p) {
    typedef typename Element<T>::Compute C;
    for (u64 i = blockIdx.x; i < p.window_count; i += gridDim.x) {
        Spot spot(p, p.places, p.window_first + i);
        Range rows = covered(p, 0, spot.row), columns = covered(p, 1, spot.column);
        const T* x = spot.plane<T>(p.x, p.x_strides);
        Found<C> best = {Bounds<C>::lowest(), ~0ull};
        for (u64 k = threadIdx.x; k < rows.length() * columns.length(); k += blockDim.x) {
            u64 row = k, column = columns.begin + innermost(row, columns.length());
            row += rows.begin;
            Found<C> found = pixel(p, x, row, column);
            if (beats<C, true>(found, best)) best = found;
        }
        best = across_block(best, [](const Found<C>& a, const Found<C>& b) {
            return beats<C, true>(b, a) ? b : a;
        });
        if (threadIdx.x == 0) p.located[i] = best.at;
    }
}

template <typename T> DEVICE void spread(const Pooling& p) {
    typedef typename Element<T>::Compute C;
    T* out = static_cast<T*>(p.out);
    u64 window_end = p.window_first + p.window_count;
#pragma unroll 1
    for (u64 i = this_thread(); i < p.count; i += all_threads()) {
        u64 number = p.first + i;
        Spot spot(p, p.image, number);
        Range down = covering(p, 0, spot.row), aside = covering(p, 1, spot.column);
        const T* gradient = spot.plane<T>(p.gradient, p.gradient_strides);
        u64 own = spot.row * p.image[1] + spot.column;
        C sum = widen(out[number]);
#pragma unroll 1
        for (u64 row = down.begin; row < down.end; ++row) {
            // The windows of this line that were looked at.
            u64 line = (spot.plane_number(p) * p.places[0] + row) * p.places[1];
            u64 begin = line + aside.begin, end = least(line + aside.end, window_end);
            for (u64 at = begin > p.window_first ? begin : p.window_first; at < end; ++at)
                if (p.located[at - p.window_first] == own)
                    sum += widen(gradient[row * p.gradient_strides[2] +
                                          (at - line) * p.gradient_strides[3]]);
        }
        out[number] = Element<T>::narrow(sum);
    }
}

#define POOLING(none, suffix, T) \
    KERNEL(max_pool_##suffix##_small, Pooling) { small<Maximum, T>(p); } \
    KERNEL(average_pool_##suffix##_small, Pooling) { small<Average, T>(p); } \
    KERNEL_WITH_BARRIERS(max_pool_##suffix##_large, Pooling) { large<Maximum, T>(p); } \
    KERNEL_WITH_BARRIERS(average_pool_##suffix##_large, Pooling) { large<Average, T>(p); } \
    KERNEL(average_pool_gradient_##suffix, Pooling) { average_gradient<T>(p); } \
    KERNEL(max_pool_gradient_##suffix, Pooling) { max_gradient<T>(p); } \
    KERNEL_WITH_BARRIERS(max_pool_locate_##suffix, Pooling) { locate<T>(p); } \
    KERNEL(max_pool_spread_##suffix, Pooling) { spread<T>(p); }
EACH_FLOAT(POOLING, )
