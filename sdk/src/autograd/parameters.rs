//! Parameters: named leaves that optimizers change, and how they begin.

use std::{cell::RefCell, fmt, rc::Rc};

use super::Variable;
use crate::gpu::{Distribution, Dtype, Error, Session, Tensor};

/// A tensor that is learnt. Clones are the same one.
#[derive(Clone)]
pub struct Parameter(Rc<Named>);

struct Named {
    name: String,
    leaf: RefCell<Variable>,
}

impl Parameter {
    /// Its name, such as `conv1.weight`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The leaf that it is until it is set.
    pub fn variable(&self) -> Variable {
        self.0.leaf.borrow().clone()
    }

    /// Its value.
    pub fn value(&self) -> Tensor {
        self.0.leaf.borrow().value().clone()
    }

    /// Gives it another value of the same type and shape.
    pub fn set(&self, value: Tensor) -> Result<(), Error> {
        if value.description()? != self.value().description()? {
            let problem =
                format!("parameter {:?} is {:?}, not {value:?}", self.0.name, self.value());
            return Err(Error::invalid(problem));
        }
        self.0.leaf.replace(Variable::leaf(value)?);
        Ok(())
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.0.name, self.value())
    }
}

/// The parameters of a network by their names, in the order in which they were made. Their first
/// values follow from a seed.
#[derive(Debug)]
pub struct Parameters {
    session: Session,
    dtype: Dtype,
    seed: u64,
    /// Blocks of the random stream that were taken.
    taken: u64,
    parameters: Vec<Parameter>,
}

impl Parameters {
    /// None yet; they will be FP32.
    pub fn new(session: &Session, seed: u64) -> Self {
        Self::of(session, Dtype::Fp32, seed)
    }

    /// None yet; they will be of this type, a float.
    pub fn of(session: &Session, dtype: Dtype, seed: u64) -> Self {
        Self { session: session.clone(), dtype, seed, taken: 0, parameters: Vec::new() }
    }

    /// A parameter that begins evenly distributed from `-bound` to `bound`.
    pub fn uniform(
        &mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<u64>>,
        bound: f64,
    ) -> Result<Parameter, Error> {
        let value = self.random(Distribution::Uniform, shape)?;
        let spread = value.mul(&value.constant(2.0 * bound)?)?;
        self.add(name, spread.sub(&value.constant(bound)?)?)
    }

    /// A parameter that begins normally distributed around 0.
    pub fn normal(
        &mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<u64>>,
        deviation: f64,
    ) -> Result<Parameter, Error> {
        let value = self.random(Distribution::Normal, shape)?;
        self.add(name, value.mul(&value.constant(deviation)?)?)
    }

    /// A parameter that begins as one number.
    pub fn full(
        &mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<u64>>,
        number: f64,
    ) -> Result<Parameter, Error> {
        let value = self.session.fill(self.dtype, shape, number)?;
        self.add(name, value)
    }

    /// A parameter that begins as this tensor. A name is given once.
    pub fn add(&mut self, name: impl Into<String>, value: Tensor) -> Result<Parameter, Error> {
        let name = name.into();
        if self.get(&name).is_some() {
            return Err(Error::invalid(format!("there is a parameter {name:?} already")));
        }
        let leaf = RefCell::new(Variable::leaf(value)?);
        let parameter = Parameter(Rc::new(Named { name, leaf }));
        self.parameters.push(parameter.clone());
        Ok(parameter)
    }

    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.iter().find(|parameter| parameter.name() == name)
    }

    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.parameters.iter()
    }

    fn random(
        &mut self,
        distribution: Distribution,
        shape: impl Into<Vec<u64>>,
    ) -> Result<Tensor, Error> {
        let shape = shape.into();
        let elements = shape.iter().fold(1, |elements: u64, size| elements.saturating_mul(*size));
        let value = self.session.random(distribution, self.dtype, shape, self.seed, self.taken)?;
        let of_block = if self.dtype == Dtype::Fp64 { 2 } else { 4 };
        self.taken = self.taken.saturating_add(elements.div_ceil(of_block));
        Ok(value)
    }
}

impl<'a> IntoIterator for &'a Parameters {
    type Item = &'a Parameter;
    type IntoIter = std::slice::Iter<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
