//! Elements where indices lead. Every index is checked before anything moves.

use bytemuck::Pod;

use super::{
    element::Element,
    integers::Integers,
    launch::{Launch, with_bytes, with_element},
    memory::Workspace,
    number::Number,
    reduction::AddUp,
    source::{Scratch, Source},
    vector::{self, BLOCK},
};
use crate::LaneError;
use quern_operators::Layout;

/// A tensor as slices along an axis: how many lie before it, along it and within one.
#[derive(Clone, Copy)]
struct Sliced {
    size: usize,
    inner: usize,
}

impl Sliced {
    fn new(layout: &Layout, axis: u8) -> Self {
        let (axis, dims) = (usize::from(axis), layout.shape().dims());
        let inner = dims[axis + 1..].iter().product::<u64>() as usize;
        Self { size: dims[axis] as usize, inner }
    }
}

/// The second input, each of which is in range.
fn indices<'a>(
    launch: &Launch<'a>,
    size: usize,
    operator: &'static str,
) -> Result<Integers<'a>, LaneError> {
    let (indices, size) = (Integers::new(launch, 1), size as u64);
    indices.check(|index| match u64::try_from(index) {
        Ok(found) if found < size => Ok(()),
        _ => Err(LaneError::Index { operator, index, size }),
    })?;
    Ok(indices)
}

pub(super) fn gather(
    launch: &Launch,
    axis: u8,
    name: &'static str,
    out: &mut [u8],
) -> Result<(), LaneError> {
    let sliced = Sliced::new(&launch.operand(0).layout, axis);
    let indices = indices(launch, sliced.size, name)?;
    with_bytes!(launch.description(0).dtype, T => {
        let out: &mut [T] = bytemuck::cast_slice_mut(out);
        gather_elements(launch, sliced, &indices, out);
    });
    Ok(())
}

fn gather_elements<T: Pod + Send + Sync>(
    launch: &Launch,
    sliced: Sliced,
    indices: &Integers,
    out: &mut [T],
) {
    let Sliced { size, inner } = sliced;
    let source = launch.source::<T>(0);
    launch.threads.chunks(out, 1, |start, mut chunk| {
        let (mut at, mut cursor) = (start, indices.cursor());
        while !chunk.is_empty() {
            let (slice, inside) = (at / inner, at % inner);
            let (outer, position) = (slice / indices.count(), slice % indices.count());
            let run = (inner - inside).min(chunk.len());
            let (now, later) = chunk.split_at_mut(run);
            let index = cursor.get(position) as usize;
            source.copy((outer * size + index) * inner + inside, now);
            chunk = later;
            at += run;
        }
    });
}

pub(super) fn scatter_add(
    launch: &Launch,
    axis: u8,
    name: &'static str,
    out: &mut [u8],
) -> Result<(), LaneError> {
    let sliced = Sliced::new(&launch.operand(0).layout, axis);
    let indices = indices(launch, sliced.size, name)?;
    if out.is_empty() {
        // The dimension may be larger than any memory when another one is 0.
        return Ok(());
    }
    let order = Order::new(launch, &indices, sliced.size)?;
    with_element!(launch.description(0).dtype, T => {
        let out: &mut [T] = bytemuck::cast_slice_mut(out);
        add_elements(launch, sliced, &order, out);
    });
    Ok(())
}

/// Positions of indices by what they name, each group in their order.
struct Order<'a> {
    positions: Workspace<'a, usize>,
    /// Where the group of each slice ends.
    ends: Workspace<'a, usize>,
}

impl<'a> Order<'a> {
    fn new(launch: &Launch<'a>, indices: &Integers, size: usize) -> Result<Self, LaneError> {
        let mut positions = launch.workspace(indices.count())?;
        let mut ends = launch.workspace(size)?;
        let mut cursor = indices.cursor();
        ends.fill(0);
        (0..indices.count()).for_each(|position| ends[cursor.get(position) as usize] += 1);
        let mut sum = 0;
        for end in ends.iter_mut() {
            // For now where the group begins; each position that is put in moves it on.
            sum += std::mem::replace(end, sum);
        }
        for position in 0..indices.count() {
            let end = &mut ends[cursor.get(position) as usize];
            positions[*end] = position;
            *end += 1;
        }
        Ok(Self { positions, ends })
    }

    fn group(&self, slice: usize) -> &[usize] {
        let begin = slice.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.positions[begin..self.ends[slice]]
    }
}

/// Adds up what goes to one place in the type it is computed in, so that it is rounded once and
/// the order is always the same.
fn add_elements<T: Element>(launch: &Launch, sliced: Sliced, order: &Order, out: &mut [T]) {
    let Sliced { size, inner } = sliced;
    let (base, updates) = (launch.source::<T>(0), launch.source::<T>(2));
    let count = order.positions.len();
    launch.threads.chunks(out, 1 + count / size.max(1), |start, mut chunk| {
        let (mut scratch, mut sums) = (Scratch::new(), vector::block::<T::Compute>());
        let mut at = start;
        while !chunk.is_empty() {
            let (slice, inside) = (at / inner, at % inner);
            let (outer, index) = (slice / size, slice % size);
            let run = (inner - inside).min(chunk.len()).min(BLOCK);
            let (now, later) = chunk.split_at_mut(run);
            let group = order.group(index).iter();
            let starts = group.map(|position| (outer * count + position) * inner + inside);
            add_up(&base, at, &updates, starts, (&mut scratch, &mut sums), now);
            chunk = later;
            at += run;
        }
    });
}

fn add_up<T: Element>(
    base: &Source<T>,
    at: usize,
    updates: &Source<T>,
    starts: impl Iterator<Item = usize>,
    (scratch, sums): (&mut Scratch<T>, &mut [T::Compute]),
    out: &mut [T],
) {
    if let [out] = out {
        let mut sum = base.load(at, 1, scratch)[0];
        for start in starts {
            sum = sum.add(updates.load(start, 1, scratch)[0]);
        }
        *out = T::narrow(sum);
        return;
    }
    let sums = &mut sums[..out.len()];
    sums.copy_from_slice(base.load(at, out.len(), scratch));
    for start in starts {
        vector::accumulate(sums, updates.load(start, out.len(), scratch), AddUp);
    }
    vector::convert(sums, out);
}
