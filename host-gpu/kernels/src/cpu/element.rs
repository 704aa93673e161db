//! Elements as they lie in memory, and the types they are computed in: FP16 and BF16 in f32, the
//! others in themselves.

use bytemuck::Pod;
use half::{bf16, f16};

use super::{number::Number, vector};

/// An element as it lies in memory. BOOL is a byte.
pub(super) trait Element: Pod + Send + Sync {
    /// What it is computed in.
    type Compute: Number;

    /// What sums and products of it are: INT64 of integers.
    type Sum: Element<Compute = <Self::Compute as Number>::Lane>;

    /// Whether it is computed in itself.
    const DIRECT: bool;

    /// One of them to compute with, without a branch or a call.
    fn widen_one(self) -> Self::Compute;

    /// Many of them to compute with; both slices have one length.
    fn widen(from: &[Self], to: &mut [Self::Compute]);

    /// Many of them to keep; both slices have one length.
    fn narrow(from: &[Self::Compute], to: &mut [Self]);
}

/// One element to keep.
pub(super) fn narrow_one<T: Element>(value: T::Compute) -> T {
    let mut kept = [T::zeroed()];
    T::narrow(&[value], &mut kept);
    kept[0]
}

macro_rules! direct {
    ($($type:ty => $sum:ty;)*) => {$(
        impl Element for $type {
            type Compute = Self;
            type Sum = $sum;
            const DIRECT: bool = true;

            #[inline(always)]
            fn widen_one(self) -> Self {
                self
            }

            fn widen(from: &[Self], to: &mut [Self]) {
                to.copy_from_slice(from);
            }
            fn narrow(from: &[Self], to: &mut [Self]) {
                to.copy_from_slice(from);
            }
        }
    )*};
}

direct! {
    u8 => i64;
    i32 => i64;
    i64 => i64;
    f32 => f32;
    f64 => f64;
}

impl Element for f16 {
    type Compute = f32;
    type Sum = Self;
    const DIRECT: bool = false;

    #[inline(always)]
    fn widen_one(self) -> f32 {
        vector::Function::apply(WidenHalf, self)
    }

    fn widen(from: &[Self], to: &mut [f32]) {
        vector::map(from, to, WidenHalf);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        vector::map(from, to, NarrowHalf);
    }
}

impl Element for bf16 {
    type Compute = f32;
    type Sum = Self;
    const DIRECT: bool = false;

    #[inline(always)]
    fn widen_one(self) -> f32 {
        vector::Function::apply(Widen, self)
    }

    fn widen(from: &[Self], to: &mut [f32]) {
        vector::map(from, to, Widen);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        vector::map(from, to, Narrow);
    }
}

#[derive(Clone, Copy)]
struct WidenHalf;

impl vector::Function<f16> for WidenHalf {
    type Out = f32;

    /// Exact, without a branch or a call, unlike [`f16::to_f32`]: the exponent is moved by a
    /// multiplication, which also makes normal numbers of those below.
    #[inline(always)]
    fn apply(self, x: f16) -> f32 {
        let bits = u32::from(x.to_bits());
        let (sign, shifted) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
        let moved = (f32::from_bits(shifted) * f32::from_bits((127 + 112) << 23)).to_bits();
        let endless = shifted | 0x7f80_0000;
        f32::from_bits(sign | if shifted >= 0x7c00 << 13 { endless } else { moved })
    }
}

#[derive(Clone, Copy)]
struct NarrowHalf;

impl vector::Function<f32> for NarrowHalf {
    type Out = f16;

    /// To the nearest, ties to even; without a branch or a call, unlike [`f16::from_f32`].
    #[inline(always)]
    fn apply(self, x: f32) -> f16 {
        let (sign, size) = ((x.to_bits() >> 16) & 0x8000, x.to_bits() & 0x7fff_ffff);
        let rounding = 0xfff + ((size >> 13) & 1);
        let normal = size.wrapping_sub(112 << 23).wrapping_add(rounding) >> 13;
        // Beside 0.5 an f32 has the last place of an f16 below the normal ones.
        let small = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let kept = if size < 113 << 23 { small } else { normal };
        let kept = if size >= (127 + 16) << 23 { 0x7c00 } else { kept };
        let kept = if x.is_nan() { 0x7e00 } else { kept };
        f16::from_bits((sign | kept) as u16)
    }
}

#[derive(Clone, Copy)]
struct Widen;

impl vector::Function<bf16> for Widen {
    type Out = f32;

    #[inline(always)]
    fn apply(self, x: bf16) -> f32 {
        f32::from_bits(u32::from(x.to_bits()) << 16)
    }
}

#[derive(Clone, Copy)]
struct Narrow;

impl vector::Function<f32> for Narrow {
    type Out = bf16;

    /// To the nearest, ties to even; without a branch, unlike [`bf16::from_f32`].
    #[inline(always)]
    fn apply(self, x: f32) -> bf16 {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = (bits >> 16) | 0x40;
        bf16::from_bits(if x.is_nan() { nan } else { rounded } as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_is_rounded_as_its_crate_does() {
        let halves: Vec<_> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut values = vec![0.0; halves.len()];
        f16::widen(&halves, &mut values);
        for (half, value) in halves.iter().zip(&values) {
            let one = half.widen_one();
            assert!(one.to_bits() == value.to_bits() || one.is_nan() && value.is_nan());
            let expected = half.to_f32();
            let same = value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan();
            assert!(same, "{half:?} is {value}");
        }
        values.extend((0..u32::MAX).step_by(9_973).map(f32::from_bits));
        values.extend((0x3300_0000..0x3900_0000).step_by(997).map(f32::from_bits));
        values.extend([65_503.9, 65_519.9, 65_520.0, 65_535.9, 65_536.0, 2.98e-8, 2.99e-8]);
        let mut narrow = vec![f16::ZERO; values.len()];
        f16::narrow(&values, &mut narrow);
        for (value, half) in values.iter().zip(narrow) {
            let expected = f16::from_f32(*value);
            let same = half.to_bits() == expected.to_bits() || half.is_nan() && expected.is_nan();
            assert!(same, "{value} is {half:?}, not {expected:?}");
        }
    }

    #[test]
    fn bf16_is_rounded_as_its_crate_does() {
        let bits = (0..u32::MAX).step_by(9_973);
        let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE];
        let values: Vec<_> = bits.map(f32::from_bits).chain(special).collect();
        let mut narrow = vec![bf16::ZERO; values.len()];
        bf16::narrow(&values, &mut narrow);
        let mut wide = vec![0.0; values.len()];
        bf16::widen(&narrow, &mut wide);
        for ((value, narrow), wide) in values.iter().zip(narrow).zip(wide) {
            let expected = bf16::from_f32(*value);
            assert_eq!(narrow.to_bits(), expected.to_bits(), "{value}");
            assert_eq!(wide.to_bits(), expected.to_f32().to_bits(), "{value}");
        }
    }
}
