//! Copies of tensors whose neighbours in memory are not neighbours in the copy, as those of a
//! turned matrix: tile by tile, so that what is fetched from memory is used as a whole.

use bytemuck::Pod;
use pulp::NullaryFnOnce;

use super::{source::Source, threads::Threads, vector};

/// Elements along both dimensions of a tile.
const TILE: usize = 64;

/// How far apart the lines of a tile lie: not a power of two, whose places in a cache are few.
const PITCH: usize = TILE + 8;

/// Elements along a dimension from which on tiles pay.
const MIN_LENGTH: usize = 8;

/// A tensor whose elements lie together along another dimension than the innermost one.
pub(super) struct Turned<'s, 'a, T> {
    source: &'s Source<'a, T>,
    /// The dimension along which they lie together.
    near: usize,
}

impl<'s, 'a, T: Pod + Send + Sync> Turned<'s, 'a, T> {
    /// None if the tensor isn't turned, or is so small that it doesn't matter.
    pub(super) fn new(source: &'s Source<'a, T>) -> Option<Self> {
        let inner = source.rank - 1;
        let near = source.strides[..inner].iter().position(|stride| *stride == 1)?;
        let is_long = |axis: usize| source.dims[axis] >= MIN_LENGTH;
        let pays = source.strides[inner] > 1 && is_long(near) && is_long(inner);
        pays.then_some(Self { source, near })
    }

    /// Copies all elements in row-major order.
    pub(super) fn copy(&self, threads: &Threads, out: &mut [T]) {
        let dims = &self.source.dims[..self.source.rank];
        let slab: usize = dims[self.near + 1..].iter().product();
        let near = dims[self.near];
        threads.rows(out, TILE * slab, 1, |first, mut chunk| {
            let (mut tile, mut at) = (vec![[T::zeroed(); PITCH]; TILE], first * TILE);
            while !chunk.is_empty() {
                let (outer, begin) = (at / near, at % near);
                let count = TILE.min(near - begin).min(chunk.len() / slab);
                let (now, later) = chunk.split_at_mut(count * slab);
                self.copy_slabs(outer, begin..begin + count, now, &mut tile);
                chunk = later;
                at += count;
            }
        });
    }

    /// Copies what is at some places along the near dimension, one slab for each.
    fn copy_slabs(
        &self,
        outer: usize,
        places: std::ops::Range<usize>,
        out: &mut [T],
        tile: &mut [[T; PITCH]],
    ) {
        let Source { elements, offset, rank, dims, strides } = self.source;
        let inner = rank - 1;
        let (length, stride) = (dims[inner], strides[inner]);
        let before = place(outer, &dims[..self.near], &strides[..self.near]);
        let between = self.near + 1..inner;
        let lines: usize = dims[between.clone()].iter().product();
        for line in 0..lines {
            let inside = place(line, &dims[between.clone()], &strides[between.clone()]);
            let first = offset + before + inside + places.start;
            for begin in (0..length).step_by(TILE) {
                let width = TILE.min(length - begin);
                for (column, kept) in tile.iter_mut().take(width).enumerate() {
                    let at = first + (begin + column) * stride;
                    kept[..places.len()].copy_from_slice(&elements[at..at + places.len()]);
                }
                vector::run(Turn {
                    lines: &tile[..width],
                    to: &mut out[line * length + begin..],
                    rows: places.len(),
                    pitch: lines * length,
                });
            }
        }
    }
}

/// Where the first element at an index of some dimensions lies.
fn place(index: usize, dims: &[usize], strides: &[usize]) -> usize {
    let (mut rest, mut at) = (index, 0);
    for (dim, stride) in dims.iter().zip(strides).rev() {
        at += rest % dim * stride;
        rest /= dim;
    }
    at
}

/// Writes the columns of a tile as rows.
struct Turn<'t, T> {
    lines: &'t [[T; PITCH]],
    to: &'t mut [T],
    rows: usize,
    /// How far apart rows are written.
    pitch: usize,
}

impl<T: Pod> NullaryFnOnce for Turn<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        // Known to be so few, they need no look at bounds.
        for row in 0..self.rows.min(TILE) {
            let to = &mut self.to[row * self.pitch..][..self.lines.len()];
            for (to, line) in to.iter_mut().zip(self.lines) {
                *to = line[row];
            }
        }
    }
}
