//! The live loop of canaries: looks at each one every second, and does what is decided. What is
//! counted lives elsewhere, and so does where a canary stands: a restart goes on with the step that
//! it was at, which begins anew.

mod decision;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quern_store::{TrafficChange, TrafficError};
use quern_types::{
    Caller, Canary, CanaryState, Class, Name, OutcomeCounts, Role, Routes, TenantId, VersionNumber,
};

use crate::deployer::Parts;
use decision::Action;
pub use decision::{Observed, Waiting};

/// How often a canary is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// A canary as it is seen from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryStatus {
    /// What it is and where it stands.
    pub canary: Arc<Canary>,
    /// What was counted in its step; none once it has ended, and until it was looked at.
    pub observed: Option<Observed>,
    /// What its step waits for.
    pub waiting: Option<Waiting>,
}

/// Whose canary it is: there is one of a name at a time.
type Key = (TenantId, Class, Name);

/// The canaries that run, with what had been counted when their steps began.
#[derive(Debug, Default)]
pub(crate) struct Canaries(Mutex<HashMap<Key, Watched>>);

#[derive(Debug)]
struct Watched {
    canary: Arc<Canary>,
    /// What had been counted before, and since when that counts.
    before: Observed,
    observed: Observed,
    waiting: Option<Waiting>,
}

impl Canaries {
    /// Watches a canary that was just started, or forgets one that has ended.
    pub(crate) fn note(&self, key: Key, parts: &Parts) {
        let canary = find(&parts.store.catalog().routes(), &key);
        let mut watched = self.lock();
        match canary.filter(|canary| canary.step().is_some()) {
            Some(canary) => {
                let before = parts.count(&key, &canary);
                let observed = Observed { since_us: before.since_us, ..Observed::default() };
                watched.insert(key, Watched { canary, before, observed, waiting: None });
            }
            None => {
                watched.remove(&key);
            }
        }
    }

    /// What is known of a name's canary.
    pub(crate) fn status(&self, key: &Key, canary: Arc<Canary>) -> CanaryStatus {
        let watched = self.lock();
        let of_now = watched.get(key).filter(|watched| watched.canary == canary);
        let observed = of_now.map(|watched| watched.observed.clone());
        let waiting = of_now.and_then(|watched| watched.waiting);
        CanaryStatus { canary, observed, waiting }
    }

    fn keys(&self) -> Vec<Key> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the canaries that run, for as long as the deployer lives.
pub(crate) async fn watch(parts: Weak<Parts>) {
    if let Some(parts) = parts.upgrade() {
        let routes = parts.store.catalog().routes();
        for key in running(&routes) {
            parts.canaries.note(key, &parts);
        }
    }
    loop {
        tokio::time::sleep(PERIOD).await;
        let Some(parts) = parts.upgrade() else { return };
        for key in parts.canaries.keys() {
            parts.look_at(key).await;
        }
    }
}

impl Parts {
    /// Looks at a canary once, and does what is decided.
    async fn look_at(&self, key: Key) {
        let Some(canary) = find(&self.store.catalog().routes(), &key) else {
            return self.canaries.note(key, self);
        };
        let action = {
            let now = self.count(&key, &canary);
            let mut watched = self.canaries.lock();
            let Some(watched) = watched.get_mut(&key) else { return };
            if watched.canary != canary {
                None
            } else {
                watched.observed = Observed {
                    since_us: watched.before.since_us,
                    old: now.old.since(&watched.before.old),
                    new: now.new.since(&watched.before.new),
                };
                let action = decision::step(&canary, &watched.observed, now.since_us);
                watched.waiting = match action {
                    Some(Action::Wait(waiting)) => Some(waiting),
                    _ => None,
                };
                action
            }
        };
        match action {
            Some(Action::Wait(_)) => {}
            Some(Action::Enter(to)) => {
                self.enter(&key, &canary, to).await;
                self.canaries.note(key, self);
            }
            // It was changed from outside, or has ended.
            None => self.canaries.note(key, self),
        }
    }

    /// Takes a canary to another state, in the name of whoever started it.
    async fn enter(&self, key: &Key, canary: &Canary, to: CanaryState) {
        let (tenant, class, name) = key;
        let caller = Caller { tenant: tenant.clone(), role: Role::Deployer, token: canary.token };
        let change = TrafficChange::MoveCanary { canary: canary.clone(), to: to.clone() };
        let version = canary.version;
        match self.store.catalog().change_traffic(&caller, *class, name, change).await {
            Ok(()) => match to {
                CanaryState::Running { step, .. } => {
                    let percent = canary.steps.at(step).map_or(0, |step| step.percent);
                    tracing::info!(%tenant, %class, %name, %version, percent, "canary goes on");
                }
                CanaryState::Promoted { reason, .. } => {
                    self.ended.promoted.inc();
                    tracing::info!(%tenant, %class, %name, %version, reason, "canary promoted");
                }
                CanaryState::RolledBack { reason, .. } | CanaryState::Aborted { reason, .. } => {
                    self.ended.rolled_back.inc();
                    tracing::warn!(%tenant, %class, %name, %version, reason, "canary rolled back");
                }
            },
            // Somebody was faster; what they did counts.
            Err(TrafficError::NoCanary { .. } | TrafficError::NotFound { .. }) => {}
            Err(error) => {
                tracing::error!(%tenant, %class, %name, %error, "canary waits for the store");
            }
        }
    }

    /// What has been counted of a canary's versions up to now.
    fn count(&self, key: &Key, canary: &Canary) -> Observed {
        let (tenant, class, name) = key;
        let count = |version: VersionNumber| -> OutcomeCounts {
            self.outcomes.outcomes(*class, tenant, name, version)
        };
        Observed { since_us: now_us(), old: count(canary.from), new: count(canary.version) }
    }
}

/// The last canary of a name.
pub(crate) fn find(routes: &Routes, (tenant, class, name): &Key) -> Option<Arc<Canary>> {
    let routing = match class {
        Class::Function => routes.function(tenant, name).and_then(|function| function.routing()),
        Class::Model => routes.model(tenant, name).and_then(|model| model.routing()),
    };
    routing.and_then(|routing| routing.canary.clone())
}

fn running(routes: &Routes) -> Vec<Key> {
    let mut keys = Vec::new();
    for (tenant, own) in routes.tenants() {
        let functions = own.functions.keys().map(|name| (Class::Function, name));
        let models = own.models.keys().map(|name| (Class::Model, name));
        let all =
            functions.chain(models).map(|(class, name)| (tenant.clone(), class, name.clone()));
        keys.extend(
            all.filter(|key| find(routes, key).is_some_and(|canary| canary.step().is_some())),
        );
    }
    keys
}

pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
