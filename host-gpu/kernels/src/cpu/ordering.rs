//! Elements along an axis in order. Each becomes an integer that has its order, above the place
//! where it was: so integers that are never equal are sorted, and equal elements stay in order.

use bytemuck::Pod;
use half::{bf16, f16};

use super::{
    launch::{Launch, with_element},
    memory::Workspace,
    source::Source,
    vector::{self, BLOCK},
};
use crate::LaneError;
use quern_operators::{Sort, TopK};

pub(super) fn sort(launch: &Launch, sort: &Sort, out: [&mut [u8]; 2]) -> Result<(), LaneError> {
    order(launch, sort.axis, sort.descending, out)
}

pub(super) fn top_k(launch: &Launch, top: &TopK, out: [&mut [u8]; 2]) -> Result<(), LaneError> {
    order(launch, top.axis, top.largest, out)
}

fn order(
    launch: &Launch,
    axis: u8,
    descending: bool,
    [values, places]: [&mut [u8]; 2],
) -> Result<(), LaneError> {
    if values.is_empty() {
        return Ok(());
    }
    let lines = Lines::new(launch, axis);
    with_element!(launch.description(0).dtype, T => {
        let source = lines.source::<T>(launch, axis);
        let values: &mut [T] = bytemuck::cast_slice_mut(values);
        let places: &mut [i64] = bytemuck::cast_slice_mut(places);
        // A key of 32 bits and a place of as many fit one word.
        if size_of::<T>() <= 4 && u32::try_from(lines.length).is_ok() {
            let ranked: Workspace<u64> = lines.rank(launch, &source, descending)?;
            lines.write(launch, &source, &ranked, values, places);
        } else {
            let ranked: Workspace<u128> = lines.rank(launch, &source, descending)?;
            lines.write(launch, &source, &ranked, values, places);
        }
    });
    Ok(())
}

/// A tensor as lines along an axis.
struct Lines {
    length: usize,
    /// How many of the elements of a line come out.
    count: usize,
    /// How many lines lie side by side.
    inner: usize,
}

impl Lines {
    fn new(launch: &Launch, axis: u8) -> Self {
        let axis = usize::from(axis);
        let (x, out) = (launch.description(0).shape, launch.output(0).shape);
        let inner = x.dims()[axis + 1..].iter().product::<u64>() as usize;
        Self { length: x.dims()[axis] as usize, count: out.dims()[axis] as usize, inner }
    }

    /// The input, line by line.
    fn source<'a, T: Pod>(&self, launch: &Launch<'a>, axis: u8) -> Source<'a, T> {
        let layout = &launch.operand(0).layout;
        let axis = usize::from(axis);
        let others = (0..layout.shape().rank()).filter(|other| *other != axis);
        let axes: Vec<_> = others.chain([axis]).collect();
        let layout = layout.permute(&axes).expect("every axis is named once");
        Source::new(launch.bytes(0), &layout)
    }

    /// The elements of each line, the first `count` of them in order.
    fn rank<'a, T: Ordered, R: Ranked>(
        &self,
        launch: &Launch<'a>,
        source: &Source<T>,
        descending: bool,
    ) -> Result<Workspace<'a, R>, LaneError> {
        let elements = launch.description(0).shape.elements() as usize;
        let mut ranked = launch.workspace::<R>(elements)?;
        let &Self { length, count, .. } = self;
        launch.threads.rows(&mut ranked, length, 16, |first, chunk| {
            let mut scratch = vector::block::<T>();
            for (line, ranked) in chunk.chunks_mut(length).enumerate() {
                let begin = (first + line) * length;
                for (block, ranked) in ranked.chunks_mut(BLOCK).enumerate() {
                    let at = block * BLOCK;
                    let raw = &mut scratch[..ranked.len()];
                    source.copy(begin + at, raw);
                    for (place, (ranked, x)) in ranked.iter_mut().zip(raw).enumerate() {
                        *ranked = R::new(x.key(descending), at + place);
                    }
                }
                if count < length {
                    ranked.select_nth_unstable(count);
                }
                ranked[..count].sort_unstable();
            }
        });
        Ok(ranked)
    }

    fn write<T: Ordered, R: Ranked>(
        &self,
        launch: &Launch,
        source: &Source<T>,
        ranked: &[R],
        values: &mut [T],
        places: &mut [i64],
    ) {
        let &Self { length, count, inner } = self;
        // Of the element at a place of the output: its line, and where along it that was.
        let found = |row: usize, column: usize| {
            let line = row / count * inner + column;
            (line, ranked[line * length + row % count].place())
        };
        launch.threads.rows(values, inner, 4, |first, chunk| {
            for (row, chunk) in chunk.chunks_mut(inner).enumerate() {
                for (column, value) in chunk.iter_mut().enumerate() {
                    let (line, place) = found(first + row, column);
                    *value = source.get(line * length + place);
                }
            }
        });
        launch.threads.rows(places, inner, 2, |first, chunk| {
            for (row, chunk) in chunk.chunks_mut(inner).enumerate() {
                for (column, out) in chunk.iter_mut().enumerate() {
                    *out = found(first + row, column).1 as i64;
                }
            }
        });
    }
}

/// A key with the place of its element below it.
trait Ranked: Pod + Ord + Send + Sync {
    fn new(key: u64, place: usize) -> Self;
    fn place(self) -> usize;
}

impl Ranked for u64 {
    fn new(key: u64, place: usize) -> Self {
        (key << 32) | place as u64
    }

    fn place(self) -> usize {
        self as u32 as usize
    }
}

impl Ranked for u128 {
    fn new(key: u64, place: usize) -> Self {
        (u128::from(key) << 64) | place as u128
    }

    fn place(self) -> usize {
        self as u64 as usize
    }
}

/// An element that has an order.
trait Ordered: Pod + Send + Sync {
    /// An integer of as many bits that is less where the element comes first.
    fn key(self, descending: bool) -> u64;
}

macro_rules! integers {
    ($($type:ty as $unsigned:ty;)*) => {$(
        impl Ordered for $type {
            #[inline(always)]
            fn key(self, descending: bool) -> u64 {
                let key = (self as $unsigned).wrapping_sub(<$type>::MIN as $unsigned);
                u64::from(if descending { !key } else { key })
            }
        }
    )*};
}

integers! {
    u8 as u8;
    i32 as u32;
    i64 as u64;
}

macro_rules! floats {
    ($($type:ty as $unsigned:ty;)*) => {$(
        impl Ordered for $type {
            #[inline(always)]
            fn key(self, descending: bool) -> u64 {
                const SIGN: $unsigned = 1 << (<$unsigned>::BITS - 1);
                let bits = self.to_bits();
                // -0 is 0.
                let bits = if bits == SIGN { 0 } else { bits };
                let bits = if descending { bits ^ SIGN } else { bits };
                let key = if bits & SIGN == 0 { bits | SIGN } else { !bits };
                u64::from(if self.is_nan() { <$unsigned>::MAX } else { key })
            }
        }
    )*};
}

floats! {
    f16 as u16;
    bf16 as u16;
    f32 as u32;
    f64 as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_order_of_their_elements() {
        let ordered = [f32::NEG_INFINITY, -1.0, -f32::MIN_POSITIVE, -1e-45, 0.0, 1e-45, 1.0];
        let keys = |descending| ordered.map(|x| x.key(descending));
        assert!(keys(false).is_sorted());
        assert!(keys(true).iter().rev().is_sorted());
        for descending in [false, true] {
            assert_eq!((-0.0f32).key(descending), 0.0f32.key(descending));
            let last = f32::NAN.key(descending);
            assert_eq!(last, (-f32::NAN).key(descending));
            assert!(last > f32::INFINITY.key(descending));
            assert!(last > f32::NEG_INFINITY.key(descending));
        }
        assert!(i64::MIN.key(false) < (-1i64).key(false) && (-1i64).key(false) < 0i64.key(false));
        assert!(0u8.key(true) > 255u8.key(true));
    }
}
