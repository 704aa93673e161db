//! Why an operator does not take its inputs. Never about elements: those are looked at later.

use crate::{Accepts, Dtype, Shape, ShapeError};

/// Why an operator does not take its inputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// There are too few or too many of them.
    #[error("{operator}: takes {expected} inputs, got {actual}")]
    Inputs {
        /// The operator.
        operator: &'static str,
        /// How many it takes.
        expected: String,
        /// How many there are.
        actual: usize,
    },
    /// It does not compute with elements of this type.
    #[error("{operator}: {dtype} is not taken here, but {accepts}")]
    Dtype {
        /// The operator.
        operator: &'static str,
        /// The type of the input.
        dtype: Dtype,
        /// What the input may be of.
        accepts: Accepts,
    },
    /// Inputs of one type were expected.
    #[error("{operator}: {left} and {right} differ: cast one of them")]
    Mixed {
        /// The operator.
        operator: &'static str,
        /// The type of an input.
        left: Dtype,
        /// The type of another.
        right: Dtype,
    },
    /// The shapes of the inputs don't go together.
    #[error("{operator}: {}: {problem}", listed(shapes))]
    Shapes {
        /// The operator.
        operator: &'static str,
        /// The shapes of its inputs.
        shapes: Vec<Shape>,
        /// What is wrong with them.
        problem: String,
    },
    /// Something that the operator was given beside its inputs can't be.
    #[error("{operator}: {problem}")]
    Attribute {
        /// The operator.
        operator: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// What comes out would be no tensor.
    #[error("{operator}: {}: the result: {source}", listed(shapes))]
    Result {
        /// The operator.
        operator: &'static str,
        /// The shapes of its inputs.
        shapes: Vec<Shape>,
        /// What is wrong with the result's.
        source: ShapeError,
    },
}

/// As much of a list of shapes as an error shows: callers choose how long it is.
fn listed(shapes: &[Shape]) -> String {
    const MOST: usize = 8;
    let mut text: Vec<_> = shapes.iter().take(MOST).map(Shape::to_string).collect();
    if shapes.len() > MOST {
        text.push(format!("{} more", shapes.len() - MOST));
    }
    text.join(" and ")
}
