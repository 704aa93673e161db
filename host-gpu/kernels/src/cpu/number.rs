//! The types that kernels compute in, and what they know to do with them. Integers wrap.

use std::fmt::Debug;

use bytemuck::Pod;

use super::element::Element;
use quern_operators::Scalar;

/// A type to compute in.
pub(super) trait Number: Pod + Send + Sync + PartialOrd + Debug {
    /// In what a few of them are summed up; a sum comes out as this.
    type Lane: Number + Into<Self::Total>;
    /// In what many of them are summed up.
    type Total: Number + CastTo<Self::Lane> + Element<Compute = Self::Total>;

    const ZERO: Self;
    const ONE: Self;
    const LOWEST: Self;
    const HIGHEST: Self;

    fn lane(self) -> Self::Lane;
    fn of(scalar: Scalar) -> Self;
    fn of_count(count: usize) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// `self × factor + other`, rounded once.
    fn mul_add(self, factor: Self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn sign(self) -> Self;

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.partial_cmp(&self).is_none()
    }

    /// The larger one, or NaN.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        let larger = if self > other { self } else { other };
        if self.is_nan() { self } else { larger }
    }

    /// The smaller one, or NaN.
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        let smaller = if self < other { self } else { other };
        if self.is_nan() { self } else { smaller }
    }
}

/// Becomes another type as [`Kernel::Cast`](crate::Kernel::Cast) says.
pub(super) trait CastTo<T> {
    fn cast(self) -> T;
}

macro_rules! casts {
    ($($from:ty => $($to:ty)*;)*) => {$($(
        impl CastTo<$to> for $from {
            #[inline(always)]
            fn cast(self) -> $to {
                self as $to
            }
        }
    )*)*};
}

casts! {
    u8 => u8 i32 i64 f32 f64;
    i32 => u8 i32 i64 f32 f64;
    i64 => u8 i32 i64 f32 f64;
    f32 => u8 i32 i64 f32 f64;
    f64 => u8 i32 i64 f32 f64;
}

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl Number for $type {
            type Lane = Self;
            type Total = f64;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;

            #[inline(always)]
            fn lane(self) -> Self {
                self
            }
            fn of(scalar: Scalar) -> Self {
                match scalar {
                    Scalar::Bool(value) => u8::from(value).into(),
                    Scalar::Int(value) => value as Self,
                    Scalar::Float(value) => value as Self,
                }
            }
            fn of_count(count: usize) -> Self {
                count as Self
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, other: Self) -> Self {
                <$type>::mul_add(self, factor, other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn neg(self) -> Self {
                -self
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$type>::abs(self)
            }
            #[inline(always)]
            fn sign(self) -> Self {
                if self > 0.0 {
                    1.0
                } else if self < 0.0 {
                    -1.0
                } else {
                    self
                }
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                <$type>::is_nan(self)
            }
        }
    )*};
}

floats!(f32 f64);

macro_rules! integers {
    ($($type:ty, $abs:expr, $sign:expr;)*) => {$(
        impl Number for $type {
            type Lane = i64;
            type Total = i64;
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;

            #[inline(always)]
            fn lane(self) -> i64 {
                self.into()
            }
            fn of(scalar: Scalar) -> Self {
                match scalar {
                    Scalar::Bool(value) => value.into(),
                    Scalar::Int(value) => value as Self,
                    Scalar::Float(value) => value as Self,
                }
            }
            fn of_count(count: usize) -> Self {
                count as Self
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn mul_add(self, factor: Self, other: Self) -> Self {
                self.wrapping_mul(factor).wrapping_add(other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn neg(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $abs(self)
            }
            #[inline(always)]
            fn sign(self) -> Self {
                $sign(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }
        }
    )*};
}

integers! {
    u8, std::convert::identity, |x: u8| x.min(1);
    i32, i32::wrapping_abs, i32::signum;
    i64, i64::wrapping_abs, i64::signum;
}
