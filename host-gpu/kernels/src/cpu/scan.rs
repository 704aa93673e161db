//! Sums of what came before along an axis. An axis is cut into pieces by its shape alone: what
//! each adds up to is summed first, so that several threads can share one line and yet the result
//! never depends on how many there are.

use super::{
    element::Element,
    elementwise::compute,
    launch::{Launch, with_element},
    number::{CastTo, Number},
    source::{Scratch, Source},
    vector::{self, BLOCK, Fold, Function},
};
use crate::LaneError;

/// Elements of a piece, where there are few lines to share out.
const PIECE: usize = 1 << 16;

/// Slabs from which on there are enough of them to share out.
const MANY: usize = 16;

pub(super) fn cumulative_sum(launch: &Launch, axis: u8, out: &mut [u8]) -> Result<(), LaneError> {
    with_element!(launch.description(0).dtype, T => {
        let out: &mut [<T as Element>::Sum] = bytemuck::cast_slice_mut(out);
        if out.is_empty() {
            return Ok(());
        }
        let source = launch.source::<T>(0);
        Scan::new(launch, usize::from(axis), &source).run(launch, out)?;
    });
    Ok(())
}

type Total<T> = <<T as Element>::Compute as Number>::Total;

/// A tensor as slabs, each of lines along the axis that lie side by side.
struct Scan<'a, T> {
    source: &'a Source<'a, T>,
    /// Elements along the axis, and how many of them are a piece.
    length: usize,
    height: usize,
    /// Lines side by side.
    inner: usize,
}

impl<'a, T: Element> Scan<'a, T> {
    fn new(launch: &Launch, axis: usize, source: &'a Source<'a, T>) -> Self {
        let dims = launch.description(0).shape;
        let product = |dims: &[u64]| dims.iter().product::<u64>() as usize;
        let (outer, inner) = (product(&dims.dims()[..axis]), product(&dims.dims()[axis + 1..]));
        let length = dims.dims()[axis] as usize;
        let height = if outer >= MANY { length } else { (PIECE / inner).clamp(1, length) };
        Self { source, length, height, inner }
    }

    fn run(&self, launch: &Launch, out: &mut [T::Sum]) -> Result<(), LaneError> {
        let &Self { length, height, inner, .. } = self;
        let slab = length * inner;
        let pieces = length.div_ceil(height);
        if pieces == 1 {
            launch.threads.rows(out, slab, 1, |first, chunk| {
                for (number, slab) in chunk.chunks_mut(length * inner).enumerate() {
                    self.piece(first + number, 0, None, slab);
                }
            });
            return Ok(());
        }
        let mut before = launch.workspace::<Total<T>>(out.len() / length * pieces)?;
        launch.threads.rows(&mut before, inner, height, |first, chunk| {
            for (number, totals) in chunk.chunks_mut(inner).enumerate() {
                let (slab, piece) = ((first + number) / pieces, (first + number) % pieces);
                self.add_up(slab, piece, totals);
            }
        });
        for totals in before.chunks_mut(pieces * inner) {
            exclusive(totals, inner);
        }
        for (number, (slab, before)) in
            out.chunks_mut(slab).zip(before.chunks(pieces * inner)).enumerate()
        {
            launch.threads.rows(slab, height * inner, 1, |first, chunk| {
                for (piece, chunk) in chunk.chunks_mut(height * inner).enumerate() {
                    let before = &before[(first + piece) * inner..][..inner];
                    self.piece(number, first + piece, Some(before), chunk);
                }
            });
        }
        Ok(())
    }

    /// What a piece adds up to, for each line.
    fn add_up(&self, slab: usize, piece: usize, totals: &mut [Total<T>]) {
        let (mut scratch, mut room) = (Scratch::new(), Vec::new());
        let begin = slab * self.length + piece * self.height;
        let end = slab * self.length + ((piece + 1) * self.height).min(self.length);
        totals.fill(Number::ZERO);
        if let [total] = totals {
            for at in (begin..end).step_by(BLOCK) {
                let x = self.source.load(at, (end - at).min(BLOCK), &mut scratch);
                x.iter().for_each(|x| *total = Running.step(*total, *x));
            }
            return;
        }
        for (number, totals) in totals.chunks_mut(BLOCK).enumerate() {
            for row in begin..end {
                let at = row * self.inner + number * BLOCK;
                let x = self.source.elements(at, totals.len(), &mut room);
                vector::accumulate(totals, x, Running);
            }
        }
    }

    /// The sums of a piece, on top of those before it.
    fn piece(&self, slab: usize, piece: usize, before: Option<&[Total<T>]>, out: &mut [T::Sum]) {
        let begin = (slab * self.length + piece * self.height) * self.inner;
        if self.inner == 1 {
            let (mut scratch, mut results) = (Scratch::new(), Vec::new());
            let mut total = before.map_or(Number::ZERO, |before| before[0]);
            for (number, out) in out.chunks_mut(BLOCK).enumerate() {
                let x = self.source.load(begin + number * BLOCK, out.len(), &mut scratch);
                compute(out, &mut results, |out| {
                    for (out, x) in out.iter_mut().zip(x) {
                        total = Running.step(total, *x);
                        *out = total.cast();
                    }
                });
            }
            return;
        }
        let (mut room, mut totals) = (Vec::new(), vec![Total::<T>::ZERO; self.inner.min(BLOCK)]);
        for column in (0..self.inner).step_by(BLOCK) {
            let width = (self.inner - column).min(BLOCK);
            let totals = &mut totals[..width];
            match before {
                Some(before) => totals.copy_from_slice(&before[column..column + width]),
                None => totals.fill(Number::ZERO),
            }
            for (row, out) in out.chunks_mut(self.inner).enumerate() {
                let at = begin + row * self.inner + column;
                vector::accumulate(totals, self.source.elements(at, width, &mut room), Running);
                vector::map(totals, &mut out[column..column + width], Rounded::new());
            }
        }
    }
}

/// Makes what each piece adds up to what all before it do.
fn exclusive<N: Number>(totals: &mut [N], inner: usize) {
    for column in 0..inner {
        let mut sum = N::ZERO;
        for total in totals[column..].iter_mut().step_by(inner) {
            sum = sum.add(std::mem::replace(total, sum));
        }
    }
}

/// Adds elements to a total.
#[derive(Clone, Copy)]
struct Running;

impl<C: Number> Fold<C> for Running {
    type Lane = C::Total;

    fn empty(self) -> C::Total {
        C::Total::ZERO
    }

    #[inline(always)]
    fn step(self, total: C::Total, x: C) -> C::Total {
        total.add(x.lane().into())
    }

    #[inline(always)]
    fn join(self, left: C::Total, right: C::Total) -> C::Total {
        left.add(right)
    }
}

/// A total as it comes out.
#[derive(Clone, Copy)]
struct Rounded<U>(std::marker::PhantomData<U>);

impl<U> Rounded<U> {
    fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<C: CastTo<U>, U: Number> Function<C> for Rounded<U> {
    type Out = U;

    #[inline(always)]
    fn apply(self, total: C) -> U {
        total.cast()
    }
}
