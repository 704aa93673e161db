//! Device tensors of functions: asks the scheduler for a place, opens the session there, and knows
//! who uses how much. Never computes, and never decides who gets what.

mod accounts;
mod collector;
mod offers;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use prometheus::{IntCounterVec, Opts, Registry};
use quern_host_gpu::{Opening, TensorDevice};
use quern_operators::{
    Description, KernelCalls, KernelSession, OfferError, OpenError, Parcel, SessionRequest, Ticket,
};
use quern_scheduler::{LeaseAction, LeaseEvent, LeaseId, LeaseRefusal, LeasedDevice, Leases};
use quern_types::{
    AbsentDevice, ByteSize, DeviceDescription, DeviceId, TenantId, TensorDescription,
};

use accounts::Accounts;
use collector::KernelsCollector;
use offers::{Offer, Offers};

/// Why a session may be refused.
const REFUSALS: [&str; 6] = ["kind", "too-large", "tenant", "memory", "sessions", "lost"];

/// What functions may have of each device for tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelsConfig {
    /// Memory of all sessions together, of a device that has none of its own.
    pub memory: ByteSize,
    /// Memory of the sessions of one tenant; none: as much as there is.
    pub tenant_memory: Option<ByteSize>,
    /// Sessions at a time.
    pub sessions: usize,
}

impl Default for KernelsConfig {
    fn default() -> Self {
        Self { memory: ByteSize::mib(1 << 10), tenant_memory: None, sessions: 1_024 }
    }
}

/// The devices of this node, for the tensors of functions.
pub struct Kernels {
    shared: Arc<Shared>,
    absent: Vec<AbsentDevice>,
}

struct Shared {
    devices: Vec<TensorDevice>,
    leases: Arc<Mutex<Leases>>,
    next: AtomicU64,
    accounts: Accounts,
    offers: Offers,
    refused: IntCounterVec,
}

/// A lease, given back with its drop. A lane may be what drops it, so that it keeps no device.
struct Lease {
    id: LeaseId,
    leases: Arc<Mutex<Leases>>,
}

impl Kernels {
    /// These devices, nothing of which is in use.
    pub fn new(
        config: KernelsConfig,
        devices: Vec<TensorDevice>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let leased = devices.iter().map(|device| {
            // That of the host is shared with all else there is.
            let memory_bytes = device.own_memory().unwrap_or(config.memory.0);
            LeasedDevice {
                id: device.id(),
                memory_bytes,
                tenant_bytes: config
                    .tenant_memory
                    .map_or(memory_bytes, |most| most.0.min(memory_bytes)),
                sessions: config.sessions,
                lanes: device.lanes(),
            }
        });
        let refused = IntCounterVec::new(
            Opts::new("quern_device_refused_sessions_total", "Sessions of tensors refused"),
            &["reason"],
        )?;
        for reason in REFUSALS {
            refused.with_label_values(&[reason]);
        }
        registry.register(Box::new(refused.clone()))?;
        let leases = Arc::new(Mutex::new(Leases::new(leased)));
        let (next, accounts) = (AtomicU64::new(0), Accounts::default());
        let offers = Offers::new(registry)?;
        let shared = Arc::new(Shared { devices, leases, next, accounts, offers, refused });
        registry.register(Box::new(KernelsCollector::new(Arc::downgrade(&shared))?))?;
        Ok(Self { shared, absent: Vec::new() })
    }

    /// The same, which also says of these devices why they are not there.
    pub fn without(self, absent: Vec<AbsentDevice>) -> Self {
        Self { absent, ..self }
    }

    /// Devices that are not there.
    pub(crate) fn absent(&self) -> &[AbsentDevice] {
        &self.absent
    }

    /// The devices that compute tensors and nothing else, as people see them.
    pub(crate) fn devices(&self) -> impl Iterator<Item = DeviceDescription> + '_ {
        self.shared.devices.iter().filter_map(|device| {
            let worker = device.process()?;
            Some(DeviceDescription {
                id: device.id(),
                name: device.model()?.to_owned(),
                lanes: device.lanes(),
                engines: Vec::new(),
                replicas: 0,
                residents: Vec::new(),
                tensors: self.describe(device.id()),
                down: worker.down.clone(),
                worker: Some(worker),
            })
        })
    }

    /// What a device has for tensors; none: nothing.
    pub(crate) fn describe(&self, id: DeviceId) -> Option<TensorDescription> {
        let device = self.shared.devices.iter().find(|device| device.id() == id)?;
        let leases = self.shared.leases();
        let leased = leases.leased().find(|leased| leased.device.id == id)?;
        drop(leases);
        Some(TensorDescription {
            memory_bytes: leased.device.memory_bytes,
            tenant_memory_bytes: leased.device.tenant_bytes,
            leased_bytes: leased.bytes,
            held_bytes: device.held_bytes(),
            lanes: device.lanes(),
            sessions: leased.leases,
            max_sessions: leased.device.sessions,
            waiting: device.status().iter().map(|lane| lane.waiting).sum(),
        })
    }

    /// Drops offers whose time has passed, and forgets what was counted of tenants that have no
    /// function.
    pub(crate) fn sweep(&self, exists: impl Fn(&TenantId) -> bool) {
        self.shared.offers.expire(Instant::now());
        self.shared.accounts.retain(exists);
    }
}

impl KernelCalls for Kernels {
    fn open(
        &self,
        request: SessionRequest,
    ) -> BoxFuture<'static, Result<Box<dyn KernelSession>, OpenError>> {
        let shared = Arc::clone(&self.shared);
        async move {
            let opened = shared.open(&request).await;
            if let Err((reason, error)) = &opened {
                shared.refused.with_label_values(&[*reason]).inc();
                let SessionRequest { tenant, function, .. } = &request;
                tracing::debug!(%tenant, %function, %error, "no session of a device");
            }
            opened.map_err(|(_, error)| error)
        }
        .boxed()
    }

    fn offer(
        &self,
        tenant: &TenantId,
        parcel: Parcel,
        lifetime: Duration,
    ) -> Result<Ticket, OfferError> {
        self.shared.offer(tenant, parcel, lifetime, Instant::now())
    }

    fn offered(&self, tenant: &TenantId, ticket: Ticket) -> Option<Description> {
        self.shared.offers.describe(tenant, ticket, Instant::now())
    }

    fn accept(&self, tenant: &TenantId, ticket: Ticket) -> Option<Parcel> {
        self.shared.offers.take(tenant, ticket, Instant::now())
    }
}

impl Shared {
    /// A session, or why there is none, also as metrics call it. A device whose process is just being
    /// started is waited for.
    async fn open(
        &self,
        request: &SessionRequest,
    ) -> Result<Box<dyn KernelSession>, (&'static str, OpenError)> {
        let bytes = request.memory_bytes;
        let share_milli = request.share_milli.max(1);
        let id = LeaseId(self.next.fetch_add(1, Relaxed));
        let tenant = request.tenant.clone();
        let kind = request.device;
        // What nobody has taken in time takes up memory no longer.
        self.offers.expire(Instant::now());
        let asked = LeaseEvent::Request { lease: id, tenant, bytes, share_milli, kind };
        let answer = self.leases().step(asked);
        let (device, lane) = match answer {
            Some(LeaseAction::Grant { device, lane }) => (device, lane),
            Some(LeaseAction::Refuse(refusal)) => return Err(refused(bytes, refusal)),
            None => return Err(refused(bytes, LeaseRefusal::TooLarge { most_bytes: 0 })),
        };
        let lease = Arc::new(Lease { id, leases: Arc::clone(&self.leases) });
        let named = self.devices.iter().find(|named| named.id() == device);
        let named = named.expect("what is leased are these devices");
        let tenant = request.tenant.clone();
        let account = self.accounts.of(&tenant, device);
        let opening = Opening { lane, tenant, share_milli, bytes, account, lease };
        named.settled().await;
        named
            .open(opening)
            .map_err(|error| ("lost", OpenError::Lost { device: device.to_string(), error }))
    }

    /// Has a tensor wait, within what its tenant may have of the device.
    fn offer(
        &self,
        tenant: &TenantId,
        parcel: Parcel,
        lifetime: Duration,
        now: Instant,
    ) -> Result<Ticket, OfferError> {
        self.offers.check(tenant, now)?;
        let needed = parcel.bytes();
        let named = self.devices.iter().find(|device| device.id().to_string() == parcel.device());
        let gone = || OfferError::Busy { device: parcel.device().to_owned(), needed, left: 0 };
        let device = named.ok_or_else(gone)?.id();
        let id = LeaseId(self.next.fetch_add(1, Relaxed));
        let keep = LeaseEvent::Keep { lease: id, tenant: tenant.clone(), device, bytes: needed };
        let refusal = match self.leases().step(keep) {
            Some(LeaseAction::Grant { .. }) => None,
            Some(LeaseAction::Refuse(refusal)) => Some(refusal),
            None => Some(LeaseRefusal::TooLarge { most_bytes: 0 }),
        };
        if let Some(refusal) = refusal {
            return Err(unkept(device, needed, refusal));
        }
        let lease = Lease { id, leases: Arc::clone(&self.leases) };
        let (tenant, until) = (tenant.clone(), now + lifetime);
        self.offers.make(Offer { tenant, device, until, parcel, lease })
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }
}

fn lock(leases: &Mutex<Leases>) -> MutexGuard<'_, Leases> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Lease {
    fn drop(&mut self) {
        let released = lock(&self.leases).step(LeaseEvent::Release { lease: self.id });
        debug_assert_eq!(released, None, "there is nothing to do about it");
    }
}

/// Why a tensor is not kept.
fn unkept(device: DeviceId, needed: u64, refusal: LeaseRefusal) -> OfferError {
    match refusal {
        LeaseRefusal::Tenant { left_bytes: left, limit_bytes: limit } => {
            OfferError::Budget { needed, left, limit }
        }
        LeaseRefusal::TooLarge { most_bytes: left } | LeaseRefusal::Memory { left_bytes: left } => {
            OfferError::Busy { device: device.to_string(), needed, left }
        }
        // It is where the tensor is.
        LeaseRefusal::NoneOfKind { .. } => {
            OfferError::Busy { device: device.to_string(), needed, left: 0 }
        }
        // What waits is no session.
        LeaseRefusal::TenantSessions { limit } | LeaseRefusal::Sessions { limit } => {
            OfferError::Waiting { limit }
        }
    }
}

/// What is said of a refusal, and as what it is counted.
fn refused(needed: u64, refusal: LeaseRefusal) -> (&'static str, OpenError) {
    match refusal {
        LeaseRefusal::NoneOfKind { kind } => ("kind", OpenError::NoneOfKind { kind }),
        LeaseRefusal::TooLarge { most_bytes: most } => {
            ("too-large", OpenError::NoDevice { needed, most })
        }
        LeaseRefusal::Tenant { left_bytes: left, limit_bytes: limit } => {
            ("tenant", OpenError::Budget { needed, left, limit })
        }
        LeaseRefusal::TenantSessions { limit } => {
            ("tenant-sessions", OpenError::TenantSessions { limit })
        }
        LeaseRefusal::Memory { left_bytes: left } => ("memory", OpenError::Busy { needed, left }),
        LeaseRefusal::Sessions { limit } => ("sessions", OpenError::Sessions { limit }),
    }
}

#[cfg(test)]
mod tests;
