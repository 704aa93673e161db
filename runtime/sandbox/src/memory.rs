//! The memory that all instances have together, linear memories and tables, and how much of it is
//! one function's.
//! Nothing is allocated here: an instance asks before it grows.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::IntGauge;
use quern_types::{ByteSize, InvokeError, Name, TenantId};

use crate::idle::{Shelf, Shelves};

/// A function, all its versions together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Whose function it is.
    pub tenant: TenantId,
    /// Its name.
    pub function: Name,
}

/// What the instances of all functions share.
pub(crate) struct MemoryPool {
    most_bytes: u64,
    taken_bytes: AtomicU64,
    taken: IntGauge,
    shelves: Arc<Shelves>,
    /// Those of functions that are loaded, in however many versions.
    shares: Mutex<HashMap<Owner, Weak<MemoryShare>>>,
}

/// One function's part of the pool: half of it at most, so that no function can leave the others
/// without.
pub(crate) struct MemoryShare {
    pool: Arc<MemoryPool>,
    taken_bytes: AtomicU64,
    /// Of all loaded versions of the function.
    shelves: Shelves,
}

impl MemoryPool {
    /// A pool of so many bytes. Where it is short, instances on the shelves give way.
    pub(crate) fn new(size: ByteSize, taken: IntGauge, shelves: Arc<Shelves>) -> Arc<Self> {
        let taken_bytes = AtomicU64::new(0);
        let shares = Mutex::default();
        Arc::new(Self { most_bytes: size.0, taken_bytes, taken, shelves, shares })
    }

    /// The most that one function can have.
    pub(crate) fn share_bytes(&self) -> u64 {
        self.most_bytes / 2
    }

    /// What a function has of the pool, in all its versions.
    pub(crate) fn share(self: &Arc<Self>, owner: &Owner) -> Arc<MemoryShare> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(owner).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(MemoryShare::new(self.clone()));
        shares.insert(owner.clone(), Arc::downgrade(&share));
        share
    }

    fn take(&self, bytes: u64) -> bool {
        if !take(&self.taken_bytes, bytes, self.most_bytes, &self.shelves) {
            return false;
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
    /// A share that no other version has.
    pub(crate) fn new(pool: Arc<MemoryPool>) -> Self {
        Self { pool, taken_bytes: AtomicU64::new(0), shelves: Shelves::default() }
    }

    /// The most that there can be taken.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.pool.share_bytes()
    }

    /// What is taken at this moment.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// Lets the instances on this shelf give way, which is one of the function's, where the share
    /// is short.
    pub(crate) fn add<T: Send + 'static>(&self, shelf: &Arc<Shelf<T>>) {
        self.shelves.add(shelf);
    }

    /// Takes bytes, or tells why there are none. Instances that wait give way.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), InvokeError> {
        let full = |scope, bytes| InvokeError::MemoryFull { scope, limit: ByteSize(bytes) };
        if !take(&self.taken_bytes, bytes, self.most_bytes(), &self.shelves) {
            return Err(full("function", self.most_bytes()));
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

/// Adds to what is taken, unless that is then more than there may be. Instances on the shelves give
/// way one after the other, but none does where all of them would not suffice.
fn take(taken: &AtomicU64, bytes: u64, most: u64, shelves: &Shelves) -> bool {
    let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= most);
    loop {
        let Err(had) = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) else {
            return true;
        };
        let missing = had.saturating_add(bytes).saturating_sub(most);
        if shelves.bytes() < missing || !shelves.make_room() {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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

    #[test]
    fn all_versions_of_a_function_have_one_share() {
        let owner = |tenant, function: &str| Owner {
            tenant: TenantId::new(tenant),
            function: function.parse().expect("a name"),
        };
        let (pool, _) = pool(100);
        let [one, again] = [(); 2].map(|()| pool.share(&owner("a", "one")));
        let others = [owner("a", "two"), owner("b", "one")].map(|owner| pool.share(&owner));
        assert_eq!((one.take(30), again.take(21)), (Ok(()), full("function", 50)));
        assert_eq!(others.map(|other| other.take(35)), [Ok(()), Ok(())]);
        one.give_back(30);
        drop((one, again));
        assert_eq!(pool.share(&owner("a", "three")).take(30), Ok(()));
        let shares = pool.shares.lock().expect("nobody panics");
        assert_eq!(shares.len(), 1, "of what is loaded no longer nothing is kept");
    }

    /// An instance that waits, with its memory.
    struct Waiting(Arc<MemoryShare>, u64);

    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.give_back(self.1);
        }
    }

    /// A shelf of instances that have taken so much.
    fn shelf(share: &Arc<MemoryShare>, instances: &[u64]) -> Arc<Shelf<Waiting>> {
        let shelf = Arc::new(Shelf::new(Duration::from_secs(60)));
        share.pool.shelves.add(&shelf);
        share.add(&shelf);
        for bytes in instances {
            assert_eq!(share.take(*bytes), Ok(()));
            shelf.put(Waiting(share.clone(), *bytes), *bytes);
        }
        shelf
    }

    #[tokio::test]
    async fn a_functions_own_instances_give_way_where_its_share_is_short() {
        let (pool, _) = pool(100);
        let share = Arc::new(MemoryShare::new(pool));
        let (old, new) = (shelf(&share, &[20]), shelf(&share, &[20, 10]));
        assert_eq!(share.take(10), Ok(()));
        assert!(old.take().is_none(), "the one that had waited longest");
        assert_eq!(share.take(30), Ok(()));
        assert!(new.take().is_some_and(|left| left.1 == 10));
    }

    #[tokio::test]
    async fn no_instance_gives_way_where_all_would_not_suffice() {
        let (pool, _) = pool(100);
        let [one, two] = [(); 2].map(|()| Arc::new(MemoryShare::new(pool.clone())));
        let waiting = shelf(&one, &[10, 10]);
        assert_eq!((one.take(30), two.take(50)), (Ok(()), Ok(())));
        assert_eq!(one.take(21), full("function", 50));
        assert_eq!(MemoryShare::new(pool).take(21), full("server", 100));
        assert!(waiting.take().is_some() && waiting.take().is_some());
    }

    #[tokio::test]
    async fn instances_that_wait_give_their_memory() {
        let (pool, _) = pool(100);
        let [one, two, three] = [(); 3].map(|()| Arc::new(MemoryShare::new(pool.clone())));
        let _waiting = shelf(&one, &[50]);
        assert_eq!(two.take(50), Ok(()));
        assert_eq!(three.take(50), Ok(()));
        assert_eq!(three.take(1), full("function", 50));
        assert_eq!(MemoryShare::new(pool).take(1), full("server", 100));
    }
}
