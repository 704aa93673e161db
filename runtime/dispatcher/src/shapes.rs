//! Which calls of a model can share a run by their shapes: those that differ in nothing but the
//! number of rows. Never pads.

use std::collections::HashMap;

use quern_scheduler::BucketId;
use quern_types::{Signature, Tensor};

/// Shapes that are known at a time. Beyond it the table is begun anew: calls of one shape that came
/// before and after it don't share a run, and nothing else comes of it.
const MOST: usize = 1_024;

/// The shapes of a model's calls, and the bucket of each.
pub(crate) struct Shapes {
    /// Whether there is more than one, as the signature says.
    vary: bool,
    known: HashMap<Box<[u64]>, BucketId>,
    next: u64,
}

impl Shapes {
    /// Shapes of calls that fit a signature whose first dimensions count rows.
    pub(crate) fn of(signature: &Signature) -> Self {
        let mut tails = signature.inputs().iter().flat_map(|input| input.shape.iter().skip(1));
        Self { vary: tails.any(|dim| *dim < 0), ..Self::one() }
    }

    /// One bucket for all calls.
    pub(crate) fn one() -> Self {
        Self { vary: false, known: HashMap::new(), next: 0 }
    }

    /// Whether there is one bucket for all calls.
    pub(crate) fn are_one(&self) -> bool {
        !self.vary
    }

    /// The bucket of a call, whose inputs are in the signature's order.
    pub(crate) fn bucket(&mut self, inputs: &[Tensor]) -> BucketId {
        if !self.vary {
            return BucketId::default();
        }
        // The signature says how many dimensions each input has, so that they need no separator.
        let tails = inputs.iter().flat_map(|input| input.shape().iter().skip(1).copied());
        let shape: Box<[u64]> = tails.collect();
        if let Some(bucket) = self.known.get(&shape) {
            return *bucket;
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.next += 1;
        let bucket = BucketId(self.next);
        self.known.insert(shape, bucket);
        bucket
    }
}

#[cfg(test)]
mod tests {
    use quern_types::{DataType, TensorSpec};

    use super::*;

    fn shapes(inputs: &[&[i64]]) -> Shapes {
        let spec = |(index, shape): (usize, &&[i64])| TensorSpec {
            name: index.to_string().into(),
            dtype: DataType::Uint8,
            shape: shape.to_vec(),
            range: None,
        };
        let inputs = inputs.iter().enumerate().map(spec).collect();
        Shapes::of(&Signature::new(inputs, vec![]).expect("a signature"))
    }

    fn call(inputs: &[&[u64]]) -> Vec<Tensor> {
        let tensor = |shape: &&[u64]| {
            let bytes = shape.iter().product::<u64>() as usize;
            Tensor::new("x", DataType::Uint8, shape.to_vec(), vec![0; bytes]).expect("a tensor")
        };
        inputs.iter().map(tensor).collect()
    }

    #[test]
    fn calls_that_differ_in_rows_alone_share_a_bucket() {
        let mut shapes = shapes(&[&[-1, -1], &[-1, 3, -1]]);
        let mut bucket = |inputs: &[&[u64]]| shapes.bucket(&call(inputs));
        let first = bucket(&[&[1, 5], &[1, 3, 2]]);
        assert_eq!(bucket(&[&[7, 5], &[7, 3, 2]]), first);
        let other = bucket(&[&[1, 2], &[1, 3, 5]]);
        assert_ne!(other, first);
        assert_eq!(bucket(&[&[2, 2], &[2, 3, 5]]), other);
        assert_ne!(bucket(&[&[1, 5], &[1, 3, 5]]), first);
    }

    #[test]
    fn where_only_rows_vary_there_is_one_bucket() {
        let mut shapes = shapes(&[&[-1, 4]]);
        assert_eq!(shapes.bucket(&call(&[&[1, 4]])), shapes.bucket(&call(&[&[9, 4]])));
        assert!(shapes.known.is_empty() && shapes.are_one());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut shapes = shapes(&[&[-1, -1]]);
        let mut seen = std::collections::HashSet::new();
        for length in 0..3 * MOST as u64 {
            assert!(seen.insert(shapes.bucket(&call(&[&[0, length]]))), "never two for one bucket");
            assert!(shapes.known.len() <= MOST);
        }
    }
}
