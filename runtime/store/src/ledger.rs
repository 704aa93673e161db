//! Which blobs are there, and which must stay: keeps a removal from taking a blob that a deploy
//! has just stored and not yet committed. Never touches the disk.
//!
//! A blob goes through: *held* while it is moved into place, *unclaimed* until a commit names it,
//! *held* by that commit until it is decided. A removal needs a blob that is neither, and who
//! wants to hold one that is being removed waits until it is gone.

use std::{
    collections::{HashMap, HashSet, hash_map},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::IntGauge;
use quern_types::Digest;
use tokio::sync::Notify;

/// The books of one blob store.
#[derive(Debug)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
    removed: Notify,
    bytes: IntGauge,
}

#[derive(Debug, Default)]
struct Books {
    entries: HashMap<Digest, Entry>,
    /// Those who want nothing removed.
    pauses: u32,
    /// What was not removed because of them.
    postponed: HashSet<Digest>,
}

#[derive(Debug, Default)]
struct Entry {
    holds: u32,
    unclaimed: u32,
    removing: bool,
    size: Option<u64>,
}

/// Keeps one blob from being removed.
#[derive(Debug)]
pub(crate) struct Hold {
    ledger: Arc<Ledger>,
    digest: Digest,
}

/// Keeps every blob from being removed while it lives.
#[derive(Debug)]
pub(crate) struct Pause(Arc<Ledger>);

/// The right to remove one blob; its end lets waiting holders go on.
#[derive(Debug)]
pub(crate) struct Removal {
    ledger: Arc<Ledger>,
    digest: Digest,
}

impl Ledger {
    /// Empty books; `bytes` follows the sum of all sizes.
    pub(crate) fn new(bytes: IntGauge) -> Arc<Self> {
        Arc::new(Self { books: Mutex::default(), removed: Notify::new(), bytes })
    }

    /// Keeps a blob, there or not yet, from being removed; waits for a removal under way.
    pub(crate) async fn hold(self: &Arc<Self>, digest: Digest) -> Hold {
        loop {
            let mut removed = pin!(self.removed.notified());
            removed.as_mut().enable();
            {
                let mut books = self.lock();
                let entry = books.entries.entry(digest).or_default();
                if !entry.removing {
                    entry.holds += 1;
                    return Hold { ledger: self.clone(), digest };
                }
            }
            removed.await;
        }
    }

    /// Takes over what [`Hold::leave`] left; none if nothing is left of it.
    pub(crate) fn claim(self: &Arc<Self>, digest: Digest) -> Option<Hold> {
        let mut books = self.lock();
        let entry = books.entries.get_mut(&digest)?;
        entry.unclaimed = entry.unclaimed.checked_sub(1)?;
        entry.holds += 1;
        Some(Hold { ledger: self.clone(), digest })
    }

    /// The right to remove a blob; none while anybody needs it. What a pause is in the way of is
    /// noted.
    pub(crate) fn remove(self: &Arc<Self>, digest: Digest) -> Option<Removal> {
        let mut books = self.lock();
        if books.pauses > 0 {
            books.postponed.insert(digest);
            return None;
        }
        let entry = books.entries.entry(digest).or_default();
        if entry.holds + entry.unclaimed > 0 || entry.removing {
            return None;
        }
        entry.removing = true;
        Some(Removal { ledger: self.clone(), digest })
    }

    /// Notes that a blob is in place.
    pub(crate) fn stored(&self, digest: Digest, size: u64) {
        let mut books = self.lock();
        let entry = books.entries.entry(digest).or_default();
        if entry.size.replace(size).is_none() {
            self.bytes.add(size as i64);
        }
    }

    /// Whether a blob is in place.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.lock().entries.get(digest).is_some_and(|entry| entry.size.is_some())
    }

    /// Has nothing removed from now on: what is there stays, whoever refers to it.
    pub(crate) fn pause(self: &Arc<Self>) -> Pause {
        self.lock().pauses += 1;
        Pause(self.clone())
    }

    /// What was not removed because of pauses, unless one goes on.
    pub(crate) fn take_postponed(&self) -> Vec<Digest> {
        let mut books = self.lock();
        match books.pauses {
            0 => books.postponed.drain().collect(),
            _ => Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, digest: Digest, change: impl FnOnce(&mut Entry)) {
        if let hash_map::Entry::Occupied(mut occupied) = self.lock().entries.entry(digest) {
            let entry = occupied.get_mut();
            change(entry);
            if entry.holds + entry.unclaimed == 0 && !entry.removing && entry.size.is_none() {
                occupied.remove();
            }
        }
    }
}

impl Hold {
    /// Ends this hold but keeps the blob safe until a commit claims it.
    pub(crate) fn leave(self) {
        self.ledger.change(self.digest, |entry| entry.unclaimed += 1);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.ledger.change(self.digest, |entry| entry.holds -= 1);
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.0.lock().pauses -= 1;
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        let bytes = &self.ledger.bytes;
        self.ledger.change(self.digest, |entry| {
            entry.removing = false;
            if let Some(size) = entry.size.take() {
                bytes.sub(size as i64);
            }
        });
        self.ledger.removed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Arc<Ledger> {
        Ledger::new(IntGauge::new("bytes", "bytes").expect("a valid name"))
    }

    #[tokio::test]
    async fn a_blob_stays_from_its_arrival_to_the_end_of_its_commit() {
        let (ledger, digest) = (ledger(), Digest::of(b"x"));
        let hold = ledger.hold(digest).await;
        assert!(ledger.remove(digest).is_none(), "held");
        hold.leave();
        assert!(ledger.remove(digest).is_none(), "unclaimed");
        let claimed = ledger.claim(digest).expect("left for a commit");
        assert!(ledger.claim(digest).is_none(), "claimed once");
        assert!(ledger.remove(digest).is_none(), "committing");
        drop(claimed);
        assert!(ledger.remove(digest).is_some(), "nobody needs it");
    }

    #[tokio::test]
    async fn one_commit_does_not_take_the_hold_of_another() {
        let (ledger, digest) = (ledger(), Digest::of(b"x"));
        ledger.hold(digest).await.leave();
        ledger.hold(digest).await.leave();
        drop(ledger.claim(digest).expect("the first"));
        assert!(ledger.remove(digest).is_none(), "the second still needs it");
    }

    #[tokio::test]
    async fn who_holds_a_blob_waits_for_its_removal() {
        let (ledger, digest) = (ledger(), Digest::of(b"x"));
        let removal = ledger.remove(digest).expect("free");
        assert!(ledger.remove(digest).is_none(), "removed once");
        let mut hold = pin!(ledger.hold(digest));
        tokio::select! {
            biased;
            _ = &mut hold => panic!("the removal is under way"),
            () = std::future::ready(()) => {}
        }
        drop(removal);
        drop(hold.await);
    }

    #[tokio::test]
    async fn sizes_are_counted_once() {
        let (ledger, digest) = (ledger(), Digest::of(b"x"));
        ledger.stored(digest, 7);
        ledger.stored(digest, 7);
        assert_eq!(ledger.bytes.get(), 7);
        drop(ledger.remove(digest));
        assert_eq!(ledger.bytes.get(), 0);
        assert!(ledger.lock().entries.is_empty(), "nothing is remembered of what is gone");
    }

    #[test]
    fn nothing_is_removed_in_a_pause_and_what_was_to_be_is_remembered() {
        let (ledger, digest) = (ledger(), Digest::of(b"x"));
        let (first, second) = (ledger.pause(), ledger.pause());
        assert!(ledger.remove(digest).is_none());
        drop(first);
        assert!(ledger.remove(digest).is_none() && ledger.take_postponed().is_empty());
        drop(second);
        assert_eq!(ledger.take_postponed(), [digest]);
        assert!(ledger.take_postponed().is_empty(), "once");
        assert!(ledger.remove(digest).is_some());
    }
}
