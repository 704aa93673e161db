//! Tensors under other shapes, in parts and joined, with their gradients.

use super::{Variable, elementwise::sum_to};
use crate::gpu::{Error, Range, Tensor};

impl Variable {
    /// The same elements in the same order under another shape.
    pub fn reshape(&self, shape: impl Into<Vec<u64>>) -> Result<Self, Error> {
        let value = self.value().reshape(shape)?;
        let shape = self.shape()?.to_vec();
        Self::computed(value, [self.edge(move |gradient| gradient.reshape(&shape[..]))])
    }

    /// All dimensions from this one, which must be there, as one: `[N, C, H, W]` from axis 1 is
    /// `[N, C × H × W]`.
    pub fn flatten(&self, from: usize) -> Result<Self, Error> {
        let shape = self.shape()?;
        let Some((before, flat)) = shape.split_at_checked(from) else {
            return Err(Error::invalid(format!("flatten: {:?} has no axis {from}", self.value())));
        };
        self.reshape([before, &[flat.iter().product()]].concat())
    }

    /// Its dimensions in another order; each is named once.
    pub fn permute(&self, axes: &[isize]) -> Result<Self, Error> {
        let value = self.value().permute(axes)?;
        let mut back = vec![0; axes.len()];
        for (to, axis) in axes.iter().enumerate() {
            let from = if *axis < 0 { *axis + axes.len() as isize } else { *axis };
            // The device has taken them: they are the numbers up to the rank.
            back[from as usize] = to as isize;
        }
        Self::computed(value, [self.edge(move |gradient| gradient.permute(&back))])
    }

    /// The two innermost dimensions exchanged.
    pub fn transpose(&self) -> Result<Self, Error> {
        let value = self.value().transpose()?;
        Self::computed(value, [self.edge(Tensor::transpose)])
    }

    /// Stretched to a shape that its own broadcasts to.
    pub fn broadcast(&self, shape: impl Into<Vec<u64>>) -> Result<Self, Error> {
        let value = self.value().broadcast(shape)?;
        let shape = self.shape()?.to_vec();
        let edge = self.edge(move |gradient| sum_to(gradient, &shape));
        Self::computed(value, [edge])
    }

    /// A part of each dimension.
    pub fn slice(&self, ranges: &[Range]) -> Result<Self, Error> {
        let value = self.value().slice(ranges)?;
        let (shape, ranges) = (self.shape()?.to_vec(), ranges.to_vec());
        let edge = self.edge(move |gradient| {
            let parts = ranges.iter().zip(&shape).enumerate();
            parts.rev().try_fold(gradient.clone(), |inner, (axis, (range, size))| {
                spread(&inner, axis, *range, *size)
            })
        });
        Self::computed(value, [edge])
    }

    /// A part of one dimension.
    pub fn narrow(&self, axis: isize, part: std::ops::Range<u64>) -> Result<Self, Error> {
        let value = self.value().narrow(axis, part.clone())?;
        let shape = self.shape()?;
        let axis = if axis < 0 { axis + shape.len() as isize } else { axis } as usize;
        let (range, size) = (Range { start: part.start, end: part.end, step: 1 }, shape[axis]);
        let edge = self.edge(move |gradient| spread(gradient, axis, range, size));
        Self::computed(value, [edge])
    }

    /// Variables one after another along an axis.
    pub fn concat(parts: &[&Self], axis: isize) -> Result<Self, Error> {
        let values: Vec<&Tensor> = parts.iter().map(|part| part.value()).collect();
        let value = Tensor::concat(&values, axis)?;
        let mut edges = Vec::with_capacity(parts.len());
        let mut start = 0;
        for part in parts {
            let shape = part.shape()?;
            let at = if axis < 0 { axis + shape.len() as isize } else { axis } as usize;
            let range = start..start + shape[at];
            start = range.end;
            edges.push(part.edge(move |gradient| gradient.narrow(axis, range.clone())));
        }
        Self::computed(value, edges)
    }
}

/// What was a part of a dimension, amid zeros.
fn spread(part: &Tensor, axis: usize, range: Range, size: u64) -> Result<Tensor, Error> {
    if (range.start, range.end, range.step) == (0, size, 1) {
        return Ok(part.clone());
    }
    let zeros = |count: u64| {
        let mut shape = part.shape()?.to_vec();
        shape[axis] = count;
        // A view of one element.
        part.constant(0.0)?.broadcast(shape)
    };
    if range.step == 1 && range.start < range.end {
        let (before, after) = (zeros(range.start)?, zeros(size - range.end)?);
        return Tensor::concat(&[&before, part, &after], axis as isize);
    }
    let count = range.end.saturating_sub(range.start).div_ceil(range.step);
    let places: Vec<i64> =
        (0..count).map(|place| (range.start + place * range.step) as i64).collect();
    let places = part.session().tensor([count], &places)?;
    zeros(size)?.scatter_add(axis as isize, &places, part)
}
