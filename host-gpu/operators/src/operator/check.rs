//! The questions that every operator asks of its inputs, so that all refuse in the same words.

use crate::{Accepts, Description, Dtype, OperatorError, Shape};

use super::Plan;

/// The inputs of an operator that is being planned.
pub(super) struct Check<'a> {
    operator: &'static str,
    inputs: &'a [Description],
}

impl<'a> Check<'a> {
    pub(super) fn new(operator: &'static str, inputs: &'a [Description]) -> Self {
        Self { operator, inputs }
    }

    /// The inputs, of which there must be exactly `N`.
    pub(super) fn inputs<const N: usize>(&self) -> Result<[Description; N], OperatorError> {
        self.inputs.try_into().map_err(|_| self.wrong_count(N.to_string()))
    }

    /// The inputs, of which there must be at least one.
    pub(super) fn some_inputs(&self) -> Result<(Description, &'a [Description]), OperatorError> {
        match self.inputs.split_first() {
            Some((first, _)) => Ok((*first, self.inputs)),
            None => Err(self.wrong_count("one or more".to_owned())),
        }
    }

    pub(super) fn wrong_count(&self, expected: String) -> OperatorError {
        OperatorError::Inputs { operator: self.operator, expected, actual: self.inputs.len() }
    }

    pub(super) fn accepts(&self, dtype: Dtype, accepts: Accepts) -> Result<(), OperatorError> {
        if accepts.contains(dtype) {
            return Ok(());
        }
        Err(OperatorError::Dtype { operator: self.operator, dtype, accepts })
    }

    pub(super) fn same(&self, left: Dtype, right: Dtype) -> Result<(), OperatorError> {
        if left == right {
            return Ok(());
        }
        Err(OperatorError::Mixed { operator: self.operator, left, right })
    }

    /// A dimension of the first input, by its number from the outermost.
    pub(super) fn axis(&self, axis: u8, shape: &Shape) -> Result<usize, OperatorError> {
        let axis = usize::from(axis);
        if axis < shape.rank() {
            return Ok(axis);
        }
        Err(self.shapes(format!("there is no axis {axis}")))
    }

    /// The shape that all inputs broadcast to.
    pub(super) fn broadcast(&self) -> Result<Shape, OperatorError> {
        self.inputs
            .iter()
            .try_fold(Shape::SCALAR, |shape, input| shape.broadcast(&input.shape))
            .ok_or_else(|| self.shapes("the shapes don't broadcast".to_owned()))
    }

    /// The dimensions outside of an input's matrices, and their rows and columns: the two
    /// innermost ones.
    pub(super) fn matrices(&self, shape: &Shape) -> Result<(Shape, [u64; 2]), OperatorError> {
        let too_few = || self.shapes("all need two dimensions or more".to_owned());
        let (batch, matrix) = shape.dims().split_last_chunk().ok_or_else(too_few)?;
        Ok((self.shape(batch)?, *matrix))
    }

    /// What the dimensions outside of matrices broadcast to.
    pub(super) fn batch(&self, batches: &[Shape]) -> Result<Shape, OperatorError> {
        batches
            .iter()
            .try_fold(Shape::SCALAR, |batch, other| batch.broadcast(other))
            .ok_or_else(|| self.shapes("the outer dimensions don't broadcast".to_owned()))
    }

    /// The shape of matrices with these dimensions outside.
    pub(super) fn with_batch(
        &self,
        batch: &Shape,
        matrix: [u64; 2],
    ) -> Result<Shape, OperatorError> {
        self.shape(&[batch.dims(), &matrix].concat())
    }

    /// The shape of a result.
    pub(super) fn shape(&self, dims: &[u64]) -> Result<Shape, OperatorError> {
        Shape::new(dims).map_err(|source| {
            let shapes = self.all_shapes();
            OperatorError::Result { operator: self.operator, shapes, source }
        })
    }

    /// An error about the shapes of the inputs.
    pub(super) fn shapes(&self, problem: String) -> OperatorError {
        OperatorError::Shapes { operator: self.operator, shapes: self.all_shapes(), problem }
    }

    /// An error unless a number that was given is finite and not negative.
    pub(super) fn not_negative(&self, name: &str, value: f64) -> Result<(), OperatorError> {
        if value.is_finite() && value >= 0.0 {
            return Ok(());
        }
        Err(self.attribute(format!("{name} {value} is not finite and at least 0")))
    }

    /// An error about something else that was given.
    pub(super) fn attribute(&self, problem: String) -> OperatorError {
        OperatorError::Attribute { operator: self.operator, problem }
    }

    fn all_shapes(&self) -> Vec<Shape> {
        self.inputs.iter().map(|input| input.shape).collect()
    }

    /// The plan of an operator whose inputs stay as they are.
    pub(super) fn plan(&self, output: Description, work: u64) -> Plan {
        Plan { inputs: self.all_shapes(), outputs: vec![output], work }
    }

    /// The plan of an operator that makes one element of one of each input.
    pub(super) fn elementwise(&self, dtype: Dtype) -> Result<Plan, OperatorError> {
        let shape = self.broadcast()?;
        let output = Description::new(dtype, shape);
        let inputs = vec![shape; self.inputs.len()];
        Ok(Plan { inputs, outputs: vec![output], work: shape.elements() })
    }
}
