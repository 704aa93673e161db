//! What waits to be written: bounded by number and by bytes. One bucket has half of the room at
//! most, so that a flood of it neither grows the server nor keeps others out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quern_types::BucketId;

/// Operations that can wait in all.
pub(crate) const MAX_OPERATIONS: usize = 1_024;
/// Bytes of keys and values that can wait in all.
const MAX_BYTES: usize = 64 << 20;

const ALL: Amount = Amount { operations: MAX_OPERATIONS, bytes: MAX_BYTES };
const BUCKET: Amount = Amount { operations: MAX_OPERATIONS / 2, bytes: MAX_BYTES / 2 };

/// The books of what waits.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    amounts: Mutex<Amounts>,
}

#[derive(Debug, Default)]
struct Amounts {
    all: Amount,
    buckets: HashMap<BucketId, Amount>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Amount {
    operations: usize,
    bytes: usize,
}

/// The place of one operation; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    waiting: Arc<Waiting>,
    bucket: BucketId,
    bytes: usize,
}

impl Amount {
    /// This and one more operation, if that is within `limit`.
    fn and(self, bytes: usize, limit: Self) -> Option<Self> {
        let sum = Self { operations: self.operations + 1, bytes: self.bytes + bytes };
        (sum.operations <= limit.operations && sum.bytes <= limit.bytes).then_some(sum)
    }

    fn without(self, bytes: usize) -> Self {
        Self { operations: self.operations - 1, bytes: self.bytes - bytes }
    }
}

impl Waiting {
    /// A place for an operation of so many bytes; none if there is no room.
    pub(crate) fn enter(self: &Arc<Self>, bucket: &BucketId, bytes: usize) -> Option<Place> {
        let mut amounts = self.lock();
        let all = amounts.all.and(bytes, ALL)?;
        let of_bucket = amounts.buckets.get(bucket).copied().unwrap_or_default();
        let of_bucket = of_bucket.and(bytes, BUCKET)?;
        amounts.all = all;
        amounts.buckets.insert(bucket.clone(), of_bucket);
        Some(Place { waiting: self.clone(), bucket: bucket.clone(), bytes })
    }

    fn lock(&self) -> MutexGuard<'_, Amounts> {
        self.amounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut amounts = self.waiting.lock();
        amounts.all = amounts.all.without(self.bytes);
        let left = amounts.buckets.remove(&self.bucket).map(|amount| amount.without(self.bytes));
        if let Some(left) = left.filter(|left| left.operations > 0) {
            amounts.buckets.insert(self.bucket.clone(), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use quern_types::TenantId;

    use super::*;

    fn bucket(name: &str) -> BucketId {
        BucketId { tenant: TenantId::default(), name: name.parse().expect("a name") }
    }

    #[test]
    fn one_bucket_never_takes_all_the_room() {
        let waiting = Arc::new(Waiting::default());
        let flood = |name: &str, bytes| {
            let places = std::iter::from_fn(|| waiting.enter(&bucket(name), bytes));
            places.collect::<Vec<_>>()
        };
        let small = flood("a", 1);
        assert_eq!(small.len(), MAX_OPERATIONS / 2);
        assert_eq!(flood("b", 1).len(), MAX_OPERATIONS / 2);
        drop(small);
        let large = flood("a", 1 << 20);
        assert_eq!(large.len(), 32, "bounded by bytes");
        assert_eq!(flood("b", 1 << 20).len(), 32, "there is room for others");
    }

    #[test]
    fn the_whole_is_bounded_too() {
        let waiting = Arc::new(Waiting::default());
        let places: Vec<_> =
            (0..70).map_while(|i| waiting.enter(&bucket(&format!("b{i}")), 1 << 20)).collect();
        assert_eq!(places.len(), 64);
        drop(places);
        let left = waiting.lock();
        assert_eq!((left.all, left.buckets.len()), (Amount::default(), 0), "nothing is forgotten");
    }
}
