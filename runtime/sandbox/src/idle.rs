//! Instances that wait for their next request: each on the shelf of its function, until it is
//! taken, its time is up, or another needs its room. Whether an instance may serve again is not
//! decided here.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// The idle instances of one function; dropped with it.
pub(crate) struct Shelf<T> {
    /// How long each waits.
    idle: Duration,
    waiting: Mutex<Waiting<T>>,
}

struct Waiting<T> {
    /// The most recently used is the last.
    instances: VecDeque<Idle<T>>,
    /// The task that drops those whose time is up; there as long as any waits.
    sweep: Option<AbortHandle>,
}

struct Idle<T> {
    since: Instant,
    /// Of memory that it has taken.
    bytes: u64,
    instance: T,
}

impl<T: Send + 'static> Shelf<T> {
    pub(crate) fn new(idle: Duration) -> Self {
        let waiting = Waiting { instances: VecDeque::new(), sweep: None };
        Self { idle, waiting: Mutex::new(waiting) }
    }

    /// The most recently used one, if any waits.
    pub(crate) fn take(&self) -> Option<T> {
        self.lock().instances.pop_back().map(|idle| idle.instance)
    }

    /// Lets an instance wait that has taken so many bytes of memory. Must be called within a
    /// runtime.
    pub(crate) fn put(self: &Arc<Self>, instance: T, bytes: u64) {
        let mut waiting = self.lock();
        waiting.instances.push_back(Idle { since: Instant::now(), bytes, instance });
        if waiting.sweep.is_none() {
            let sweep = tokio::spawn(sweep(Arc::downgrade(self), self.idle));
            waiting.sweep = Some(sweep.abort_handle());
        }
    }

    /// Drops those whose time is up; returns when the next one's is, if one is left.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut waiting = self.lock();
        let is_over = |idle: &Idle<T>| now.duration_since(idle.since) >= self.idle;
        let over = waiting.instances.iter().take_while(|idle| is_over(idle)).count();
        let expired: Vec<_> = waiting.instances.drain(..over).collect();
        let next = waiting.instances.front().map(|idle| idle.since + self.idle);
        if next.is_none() {
            waiting.sweep = None;
        }
        drop(waiting);
        // Outside the lock: it takes a while.
        drop(expired);
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Shelf<T> {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sweep) = &waiting.sweep {
            sweep.abort();
        }
    }
}

/// Drops the instances of a shelf as their times come, until none is left.
async fn sweep<T: Send + 'static>(shelf: Weak<Shelf<T>>, idle: Duration) {
    tokio::time::sleep(idle).await;
    while let Some(next) = shelf.upgrade().and_then(|shelf| shelf.expire(Instant::now())) {
        tokio::time::sleep_until(next.into()).await;
    }
}

/// Idle instances of one function, whatever they are.
pub(crate) trait GiveWay: Send + Sync {
    /// Since when the one waits that has waited longest.
    fn longest(&self) -> Option<Instant>;

    /// Drops the one that has waited longest; false if none waits.
    fn drop_longest(&self) -> bool;

    /// Bytes of memory that all that wait have taken.
    fn bytes(&self) -> u64;
}

impl<T: Send + 'static> GiveWay for Shelf<T> {
    fn longest(&self) -> Option<Instant> {
        self.lock().instances.front().map(|idle| idle.since)
    }

    fn drop_longest(&self) -> bool {
        let longest = self.lock().instances.pop_front();
        longest.is_some()
    }

    fn bytes(&self) -> u64 {
        self.lock().instances.iter().map(|idle| idle.bytes).sum()
    }
}

/// Shelves whose instances share something: those of all functions, or those of one function, which
/// may have several versions loaded.
#[derive(Default)]
pub(crate) struct Shelves(Mutex<Vec<Weak<dyn GiveWay>>>);

impl Shelves {
    pub(crate) fn add<T: Send + 'static>(&self, shelf: &Arc<Shelf<T>>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|shelf| shelf.strong_count() > 0);
        let shelf: Weak<Shelf<T>> = Arc::downgrade(shelf);
        all.push(shelf);
    }

    /// Bytes of memory that all instances have taken which wait.
    pub(crate) fn bytes(&self) -> u64 {
        self.all().iter().map(|shelf| shelf.bytes()).sum()
    }

    /// Drops the instance that has waited longest, of whichever shelf; false if none waits.
    pub(crate) fn make_room(&self) -> bool {
        let all = self.all();
        // Another may take it first, and then the next one is tried.
        while let Some((_, shelf)) =
            all.iter().filter_map(|shelf| Some((shelf.longest()?, shelf))).min_by_key(|(at, _)| *at)
        {
            if shelf.drop_longest() {
                return true;
            }
        }
        false
    }

    /// Those that are there now. They are not locked meanwhile: dropping an instance takes a while.
    fn all(&self) -> Vec<Arc<dyn GiveWay>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn the_most_recently_used_instance_is_taken_first() {
        let shelf = Arc::new(Shelf::new(IDLE));
        for instance in 0..3 {
            shelf.put(instance, 1);
        }
        assert_eq!((shelf.take(), shelf.take()), (Some(2), Some(1)));
        shelf.put(3, 1);
        assert_eq!((shelf.take(), shelf.take(), shelf.take()), (Some(3), Some(0), None));
    }

    #[tokio::test]
    async fn instances_are_dropped_when_their_time_is_up() {
        let shelf = Arc::new(Shelf::new(IDLE));
        let start = Instant::now();
        shelf.put(0, 1);
        assert!(shelf.expire(start).is_some_and(|next| next >= start + IDLE));
        shelf.put(1, 1);
        assert_eq!(shelf.expire(Instant::now() + IDLE), None);
        assert_eq!(shelf.take(), None);
    }

    #[tokio::test]
    async fn the_one_that_has_waited_longest_gives_way_whichever_function_it_is_of() {
        let shelves = Shelves::default();
        let (one, other) = (Arc::new(Shelf::new(IDLE)), Arc::new(Shelf::new(IDLE)));
        shelves.add(&one);
        shelves.add(&other);
        one.put(0, 10);
        other.put(1, 20);
        one.put(2, 30);
        assert_eq!(shelves.bytes(), 60);
        assert!(shelves.make_room());
        assert!(shelves.make_room());
        assert_eq!(shelves.bytes(), 30);
        assert_eq!((one.take(), other.take()), (Some(2), None));
        assert!(!shelves.make_room());
    }

    #[tokio::test]
    async fn shelves_are_free_while_an_instance_is_dropped() {
        /// An instance that looks at the shelves when it is dropped.
        struct Looks(Arc<Shelves>);

        impl Drop for Looks {
            fn drop(&mut self) {
                assert!(self.0.0.try_lock().is_ok());
            }
        }

        let (shelves, shelf) = (Arc::<Shelves>::default(), Arc::new(Shelf::new(IDLE)));
        shelves.add(&shelf);
        shelf.put(Looks(shelves.clone()), 1);
        assert!(shelves.make_room());
    }

    #[tokio::test]
    async fn a_shelf_takes_its_instances_and_its_sweep_with_it() {
        let shelf = Arc::new(Shelf::new(IDLE));
        let instance = Arc::new(());
        shelf.put(instance.clone(), 1);
        drop(shelf);
        assert_eq!(Arc::strong_count(&instance), 1);
        let handle = tokio::runtime::Handle::current();
        tokio::task::yield_now().await;
        assert_eq!(handle.metrics().num_alive_tasks(), 0);
    }
}
