//! What is loaded at this moment: each thing is made once, however many ask for it at a time, and
//! dropped when it is no longer deployed or of use, or when others need its room. Never drops what
//! is in use, and never makes who finds a thing loaded wait.

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
use prometheus::{IntCounter, IntGauge};
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

/// How much may be loaded, and how much is.
pub(crate) struct Room<T> {
    /// Bytes that all loaded things may take together.
    pub(crate) most_bytes: u64,
    /// Things that may be loaded at the same time.
    pub(crate) most: u64,
    /// Bytes that a thing takes; always the same for the same thing.
    pub(crate) weigh: fn(&T) -> u64,
    /// Things that are loaded.
    pub(crate) loaded: IntGauge,
    /// Bytes that they take.
    pub(crate) loaded_bytes: IntGauge,
    /// Things that went because others needed their room.
    pub(crate) evictions: IntCounter,
}

/// Loaded things by version.
pub(crate) struct Ready<T, E>(Arc<Shelf<T, E>>);

struct Shelf<T, E> {
    slots: DashMap<VersionKey, Arc<Slot<T, E>>>,
    room: Room<T>,
    /// What goes first where room is short, the very first at the end, each with the time at which
    /// it was asked for last when this was gathered. Whatever is not in here, or was asked for
    /// since, is more recent than all of it: so one pass over everything serves many evictions.
    leaving: Mutex<Vec<(u64, VersionKey)>>,
    start: Instant,
}

struct Slot<T, E> {
    value: OnceLock<Arc<T>>,
    loading: Mutex<Option<Loading<T, E>>>,
    /// When it was asked for last, since the start.
    used_ns: AtomicU64,
}

/// A load under way, which all who ask meanwhile wait for; none if it panicked.
type Loading<T, E> = Shared<BoxFuture<'static, Option<Result<Arc<T>, E>>>>;

impl VersionKey {
    pub(crate) fn new(tenant: &TenantId, name: &Name, version: VersionNumber) -> Self {
        Self { tenant: tenant.clone(), name: name.clone(), version }
    }

    /// Whether the version still exists, given what is deployed under its name.
    pub(crate) fn is_kept<Spec>(&self, deployed: Option<&Arc<Deployed<Spec>>>) -> bool {
        deployed.is_some_and(|deployed| deployed.version(Some(self.version)).is_ok())
    }

    /// Whether the version is worth its room, given what is deployed under its name and how long
    /// it hasn't been asked for: it serves, or it may soon be asked for by its number again.
    pub(crate) fn is_of_use<Spec>(
        &self,
        deployed: Option<&Arc<Deployed<Spec>>>,
        unused: Duration,
    ) -> bool {
        deployed.is_some_and(|deployed| {
            deployed.serves(self.version)
                || (deployed.version(Some(self.version)).is_ok() && unused < REPLACED_IDLE)
        })
    }
}

impl<T> Room<T> {
    /// Room for everything, which nobody counts.
    pub(crate) fn unlimited() -> Result<Self, prometheus::Error> {
        Ok(Self {
            most_bytes: u64::MAX,
            most: u64::MAX,
            weigh: |_| 0,
            loaded: IntGauge::new("loaded", "Loaded things")?,
            loaded_bytes: IntGauge::new("loaded_bytes", "Bytes of loaded things")?,
            evictions: IntCounter::new("evictions", "Things that made room")?,
        })
    }

    fn enter(&self, value: &T) {
        self.loaded.inc();
        self.loaded_bytes.add(signed((self.weigh)(value)));
    }

    fn leave(&self, value: &T) {
        self.loaded.dec();
        self.loaded_bytes.sub(signed((self.weigh)(value)));
    }

    /// Whether something has to go; never the last one, however large it is.
    fn is_short(&self) -> bool {
        let (bytes, loaded) = (self.loaded_bytes.get(), self.loaded.get());
        loaded > 1 && (bytes > signed(self.most_bytes) || loaded > signed(self.most))
    }
}

impl<T, E> Ready<T, E>
where
    T: Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(room: Room<T>) -> Self {
        let (slots, leaving) = (DashMap::new(), Mutex::default());
        Self(Arc::new(Shelf { slots, room, leaving, start: Instant::now() }))
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
        let slot = self.0.slot(key);
        slot.used_ns.store(self.0.now_ns(), Ordering::Relaxed);
        if let Some(value) = slot.value.get() {
            return Ok(value.clone());
        }
        slot.load(&self.0, load).await.unwrap_or_else(|| Err(lost()))
    }

    /// The thing, if it is loaded; that it was asked for does not count.
    pub(crate) fn loaded(&self, key: &VersionKey) -> Option<Arc<T>> {
        self.0.slots.get(key).and_then(|slot| slot.value.get().cloned())
    }

    /// Everything that is loaded, that which was asked for last at the end.
    pub(crate) fn all_loaded(&self) -> Vec<Arc<T>> {
        let keys = self.0.loaded_newest_first().into_iter().rev();
        keys.filter_map(|(_, key)| self.loaded(&key)).collect()
    }

    /// Loads a thing that nobody has asked for yet. It counts as last asked for before everything
    /// that was, and the more recently the greater its `rank`. None if the load panicked.
    pub(crate) async fn warm<F>(
        &self,
        key: &VersionKey,
        rank: u32,
        load: impl FnOnce() -> F,
    ) -> Option<Result<(), E>>
    where
        F: Future<Output = Result<Arc<T>, E>> + Send + 'static,
    {
        let slot = self.0.slot(key);
        slot.used_ns.fetch_max(rank.into(), Ordering::Relaxed);
        slot.load(&self.0, load).await.map(|loaded| loaded.map(|_| ()))
    }

    /// Whether all room is taken.
    pub(crate) fn is_full(&self) -> bool {
        let room = &self.0.room;
        room.loaded_bytes.get() >= signed(room.most_bytes) || room.loaded.get() >= signed(room.most)
    }

    /// What is loaded, that which was asked for last first.
    pub(crate) fn by_recency(&self) -> Vec<VersionKey> {
        let newest_first = self.0.loaded_newest_first();
        newest_first.into_iter().map(|(_, key)| key).collect()
    }

    /// Drops what `keep` says no to, given how long it hasn't been asked for, and what has no room
    /// any more, such as what was in use when room became short; never what is being loaded or is
    /// in use.
    pub(crate) fn retain(&self, keep: impl Fn(&VersionKey, Duration) -> bool) {
        let now_ns = self.0.now_ns();
        let unneeded = |used_ns: u64, key: &VersionKey| {
            !keep(key, Duration::from_nanos(now_ns.saturating_sub(used_ns)))
        };
        let slots = self.0.slots.iter().map(|slot| (slot.used_ns(), slot.key().clone()));
        let slots: Vec<_> = slots.filter(|(used_ns, key)| unneeded(*used_ns, key)).collect();
        for (used_ns, key) in slots {
            self.0.drop_unused(&key, used_ns);
        }
        self.0.make_room();
    }
}

impl<T, E> Shelf<T, E>
where
    T: Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn slot(&self, key: &VersionKey) -> Arc<Slot<T, E>> {
        match self.slots.get(key) {
            Some(slot) => slot.clone(),
            None => self.slots.entry(key.clone()).or_insert_with(Slot::new).clone(),
        }
    }

    /// Drops what was asked for least recently until the rest has room, but nothing in use.
    fn make_room(&self) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut in_use, mut gathered) = (Vec::new(), false);
        while self.room.is_short() {
            match leaving.pop() {
                Some((used_ns, key)) if self.drop_unused(&key, used_ns) => {
                    self.room.evictions.inc();
                }
                Some((used_ns, key)) => {
                    if self.slots.get(&key).is_some_and(|slot| slot.used_ns() == used_ns) {
                        in_use.push((used_ns, key));
                    }
                }
                None if gathered => break,
                None => {
                    in_use.clear();
                    *leaving = self.loaded_newest_first();
                    gathered = true;
                }
            }
        }
        // The next to leave once they are no longer in use.
        leaving.extend(in_use.into_iter().rev());
    }

    fn loaded_newest_first(&self) -> Vec<(u64, VersionKey)> {
        let loaded = self.slots.iter().filter(|slot| slot.value.get().is_some());
        let mut loaded: Vec<_> = loaded.map(|slot| (slot.used_ns(), slot.key().clone())).collect();
        loaded.sort_unstable_by_key(|(used_ns, _)| std::cmp::Reverse(*used_ns));
        loaded
    }

    /// Drops a thing unless it is in use or was asked for since; says whether it went.
    fn drop_unused(&self, key: &VersionKey, used_ns: u64) -> bool {
        // Whoever is about to use the thing holds the slot, and a slot is handed out by the map
        // alone: what has no other holder under the map's lock can't get one.
        let removed = self.slots.remove_if_mut(key, |_, slot| {
            Arc::get_mut(slot).is_some_and(|slot| {
                let unused = slot.value.get_mut().is_none_or(|held| Arc::get_mut(held).is_some());
                unused && *slot.used_ns.get_mut() == used_ns
            })
        });
        if let Some((_, slot)) = &removed
            && let Some(value) = slot.value.get()
        {
            self.room.leave(value);
        }
        removed.is_some()
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<T, E> Slot<T, E>
where
    T: Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    fn new() -> Arc<Self> {
        let (value, loading) = (OnceLock::new(), Mutex::new(None));
        Arc::new(Self { value, loading, used_ns: AtomicU64::new(0) })
    }

    /// Joins the load under way, or sets one off.
    fn load<F>(
        self: &Arc<Self>,
        shelf: &Arc<Shelf<T, E>>,
        load: impl FnOnce() -> F,
    ) -> Loading<T, E>
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
        let (slot, shelf, load) = (self.clone(), shelf.clone(), load());
        let task = tokio::spawn(async move {
            let outcome = AssertUnwindSafe(load).catch_unwind().await.ok();
            if let Some(Ok(value)) = &outcome {
                shelf.room.enter(value);
                // Set once: there is one load at a time, and none after this.
                let _ = slot.value.set(value.clone());
            }
            *slot.lock() = None;
            // This task still holds the slot: what was just loaded stays, even if it alone is
            // larger than all room.
            shelf.make_room();
            outcome
        });
        let joined = task.map(|joined| joined.ok().flatten()).boxed().shared();
        *loading = Some(joined.clone());
        joined
    }

    fn used_ns(&self) -> u64 {
        self.used_ns.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Loading<T, E>>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::atomic::AtomicUsize};

    use proptest::prelude::*;

    use super::*;

    fn key() -> VersionKey {
        numbered(1)
    }

    fn numbered(number: u32) -> VersionKey {
        let name = "a".parse().expect("a name");
        let version = VersionNumber::new(number).expect("from 1");
        VersionKey { tenant: TenantId::default(), name, version }
    }

    fn ready<T: Send + Sync + 'static, E: Clone + Send + Sync + 'static>() -> Ready<T, E> {
        Ready::new(Room::unlimited().expect("metrics"))
    }

    /// Room for so many bytes, in things that weigh what they say.
    fn narrow(most_bytes: u64) -> Ready<u64, &'static str> {
        let room =
            Room { most_bytes, weigh: |bytes| *bytes, ..Room::unlimited().expect("metrics") };
        Ready::new(room)
    }

    async fn load(ready: &Ready<u64, &'static str>, number: u32, bytes: u64) -> Arc<u64> {
        let load = || async move { Ok(Arc::new(bytes)) };
        ready.get(&numbered(number), load, || "lost").await.expect("loads")
    }

    /// Numbers of what is loaded, that which was asked for last first.
    fn loaded(ready: &Ready<u64, &'static str>) -> Vec<u32> {
        ready.by_recency().into_iter().map(|key| key.version.get()).collect()
    }

    #[tokio::test]
    async fn many_who_ask_share_one_load() {
        let (ready, loads) = (ready(), Arc::new(AtomicUsize::new(0)));
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
        assert_eq!(ready.loaded(&key).as_deref(), Some(&7));
        assert!(ready.loaded(&numbered(2)).is_none());
        assert_eq!(ready.all_loaded(), [Arc::new(7)]);
    }

    #[tokio::test]
    async fn a_load_goes_on_though_all_who_asked_have_left() {
        let (ready, loads) = (ready(), Arc::new(AtomicUsize::new(0)));
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
        let (ready, key) = (ready(), key());
        let fails = || async { Err::<Arc<u8>, _>("no") };
        let panics = || async { panic!("a fault of the loader") };
        assert_eq!(ready.get(&key, fails, || "lost").await, Err("no"));
        assert_eq!(ready.get(&key, panics, || "lost").await, Err("lost"));
        assert_eq!(ready.get(&key, || async { Ok(Arc::new(1)) }, || "lost").await, Ok(Arc::new(1)));
    }

    #[tokio::test]
    async fn only_what_is_not_in_use_is_dropped() {
        let (ready, key) = (ready(), key());
        let load = |value| move || async move { Ok::<_, &str>(Arc::new(value)) };
        let used = ready.get(&key, load(1), || "lost").await.expect("loads");
        ready.retain(|_, _| false);
        assert_eq!(ready.get(&key, load(2), || "lost").await, Ok(Arc::new(1)));
        drop(used);
        ready.retain(|_, _| false);
        assert_eq!(ready.get(&key, load(3), || "lost").await, Ok(Arc::new(3)));
    }

    #[tokio::test]
    async fn a_thing_larger_than_all_room_is_loaded_nevertheless() {
        let ready = narrow(10);
        load(&ready, 1, 4).await;
        assert_eq!(*load(&ready, 2, 100).await, 100);
        ready.retain(|_, _| true);
        assert_eq!(loaded(&ready), [2], "it is not loaded again and again");
        load(&ready, 3, 4).await;
        assert_eq!(loaded(&ready), [3]);
        assert_eq!(ready.0.room.evictions.get(), 2);
    }

    #[tokio::test]
    async fn what_was_in_use_makes_room_later() {
        let ready = narrow(10);
        let held = [load(&ready, 1, 8).await, load(&ready, 2, 8).await];
        assert_eq!(loaded(&ready), [2, 1]);
        drop(held);
        ready.retain(|_, _| true);
        assert_eq!(loaded(&ready), [2]);
    }

    #[tokio::test]
    async fn their_number_is_limited_whatever_they_weigh() {
        let room = Room { most: 2, ..Room::unlimited().expect("metrics") };
        let ready = Ready::new(room);
        for number in 1..=4 {
            load(&ready, number, 0).await;
        }
        assert_eq!(loaded(&ready), [4, 3]);
    }

    #[tokio::test]
    async fn what_was_warmed_goes_before_what_was_asked_for() {
        let ready = narrow(30);
        load(&ready, 1, 10).await;
        for (number, rank) in [(2, 1), (3, 2)] {
            let warmed = ready.warm(&numbered(number), rank, || async { Ok(Arc::new(10)) }).await;
            assert_eq!(warmed, Some(Ok(())));
        }
        assert_eq!(loaded(&ready), [1, 3, 2]);
        assert!(ready.is_full());
        load(&ready, 4, 10).await;
        assert_eq!(loaded(&ready), [4, 1, 3]);
        let fails = ready.warm(&numbered(5), 1, || async { Err("no") }).await;
        assert_eq!(fails, Some(Err("no")));
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// Asks for a thing and lets go of it.
        Ask(u32),
        /// Asks for a thing and goes on using it.
        Hold(u32),
        /// Lets go of everything that is in use.
        LetGo,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1..12u32).prop_map(Step::Ask),
            2 => (1..12u32).prop_map(Step::Hold),
            1 => Just(Step::LetGo),
        ];
        prop::collection::vec(step, 1..80)
    }

    /// What should be loaded, that which was asked for last at the end.
    #[derive(Default)]
    struct Model {
        order: Vec<u32>,
        held: HashMap<u32, Arc<u64>>,
    }

    impl Model {
        fn ask(&mut self, asked: u32, most_bytes: u64) {
            let known = self.order.iter().position(|number| *number == asked);
            if let Some(known) = known {
                self.order.remove(known);
            }
            self.order.push(asked);
            // Only loading something evicts.
            while known.is_none()
                && self.order.iter().map(|number| bytes(*number)).sum::<u64>() > most_bytes
            {
                let goes = |number: &u32| *number != asked && !self.held.contains_key(number);
                let Some(first) = self.order.iter().position(goes) else { break };
                self.order.remove(first);
            }
        }
    }

    fn bytes(number: u32) -> u64 {
        u64::from(number % 5) * 3
    }

    proptest! {
        #[test]
        fn the_least_recently_used_goes_first(steps in steps(), most_bytes in 0..40u64) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let (ready, mut model) = (narrow(most_bytes), Model::default());
                for step in steps {
                    match step {
                        Step::Ask(number) => {
                            load(&ready, number, bytes(number)).await;
                            model.ask(number, most_bytes);
                        }
                        Step::Hold(number) => {
                            let thing = load(&ready, number, bytes(number)).await;
                            model.ask(number, most_bytes);
                            model.held.insert(number, thing);
                        }
                        Step::LetGo => model.held.clear(),
                    }
                    let expected: Vec<u32> = model.order.iter().rev().copied().collect();
                    prop_assert_eq!(loaded(&ready), expected);
                    let sum: u64 = model.order.iter().map(|number| bytes(*number)).sum();
                    prop_assert_eq!(ready.0.room.loaded_bytes.get(), signed(sum));
                    prop_assert_eq!(ready.0.room.loaded.get(), signed(model.order.len() as u64));
                }
                Ok(())
            })?;
        }
    }
}
