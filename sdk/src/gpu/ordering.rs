//! Orders, counts and distances, as methods of tensors.

use super::{Error, Histogram, Metric, Operator, Sort, Tensor, TopK};

/// Orders, counts and distances.
impl Tensor {
    /// Along an axis, the sum of each element and all before it; of integers INT64.
    pub fn cumulative_sum(&self, axis: isize) -> Result<Self, Error> {
        self.apply(Operator::CumulativeSum(self.axis(axis)?))
    }

    /// INT64: how many elements lie in each of so many bins of one width between two bounds.
    pub fn histogram(&self, bins: u32, min: f64, max: f64) -> Result<Self, Error> {
        self.apply(Operator::Histogram(Histogram { bins, min, max }))
    }

    /// The elements along an axis in order, and, INT64, where they were. NaN comes last.
    pub fn sort(&self, axis: isize, descending: bool) -> Result<[Self; 2], Error> {
        let sort = Sort { axis: self.axis(axis)?, descending };
        self.session().make(&Operator::Sort(sort), &[self])
    }

    /// The largest few elements along an axis, the largest first, or the smallest, the smallest
    /// first; and, INT64, where they were.
    pub fn top_k(&self, axis: isize, count: u64, largest: bool) -> Result<[Self; 2], Error> {
        let top = TopK { axis: self.axis(axis)?, count, largest };
        self.session().make(&Operator::TopK(top), &[self])
    }

    /// How far each row of this matrix is from each row of another.
    pub fn distances(&self, right: &Self, metric: Metric) -> Result<Self, Error> {
        self.apply_with(Operator::Distances(metric), [right])
    }
}
