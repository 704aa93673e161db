//! Elements along an axis in order. Each becomes an integer that has its order, above the place
//! where it was: so integers that are never equal are sorted, and equal elements stay in order.
//! Where only a few come out, most others are known to be too late without ever being written.

use bytemuck::Pod;
use half::{bf16, f16};
use pulp::NullaryFnOnce;

use super::{
    launch::{Launch, with_element},
    memory::Workspace,
    source::Source,
    vector::{self, BLOCK, CHUNK},
};
use crate::LaneError;
use quern_operators::{Sort, TopK};

/// Elements of a line that are collected at least before some are given up.
const FEWEST: usize = 256;

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
    /// How many that may come out are collected before most of them are given up.
    room: usize,
    /// How many lines lie side by side.
    inner: usize,
}

impl Lines {
    fn new(launch: &Launch, axis: u8) -> Self {
        let axis = usize::from(axis);
        let (x, out) = (launch.description(0).shape, launch.output(0).shape);
        let inner = x.dims()[axis + 1..].iter().product::<u64>() as usize;
        let (length, count) = (x.dims()[axis] as usize, out.dims()[axis] as usize);
        let room = count.saturating_mul(4).max(FEWEST).min(length);
        Self { length, count, room, inner }
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

    /// Of each line as many elements as there is room for, the first `count` of them in order.
    fn rank<'a, T: Ordered, R: Ranked>(
        &self,
        launch: &Launch<'a>,
        source: &Source<T>,
        descending: bool,
    ) -> Result<Workspace<'a, R>, LaneError> {
        let &Self { length, room, .. } = self;
        let lines = launch.description(0).shape.elements() as usize / length;
        let mut ranked = launch.workspace::<R>(lines * room)?;
        let cost = 16 * length.div_ceil(room);
        launch.threads.rows(&mut ranked, room, cost, |line, chunk| {
            let mut scratch = Vec::new();
            for (number, ranked) in chunk.chunks_mut(room).enumerate() {
                let begin = (line + number) * length;
                let mut best = Best { ranked, found: 0, count: self.count, bound: None };
                for at in (0..length).step_by(BLOCK) {
                    let block = (length - at).min(BLOCK);
                    best.look(source.elements(begin + at, block, &mut scratch), at, descending);
                }
                best.order();
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
        let &Self { length, count, room, inner } = self;
        // Of the element at a place of the output: its line, and where along it that was.
        let found = |row: usize, column: usize| {
            let line = row / count * inner + column;
            (line, ranked[line * room + row % count].place())
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

/// Those elements of a line that may come out, of the ones that were looked at.
struct Best<'a, K, R> {
    ranked: &'a mut [R],
    found: usize,
    count: usize,
    /// What a key has to be less than, once so many with less have been found. Of equal elements
    /// the first ones come out.
    bound: Option<K>,
}

impl<K: Key, R: Ranked> Best<'_, K, R> {
    /// Takes what may come out of the elements from a place on.
    fn look<T: Ordered<Key = K>>(&mut self, elements: &[T], place: usize, descending: bool) {
        let mut at = 0;
        while at < elements.len() {
            if let Some(bound) = self.bound {
                at += vector::run(Search { elements: &elements[at..], descending, bound });
            }
            let end = (at + CHUNK).min(elements.len());
            for (number, x) in elements[at..end].iter().enumerate() {
                let key = x.key(descending);
                if self.bound.is_none_or(|bound| key < bound) {
                    self.take(key, place + at + number);
                }
            }
            at = end;
        }
    }

    fn take(&mut self, key: K, place: usize) {
        if self.found == self.ranked.len() {
            let (_, last, _) = self.ranked.select_nth_unstable(self.count - 1);
            let bound = K::of(last.key());
            (self.bound, self.found) = (Some(bound), self.count);
            if key >= bound {
                return;
            }
        }
        self.ranked[self.found] = R::new(key.into(), place);
        self.found += 1;
    }

    /// Puts what comes out in order, before everything else.
    fn order(self) {
        let found = &mut self.ranked[..self.found];
        if self.count < found.len() {
            found.select_nth_unstable(self.count);
        }
        found[..self.count].sort_unstable();
    }
}

/// How many elements are before a chunk in which there is one with a key below a bound.
struct Search<'a, T: Ordered> {
    elements: &'a [T],
    descending: bool,
    bound: T::Key,
}

impl<T: Ordered> NullaryFnOnce for Search<'_, T> {
    type Output = usize;

    #[inline(always)]
    fn call(self) -> usize {
        let (chunks, _) = self.elements.as_chunks::<CHUNK>();
        let below = |chunk: &[T; CHUNK]| {
            let keys = chunk.iter().map(|x| x.key(self.descending) < self.bound);
            keys.fold(false, |any, below| any | below)
        };
        let before = chunks.iter().take_while(|chunk| !below(chunk)).count();
        before * CHUNK
    }
}

/// A key with the place of its element below it.
trait Ranked: Pod + Ord + Send + Sync {
    fn new(key: u64, place: usize) -> Self;
    fn key(self) -> u64;
    fn place(self) -> usize;
}

impl Ranked for u64 {
    fn new(key: u64, place: usize) -> Self {
        (key << 32) | place as u64
    }

    fn key(self) -> u64 {
        self >> 32
    }

    fn place(self) -> usize {
        self as u32 as usize
    }
}

impl Ranked for u128 {
    fn new(key: u64, place: usize) -> Self {
        (u128::from(key) << 64) | place as u128
    }

    fn key(self) -> u64 {
        (self >> 64) as u64
    }

    fn place(self) -> usize {
        self as u64 as usize
    }
}

/// An integer as wide as the elements that it stands for.
trait Key: Copy + Ord + Into<u64> + Send + Sync {
    /// What was made wider.
    fn of(key: u64) -> Self;
}

macro_rules! keys {
    ($($type:ty)*) => {$(
        impl Key for $type {
            fn of(key: u64) -> Self {
                key as Self
            }
        }
    )*};
}

keys!(u8 u16 u32 u64);

/// An element that has an order.
trait Ordered: Pod + Send + Sync {
    type Key: Key;

    /// What is less where the element comes first.
    fn key(self, descending: bool) -> Self::Key;
}

macro_rules! integers {
    ($($type:ty as $unsigned:ty;)*) => {$(
        impl Ordered for $type {
            type Key = $unsigned;

            #[inline(always)]
            fn key(self, descending: bool) -> $unsigned {
                let key = (self as $unsigned).wrapping_sub(<$type>::MIN as $unsigned);
                if descending { !key } else { key }
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
            type Key = $unsigned;

            #[inline(always)]
            fn key(self, descending: bool) -> $unsigned {
                const SIGN: $unsigned = 1 << (<$unsigned>::BITS - 1);
                let bits = self.to_bits();
                // -0 is 0.
                let bits = if bits == SIGN { 0 } else { bits };
                let bits = if descending { bits ^ SIGN } else { bits };
                let key = if bits & SIGN == 0 { bits | SIGN } else { !bits };
                if self.is_nan() { <$unsigned>::MAX } else { key }
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
