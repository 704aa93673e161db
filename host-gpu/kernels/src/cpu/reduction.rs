//! Kernels that make one element of many. The order in which they are taken depends on shapes and
//! strides alone, so that a sum is the same with any number of threads.

mod arg;
mod folds;

pub(super) use arg::arg_reduce;
pub(super) use folds::{AddUp, Largest};

use super::{
    element::Element,
    launch::{Launch, with_element, with_float},
    source::Source,
    threads::Threads,
    vector::{self, BLOCK, ROWS},
};
use crate::Operand;
use folds::{Any, Every, Mean, Product, Reducer, Smallest, Sum};
use quern_operators::{Layout, Reduce, Reduction};

/// Elements of a row that are folded before the next ones: another thread may take those.
const PIECE: usize = 1 << 16;

/// Columns that are folded at a time.
const ACROSS: usize = 4096;

/// Rows whose elements lanes take before they are added to totals: lanes are only as precise as
/// elements.
const FLUSH: usize = 64;

/// Columns from which on rows are added to each other, where that is how they lie.
const MIN_COLUMNS: usize = 16;

pub(super) fn reduce(launch: &Launch, reduce: &Reduce, out: &mut [u8]) {
    let lines = Lines::new(launch.operand(0), &reduce.axes);
    let dtype = launch.description(0).dtype;
    match reduce.function {
        Reduction::Sum => with_element!(dtype, T => {
            type U = <T as Element>::Sum;
            lines.reduce::<T, U, _>(launch, bytemuck::cast_slice_mut(out), Sum);
        }),
        Reduction::Product => with_element!(dtype, T => {
            type U = <T as Element>::Sum;
            lines.reduce::<T, U, _>(launch, bytemuck::cast_slice_mut(out), Product);
        }),
        Reduction::Mean => with_float!(dtype, T => {
            lines.reduce::<T, T, _>(launch, bytemuck::cast_slice_mut(out), Mean);
        }),
        Reduction::Max => with_element!(dtype, T => {
            lines.reduce::<T, T, _>(launch, bytemuck::cast_slice_mut(out), Largest);
        }),
        Reduction::Min => with_element!(dtype, T => {
            lines.reduce::<T, T, _>(launch, bytemuck::cast_slice_mut(out), Smallest);
        }),
        Reduction::Any => lines.reduce::<u8, u8, _>(launch, out, Any),
        Reduction::All => lines.reduce::<u8, u8, _>(launch, out, Every),
    }
}

/// A tensor as lines, each of which becomes one element.
struct Lines {
    /// The dimensions that stay, before those that go.
    layout: Layout,
    /// Those that go, before those that stay; none where elements of a line are the nearer ones.
    across: Option<Layout>,
    length: usize,
}

impl Lines {
    fn new(operand: &Operand, axes: &[u8]) -> Self {
        let (rank, dims) = (operand.layout.shape().rank(), operand.layout.shape().dims());
        let goes = |axis: &usize| axes.iter().any(|gone| usize::from(*gone) == *axis);
        let (gone, kept): (Vec<_>, Vec<_>) = (0..rank).partition(goes);
        let permuted = |first: &[usize], second: &[usize]| {
            let layout = operand.layout.permute(&[first, second].concat());
            layout.expect("every axis is named once")
        };
        let count = |axes: &[usize]| axes.iter().map(|axis| dims[*axis]).product::<u64>() as usize;
        let nearest = |axes: &[usize]| {
            let axes = axes.iter().filter(|axis| dims[**axis] > 1);
            axes.map(|axis| operand.layout.strides()[*axis]).min().unwrap_or(u64::MAX)
        };
        let across = count(&kept) >= MIN_COLUMNS && nearest(&kept) < nearest(&gone);
        Self {
            layout: permuted(&kept, &gone),
            across: across.then(|| permuted(&gone, &kept)),
            length: count(&gone),
        }
    }

    fn reduce<T, U, R>(&self, launch: &Launch, out: &mut [U], reducer: R)
    where
        T: Element,
        U: Element,
        R: Reducer<T::Compute, Out = U::Compute>,
    {
        let (bytes, threads) = (launch.bytes(0), launch.threads);
        match &self.across {
            Some(layout) => {
                let source = Source::<T>::new(bytes, layout);
                fold_across(threads, &source, self.length, out, reducer);
            }
            None => {
                let source = Source::<T>::new(bytes, &self.layout);
                fold_along(threads, &source, self.length, out, reducer);
            }
        }
    }
}

/// Folds lines whose elements come one after another.
fn fold_along<T, U, R>(
    threads: &Threads,
    source: &Source<T>,
    length: usize,
    out: &mut [U],
    reducer: R,
) where
    T: Element,
    U: Element,
    R: Reducer<T::Compute, Out = U::Compute>,
{
    let pieces = length.div_ceil(PIECE);
    let fold_piece = |line: usize, piece: usize, room: &mut Vec<T>| {
        let (begin, end) = (piece * PIECE, ((piece + 1) * PIECE).min(length));
        let mut total = reducer.total(reducer.empty());
        for at in (begin..end).step_by(BLOCK) {
            let x = source.elements(line * length + at, (end - at).min(BLOCK), room);
            total = reducer.combine(total, reducer.total(vector::fold(x, reducer)));
        }
        total
    };
    let empty = reducer.total(reducer.empty());
    if out.len() < threads.count() && pieces > 1 {
        for (line, out) in out.iter_mut().enumerate() {
            let make = |piece| fold_piece(line, piece, &mut Vec::new());
            let total = threads.join(pieces, empty, make, |all, total| reducer.combine(all, total));
            *out = U::narrow(reducer.finish(total, length));
        }
        return;
    }
    threads.chunks(out, length, |start, chunk| {
        let mut room = Vec::new();
        for (line, out) in chunk.iter_mut().enumerate() {
            let totals = (0..pieces).map(|piece| fold_piece(start + line, piece, &mut room));
            let total = totals.fold(empty, |all, total| reducer.combine(all, total));
            *out = U::narrow(reducer.finish(total, length));
        }
    });
}

/// Folds lines side by side: `source` gives the first element of each, then the second of each.
fn fold_across<T, U, R>(
    threads: &Threads,
    source: &Source<T>,
    length: usize,
    out: &mut [U],
    reducer: R,
) where
    T: Element,
    U: Element,
    R: Reducer<T::Compute, Out = U::Compute>,
{
    let lines = out.len();
    let height = (PIECE / lines.min(ACROSS)).max(FLUSH);
    let pieces = length.div_ceil(height);
    let fold_piece = |first: usize, width: usize, piece: usize| {
        let mut room = Vec::new();
        let mut totals = vec![reducer.total(reducer.empty()); width];
        let (begin, end) = (piece * height, ((piece + 1) * height).min(length));
        for begin in (begin..end).step_by(FLUSH) {
            let mut lanes = vec![reducer.empty(); width];
            let rows = begin..(begin + FLUSH).min(end);
            let together = |row: usize| {
                let lies = row < rows.end;
                lies.then(|| source.together(row * lines + first, width)).flatten()
            };
            for begin in rows.clone().step_by(ROWS) {
                if let [Some(first), Some(second), Some(third), Some(fourth)] =
                    std::array::from_fn(|number| together(begin + number))
                {
                    let from = [first, second, third, fourth];
                    vector::accumulate_rows(&mut lanes, from, reducer);
                    continue;
                }
                for row in begin..(begin + ROWS).min(rows.end) {
                    let x = source.elements(row * lines + first, width, &mut room);
                    vector::accumulate(&mut lanes, x, reducer);
                }
            }
            for (total, lane) in totals.iter_mut().zip(lanes) {
                *total = reducer.combine(*total, reducer.total(lane));
            }
        }
        totals
    };
    for (number, block) in out.chunks_mut(ACROSS).enumerate() {
        let empty = vec![reducer.total(reducer.empty()); block.len()];
        let make = |piece| fold_piece(number * ACROSS, block.len(), piece);
        let totals = threads.join(pieces, empty, make, |mut all, totals| {
            all.iter_mut().zip(totals).for_each(|(all, total)| *all = reducer.combine(*all, total));
            all
        });
        for (out, total) in block.iter_mut().zip(totals) {
            *out = U::narrow(reducer.finish(total, length));
        }
    }
}
