//! What tenants have used of devices. A bounded number of them is counted one by one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quern_host_gpu::Account;
use quern_types::{DeviceId, TenantId};

use crate::metrics::{MOST_LABELLED, OTHER};

/// The account of each tenant on each device.
#[derive(Default)]
pub(super) struct Accounts {
    accounts: Mutex<BTreeMap<(TenantId, DeviceId), Arc<Account>>>,
}

impl Accounts {
    /// The account of a tenant; where there are too many, one that it shares with others.
    pub(super) fn of(&self, tenant: &TenantId, device: DeviceId) -> Arc<Account> {
        let mut accounts = self.lock();
        let is_full = accounts.len() >= MOST_LABELLED;
        let key = (tenant.clone(), device);
        match is_full && !accounts.contains_key(&key) {
            false => Arc::clone(accounts.entry(key).or_default()),
            true => Arc::clone(accounts.entry((TenantId::new(OTHER), device)).or_default()),
        }
    }

    /// By what name a tenant's use is shown.
    pub(super) fn shown(&self, tenant: &TenantId, device: DeviceId) -> TenantId {
        let key = (tenant.clone(), device);
        if self.lock().contains_key(&key) { key.0 } else { TenantId::new(OTHER) }
    }

    /// All of them, by tenant.
    pub(super) fn all(&self) -> Vec<((TenantId, DeviceId), Arc<Account>)> {
        self.lock().iter().map(|(key, account)| (key.clone(), Arc::clone(account))).collect()
    }

    /// Forgets the accounts that no session counts into, of tenants that `keep` says no to.
    pub(super) fn retain(&self, keep: impl Fn(&TenantId) -> bool) {
        self.lock().retain(|(tenant, _), account| {
            Arc::strong_count(account) > 1 || tenant.as_str() == OTHER || keep(tenant)
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TenantId, DeviceId), Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_go_when_nobody_needs_them() {
        let accounts = Accounts::default();
        let (a, b, c) = (TenantId::new("a"), TenantId::new("b"), TenantId::new("c"));
        let device = DeviceId::Cpu(0);
        let in_use = accounts.of(&a, device);
        accounts.of(&b, device);
        accounts.of(&c, device);
        assert!(Arc::ptr_eq(&in_use, &accounts.of(&a, device)));
        accounts.retain(|tenant| *tenant == c);
        let kept: Vec<_> = accounts.all().into_iter().map(|((tenant, _), _)| tenant).collect();
        assert_eq!(kept, [a.clone(), c.clone()]);
        drop(in_use);
        accounts.retain(|tenant| *tenant == c);
        assert_eq!(accounts.all().len(), 1);
    }

    #[test]
    fn tenants_beyond_a_bound_share_an_account() {
        let accounts = Accounts::default();
        let device = DeviceId::Cpu(0);
        for number in 0..MOST_LABELLED {
            accounts.of(&TenantId::new(&format!("t{number}")), device);
        }
        let late = ["x", "y"].map(|tenant| accounts.of(&TenantId::new(tenant), device));
        assert!(Arc::ptr_eq(&late[0], &late[1]));
        let early = accounts.of(&TenantId::new("t7"), device);
        assert!(!Arc::ptr_eq(&early, &late[0]));
        assert_eq!(accounts.all().len(), MOST_LABELLED + 1);
    }
}
