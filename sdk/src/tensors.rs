//! An ordered set of tensors, found by name.

use crate::{Error, Tensor, bindings::quern::ml::tensors as contract};

/// Tensors in an order, each with a name: what functions and models take and give.
#[derive(Debug, Clone, Default)]
pub struct Tensors(Vec<Tensor>);

/// The tensors of a request.
pub type Inputs = Tensors;

/// The tensors of an answer: `Ok([label, probabilities].into())`.
pub type Outputs = Tensors;

impl Tensors {
    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Result<&Tensor, Error> {
        self.0.iter().find(|tensor| tensor.name() == name).ok_or_else(|| self.missing(name))
    }

    /// Takes the tensor of this name out.
    pub fn take(&mut self, name: &str) -> Result<Tensor, Error> {
        match self.0.iter().position(|tensor| tensor.name() == name) {
            Some(index) => Ok(self.0.remove(index)),
            None => Err(self.missing(name)),
        }
    }

    /// Adds a tensor at the end.
    pub fn push(&mut self, tensor: Tensor) {
        self.0.push(tensor);
    }

    /// The tensors in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tensor> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn from_contract(tensors: Vec<contract::Tensor>) -> Self {
        tensors.into_iter().map(Tensor).collect()
    }

    pub(crate) fn into_contract(self) -> Vec<contract::Tensor> {
        self.0.into_iter().map(|tensor| tensor.0).collect()
    }

    fn missing(&self, name: &str) -> Error {
        let names: Vec<_> = self.0.iter().map(Tensor::name).collect();
        Error::internal(format!("there is no tensor {name:?} among {names:?}"))
    }
}

impl From<Tensor> for Tensors {
    fn from(tensor: Tensor) -> Self {
        Self(vec![tensor])
    }
}

impl From<Vec<Tensor>> for Tensors {
    fn from(tensors: Vec<Tensor>) -> Self {
        Self(tensors)
    }
}

impl<const N: usize> From<[Tensor; N]> for Tensors {
    fn from(tensors: [Tensor; N]) -> Self {
        Self(tensors.into())
    }
}

impl FromIterator<Tensor> for Tensors {
    fn from_iter<I: IntoIterator<Item = Tensor>>(tensors: I) -> Self {
        Self(tensors.into_iter().collect())
    }
}

impl IntoIterator for Tensors {
    type Item = Tensor;
    type IntoIter = std::vec::IntoIter<Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Tensors {
    type Item = &'a Tensor;
    type IntoIter = std::slice::Iter<'a, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_found_by_name() -> Result<(), Error> {
        let mut tensors =
            Tensors::from([Tensor::f32("a", [1], &[1.0])?, Tensor::u8("b", [], &[2])?]);
        assert_eq!(tensors.get("b")?.to_u8()?, [2]);
        assert_eq!(tensors.take("a")?.name(), "a");
        let error = tensors.get("a").expect_err("taken");
        assert_eq!(error.message(), "there is no tensor \"a\" among [\"b\"]");
        assert!(tensors.take("a").is_err());
        tensors.push(Tensor::bool("c", [1], &[true])?);
        assert_eq!(tensors.iter().map(Tensor::name).collect::<Vec<_>>(), ["b", "c"]);
        Ok(())
    }
}
