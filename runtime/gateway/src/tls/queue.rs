//! The handshakes that are under way. Whoever is slow makes room for others: where there are too
//! many, the oldest loses its place. It knows nothing of TLS.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Those that have a place, from the oldest to the newest.
#[derive(Debug)]
pub(super) struct Queue {
    most: usize,
    entered: Arc<Mutex<Entered>>,
}

#[derive(Debug, Default)]
struct Entered {
    next: u64,
    places: BTreeMap<u64, CancellationToken>,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    lost: CancellationToken,
    entered: Arc<Mutex<Entered>>,
}

impl Queue {
    /// A queue with so many places, one at least.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), entered: Arc::default() }
    }

    /// Takes a place, from the oldest if there is no other.
    pub(super) fn enter(&self) -> Place {
        let lost = CancellationToken::new();
        let mut entered = lock(&self.entered);
        if entered.places.len() >= self.most
            && let Some((_, oldest)) = entered.places.pop_first()
        {
            oldest.cancel();
        }
        let number = entered.next;
        entered.next += 1;
        entered.places.insert(number, lost.clone());
        Place { number, lost, entered: self.entered.clone() }
    }
}

impl Place {
    /// Waits until the place is another's.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.entered).places.remove(&self.number);
    }
}

fn lock(entered: &Mutex<Entered>) -> MutexGuard<'_, Entered> {
    entered.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let queue = Queue::new(2);
        let [first, second, third] = [queue.enter(), queue.enter(), queue.enter()];
        assert!(first.lost.is_cancelled());
        assert!(!second.lost.is_cancelled() && !third.lost.is_cancelled());
        drop(second);
        let fourth = queue.enter();
        assert!(!third.lost.is_cancelled(), "there was a place");
        drop((first, third, fourth));
        assert!(lock(&queue.entered).places.is_empty());
    }
}
