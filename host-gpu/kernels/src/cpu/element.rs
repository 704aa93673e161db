//! Elements as they lie in memory, and the types they are computed in: FP16 and BF16 in f32, the
//! others in themselves.

use bytemuck::Pod;
use half::{bf16, f16, slice::HalfFloatSliceExt};

use super::{number::Number, vector};

/// An element as it lies in memory. BOOL is a byte.
pub(super) trait Element: Pod + Send + Sync {
    /// What it is computed in.
    type Compute: Number;

    /// What sums and products of it are: INT64 of integers.
    type Sum: Element<Compute = <Self::Compute as Number>::Lane>;

    /// Whether it is computed in itself.
    const DIRECT: bool;

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

    fn widen(from: &[Self], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
}

impl Element for bf16 {
    type Compute = f32;
    type Sum = Self;
    const DIRECT: bool = false;

    fn widen(from: &[Self], to: &mut [f32]) {
        vector::map(from, to, Widen);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        vector::map(from, to, Narrow);
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
