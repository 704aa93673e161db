//! Tensors that sessions offer to others of their tenant: each waits under a ticket, charged to the
//! tenant, until it is taken or its time has passed. Never hands anything to another tenant.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use prometheus::{IntCounterVec, Opts, Registry};
use quern_operators::{Description, OfferError, Parcel, Ticket};
use quern_types::{DeviceId, TenantId};

use super::Lease;

/// Tensors of one tenant that may wait at a time.
pub(super) const MOST_OF_TENANT: usize = 64;

/// How offers end.
const OUTCOMES: [&str; 2] = ["accepted", "expired"];

/// All that wait.
pub(super) struct Offers {
    waiting: Mutex<HashMap<Ticket, Offer>>,
    ended: IntCounterVec,
}

/// A tensor that waits.
pub(super) struct Offer {
    pub(super) tenant: TenantId,
    pub(super) device: DeviceId,
    pub(super) until: Instant,
    /// Goes before the lease that stands for its memory.
    pub(super) parcel: Parcel,
    pub(super) lease: Lease,
}

impl Offers {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let ended = IntCounterVec::new(
            Opts::new(
                "quern_device_offers_total",
                "Tensors offered by functions, by how that ended",
            ),
            &["outcome"],
        )?;
        for outcome in OUTCOMES {
            ended.with_label_values(&[outcome]);
        }
        registry.register(Box::new(ended.clone()))?;
        Ok(Self { waiting: Mutex::default(), ended })
    }

    /// Whether a tenant may offer one more, as far as can be told before it is made.
    pub(super) fn check(&self, tenant: &TenantId, now: Instant) -> Result<(), OfferError> {
        self.expire(now);
        room(&self.lock(), tenant)
    }

    /// Keeps a tensor under a ticket that there was not before, unless as many as may wait already.
    pub(super) fn make(&self, offer: Offer) -> Result<Ticket, OfferError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| OfferError::Ticket { reason: error.to_string() })?;
        let ticket = Ticket::from_random(random);
        let mut waiting = self.lock();
        if let Err(error) = room(&waiting, &offer.tenant) {
            // Before the offer, to drop which may free much.
            drop(waiting);
            return Err(error);
        }
        waiting.insert(ticket, offer);
        Ok(ticket)
    }

    /// What waits under a ticket of the tenant.
    pub(super) fn describe(
        &self,
        tenant: &TenantId,
        ticket: Ticket,
        now: Instant,
    ) -> Option<Description> {
        let waiting = self.lock();
        let offer = waiting.get(&ticket).filter(|offer| offer.is_for(tenant, now));
        offer.map(|offer| offer.parcel.description())
    }

    /// Takes it.
    pub(super) fn take(&self, tenant: &TenantId, ticket: Ticket, now: Instant) -> Option<Parcel> {
        let mut waiting = self.lock();
        waiting.get(&ticket).filter(|offer| offer.is_for(tenant, now))?;
        let offer = waiting.remove(&ticket)?;
        drop(waiting);
        self.ended.with_label_values(&["accepted"]).inc();
        // The session that asks for it has leased the memory for its tensors.
        drop(offer.lease);
        Some(offer.parcel)
    }

    /// Drops what nobody has taken in time.
    pub(super) fn expire(&self, now: Instant) {
        let late: Vec<_> = self.lock().extract_if(|_, offer| offer.until <= now).collect();
        self.ended.with_label_values(&["expired"]).inc_by(late.len() as u64);
    }

    /// How many wait on a device.
    pub(super) fn waiting(&self, device: DeviceId) -> usize {
        self.lock().values().filter(|offer| offer.device == device).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ticket, Offer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offer {
    fn is_for(&self, tenant: &TenantId, now: Instant) -> bool {
        self.tenant == *tenant && now < self.until
    }
}

fn room(waiting: &HashMap<Ticket, Offer>, tenant: &TenantId) -> Result<(), OfferError> {
    let own = waiting.values().filter(|offer| offer.tenant == *tenant).count();
    let limit = MOST_OF_TENANT;
    if own < limit { Ok(()) } else { Err(OfferError::Waiting { limit }) }
}
