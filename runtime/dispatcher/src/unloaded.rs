//! The versions that were unloaded on request: no call loads them until they are loaded on request
//! again. A note of this process alone, which a restart forgets.

use std::{
    collections::HashSet,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use quern_types::{Name, TenantId};

use crate::ready::VersionKey;

/// The unloaded versions of models, or of functions.
#[derive(Debug, Default)]
pub(crate) struct Unloaded {
    versions: RwLock<HashSet<VersionKey>>,
    /// How many there are. Every call asks, and there are none as a rule: then it takes no lock,
    /// which all calls of all models would share.
    count: AtomicUsize,
}

impl Unloaded {
    pub(crate) fn contains(&self, key: &VersionKey) -> bool {
        !self.is_empty()
            && self.versions.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    pub(crate) fn note(&self, keys: impl IntoIterator<Item = VersionKey>) {
        self.change(|versions| versions.extend(keys));
    }

    /// Forgets all versions of a name.
    pub(crate) fn forget(&self, tenant: &TenantId, name: &Name) {
        self.retain(|key| key.tenant != *tenant || key.name != *name);
    }

    /// Forgets the versions that `keep` says no to.
    pub(crate) fn retain(&self, keep: impl Fn(&VersionKey) -> bool) {
        if !self.is_empty() {
            self.change(|versions| versions.retain(keep));
        }
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn change(&self, change: impl FnOnce(&mut HashSet<VersionKey>)) {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut versions);
        self.count.store(versions.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use quern_types::VersionNumber;

    use super::*;

    fn key(name: &str, version: u32) -> VersionKey {
        VersionKey {
            tenant: TenantId::default(),
            name: name.parse().expect("a name"),
            version: VersionNumber::new(version).expect("not zero"),
        }
    }

    #[test]
    fn versions_stay_unloaded_until_their_name_is_forgotten() {
        let unloaded = Unloaded::default();
        assert!(!unloaded.contains(&key("a", 1)));
        unloaded.note([key("a", 1), key("a", 2), key("b", 1)]);
        assert!(unloaded.contains(&key("a", 1)) && unloaded.contains(&key("a", 2)));
        assert!(!unloaded.contains(&key("a", 3)), "deployed since");
        unloaded.forget(&TenantId::default(), &key("a", 1).name);
        assert!(!unloaded.contains(&key("a", 2)) && unloaded.contains(&key("b", 1)));
        unloaded.retain(|key| key.name.as_str() != "b");
        assert!(!unloaded.contains(&key("b", 1)));
        assert!(unloaded.is_empty());
        unloaded.note([key("b", 1)]);
        assert!(unloaded.contains(&key("b", 1)) && !unloaded.contains(&key("a", 1)));
    }
}
