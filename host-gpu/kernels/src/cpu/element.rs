//! Elements as they lie in memory, and the types they are computed in: FP16 and BF16 in f32, the
//! others in themselves.

use bytemuck::Pod;
use half::{bf16, f16};

use super::{
    number::Number,
    vector::{CHUNK, Processor},
};

/// An element as it lies in memory. BOOL is a byte.
pub(super) trait Element: Pod + Send + Sync {
    /// What it is computed in.
    type Compute: Number + Element<Compute = Self::Compute>;

    /// What sums and products of it are: INT64 of integers.
    type Sum: Element<Compute = <Self::Compute as Number>::Lane>;

    /// Whether it is computed in itself.
    const DIRECT: bool;

    /// Whether the processor converts many at once better than a loop does one after the other.
    const IN_CHUNKS: bool = false;

    /// To compute with, without a branch or a call.
    fn widen(self) -> Self::Compute;

    /// To keep, without a branch or a call.
    fn narrow(value: Self::Compute) -> Self;

    /// A chunk to compute with.
    #[inline(always)]
    fn widen_chunk(_: impl Processor, chunk: &[Self; CHUNK]) -> [Self::Compute; CHUNK] {
        let mut wide = [Self::Compute::ZERO; CHUNK];
        wide.iter_mut().zip(chunk).for_each(|(wide, x)| *wide = x.widen());
        wide
    }

    /// A chunk to keep.
    #[inline(always)]
    fn narrow_chunk(_: impl Processor, chunk: &[Self::Compute; CHUNK]) -> [Self; CHUNK] {
        let mut narrow = [Self::zeroed(); CHUNK];
        narrow.iter_mut().zip(chunk).for_each(|(narrow, x)| *narrow = Self::narrow(*x));
        narrow
    }
}

macro_rules! direct {
    ($($type:ty => $sum:ty;)*) => {$(
        impl Element for $type {
            type Compute = Self;
            type Sum = $sum;
            const DIRECT: bool = true;

            #[inline(always)]
            fn widen(self) -> Self {
                self
            }

            #[inline(always)]
            fn narrow(value: Self) -> Self {
                value
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
    const IN_CHUNKS: bool = true;

    /// Exact, without a branch or a call, unlike [`f16::to_f32`]: the exponent is moved by a
    /// multiplication, which also makes normal numbers of those below.
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let (sign, shifted) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
        let moved = (f32::from_bits(shifted) * f32::from_bits((127 + 112) << 23)).to_bits();
        let endless = shifted | 0x7f80_0000;
        f32::from_bits(sign | if shifted >= 0x7c00 << 13 { endless } else { moved })
    }

    /// To the nearest, ties to even; without a branch or a call, unlike [`f16::from_f32`].
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let (sign, size) = ((value.to_bits() >> 16) & 0x8000, value.to_bits() & 0x7fff_ffff);
        let rounding = 0xfff + ((size >> 13) & 1);
        let normal = size.wrapping_sub(112 << 23).wrapping_add(rounding) >> 13;
        // Beside 0.5 an f32 has the last place of an f16 below the normal ones.
        let small = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let kept = if size < 113 << 23 { small } else { normal };
        let kept = if size >= (127 + 16) << 23 { 0x7c00 } else { kept };
        let kept = if value.is_nan() { 0x7e00 } else { kept };
        f16::from_bits((sign | kept) as u16)
    }

    #[inline(always)]
    fn widen_chunk(processor: impl Processor, chunk: &[Self; CHUNK]) -> [f32; CHUNK] {
        processor.widen(chunk)
    }

    #[inline(always)]
    fn narrow_chunk(processor: impl Processor, chunk: &[f32; CHUNK]) -> [Self; CHUNK] {
        processor.narrow(chunk)
    }
}

impl Element for bf16 {
    type Compute = f32;
    type Sum = Self;
    const DIRECT: bool = false;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// To the nearest, ties to even; without a branch, unlike [`bf16::from_f32`].
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = (bits >> 16) | 0x40;
        bf16::from_bits(if value.is_nan() { nan } else { rounded } as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vector::convert;

    #[test]
    fn f16_is_rounded_as_its_crate_does() {
        let halves: Vec<_> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut values = vec![0.0f32; halves.len()];
        convert(&halves, &mut values);
        for (half, value) in halves.iter().zip(&values) {
            let one = half.widen();
            assert!(one.to_bits() == value.to_bits() || one.is_nan() && value.is_nan());
            let expected = half.to_f32();
            let same = value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan();
            assert!(same, "{half:?} is {value}");
        }
        values.extend((0..u32::MAX).step_by(9_973).map(f32::from_bits));
        values.extend((0x3300_0000..0x3900_0000).step_by(997).map(f32::from_bits));
        values.extend([65_503.9, 65_519.9, 65_520.0, 65_535.9, 65_536.0, 2.98e-8, 2.99e-8]);
        let mut narrow = vec![f16::ZERO; values.len()];
        convert(&values, &mut narrow);
        for (value, half) in values.iter().zip(narrow) {
            let expected = f16::from_f32(*value);
            for half in [half, f16::narrow(*value)] {
                let is_nan = half.is_nan() && expected.is_nan();
                let same = half.to_bits() == expected.to_bits() || is_nan;
                assert!(same, "{value} is {half:?}, not {expected:?}");
            }
        }
    }

    #[test]
    fn bf16_is_rounded_as_its_crate_does() {
        let bits = (0..u32::MAX).step_by(9_973);
        let special = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE];
        let values: Vec<_> = bits.map(f32::from_bits).chain(special).collect();
        let mut narrow = vec![bf16::ZERO; values.len()];
        convert(&values, &mut narrow);
        let mut wide = vec![0.0f32; values.len()];
        convert(&narrow, &mut wide);
        for ((value, narrow), wide) in values.iter().zip(narrow).zip(wide) {
            let expected = bf16::from_f32(*value);
            assert_eq!(narrow.to_bits(), expected.to_bits(), "{value}");
            assert_eq!(wide.to_bits(), expected.to_f32().to_bits(), "{value}");
        }
    }
}
