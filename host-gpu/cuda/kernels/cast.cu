// Elements as another type: floats become integers towards zero and saturate, NaN becomes 0,
// integers wrap, and everything but 0 is true.
#include "quern.cuh"

template <typename To, typename From> struct Cast {
    DEVICE To operator()(From x) const { return To(x); }
};
template <typename To, typename From> struct Saturate {
    DEVICE To operator()(From x) const {
        if (is_nan(x)) return 0;
        // As floats, the bounds may be one more than they are: nothing lies between.
        if (x <= From(Bounds<To>::lowest())) return Bounds<To>::lowest();
        if (x >= From(Bounds<To>::highest())) return Bounds<To>::highest();
        return To(x);
    }
};
#define SATURATES(To) \
    template <> struct Cast<To, float> : Saturate<To, float> {}; \
    template <> struct Cast<To, double> : Saturate<To, double> {};
SATURATES(u8)
SATURATES(i32)
SATURATES(i64)

struct Truth {
    template <typename C> DEVICE u8 operator()(C x) const { return x != C(0); }
};

#define CAST(from, From, to, To) \
    KERNEL(cast_##from##_##to, Elementwise) { \
        map<To, From>(p, Cast<Element<To>::Compute, Element<From>::Compute>()); \
    }
#define TRUTH(from, From) \
    KERNEL(cast_##from##_bool, Elementwise) { map<u8, From>(p, Truth()); }
#define CASTS(from, From) EACH_NUMBER(CAST, from, From) TRUTH(from, From)

CASTS(u8, u8)
CASTS(i32, i32)
CASTS(i64, i64)
CASTS(f16, f16)
CASTS(bf16, bf16)
CASTS(f32, float)
CASTS(f64, double)
