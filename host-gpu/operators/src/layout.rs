//! Where the elements of a tensor lie in its buffer, so that views need no copy. Never leaves the
//! buffer: every view reaches only elements that the one it was made of reaches.

use serde::{Deserialize, Serialize};

use crate::{MAX_RANK, Shape, operator::Range};

/// Elements of a buffer as a tensor: that of index `i` lies at `offset + Σ i × stride`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    shape: Shape,
    strides: [u64; MAX_RANK],
    offset: u64,
}

impl Layout {
    /// Row-major from the start of a buffer.
    pub fn dense(shape: Shape) -> Self {
        let mut strides = [0; MAX_RANK];
        let mut next = 1;
        for (stride, dim) in strides[..shape.rank()].iter_mut().zip(shape.dims()).rev() {
            *stride = next;
            next *= (*dim).max(1);
        }
        Self { shape, strides, offset: 0 }
    }

    /// Its shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How far apart neighbours lie, for each dimension; 0 where all are the same element.
    pub fn strides(&self) -> &[u64] {
        &self.strides[..self.shape.rank()]
    }

    /// Where its first element lies.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether its elements lie one after another in row-major order.
    pub fn is_dense(&self) -> bool {
        let dense = Self::dense(self.shape);
        let mut dims = self.shape.dims().iter().zip(self.strides().iter().zip(dense.strides()));
        self.shape.elements() == 0
            || dims.all(|(dim, (stride, dense))| *dim == 1 || stride == dense)
    }

    /// One more than the furthest place that it reaches; 0 if it is empty.
    pub fn end(&self) -> u64 {
        if self.shape.elements() == 0 {
            return 0;
        }
        let dims = self.shape.dims().iter().zip(self.strides());
        self.offset + dims.map(|(dim, stride)| (dim - 1) * stride).sum::<u64>() + 1
    }

    /// Stretched to a shape that its own broadcasts to; none if it does not.
    pub fn broadcast(&self, shape: Shape) -> Option<Self> {
        if self.shape.broadcast(&shape)? != shape {
            return None;
        }
        let lead = shape.rank() - self.shape.rank();
        let mut strides = [0; MAX_RANK];
        for (axis, (dim, stride)) in self.shape.dims().iter().zip(self.strides()).enumerate() {
            strides[lead + axis] = if *dim == shape.dims()[lead + axis] { *stride } else { 0 };
        }
        Some(Self { shape, strides, offset: self.offset })
    }

    /// Its dimensions in another order; `axes` names each exactly once.
    pub fn permute(&self, axes: &[usize]) -> Option<Self> {
        let mut dims = [0; MAX_RANK];
        let mut strides = [0; MAX_RANK];
        let mut seen = [false; MAX_RANK];
        if axes.len() != self.shape.rank() {
            return None;
        }
        for (position, &axis) in axes.iter().enumerate() {
            if axis >= axes.len() || std::mem::replace(&mut seen[axis], true) {
                return None;
            }
            dims[position] = self.shape.dims()[axis];
            strides[position] = self.strides[axis];
        }
        let shape = Shape::new(&dims[..axes.len()]).ok()?;
        Some(Self { shape, strides, offset: self.offset })
    }

    /// A part of each dimension; none where a range leaves its dimension or has no step.
    pub fn slice(&self, ranges: &[Range]) -> Option<Self> {
        if ranges.len() != self.shape.rank() {
            return None;
        }
        let mut sliced = *self;
        let mut dims = [0; MAX_RANK];
        for (axis, (range, dim)) in ranges.iter().zip(self.shape.dims()).enumerate() {
            if range.step == 0 || range.start > range.end || range.end > *dim {
                return None;
            }
            dims[axis] = range.len();
            if dims[axis] > 0 {
                sliced.offset += range.start * self.strides[axis];
            }
            if dims[axis] > 1 {
                sliced.strides[axis] *= range.step;
            }
        }
        sliced.shape = Shape::new(&dims[..ranges.len()]).ok()?;
        // Nothing lies anywhere: many slices of it are not to add up.
        if sliced.shape.elements() == 0 {
            sliced.offset = 0;
        }
        Some(sliced)
    }

    /// The same elements in the same order under another shape; none where they must be copied
    /// for it, or are not as many.
    pub fn reshape(&self, shape: Shape) -> Option<Self> {
        if shape.elements() != self.shape.elements() || !self.is_dense() {
            return None;
        }
        Some(Self { offset: self.offset, ..Self::dense(shape) })
    }

    /// The same elements in the same order with as few dimensions as possible: those of size 1
    /// left out, those that lie one after another merged.
    pub fn collapse(&self) -> Self {
        if self.shape.elements() == 0 {
            let shape = Shape::new(&[0]).expect("a shape of one dimension");
            return Self::dense(shape);
        }
        let (mut dims, mut strides, mut rank) = ([1; MAX_RANK], [0; MAX_RANK], 0);
        for (&dim, &stride) in self.shape.dims().iter().zip(self.strides()) {
            if dim == 1 {
                continue;
            }
            if rank > 0 && strides[rank - 1] == dim * stride {
                dims[rank - 1] *= dim;
                strides[rank - 1] = stride;
            } else {
                (dims[rank], strides[rank]) = (dim, stride);
                rank += 1;
            }
        }
        let shape = Shape::new(&dims[..rank]).expect("no more elements than before");
        Self { shape, strides, offset: self.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dense(dims: &[u64]) -> Layout {
        Layout::dense(Shape::new(dims).expect("a shape"))
    }

    fn range(start: u64, end: u64, step: u64) -> Range {
        Range { start, end, step }
    }

    #[test]
    fn views_say_where_their_elements_lie() {
        let base = dense(&[2, 3, 4]);
        assert_eq!((base.strides(), base.end()), (&[12, 4, 1][..], 24));
        let turned = base.permute(&[2, 0, 1]).expect("a permutation");
        assert_eq!((turned.shape().dims(), turned.strides()), (&[4, 2, 3][..], &[1, 12, 4][..]));
        assert!(!turned.is_dense());
        let part = base.slice(&[range(1, 2, 1), range(0, 3, 2), range(1, 4, 1)]).expect("inside");
        assert_eq!((part.offset(), part.strides(), part.end()), (13, &[12, 8, 1][..], 24));
        let wide = dense(&[3, 1]).broadcast(Shape::new(&[2, 3, 5]).expect("a shape"));
        let wide = wide.expect("stretches");
        assert_eq!((wide.strides(), wide.end()), (&[0, 1, 0][..], 3));
        assert!(base.reshape(Shape::new(&[6, 4]).expect("a shape")).is_some());
        assert!(turned.reshape(Shape::new(&[24]).expect("a shape")).is_none());
    }

    #[test]
    fn what_would_leave_the_buffer_is_no_view() {
        let base = dense(&[2, 3]);
        for axes in [&[0][..], &[0, 0], &[0, 2], &[0, 1, 2]] {
            assert_eq!(base.permute(axes), None, "{axes:?}");
        }
        for bad in [range(0, 4, 1), range(2, 1, 1), range(0, 3, 0)] {
            assert_eq!(base.slice(&[range(0, 2, 1), bad]), None, "{bad:?}");
        }
        assert_eq!(base.slice(&[range(0, 2, 1)]), None);
        assert_eq!(base.broadcast(Shape::new(&[3]).expect("a shape")), None);
        let far = base.slice(&[range(1, 2, u64::MAX), range(3, 3, u64::MAX)]).expect("empty");
        assert_eq!(far.end(), 0);
    }

    #[test]
    fn neighbouring_dimensions_collapse() {
        let cases = [
            (dense(&[2, 3, 4]), &[24][..]),
            (dense(&[2, 1, 4]).permute(&[2, 1, 0]).expect("a permutation"), &[4, 2]),
            (dense(&[1]), &[]),
            (dense(&[2, 0]), &[0]),
        ];
        for (layout, dims) in cases {
            assert_eq!(layout.collapse().shape().dims(), dims, "{layout:?}");
        }
    }
}
