//! The bytes that each tenant's batches have on the disk, and may have. Never touches the disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quern_types::{ByteSize, TenantId};

/// What all tenants have.
#[derive(Debug)]
pub(crate) struct Quota {
    most: ByteSize,
    used: Mutex<HashMap<TenantId, u64>>,
}

/// A part of what a tenant may have; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Allotment {
    quota: Arc<Quota>,
    tenant: TenantId,
    bytes: u64,
}

/// A tenant has as much as it may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the batches of tenant {:?} would take up more than {most} of files together: remove some",
    tenant.as_str()
)]
pub struct QuotaExceeded {
    /// The tenant.
    pub tenant: TenantId,
    /// What it may have.
    pub most: ByteSize,
}

impl Quota {
    pub(crate) fn new(most: ByteSize) -> Arc<Self> {
        Arc::new(Self { most, used: Mutex::default() })
    }

    /// A part that is empty yet.
    pub(crate) fn allot(self: &Arc<Self>, tenant: &TenantId) -> Allotment {
        Allotment { quota: self.clone(), tenant: tenant.clone(), bytes: 0 }
    }

    fn used(&self) -> MutexGuard<'_, HashMap<TenantId, u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allotment {
    /// Takes so many bytes more, if the tenant may have them.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), QuotaExceeded> {
        let most = self.quota.most;
        let mut used = self.quota.used();
        let own = used.entry(self.tenant.clone()).or_default();
        if own.saturating_add(bytes) > most.0 {
            return Err(QuotaExceeded { tenant: self.tenant.clone(), most });
        }
        *own += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Notes bytes that are there, whether or not they may be.
    pub(crate) fn found(&mut self, bytes: u64) {
        *self.quota.used().entry(self.tenant.clone()).or_default() += bytes;
        self.bytes += bytes;
    }
}

impl Allotment {
    /// Gives back what is beyond so many bytes.
    pub(crate) fn cut_to(&mut self, bytes: u64) {
        let excess = self.bytes.saturating_sub(bytes);
        self.bytes -= excess;
        let mut used = self.quota.used();
        let Some(own) = used.get_mut(&self.tenant) else { return };
        *own = own.saturating_sub(excess);
        if *own == 0 {
            used.remove(&self.tenant);
        }
    }
}

impl Drop for Allotment {
    fn drop(&mut self) {
        self.cut_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_so_much_and_no_more_until_it_gives_some_back() {
        let quota = Quota::new(ByteSize(10));
        let (acme, other) = (TenantId::new("acme"), TenantId::new("other"));
        let mut first = quota.allot(&acme);
        first.grow(6).expect("has room");
        let mut second = quota.allot(&acme);
        let refused = second.grow(5).expect_err("too much");
        assert_eq!(refused, QuotaExceeded { tenant: acme.clone(), most: ByteSize(10) });
        second.grow(4).expect("just fits");
        quota.allot(&other).grow(10).expect("is its own");
        drop(first);
        second.grow(6).expect("there is room again");
        assert!(second.grow(1).is_err());
        second.cut_to(7);
        second.cut_to(9);
        second.grow(3).expect("what was given back");
        assert!(second.grow(1).is_err());
        drop(second);
        assert!(quota.used().is_empty());
        let mut found = quota.allot(&acme);
        found.found(11);
        assert!(found.grow(0).is_err(), "what is there counts");
    }
}
