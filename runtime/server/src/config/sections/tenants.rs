//! How much callers may ask for. Counts nothing.

use quern_gateway::CallerLimits;
use quern_types::TenantLimits;
use serde::Deserialize;

use super::{Count, OptionText, Section, Written};

section! {
    /// How much callers may ask for; it counts where requests need a token. What an admin says of a
    /// single tenant comes first.
    Tenants in "tenants" {
        /// Calls of functions and models that each tenant may begin in a second, in the long run; more
        /// are refused. Not set: no limit.
        requests_per_second: Option<Count<1, { TenantLimits::MOST }>> = None;
        /// Calls of a tenant that may come at once. Not set: those of one second.
        burst: Option<Count<1, { TenantLimits::MOST }>> = None;
        /// Calls that each tenant may have under way. Not set: no limit.
        concurrency: Option<Count<1, { TenantLimits::MOST }>> = None;
        /// Requests of another kind, such as deployments, that each tenant may make in a second; those
        /// of admins are not counted.
        control_requests_per_second: Count<1, { TenantLimits::MOST }> = Count(100);
        /// Those that may come at once.
        control_burst: Count<1, { TenantLimits::MOST }> = Count(1_000);
        /// Calls of what is public that may come without a token from one address in a second; an
        /// IPv6 network of 64 bits is one address.
        anonymous_requests_per_second: Count<1, { TenantLimits::MOST }> = Count(50);
        /// Those that may come at once.
        anonymous_burst: Count<1, { TenantLimits::MOST }> = Count(100);
        /// Calls without a token that are under way at a time, from all addresses together.
        anonymous_concurrency: Count<1, { TenantLimits::MOST }> = Count(64);
        /// Requests without a valid token that one address is told the reason of in a second; more are
        /// told to wait.
        refused_requests_per_second: Count<1, { TenantLimits::MOST }> = Count(10);
        /// Those that may come at once.
        refused_burst: Count<1, { TenantLimits::MOST }> = Count(500);
    }
}

impl Tenants {
    pub(crate) fn limits(&self) -> CallerLimits {
        let rate =
            |per_second: Count<1, { TenantLimits::MOST }>, burst: Count<1, _>| TenantLimits {
                requests_per_second: Some(per_second.0),
                burst: Some(burst.0),
                concurrency: None,
            };
        CallerLimits {
            calls: TenantLimits {
                requests_per_second: self.requests_per_second.map(|count| count.0),
                burst: self.burst.map(|count| count.0),
                concurrency: self.concurrency.map(|count| count.0),
            },
            control: rate(self.control_requests_per_second, self.control_burst),
            anonymous: TenantLimits {
                concurrency: Some(self.anonymous_concurrency.0),
                ..rate(self.anonymous_requests_per_second, self.anonymous_burst)
            },
            refused: rate(self.refused_requests_per_second, self.refused_burst),
        }
    }
}
