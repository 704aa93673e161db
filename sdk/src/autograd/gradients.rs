//! The way back through what was computed, and what comes out of it.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fmt,
};

use super::Variable;
use crate::gpu::{Error, Scalar, Tensor};

/// Gradients by leaves.
pub struct Gradients(HashMap<u64, Tensor>);

impl Gradients {
    /// The gradient by a leaf, shaped as it; none if the result does not depend on it.
    pub fn get(&self, leaf: &Variable) -> Option<&Tensor> {
        self.0.get(&leaf.node()?.number())
    }
}

impl fmt::Debug for Gradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gradients by {} leaves", self.0.len())
    }
}

impl Variable {
    /// The gradients of this variable, which must have one element, by the leaves it was computed of.
    pub fn backward(&self) -> Result<Gradients, Error> {
        let shape = self.shape()?;
        if shape.iter().any(|size| *size != 1) {
            let value = self.value();
            let problem = format!("backward: {value:?} has not one element: take a sum or mean");
            return Err(Error::invalid(problem));
        }
        let one = self.value().constant(Scalar::Float(1.0))?.broadcast(shape)?;
        self.backward_from(one)
    }

    /// The gradients by the leaves of whatever depends on this variable, given its gradient by this
    /// one: a product of a vector and the Jacobian.
    pub fn backward_from(&self, gradient: Tensor) -> Result<Gradients, Error> {
        let value = self.value();
        let Some(node) = self.node() else {
            let problem = format!("backward: {value:?} was computed of no leaf");
            return Err(Error::invalid(problem));
        };
        if gradient.description()? != value.description()? {
            return Err(Error::invalid(format!(
                "backward: {gradient:?} is no gradient by {value:?}"
            )));
        }
        let mut leaves = HashMap::new();
        // What has a number is complete when it is the largest: all that was computed of it had
        // larger ones.
        let mut open = BTreeMap::from([(node.number(), (node.clone(), gradient))]);
        while let Some((number, (node, gradient))) = open.pop_last() {
            for edge in node.edges() {
                let part = edge.pull(&gradient)?;
                match open.entry(edge.to().number()) {
                    Entry::Vacant(place) => _ = place.insert((edge.to().clone(), part)),
                    Entry::Occupied(mut known) => {
                        let sum = known.get().1.add(&part)?;
                        known.get_mut().1 = sum;
                    }
                }
            }
            if node.edges().is_empty() {
                leaves.insert(number, gradient);
            }
        }
        Ok(Gradients(leaves))
    }
}
