//! How much callers may ask for: how often, by the generic cell rate algorithm (ITU-T I.371), and
//! how much at a time. Nobody waits here: what is too much is refused at once.

mod meter;
mod metrics;

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use prometheus::Registry;
use quern_types::{TenantId, TenantLimits};

use meter::Meter;
pub(crate) use meter::Rate;
use metrics::TenantCounters;
pub(crate) use metrics::{Refusal, RequestMetrics};

/// Most tenants that are known at a time, and most addresses; those that ask for nothing go first.
const MOST: usize = 65_536;
/// Time between two looks for what may go.
const SWEEP: Duration = Duration::from_secs(1);
/// Requests without a good token that are written to the log; all are counted.
const LOGGED: Rate = Rate::new(10, 100);

/// How much callers may ask for, where nothing else is said of their tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerLimits {
    /// Calls of each tenant.
    pub calls: TenantLimits,
    /// Whatever else each tenant asks for.
    pub control: TenantLimits,
    /// Calls without a token: so often from one address, and so many at a time from all together.
    pub anonymous: TenantLimits,
    /// Requests of one address that show no good token.
    pub refused: TenantLimits,
}

impl Default for CallerLimits {
    fn default() -> Self {
        let rate = |per_second, burst, concurrency| TenantLimits {
            requests_per_second: Some(per_second),
            burst: Some(burst),
            concurrency,
        };
        Self {
            calls: TenantLimits::default(),
            control: rate(100, 1_000, None),
            anonymous: rate(50, 100, Some(64)),
            refused: rate(10, 500, None),
        }
    }
}

/// What a request takes of its caller's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    /// Nothing: it is for everybody.
    Nothing,
    /// One call.
    Call,
    /// One request of another kind.
    Control,
}

/// Why a request is one too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitError {
    /// The tenant asks too often.
    #[error("tenant {tenant:?} asks for more than {per_second} requests a second: try again later")]
    Rate {
        /// The tenant.
        tenant: TenantId,
        /// What it may ask for.
        per_second: u32,
        /// When another try may succeed.
        wait: Duration,
    },
    /// The tenant has too much under way.
    #[error("tenant {tenant:?} has {limit} calls under way, as many as it may: try again later")]
    Concurrency {
        /// The tenant.
        tenant: TenantId,
        /// The limit.
        limit: u32,
    },
    /// The address asks too often without a token, or with a wrong one.
    #[error("too many requests without a valid token come from this address: try again later")]
    Address {
        /// When another try may succeed.
        wait: Duration,
    },
}

/// What is counted of callers.
pub(crate) struct Limiter {
    start: Instant,
    config: CallerLimits,
    tenants: DashMap<TenantId, Arc<TenantUse>>,
    addresses: DashMap<IpAddr, Arc<AddressUse>>,
    /// Of all addresses for which there is no room.
    others: Arc<AddressUse>,
    swept_ns: AtomicU64,
    logged: Meter,
    metrics: RequestMetrics,
}

struct TenantUse {
    calls: Meter,
    control: Meter,
    running: AtomicU32,
    counters: TenantCounters,
}

#[derive(Default)]
struct AddressUse {
    calls: Meter,
    refused: Meter,
}

/// A call that counts as under way until this is dropped.
#[must_use]
pub(crate) struct Permit(Option<Arc<TenantUse>>);

impl Permit {
    /// Of what is not counted.
    pub(crate) const NONE: Self = Self(None);

    /// Whether anything ends with it.
    pub(crate) fn counts(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(tenant) = self.0.take() {
            tenant.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Limiter {
    pub(crate) fn new(
        config: CallerLimits,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            start: Instant::now(),
            config,
            tenants: DashMap::new(),
            addresses: DashMap::new(),
            others: Arc::default(),
            swept_ns: AtomicU64::new(0),
            logged: Meter::default(),
            metrics: RequestMetrics::register(registry)?,
        })
    }

    /// What a tenant's calls are held to.
    pub(crate) fn effective(&self, own: TenantLimits) -> TenantLimits {
        own.or(self.config.calls)
    }

    /// Charges a tenant that has shown a token with a call.
    pub(crate) fn call(&self, tenant: &TenantId, own: TenantLimits) -> Result<Permit, LimitError> {
        let limits = self.effective(own);
        let of = self.tenant(tenant);
        let permit = begin(&of, tenant, limits.concurrency)?;
        if let Some((per_second, rate)) = rate_of(limits) {
            self.take(&of, &of.calls, tenant, per_second, rate)?;
        }
        of.counters.admitted.inc();
        Ok(permit)
    }

    /// Charges a tenant that has shown a token with a request that is no call.
    pub(crate) fn control(&self, tenant: &TenantId) -> Result<(), LimitError> {
        let of = self.tenant(tenant);
        if let Some((per_second, rate)) = rate_of(self.config.control) {
            self.take(&of, &of.control, tenant, per_second, rate)?;
        }
        of.counters.admitted.inc();
        Ok(())
    }

    /// Charges an address with a call that shows no token; all such calls are counted as one
    /// tenant's, too.
    pub(crate) fn anonymous(
        &self,
        nobody: &TenantId,
        address: IpAddr,
    ) -> Result<Permit, LimitError> {
        let of = self.tenant(nobody);
        let permit = begin(&of, nobody, self.config.anonymous.concurrency)?;
        if let Some((_, rate)) = rate_of(self.config.anonymous) {
            let now = self.now_ns();
            let taken = self.address(address, now).calls.take(now, rate);
            taken.map_err(|wait| {
                of.counters.rate.inc();
                LimitError::Address { wait }
            })?;
        }
        of.counters.admitted.inc();
        Ok(permit)
    }

    /// Counts a request that is not let in, and charges its address if it may have been a guess.
    pub(crate) fn refused(
        &self,
        refusal: Refusal,
        address: Option<IpAddr>,
    ) -> Result<(), LimitError> {
        self.metrics.refused(refusal);
        let Some((address, (_, rate))) = address.zip(rate_of(self.config.refused)) else {
            return Ok(());
        };
        let now = self.now_ns();
        let taken = self.address(address, now).refused.take(now, rate);
        taken.map_err(|wait| {
            self.metrics.refused(Refusal::Rate);
            LimitError::Address { wait }
        })
    }

    /// Whether one more line of the log is no burden.
    pub(crate) fn may_log(&self) -> bool {
        self.logged.take(self.now_ns(), LOGGED).is_ok()
    }

    fn take(
        &self,
        of: &TenantUse,
        meter: &Meter,
        tenant: &TenantId,
        per_second: u32,
        rate: Rate,
    ) -> Result<(), LimitError> {
        meter.take(self.now_ns(), rate).map_err(|wait| {
            of.counters.rate.inc();
            LimitError::Rate { tenant: tenant.clone(), per_second, wait }
        })
    }

    fn tenant(&self, tenant: &TenantId) -> Arc<TenantUse> {
        if let Some(known) = self.tenants.get(tenant) {
            return known.clone();
        }
        let now = self.now_ns();
        if self.tenants.len() >= MOST && self.may_sweep(now) {
            self.tenants.retain(|tenant, of| {
                let stays = !of.is_idle(now);
                if !stays {
                    self.metrics.forget(tenant);
                }
                stays
            });
        }
        let made = || {
            Arc::new(TenantUse {
                calls: Meter::default(),
                control: Meter::default(),
                running: AtomicU32::new(0),
                counters: self.metrics.tenant(tenant),
            })
        };
        self.tenants.entry(tenant.clone()).or_insert_with(made).clone()
    }

    fn address(&self, address: IpAddr, now: u64) -> Arc<AddressUse> {
        let network = network(address);
        if let Some(known) = self.addresses.get(&network) {
            return known.clone();
        }
        if self.addresses.len() >= MOST && self.may_sweep(now) {
            self.addresses.retain(|_, of| !of.calls.is_idle(now) || !of.refused.is_idle(now));
        }
        match self.addresses.len() < MOST {
            true => self.addresses.entry(network).or_default().clone(),
            false => self.others.clone(),
        }
    }

    fn may_sweep(&self, now: u64) -> bool {
        let last = self.swept_ns.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(last) >= nanoseconds(SWEEP);
        let swap =
            |to| self.swept_ns.compare_exchange(last, to, Ordering::Relaxed, Ordering::Relaxed);
        is_due && swap(now).is_ok()
    }

    fn now_ns(&self) -> u64 {
        nanoseconds(self.start.elapsed())
    }
}

impl TenantUse {
    fn is_idle(&self, now: u64) -> bool {
        let runs = self.running.load(Ordering::Relaxed) > 0;
        !runs && self.calls.is_idle(now) && self.control.is_idle(now)
    }
}

/// Counts one more call as under way, where there is a limit on that.
fn begin(of: &Arc<TenantUse>, tenant: &TenantId, limit: Option<u32>) -> Result<Permit, LimitError> {
    let Some(limit) = limit else { return Ok(Permit::NONE) };
    let more = |running: u32| (running < limit).then_some(running + 1);
    match of.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
        Ok(_) => Ok(Permit(Some(of.clone()))),
        Err(_) => {
            of.counters.concurrency.inc();
            Err(LimitError::Concurrency { tenant: tenant.clone(), limit })
        }
    }
}

fn rate_of(limits: TenantLimits) -> Option<(u32, Rate)> {
    let per_second = limits.requests_per_second?;
    Some((per_second, Rate::new(per_second, limits.burst.unwrap_or(per_second))))
}

/// What one subscriber can send from: an address, or all of an IPv6 network.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
