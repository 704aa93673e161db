//! What is counted of callers: of each tenant what it asked for, and why requests were not let in.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use quern_types::TenantId;

const OUTCOMES: [&str; 3] = ["admitted", "rate", "concurrency"];

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It shows no token.
    Missing,
    /// What it shows is none.
    Malformed,
    /// There is no such token.
    Unknown,
    /// Its time is over.
    Expired,
    /// It allows less.
    Role,
    /// It is another tenant's, or the tenant that is named is none.
    Tenant,
    /// Too many came from the same address.
    Rate,
}

impl Refusal {
    const ALL: [(Self, &str); 7] = [
        (Self::Missing, "missing"),
        (Self::Malformed, "malformed"),
        (Self::Unknown, "unknown"),
        (Self::Expired, "expired"),
        (Self::Role, "role"),
        (Self::Tenant, "tenant"),
        (Self::Rate, "rate"),
    ];

    /// The word of metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The metrics of callers.
pub(crate) struct RequestMetrics {
    requests: IntCounterVec,
    refused: [IntCounter; Refusal::ALL.len()],
}

/// What is counted of one tenant.
pub(super) struct TenantCounters {
    pub(super) admitted: IntCounter,
    pub(super) rate: IntCounter,
    pub(super) concurrency: IntCounter,
}

impl RequestMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                "quern_tenant_requests_total",
                "Requests by whoever asked, and what came of that",
            ),
            &["tenant", "outcome"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new("quern_access_refused_total", "Requests that were not let in"),
            &["reason"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let refused = Refusal::ALL.map(|(_, reason)| refused.with_label_values(&[reason]));
        Ok(Self { requests, refused })
    }

    pub(super) fn tenant(&self, tenant: &TenantId) -> TenantCounters {
        let of =
            OUTCOMES.map(|outcome| self.requests.with_label_values(&[tenant.as_str(), outcome]));
        let [admitted, rate, concurrency] = of;
        TenantCounters { admitted, rate, concurrency }
    }

    pub(super) fn forget(&self, tenant: &TenantId) {
        for outcome in OUTCOMES {
            // It may never have been there.
            let _ = self.requests.remove_label_values(&[tenant.as_str(), outcome]);
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_word() {
        for (position, (refusal, word)) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!((refusal as usize, refusal.as_str()), (position, word));
        }
    }
}
