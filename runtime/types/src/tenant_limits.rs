//! How much a tenant may ask of a server. Never counts anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds on the requests of one tenant; what is none is as the server says, or unbounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// Calls of functions and models that begin in a second, in the long run.
    #[schemars(range(min = 1, max = Self::MOST))]
    pub requests_per_second: Option<u32>,
    /// Calls that may come at once; none: those of one second.
    #[schemars(range(min = 1, max = Self::MOST))]
    pub burst: Option<u32>,
    /// Calls under way at a time.
    #[schemars(range(min = 1, max = Self::MOST))]
    pub concurrency: Option<u32>,
}

/// Why bounds make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: write a number from 1 to {}", TenantLimits::MOST)]
pub struct InvalidTenantLimit {
    field: &'static str,
    value: u32,
}

impl TenantLimits {
    /// The largest of each bound.
    pub const MOST: u32 = 1_000_000;

    /// These, if each can be kept to.
    pub fn checked(self) -> Result<Self, InvalidTenantLimit> {
        for (field, value) in [
            ("requests_per_second", self.requests_per_second),
            ("burst", self.burst),
            ("concurrency", self.concurrency),
        ] {
            if let Some(value) = value.filter(|value| !(1..=Self::MOST).contains(value)) {
                return Err(InvalidTenantLimit { field, value });
            }
        }
        Ok(self)
    }

    /// These, with those of another one where they say nothing.
    pub fn or(self, other: Self) -> Self {
        Self {
            requests_per_second: self.requests_per_second.or(other.requests_per_second),
            // A burst belongs to the rate that it was written beside.
            burst: match self.requests_per_second {
                Some(_) => self.burst,
                None => self.burst.or(other.burst),
            },
            concurrency: self.concurrency.or(other.concurrency),
        }
    }

    /// Whether nothing is said.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: Option<u32>, burst: Option<u32>, concurrency: Option<u32>) -> TenantLimits {
        TenantLimits { requests_per_second: rate, burst, concurrency }
    }

    #[test]
    fn a_tenants_own_bounds_come_before_the_servers() {
        let server = limits(Some(10), Some(50), Some(4));
        for (own, expected) in [
            (limits(None, None, None), server),
            (limits(Some(1), None, None), limits(Some(1), None, Some(4))),
            (limits(None, Some(2), Some(9)), limits(Some(10), Some(2), Some(9))),
        ] {
            assert_eq!(own.or(server), expected);
        }
        assert!(limits(None, None, None).is_nothing() && !server.is_nothing());
    }

    #[test]
    fn bounds_that_nobody_could_keep_to_are_refused() {
        assert!(limits(Some(1), Some(TenantLimits::MOST), None).checked().is_ok());
        for (bad, field) in [
            (limits(Some(0), None, None), "requests_per_second is 0"),
            (limits(None, Some(TenantLimits::MOST + 1), None), "burst is 1000001"),
            (limits(None, None, Some(0)), "concurrency is 0"),
        ] {
            let error = bad.checked().expect_err(field).to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
