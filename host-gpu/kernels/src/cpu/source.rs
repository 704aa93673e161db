//! Elements of an input in row-major order, wherever they lie. Every access is checked against
//! its buffer.

use bytemuck::{Pod, Zeroable};

use super::{element::Element, vector};
use quern_operators::{Layout, MAX_RANK};

/// The elements of an input.
pub(super) struct Source<'a, T> {
    pub(super) elements: &'a [T],
    pub(super) offset: usize,
    pub(super) rank: usize,
    pub(super) dims: [usize; MAX_RANK],
    pub(super) strides: [usize; MAX_RANK],
}

/// Room for a block of elements that don't lie together, or are computed in another type.
pub(super) struct Scratch<T: Element> {
    raw: Vec<T>,
    wide: Vec<T::Compute>,
}

impl<T: Element> Scratch<T> {
    pub(super) fn new() -> Self {
        Self { raw: Vec::new(), wide: Vec::new() }
    }
}

impl<'a, T: Pod> Source<'a, T> {
    /// What a layout shows of a buffer.
    pub(super) fn new(bytes: &'a [u8], layout: &Layout) -> Self {
        let layout = layout.collapse();
        let mut source = Self {
            elements: bytemuck::cast_slice(bytes),
            offset: layout.offset() as usize,
            rank: layout.shape().rank().max(1),
            dims: [1; MAX_RANK],
            strides: [1; MAX_RANK],
        };
        let dims = layout.shape().dims().iter().zip(layout.strides());
        for (axis, (dim, stride)) in dims.enumerate() {
            (source.dims[axis], source.strides[axis]) = (*dim as usize, *stride as usize);
        }
        source
    }

    /// So many elements, each `stride` after the one before.
    pub(super) fn strided(elements: &'a [T], length: usize, stride: usize) -> Self {
        let (mut dims, mut strides) = ([1; MAX_RANK], [1; MAX_RANK]);
        (dims[0], strides[0]) = (length, stride);
        Self { elements, offset: 0, rank: 1, dims, strides }
    }

    /// Some elements where they lie, if they lie together.
    pub(super) fn together(&self, start: usize, length: usize) -> Option<&'a [T]> {
        let inner = self.rank - 1;
        if length == 0 {
            return Some(&[]);
        }
        if self.strides[inner] != 1 || start % self.dims[inner] + length > self.dims[inner] {
            return None;
        }
        let (_, at) = self.position(start);
        Some(&self.elements[at..at + length])
    }

    /// Some elements: where they lie, or in a room if they don't lie together.
    pub(super) fn elements<'s>(
        &'s self,
        start: usize,
        length: usize,
        room: &'s mut Vec<T>,
    ) -> &'s [T] {
        if let Some(together) = self.together(start, length) {
            return together;
        }
        room.resize(length.max(vector::BLOCK), T::zeroed());
        self.copy(start, &mut room[..length]);
        &room[..length]
    }

    /// How many elements from one on lie along the innermost dimension.
    pub(super) fn along(&self, start: usize) -> usize {
        let inner = self.dims[self.rank - 1];
        inner - start % inner.max(1)
    }

    /// The element that all from one on along the innermost dimension are, if it is stretched.
    pub(super) fn stretched(&self, start: usize) -> Option<T> {
        (self.strides[self.rank - 1] == 0).then(|| self.get(start))
    }

    /// One element.
    pub(super) fn get(&self, index: usize) -> T {
        self.elements[self.position(index).1]
    }

    /// Copies elements, from the `start`-th on.
    pub(super) fn copy(&self, start: usize, out: &mut [T]) {
        if let Some(together) = self.together(start, out.len()) {
            return out.copy_from_slice(together);
        }
        let inner = self.rank - 1;
        let (mut index, mut at) = self.position(start);
        let mut filled = 0;
        loop {
            let run = (self.dims[inner] - index[inner]).min(out.len() - filled);
            self.copy_run(at, &mut out[filled..filled + run]);
            filled += run;
            if filled == out.len() {
                return;
            }
            index[inner] += run;
            at += run * self.strides[inner];
            let mut axis = inner;
            while axis > 0 && index[axis] == self.dims[axis] {
                at -= index[axis] * self.strides[axis];
                index[axis] = 0;
                axis -= 1;
                index[axis] += 1;
                at += self.strides[axis];
            }
        }
    }

    fn copy_run(&self, at: usize, out: &mut [T]) {
        match self.strides[self.rank - 1] {
            0 => out.fill(self.elements[at]),
            1 => out.copy_from_slice(&self.elements[at..at + out.len()]),
            stride => {
                let end = at + (out.len() - 1) * stride + 1;
                let run = self.elements[at..end].iter().step_by(stride);
                out.iter_mut().zip(run).for_each(|(out, element)| *out = *element);
            }
        }
    }

    /// The index of an element, and where it lies.
    fn position(&self, start: usize) -> ([usize; MAX_RANK], usize) {
        let (mut index, mut at, mut rest) = ([0; MAX_RANK], self.offset, start);
        for axis in (1..self.rank).rev() {
            index[axis] = rest % self.dims[axis];
            rest /= self.dims[axis];
            at += index[axis] * self.strides[axis];
        }
        index[0] = rest;
        (index, at + rest * self.strides[0])
    }
}

impl<T: Element> Source<'_, T> {
    /// Some elements to compute with: where they lie, if that is possible.
    pub(super) fn load<'s>(
        &'s self,
        start: usize,
        length: usize,
        scratch: &'s mut Scratch<T>,
    ) -> &'s [T::Compute] {
        let raw = self.elements(start, length, &mut scratch.raw);
        if T::DIRECT {
            return bytemuck::cast_slice(raw);
        }
        scratch.wide.resize(length.max(vector::BLOCK), T::Compute::zeroed());
        vector::convert(raw, &mut scratch.wide[..length]);
        &scratch.wide[..length]
    }
}
