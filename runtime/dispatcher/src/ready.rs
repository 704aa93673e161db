//! What is loaded at this moment: each thing is made once, however many ask for it at a time, and
//! dropped when it is no longer deployed or of use.

use std::{
    future::Future,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use quern_types::{Name, TenantId, VersionNumber};
use tokio::sync::OnceCell;

/// Names one version of a function or model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VersionKey {
    pub(crate) tenant: TenantId,
    pub(crate) name: Name,
    pub(crate) version: VersionNumber,
}

/// Loaded things by version.
pub(crate) struct Ready<T> {
    slots: DashMap<VersionKey, Arc<Slot<T>>>,
    start: Instant,
}

struct Slot<T> {
    value: OnceCell<Arc<T>>,
    used_ms: AtomicU64,
}

impl<T> Ready<T> {
    pub(crate) fn new() -> Self {
        Self { slots: DashMap::new(), start: Instant::now() }
    }

    /// The loaded thing; `load` makes it if need be. Others who ask meanwhile wait for the same
    /// load, and the next one tries again should it fail.
    pub(crate) async fn get<E, F>(
        &self,
        key: &VersionKey,
        load: impl FnOnce() -> F,
    ) -> Result<Arc<T>, E>
    where
        F: Future<Output = Result<Arc<T>, E>>,
    {
        let slot = match self.slots.get(key) {
            Some(slot) => slot.clone(),
            None => self.slots.entry(key.clone()).or_insert_with(Slot::new).clone(),
        };
        slot.used_ms.store(self.now_ms(), Ordering::Relaxed);
        slot.value.get_or_try_init(load).await.cloned()
    }

    /// Drops what `keep` says no to, given how long it hasn't been asked for. What is in use lives
    /// on until its users are done.
    pub(crate) fn retain(&self, keep: impl Fn(&VersionKey, Duration) -> bool) {
        let now_ms = self.now_ms();
        self.slots.retain(|key, slot| {
            let unused_ms = now_ms.saturating_sub(slot.used_ms.load(Ordering::Relaxed));
            keep(key, Duration::from_millis(unused_ms))
        });
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<T> Slot<T> {
    fn new() -> Arc<Self> {
        Arc::new(Self { value: OnceCell::new(), used_ms: AtomicU64::new(0) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn key() -> VersionKey {
        let name = "a".parse().expect("a name");
        VersionKey { tenant: TenantId::default(), name, version: VersionNumber::FIRST }
    }

    #[tokio::test]
    async fn many_who_ask_share_one_load() {
        let (ready, loads) = (Ready::new(), AtomicUsize::new(0));
        let key = key();
        let load = || async {
            loads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, ()>(Arc::new(7))
        };
        let all = futures::future::join_all((0..10).map(|_| ready.get(&key, load))).await;
        assert!(all.iter().all(|loaded| loaded.as_deref() == Ok(&7)));
        assert_eq!(loads.into_inner(), 1);
    }

    #[tokio::test]
    async fn a_failed_load_is_tried_again() {
        let ready = Ready::new();
        assert_eq!(ready.get(&key(), || async { Err::<Arc<u8>, _>("no") }).await, Err("no"));
        assert_eq!(ready.get(&key(), || async { Ok::<_, ()>(Arc::new(1)) }).await, Ok(Arc::new(1)));
        ready.retain(|_, _| false);
        assert_eq!(ready.get(&key(), || async { Ok::<_, ()>(Arc::new(2)) }).await, Ok(Arc::new(2)));
    }
}
