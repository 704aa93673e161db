//! What operators of many products count as work beside them, in products that a core computes as
//! fast as it can: the limit on work bounds the time of shapes that hardly multiply, too. Counts
//! only, and saturates.

/// What an element costs that is taken from where it lies, or an element that is converted.
pub(super) const LOADED: u64 = 16;

/// What it costs to bring an index into order among many, and to go where it leads.
pub(super) const ORDERED: u64 = 128;

/// What an exponential costs.
pub(super) const EXPONENTIAL: u64 = 64;

/// What it costs to begin with a product of matrices, however small.
pub(super) const BEGUN: u64 = 1 << 15;

/// The product of all sizes.
pub(super) fn times(sizes: &[u64]) -> u64 {
    match sizes.contains(&0) {
        true => 0,
        false => sizes.iter().fold(1, |product, size| product.saturating_mul(*size)),
    }
}

/// The sum of all costs.
pub(super) fn sum(costs: &[u64]) -> u64 {
    costs.iter().fold(0, |sum, cost| sum.saturating_add(*cost))
}
