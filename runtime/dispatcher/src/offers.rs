//! Replicas that deployments have loaded and warmed up before their versions went live. Never keeps
//! one loaded: who made it does, until it is taken.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use quern_types::{Digest, Replica, TenantId};

/// What is offered, by the digest of the version. Its length is bounded by the deployments under
/// way.
#[derive(Default)]
pub(crate) struct Offers(Mutex<HashMap<(TenantId, Digest), Weak<dyn Replica>>>);

impl Offers {
    /// Offers a replica of a version, in place of an earlier one.
    pub(crate) fn make(&self, tenant: &TenantId, version: Digest, replica: &Arc<dyn Replica>) {
        let mut offers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offers.retain(|_, offer| offer.strong_count() > 0);
        offers.insert((tenant.clone(), version), Arc::downgrade(replica));
    }

    /// Takes what is offered for a version, if whoever made it still keeps it.
    pub(crate) fn take(&self, tenant: &TenantId, version: Digest) -> Option<Arc<dyn Replica>> {
        let mut offers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offers.remove(&(tenant.clone(), version))?.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::BoxFuture;
    use quern_types::{Batch, BatchResult, DeviceError, DeviceId};

    use super::*;

    struct Nothing;

    impl Replica for Nothing {
        fn lanes(&self) -> usize {
            1
        }

        fn run(&self, _: usize, _: Batch) -> BoxFuture<'static, Result<BatchResult, DeviceError>> {
            Box::pin(std::future::ready(Err(DeviceError::Lost { device: DeviceId::Cpu(0) })))
        }
    }

    #[test]
    fn an_offer_is_taken_once_and_only_while_it_stands() {
        let (offers, tenant) = (Offers::default(), TenantId::default());
        let [kept, dropped, other] = [b"a", b"b", b"c"].map(|text| Digest::of(text));
        let replica = || -> Arc<dyn Replica> { Arc::new(Nothing) };
        let held = replica();
        offers.make(&tenant, dropped, &replica());
        offers.make(&tenant, kept, &held);
        assert_eq!(offers.0.lock().expect("no panic").len(), 1, "what is gone is forgotten");
        assert!(offers.take(&tenant, dropped).is_none());
        assert!(offers.take(&tenant, other).is_none());
        let taken = offers.take(&tenant, kept).expect("it stands");
        assert!(Arc::ptr_eq(&taken, &held));
        assert!(offers.take(&tenant, kept).is_none(), "it is taken");
    }
}
