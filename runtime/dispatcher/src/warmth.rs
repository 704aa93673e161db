//! Warm starts: notes which functions are in use, and loads them again after a restart, in the
//! background. Never delays a request for more than one load, and never fails a start.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use quern_store::RecentFunction;

use crate::{Functions, drain::Drain, ready::VersionKey};

/// Functions that are remembered from one run to the next.
const MOST: u32 = 20_000;

/// What was noted last.
#[derive(Default)]
pub(crate) struct Warmth(Mutex<Vec<RecentFunction>>);

impl Functions {
    /// Loads the functions that were in use before the last stop, the most recent ones first, one
    /// at a time and with a pause between them, while there is room and `drain` admits work. Code
    /// of another engine is compiled anew.
    pub(crate) async fn warm(&self, drain: &Drain) {
        let recent = self.loader.store.recent().read().await;
        self.note(&recent);
        let (started, mut loaded) = (Instant::now(), 0u32);
        for (RecentFunction { tenant, name }, rank) in recent.iter().zip((1..=MOST).rev()) {
            if self.ready.is_full() {
                break;
            }
            // What has been deleted meanwhile is no loss.
            let Ok(version) = self.resolve(tenant, name, None) else { continue };
            let Some(work) = drain.admit() else { return };
            let key = VersionKey::new(tenant, name, version.number);
            let start = Instant::now();
            let load = || self.loader.clone().load(key.clone(), version);
            match self.ready.warm(&key, rank, load).await {
                Some(Ok(())) => loaded += 1,
                Some(Err(error)) => {
                    tracing::warn!(%tenant, function = %name, %error, "not loaded ahead of calls");
                }
                None => {
                    tracing::error!(%tenant, function = %name, "loading failed in the host");
                }
            }
            drop(work);
            // As long again for others: at most half a processor's time.
            tokio::time::sleep(start.elapsed()).await;
        }
        if loaded > 0 {
            tracing::info!(functions = loaded, took = ?started.elapsed(), "loaded ahead of calls");
        }
    }

    /// Notes which functions are loaded, and after them those that were noted before, for the next
    /// start to load. Does nothing if that has not changed.
    pub(crate) async fn remember(&self) {
        let routes = self.loader.store.catalog().routes();
        let before = self.warmth.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let loaded = self.ready.by_recency().into_iter();
        let loaded = loaded.map(|VersionKey { tenant, name, .. }| RecentFunction { tenant, name });
        let mut seen = HashSet::new();
        let recent: Vec<_> = loaded
            .chain(before.iter().cloned())
            .filter(|function| routes.function(&function.tenant, &function.name).is_some())
            .filter(|function| seen.insert(function.clone()))
            .take(MOST as usize)
            .collect();
        if recent != before {
            self.note(&recent);
            self.loader.store.recent().write(recent).await;
        }
    }

    fn note(&self, recent: &[RecentFunction]) {
        *self.warmth.0.lock().unwrap_or_else(PoisonError::into_inner) = recent.to_vec();
    }
}
