//! Shapes of tensors: few dimensions, whose product always fits. Never knows where elements lie.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Dtype;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;

/// Most elements of a tensor, counting empty dimensions as 1: their bytes always fit an i64.
pub const MAX_ELEMENTS: u64 = i64::MAX as u64 / 8;

/// The dimensions of a tensor, the outermost first; none for a scalar. It has at most
/// [`MAX_RANK`] of them and their product is at most [`MAX_ELEMENTS`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
pub struct Shape {
    rank: u8,
    dims: [u64; MAX_RANK],
}

/// Why dimensions are no shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// There are too many of them.
    #[error("{rank} dimensions are more than {MAX_RANK}")]
    Rank {
        /// How many there are.
        rank: usize,
    },
    /// Their product is too large.
    #[error("dimensions {dims:?} have too many elements")]
    TooLarge {
        /// The dimensions.
        dims: Vec<u64>,
    },
}

impl Shape {
    /// The shape of a single element.
    pub const SCALAR: Self = Self { rank: 0, dims: [0; MAX_RANK] };

    /// A shape of these dimensions.
    pub fn new(dims: &[u64]) -> Result<Self, ShapeError> {
        if dims.len() > MAX_RANK {
            return Err(ShapeError::Rank { rank: dims.len() });
        }
        dims.iter()
            .try_fold(1u64, |product, dim| product.checked_mul((*dim).max(1)))
            .filter(|product| *product <= MAX_ELEMENTS)
            .ok_or_else(|| ShapeError::TooLarge { dims: dims.to_vec() })?;
        let mut shape = Self { rank: dims.len() as u8, ..Self::SCALAR };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Ok(shape)
    }

    /// Its dimensions.
    pub fn dims(&self) -> &[u64] {
        &self.dims[..self.rank()]
    }

    /// How many dimensions it has.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// How many elements it has.
    pub fn elements(&self) -> u64 {
        self.dims().iter().product()
    }

    /// The shape of both after broadcasting: dimensions are aligned at the innermost, and one of
    /// size 1 stretches to its partner's. None where sizes differ otherwise, or nothing so large
    /// may exist.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let (long, short) = if self.rank < other.rank { (other, self) } else { (self, other) };
        let mut dims = long.dims;
        let lead = long.rank() - short.rank();
        for (dim, &partner) in dims[lead..long.rank()].iter_mut().zip(short.dims()) {
            match (*dim, partner) {
                (left, right) if left == right => {}
                (1, right) => *dim = right,
                (_, 1) => {}
                _ => return None,
            }
        }
        Self::new(&dims[..long.rank()]).ok()
    }
}

impl TryFrom<Vec<u64>> for Shape {
    type Error = ShapeError;

    fn try_from(dims: Vec<u64>) -> Result<Self, ShapeError> {
        Self::new(&dims)
    }
}

impl From<Shape> for Vec<u64> {
    fn from(shape: Shape) -> Self {
        shape.dims().to_vec()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.dims().split_first() else {
            return f.write_str("scalar");
        };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|dim| write!(f, "x{dim}"))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a tensor is, apart from its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Description {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Shape,
}

impl Description {
    /// A tensor of this type and shape.
    pub fn new(dtype: Dtype, shape: Shape) -> Self {
        Self { dtype, shape }
    }

    /// Bytes of its elements, one after another.
    pub fn bytes(&self) -> u64 {
        self.shape.elements() * self.dtype.size()
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[u64]) -> Shape {
        Shape::new(dims).expect("a shape")
    }

    #[test]
    fn shapes_are_bounded() {
        assert_eq!(Shape::new(&[1; 9]), Err(ShapeError::Rank { rank: 9 }));
        for dims in [&[u64::MAX][..], &[1 << 32, 1 << 32], &[0, 1 << 40, 1 << 40]] {
            assert_eq!(Shape::new(dims), Err(ShapeError::TooLarge { dims: dims.to_vec() }));
        }
        assert_eq!(shape(&[]).elements(), 1);
        assert_eq!(shape(&[3, 0]).elements(), 0);
        let largest = Description::new(Dtype::Fp64, shape(&[MAX_ELEMENTS]));
        assert!(largest.bytes() <= i64::MAX as u64);
        assert!(serde_json::from_str::<Shape>("[4294967296, 4294967296]").is_err());
    }

    #[test]
    fn shapes_broadcast_from_the_innermost_dimension() {
        type Case = (&'static [u64], &'static [u64], Option<&'static [u64]>);
        let cases: [Case; 7] = [
            (&[2, 3], &[3], Some(&[2, 3])),
            (&[], &[2, 3], Some(&[2, 3])),
            (&[2, 1], &[1, 3], Some(&[2, 3])),
            (&[0], &[1], Some(&[0])),
            (&[0], &[2], None),
            (&[2, 3], &[2], None),
            (&[1 << 40, 1], &[1, 1 << 40], None),
        ];
        for (left, right, expected) in cases {
            let (left, right) = (shape(left), shape(right));
            let expected = expected.map(shape);
            assert_eq!(left.broadcast(&right), expected, "{left} and {right}");
            assert_eq!(right.broadcast(&left), expected, "{right} and {left}");
        }
    }

    #[test]
    fn shapes_are_shown_as_people_write_them() {
        assert_eq!(Description::new(Dtype::Fp32, shape(&[2, 3])).to_string(), "FP32 2x3");
        assert_eq!(Shape::SCALAR.to_string(), "scalar");
    }
}
