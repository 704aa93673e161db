//! The handle of a tensor on a device: what it is, and its elements. What is computed of it is in
//! the catalogue.

use std::{cell::OnceCell, fmt, rc::Rc};

use super::{Description, Dtype, Element, Error, Operator, Scalar, Session, elements::data_type};
use crate::bindings::quern::ml::gpu as contract;

/// A tensor on a device. It never changes; cloning it costs nothing.
#[derive(Clone)]
pub struct Tensor(Rc<Held>);

/// The fields are dropped in this order: a tensor before its session.
struct Held {
    handle: contract::Tensor,
    session: Session,
    description: OnceCell<Description>,
}

impl Tensor {
    pub(super) fn new(handle: contract::Tensor, session: &Session) -> Self {
        let (session, description) = (session.clone(), OnceCell::new());
        Self(Rc::new(Held { handle, session, description }))
    }

    pub(super) fn described(
        handle: contract::Tensor,
        session: &Session,
        description: Description,
    ) -> Self {
        let (session, description) = (session.clone(), OnceCell::from(description));
        Self(Rc::new(Held { handle, session, description }))
    }

    pub(super) fn handle(&self) -> &contract::Tensor {
        &self.0.handle
    }

    /// The session that it belongs to.
    pub fn session(&self) -> &Session {
        &self.0.session
    }

    /// What it is, apart from its elements. The host is asked once.
    pub fn description(&self) -> Result<&Description, Error> {
        if let Some(known) = self.0.description.get() {
            return Ok(known);
        }
        let told = self.0.handle.describe().map_err(Error::from_contract)?;
        Ok(self.0.description.get_or_init(|| told))
    }

    /// Its element type.
    pub fn dtype(&self) -> Result<Dtype, Error> {
        Ok(self.description()?.dtype)
    }

    /// Its dimensions, the outermost first; none for a scalar.
    pub fn shape(&self) -> Result<&[u64], Error> {
        Ok(&self.description()?.shape)
    }

    /// Its elements, row-major, once they are computed.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, Error> {
        let dtype = self.dtype()?;
        if dtype != T::DTYPE {
            let problem = format!("a tensor of {dtype} is read as {}: cast it", T::DTYPE);
            return Err(Error::invalid(problem));
        }
        Ok(T::from_bytes(&self.to_bytes()?))
    }

    /// Its only element, once it is computed.
    pub fn item<T: Element>(&self) -> Result<T, Error> {
        match self.to_vec()?[..] {
            [item] => Ok(item),
            _ => Err(Error::invalid(format!("{self:?} has not one element"))),
        }
    }

    /// Its elements, little-endian and row-major, once they are computed.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        self.0.handle.read().map_err(Error::from_contract)
    }

    /// A tensor to answer with, or to call a model with, once it is computed.
    pub fn export(&self, name: impl Into<String>) -> Result<crate::Tensor, Error> {
        let Description { dtype, shape } = self.description()?;
        crate::Tensor::raw(name, data_type(*dtype), &shape[..], self.to_bytes()?)
            .map_err(|error| Error::invalid(error.message().to_owned()))
    }

    /// A scalar of this tensor's element type, to compute with it: `x.mul(&x.constant(0.5)?)`.
    pub fn constant(&self, value: impl Into<Scalar>) -> Result<Self, Error> {
        self.session().fill(self.dtype()?, [], value)
    }

    /// The result of an operator on this tensor.
    pub(super) fn apply(&self, operator: Operator) -> Result<Self, Error> {
        let [made] = self.session().make(&operator, &[self])?;
        Ok(made)
    }

    /// The result of an operator on this tensor and others.
    pub(super) fn apply_with<const N: usize>(
        &self,
        operator: Operator,
        others: [&Self; N],
    ) -> Result<Self, Error> {
        let mut inputs = vec![self];
        inputs.extend(others);
        let [made] = self.session().make(&operator, &inputs)?;
        Ok(made)
    }

    /// An axis as operators count it: from the outermost. Negative ones count from the innermost.
    pub(super) fn axis(&self, axis: isize) -> Result<u8, Error> {
        if axis >= 0 {
            // Whether there is such an axis is the operator's to say.
            return u8::try_from(axis).map_err(|_| self.no_axis(axis));
        }
        let counted = self.shape()?.len().checked_add_signed(axis);
        counted.and_then(|axis| u8::try_from(axis).ok()).ok_or_else(|| self.no_axis(axis))
    }

    pub(super) fn axes(&self, axes: &[isize]) -> Result<Vec<u8>, Error> {
        axes.iter().map(|axis| self.axis(*axis)).collect()
    }

    fn no_axis(&self, axis: isize) -> Error {
        Error::invalid(format!("{self:?} has no axis {axis}"))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.description() {
            Ok(description) => fmt::Display::fmt(description, f),
            Err(_) => f.write_str("a tensor of an ended session"),
        }
    }
}
