// Functions of two elements.
#include "quern.cuh"

#define FUNCTION(name, Result, expression) \
    struct name { \
        template <typename C> DEVICE Result operator()(C x, C y) const { return expression; } \
    };

DEVICE float power(float x, float y) { return powf(x, y); }
DEVICE double power(double x, double y) { return pow(x, y); }

FUNCTION(Add, C, Arithmetic<C>::add(x, y))
FUNCTION(Sub, C, Arithmetic<C>::sub(x, y))
FUNCTION(Mul, C, Arithmetic<C>::mul(x, y))
FUNCTION(Div, C, Arithmetic<C>::div(x, y))
FUNCTION(Pow, C, power(x, y))
FUNCTION(Min, C, smaller(x, y))
FUNCTION(Max, C, larger(x, y))
FUNCTION(Eq, u8, x == y)
FUNCTION(Ne, u8, x != y)
FUNCTION(Lt, u8, x < y)
FUNCTION(Le, u8, x <= y)
FUNCTION(Gt, u8, x > y)
FUNCTION(Ge, u8, x >= y)

#define BINARY(name, Function, suffix, T) \
    KERNEL(name##_##suffix, Elementwise) { map2<T, T>(p, Function()); }
#define COMPARE(name, Function, suffix, T) \
    KERNEL(name##_##suffix, Elementwise) { map2<u8, T>(p, Function()); }

EACH_NUMBER(BINARY, add, Add)
EACH_NUMBER(BINARY, sub, Sub)
EACH_NUMBER(BINARY, mul, Mul)
EACH_NUMBER(BINARY, div, Div)
EACH_NUMBER(BINARY, min, Min)
EACH_NUMBER(BINARY, max, Max)
EACH_FLOAT(BINARY, pow, Pow)
EACH_NUMBER(COMPARE, eq, Eq)
EACH_NUMBER(COMPARE, ne, Ne)
EACH_NUMBER(COMPARE, lt, Lt)
EACH_NUMBER(COMPARE, le, Le)
EACH_NUMBER(COMPARE, gt, Gt)
EACH_NUMBER(COMPARE, ge, Ge)
