// Functions of one element.
#include "quern.cuh"

#define FUNCTION(name, expression) \
    struct name { \
        template <typename C> DEVICE C operator()(C x) const { return expression; } \
    };

DEVICE float sin_of(float x) { return sinf(x); }
DEVICE double sin_of(double x) { return sin(x); }
DEVICE float cos_of(float x) { return cosf(x); }
DEVICE double cos_of(double x) { return cos(x); }
DEVICE float tanh_of(float x) { return tanhf(x); }
DEVICE double tanh_of(double x) { return tanh(x); }
DEVICE float erf_of(float x) { return erff(x); }
DEVICE double erf_of(double x) { return erf(x); }
DEVICE float floor_of(float x) { return floorf(x); }
DEVICE double floor_of(double x) { return floor(x); }
DEVICE float ceil_of(float x) { return ceilf(x); }
DEVICE double ceil_of(double x) { return ceil(x); }
DEVICE float round_of(float x) { return rintf(x); }
DEVICE double round_of(double x) { return rint(x); }

template <typename C> DEVICE C absolute(C x) { return x < C(0) ? Arithmetic<C>::sub(0, x) : x; }
template <> DEVICE float absolute(float x) { return fabsf(x); }
template <> DEVICE double absolute(double x) { return fabs(x); }
// Not `0 - x`, which makes 0 of -0.
template <typename C> DEVICE C negative(C x) { return Arithmetic<C>::sub(0, x); }
template <> DEVICE float negative(float x) { return -x; }
template <> DEVICE double negative(double x) { return -x; }

FUNCTION(Neg, negative(x))
FUNCTION(Abs, absolute(x))
FUNCTION(Sign, x > C(0) ? C(1) : x < C(0) ? C(-1) : x)
FUNCTION(Square, Arithmetic<C>::mul(x, x))
FUNCTION(Relu, x < C(0) ? C(0) : x)
FUNCTION(Exp, exp_of(x))
FUNCTION(Log, log_of(x))
FUNCTION(Sqrt, sqrt_of(x))
FUNCTION(Rsqrt, C(1) / sqrt_of(x))
FUNCTION(Reciprocal, C(1) / x)
FUNCTION(Sin, sin_of(x))
FUNCTION(Cos, cos_of(x))
FUNCTION(Tanh, tanh_of(x))
FUNCTION(Erf, erf_of(x))
FUNCTION(Sigmoid, C(1) / (C(1) + exp_of(-x)))
FUNCTION(Silu, x / (C(1) + exp_of(-x)))
FUNCTION(Gelu, C(0.5) * x * (C(1) + erf_of(x * C(0.70710678118654752))))
FUNCTION(GeluTanh, C(0.5) * x *
    (C(1) + tanh_of(C(0.79788456080286536) * (x + C(0.044715) * x * x * x))))
FUNCTION(Floor, floor_of(x))
FUNCTION(Ceil, ceil_of(x))
FUNCTION(Round, round_of(x))
FUNCTION(Complement, C(x ^ 1))

#define UNARY(name, Function, suffix, T) \
    KERNEL(name##_##suffix, Elementwise) { map<T, T>(p, Function()); }

EACH_NUMBER(UNARY, neg, Neg)
EACH_NUMBER(UNARY, abs, Abs)
EACH_NUMBER(UNARY, sign, Sign)
EACH_NUMBER(UNARY, square, Square)
EACH_NUMBER(UNARY, relu, Relu)
EACH_FLOAT(UNARY, exp, Exp)
EACH_FLOAT(UNARY, log, Log)
EACH_FLOAT(UNARY, sqrt, Sqrt)
EACH_FLOAT(UNARY, rsqrt, Rsqrt)
EACH_FLOAT(UNARY, reciprocal, Reciprocal)
EACH_FLOAT(UNARY, sin, Sin)
EACH_FLOAT(UNARY, cos, Cos)
EACH_FLOAT(UNARY, tanh, Tanh)
EACH_FLOAT(UNARY, erf, Erf)
EACH_FLOAT(UNARY, sigmoid, Sigmoid)
EACH_FLOAT(UNARY, silu, Silu)
EACH_FLOAT(UNARY, gelu, Gelu)
EACH_FLOAT(UNARY, gelu_tanh, GeluTanh)
EACH_FLOAT(UNARY, floor, Floor)
EACH_FLOAT(UNARY, ceil, Ceil)
EACH_FLOAT(UNARY, round, Round)
UNARY(complement, Complement, u8, u8)

// Elements within bounds, which are constants; NaN passes.
template <typename C> DEVICE C constant(u64 bits) {
    C value;
    // The constant lies in the lowest bytes, and devices are little-endian.
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <typename C> struct Clamp {
    C min, max;
    DEVICE C operator()(C x) const {
        C low = x < min ? min : x;
        return low > max ? max : low;
    }
};
#define CLAMP(name, suffix, T) \
    KERNEL(name##_##suffix, Elementwise) { \
        typedef Element<T>::Compute C; \
        map<T, T>(p, Clamp<C>{constant<C>(p.values[0]), constant<C>(p.values[1])}); \
    }
EACH_NUMBER(CLAMP, clamp)
