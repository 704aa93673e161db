//! Gradients beside differences of values, in FP64.

use std::collections::BTreeMap;

use quern_sdk::{
    autograd::Variable,
    gpu::{Error, Session, Tensor},
};

use crate::cases::{CASES, Case};

/// How far to both sides of a place values are computed.
const STEP: f64 = 1e-5;

/// For each case how far the gradient is from the difference, at most; of large numbers their share.
pub(crate) fn largest() -> Result<BTreeMap<&'static str, f64>, Error> {
    let session = Session::open()?;
    CASES.iter().map(|case| Ok((case.name, case.largest(&session)?))).collect()
}

impl Case {
    fn largest(&self, session: &Session) -> Result<f64, Error> {
        let inputs: Vec<Vec<f64>> = (1..)
            .zip(self.shapes)
            .map(|(seed, shape)| numbers(seed, shape.iter().product(), self.between))
            .collect();
        let leaves = self.tensors(session, &inputs)?.into_iter().map(Variable::leaf);
        let leaves = leaves.collect::<Result<Vec<Variable>, Error>>()?;
        let gradients = self.value(&leaves)?.backward()?;
        let mut largest: f64 = 0.0;
        for (which, leaf) in leaves.iter().enumerate() {
            let gradient = match gradients.get(leaf) {
                Some(gradient) => gradient.to_vec::<f64>()?,
                None => vec![f64::NAN; inputs[which].len()],
            };
            for (place, gradient) in gradient.iter().enumerate() {
                let at = |offset: f64| {
                    let mut moved = inputs.clone();
                    moved[which][place] += offset;
                    let constants = self.tensors(session, &moved)?.into_iter();
                    let constants: Vec<Variable> = constants.map(Variable::constant).collect();
                    self.value(&constants)?.value().item::<f64>()
                };
                let difference = (at(STEP)? - at(-STEP)?) / (2.0 * STEP);
                let distance = (gradient - difference).abs() / difference.abs().max(1.0);
                // A NaN is as far as can be.
                largest = if distance.is_nan() { f64::MAX } else { largest.max(distance) };
            }
        }
        Ok(largest)
    }

    fn tensors(&self, session: &Session, values: &[Vec<f64>]) -> Result<Vec<Tensor>, Error> {
        let pairs = self.shapes.iter().zip(values);
        pairs.map(|(shape, values)| session.tensor(*shape, values)).collect()
    }

    /// One number of all results, each of which has a weight of its own.
    fn value(&self, inputs: &[Variable]) -> Result<Variable, Error> {
        let result = (self.function)(inputs)?;
        let shape = result.shape()?.to_vec();
        let weights = numbers(99, shape.iter().product(), (0.5, 1.5));
        let weights = result.value().session().tensor(shape, &weights)?;
        result.mul(&weights.into())?.sum_all()
    }
}

/// Numbers between two that look random (SplitMix64).
pub(crate) fn numbers(seed: u64, count: u64, (least, most): (f64, f64)) -> Vec<f64> {
    let number = |index: u64| {
        let mut bits = (seed << 32 | index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + (most - least) * ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count).map(number).collect()
}
