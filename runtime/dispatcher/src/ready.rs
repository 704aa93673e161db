//! What is loaded at this moment: each thing is made once, however many ask for it at a time, and
//! dropped when it is no longer deployed or of use.

use std::{
    future::Future,
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use quern_types::{Deployed, Name, TenantId, VersionNumber};

/// How long a version that no longer serves stays loaded after it was last asked for.
const REPLACED_IDLE: Duration = Duration::from_secs(60);

/// Names one version of a function or model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VersionKey {
    pub(crate) tenant: TenantId,
    pub(crate) name: Name,
    pub(crate) version: VersionNumber,
}

/// Loaded things by version.
pub(crate) struct Ready<T, E> {
    slots: DashMap<VersionKey, Arc<Slot<T, E>>>,
    start: Instant,
}

struct Slot<T, E> {
    value: OnceLock<Arc<T>>,
    loading: Mutex<Option<Loading<T, E>>>,
    used_ms: AtomicU64,
}

/// A load under way, which all who ask meanwhile wait for; none if it panicked.
type Loading<T, E> = Shared<BoxFuture<'static, Option<Result<Arc<T>, E>>>>;

impl VersionKey {
    /// Whether the version is worth its room, given what is deployed under its name and how long
    /// it hasn't been asked for: it serves, or it may soon be asked for by its number again.
    pub(crate) fn is_of_use<Spec>(
        &self,
        deployed: Option<&Arc<Deployed<Spec>>>,
        unused: Duration,
    ) -> bool {
        deployed.is_some_and(|deployed| {
            deployed.live().number == self.version
                || (deployed.version(Some(self.version)).is_ok() && unused < REPLACED_IDLE)
        })
    }
}

impl<T, E> Ready<T, E>
where
    T: Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        Self { slots: DashMap::new(), start: Instant::now() }
    }

    /// The loaded thing; `load` makes it if need be, in a task of its own that goes on should
    /// whoever asked for it leave. Others who ask meanwhile wait for the same load; all get its
    /// error should it fail, and the next one to ask tries again. `lost` is the error of a load
    /// that panicked.
    pub(crate) async fn get<F>(
        &self,
        key: &VersionKey,
        load: impl FnOnce() -> F,
        lost: impl FnOnce() -> E,
    ) -> Result<Arc<T>, E>
    where
        F: Future<Output = Result<Arc<T>, E>> + Send + 'static,
    {
        let slot = match self.slots.get(key) {
            Some(slot) => slot.clone(),
            None => self.slots.entry(key.clone()).or_insert_with(Slot::new).clone(),
        };
        slot.used_ms.store(self.now_ms(), Ordering::Relaxed);
        if let Some(value) = slot.value.get() {
            return Ok(value.clone());
        }
        slot.load(load).await.unwrap_or_else(|| Err(lost()))
    }

    /// Drops what `keep` says no to, given how long it hasn't been asked for; never what is being
    /// loaded or is in use.
    pub(crate) fn retain(&self, keep: impl Fn(&VersionKey, Duration) -> bool) {
        let now_ms = self.now_ms();
        self.slots.retain(|key, slot| {
            let unused_ms = now_ms.saturating_sub(slot.used_ms.load(Ordering::Relaxed));
            slot.is_in_use() || keep(key, Duration::from_millis(unused_ms))
        });
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl<T, E> Slot<T, E>
where
    T: Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn new() -> Arc<Self> {
        let (value, loading) = (OnceLock::new(), Mutex::new(None));
        Arc::new(Self { value, loading, used_ms: AtomicU64::new(0) })
    }

    /// Joins the load under way, or sets one off.
    fn load<F>(self: &Arc<Self>, load: impl FnOnce() -> F) -> Loading<T, E>
    where
        F: Future<Output = Result<Arc<T>, E>> + Send + 'static,
    {
        let mut loading = self.lock();
        if let Some(loading) = &*loading {
            return loading.clone();
        }
        if let Some(value) = self.value.get().cloned() {
            return futures::future::ready(Some(Ok(value))).boxed().shared();
        }
        let (slot, load) = (self.clone(), load());
        let task = tokio::spawn(async move {
            let outcome = AssertUnwindSafe(load).catch_unwind().await.ok();
            if let Some(Ok(value)) = &outcome {
                // Set once: there is one load at a time, and none after this.
                let _ = slot.value.set(value.clone());
            }
            *slot.lock() = None;
            outcome
        });
        let joined = task.map(|joined| joined.ok().flatten()).boxed().shared();
        *loading = Some(joined.clone());
        joined
    }

    fn is_in_use(&self) -> bool {
        let shared = self.value.get().is_some_and(|value| Arc::strong_count(value) > 1);
        shared || self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Loading<T, E>>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (ready, loads) = (Ready::new(), Arc::new(AtomicUsize::new(0)));
        let key = key();
        let load = || {
            let loads = loads.clone();
            async move {
                loads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, &str>(Arc::new(7))
            }
        };
        let all = (0..10).map(|_| ready.get(&key, load, || "lost"));
        let all = futures::future::join_all(all).await;
        assert!(all.iter().all(|loaded| loaded.as_deref() == Ok(&7)));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_load_goes_on_though_all_who_asked_have_left() {
        let (ready, loads) = (Ready::new(), Arc::new(AtomicUsize::new(0)));
        let (open, gate) = tokio::sync::watch::channel(false);
        let key = key();
        let load = || {
            let (loads, mut gate) = (loads.clone(), gate.clone());
            async move {
                loads.fetch_add(1, Ordering::Relaxed);
                gate.wait_for(|open| *open).await.map_err(|_| "closed")?;
                Ok::<_, &str>(Arc::new(7))
            }
        };
        for _ in 0..5 {
            assert!(ready.get(&key, load, || "lost").now_or_never().is_none());
        }
        open.send_replace(true);
        assert_eq!(ready.get(&key, load, || "lost").await, Ok(Arc::new(7)));
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failed_load_is_tried_again() {
        let (ready, key) = (Ready::new(), key());
        let fails = || async { Err::<Arc<u8>, _>("no") };
        let panics = || async { panic!("a fault of the loader") };
        assert_eq!(ready.get(&key, fails, || "lost").await, Err("no"));
        assert_eq!(ready.get(&key, panics, || "lost").await, Err("lost"));
        assert_eq!(ready.get(&key, || async { Ok(Arc::new(1)) }, || "lost").await, Ok(Arc::new(1)));
    }

    #[tokio::test]
    async fn only_what_is_not_in_use_is_dropped() {
        let (ready, key) = (Ready::new(), key());
        let load = |value| move || async move { Ok::<_, &str>(Arc::new(value)) };
        let used = ready.get(&key, load(1), || "lost").await.expect("loads");
        ready.retain(|_, _| false);
        assert_eq!(ready.get(&key, load(2), || "lost").await, Ok(Arc::new(1)));
        drop(used);
        ready.retain(|_, _| false);
        assert_eq!(ready.get(&key, load(3), || "lost").await, Ok(Arc::new(3)));
    }
}
