//! Sessions: what a function has on a device.

use std::{fmt, rc::Rc};

use super::{
    Description, Distribution, Dtype, Element, Error, Fill, Operator, Random, Scalar, Tensor,
    Usage, elements::dtype,
};
use crate::bindings::quern::ml::gpu as contract;

/// Memory and a share of a device. Cloning it costs nothing; it lives as long as its last clone or
/// tensor, and then everything that it has on the device is free.
#[derive(Clone)]
pub struct Session(Rc<contract::Session>);

impl Session {
    /// Opens a session with all of the granted memory that other sessions of this request leave.
    /// Answers at once, with [`ErrorKind::Overloaded`](super::ErrorKind::Overloaded) where there is no room for it at present.
    pub fn open() -> Result<Self, Error> {
        Self::open_within(None)
    }

    /// Opens a session with so many bytes of the granted memory.
    pub fn with_memory(bytes: u64) -> Result<Self, Error> {
        Self::open_within(Some(bytes))
    }

    fn open_within(memory: Option<u64>) -> Result<Self, Error> {
        let session = contract::Session::open(memory).map_err(Error::from_contract)?;
        Ok(Self(Rc::new(session)))
    }

    pub(super) fn handle(&self) -> &contract::Session {
        &self.0
    }

    /// The device: `cpu:0`, `cuda:0`, ….
    pub fn device(&self) -> String {
        self.0.device()
    }

    /// A tensor of these elements, row-major. They go to the device without a copy in the function.
    pub fn tensor<T: Element>(
        &self,
        shape: impl Into<Vec<u64>>,
        elements: &[T],
    ) -> Result<Tensor, Error> {
        self.upload(T::DTYPE, shape, bytemuck::cast_slice(elements))
    }

    /// A scalar: a tensor without dimensions.
    pub fn scalar<T: Element>(&self, value: T) -> Result<Tensor, Error> {
        self.tensor([], &[value])
    }

    /// A tensor of raw elements, little-endian and row-major; the way to FP16 and BF16.
    pub fn upload(
        &self,
        dtype: Dtype,
        shape: impl Into<Vec<u64>>,
        bytes: &[u8],
    ) -> Result<Tensor, Error> {
        let description = Description { dtype, shape: shape.into() };
        let handle = self.0.upload(&description, bytes).map_err(Error::from_contract)?;
        Ok(Tensor::described(handle, self, description))
    }

    /// A tensor that a function was given, or a model has answered.
    pub fn import(&self, tensor: &crate::Tensor) -> Result<Tensor, Error> {
        let dtype = dtype(tensor.data_type()).ok_or_else(|| {
            Error::invalid(format!("{tensor:?}: devices have no elements of this type"))
        })?;
        self.upload(dtype, tensor.shape(), tensor.data())
    }

    /// A tensor of one value.
    pub fn full<T: Element>(&self, shape: impl Into<Vec<u64>>, value: T) -> Result<Tensor, Error> {
        self.fill(T::DTYPE, shape, value)
    }

    /// A tensor of one value and any element type.
    pub fn fill(
        &self,
        dtype: Dtype,
        shape: impl Into<Vec<u64>>,
        value: impl Into<Scalar>,
    ) -> Result<Tensor, Error> {
        let description = Description { dtype, shape: shape.into() };
        let [filled] =
            self.make(&Operator::Fill(Fill { description, value: value.into() }), &[])?;
        Ok(filled)
    }

    /// A tensor of random numbers, of floats. The same seed and offset make the same numbers; what
    /// comes after four elements, of FP64 two, begins at the next offset.
    pub fn random(
        &self,
        distribution: Distribution,
        dtype: Dtype,
        shape: impl Into<Vec<u64>>,
        seed: u64,
        offset: u64,
    ) -> Result<Tensor, Error> {
        let description = Description { dtype, shape: shape.into() };
        let random = Random { distribution, description, seed, offset };
        let [drawn] = self.make(&Operator::Random(random), &[])?;
        Ok(drawn)
    }

    /// The results of an operator, perhaps before they are computed. All inputs must be of this
    /// session.
    pub fn run(&self, operator: &Operator, inputs: &[&Tensor]) -> Result<Vec<Tensor>, Error> {
        let inputs: Vec<_> = inputs.iter().map(|tensor| tensor.handle()).collect();
        let outputs = self.0.run(operator, &inputs).map_err(Error::from_contract)?;
        Ok(outputs.into_iter().map(|handle| Tensor::new(handle, self)).collect())
    }

    /// The results of an operator that has so many.
    pub(super) fn make<const N: usize>(
        &self,
        operator: &Operator,
        inputs: &[&Tensor],
    ) -> Result<[Tensor; N], Error> {
        let made = self.run(operator, inputs)?;
        made.try_into().map_err(|made: Vec<_>| {
            Error::invalid(format!("{operator:?} has {} results, not {N}", made.len()))
        })
    }

    /// Waits until everything that was asked for is computed.
    pub fn finish(&self) -> Result<(), Error> {
        self.0.finish().map_err(Error::from_contract)
    }

    /// What it has at the moment.
    pub fn usage(&self) -> Usage {
        self.0.usage()
    }

    /// Whether both are the same session.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}
