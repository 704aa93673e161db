//! The linear memory that all instances have together, and how much of it is one function's.
//! Nothing is allocated here: an instance asks before it grows.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use prometheus::IntGauge;
use quern_types::{ByteSize, InvokeError};

use crate::idle::Shelves;

/// What the instances of all functions share.
pub(crate) struct MemoryPool {
    most_bytes: u64,
    taken_bytes: AtomicU64,
    taken: IntGauge,
    shelves: Arc<Shelves>,
}

/// One function's part of the pool: half of it at most, so that no function can leave the others
/// without.
pub(crate) struct MemoryShare {
    pool: Arc<MemoryPool>,
    most_bytes: u64,
    taken_bytes: AtomicU64,
}

impl MemoryPool {
    /// A pool of so many bytes. Where it is short, instances on the shelves give way.
    pub(crate) fn new(size: ByteSize, taken: IntGauge, shelves: Arc<Shelves>) -> Arc<Self> {
        let taken_bytes = AtomicU64::new(0);
        Arc::new(Self { most_bytes: size.0, taken_bytes, taken, shelves })
    }

    fn take(&self, bytes: u64) -> bool {
        while !take(&self.taken_bytes, bytes, self.most_bytes) {
            if !self.shelves.make_room() {
                return false;
            }
        }
        self.taken.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        true
    }

    fn give_back(&self, bytes: u64) {
        self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.taken.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl MemoryShare {
    pub(crate) fn new(pool: Arc<MemoryPool>) -> Self {
        let most_bytes = pool.most_bytes / 2;
        Self { pool, most_bytes, taken_bytes: AtomicU64::new(0) }
    }

    /// Takes bytes, or tells why there are none.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), InvokeError> {
        let full = |scope, bytes| InvokeError::MemoryFull { scope, limit: ByteSize(bytes) };
        if !take(&self.taken_bytes, bytes, self.most_bytes) {
            return Err(full("function", self.most_bytes));
        }
        if !self.pool.take(bytes) {
            self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(full("server", self.pool.most_bytes));
        }
        Ok(())
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.pool.give_back(bytes);
    }
}

/// Adds to what is taken, unless that is then more than there may be.
fn take(taken: &AtomicU64, bytes: u64, most: u64) -> bool {
    let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= most);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::idle::Shelf;

    fn pool(bytes: u64) -> (Arc<MemoryPool>, Arc<Shelves>) {
        let shelves = Arc::<Shelves>::default();
        let taken = IntGauge::new("taken", "taken").expect("a gauge");
        (MemoryPool::new(ByteSize(bytes), taken, shelves.clone()), shelves)
    }

    fn full(scope: &'static str, bytes: u64) -> Result<(), InvokeError> {
        Err(InvokeError::MemoryFull { scope, limit: ByteSize(bytes) })
    }

    #[test]
    fn a_function_has_half_of_the_memory_at_most() {
        let (pool, _) = pool(100);
        let [one, two, three] = [(); 3].map(|()| MemoryShare::new(pool.clone()));
        assert_eq!(one.take(51), full("function", 50));
        assert_eq!(one.take(40), Ok(()));
        assert_eq!(two.take(50), Ok(()));
        assert_eq!(three.take(11), full("server", 100));
        assert_eq!(pool.taken.get(), 90);
        one.give_back(40);
        assert_eq!(three.take(50), Ok(()));
    }

    #[tokio::test]
    async fn instances_that_wait_give_their_memory() {
        /// An instance that waits, with its memory.
        struct Waiting(Arc<MemoryShare>);

        impl Drop for Waiting {
            fn drop(&mut self) {
                self.0.give_back(50);
            }
        }

        let (pool, shelves) = pool(100);
        let [one, two, three] = [(); 3].map(|()| Arc::new(MemoryShare::new(pool.clone())));
        let shelf = Arc::new(Shelf::new(Duration::from_secs(60)));
        shelves.add(&shelf);
        assert_eq!((one.take(50), two.take(50)), (Ok(()), Ok(())));
        shelf.put(Waiting(one));
        assert_eq!(three.take(50), Ok(()));
        assert_eq!(three.take(1), full("function", 50));
        assert_eq!(MemoryShare::new(pool).take(1), full("server", 100));
    }
}
