//! The versions that were unloaded on request: no call loads them until they are loaded on request
//! again. A note of this process alone, which a restart forgets.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use quern_types::{Name, TenantId};

use crate::ready::VersionKey;

/// The unloaded versions of models, or of functions.
#[derive(Debug, Default)]
pub(crate) struct Unloaded(RwLock<HashSet<VersionKey>>);

impl Unloaded {
    pub(crate) fn contains(&self, key: &VersionKey) -> bool {
        let unloaded = self.read();
        !unloaded.is_empty() && unloaded.contains(key)
    }

    pub(crate) fn note(&self, keys: impl IntoIterator<Item = VersionKey>) {
        self.write().extend(keys);
    }

    /// Forgets all versions of a name.
    pub(crate) fn forget(&self, tenant: &TenantId, name: &Name) {
        self.write().retain(|key| key.tenant != *tenant || key.name != *name);
    }

    /// Forgets the versions that `keep` says no to.
    pub(crate) fn retain(&self, keep: impl Fn(&VersionKey) -> bool) {
        if !self.read().is_empty() {
            self.write().retain(keep);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashSet<VersionKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashSet<VersionKey>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
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
    }
}
