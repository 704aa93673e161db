//! What there is to tenants.

use quern_types::TenantId;

use super::{Route, methods::Methods};
use crate::{access::Needs, metrics::Traffic};

/// An operation on a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TenantRoute {
    /// `GET /v1/tenants/{tenant}/limits`
    Limits(TenantId),
    /// `PUT /v1/tenants/{tenant}/limits`
    ChangeLimits(TenantId),
}

impl TenantRoute {
    /// `/v1/tenants/{tenant}/limits`
    pub(super) fn limits_of(tenant: TenantId) -> Methods {
        Methods::get(Route::Tenant(Self::Limits(tenant.clone())))
            .and_put(Route::Tenant(Self::ChangeLimits(tenant)))
    }

    pub(super) fn needs(&self) -> Needs {
        match self {
            Self::Limits(_) | Self::ChangeLimits(_) => Needs::ADMIN,
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::Limits(_) => Traffic::Inspect,
            Self::ChangeLimits(_) => Traffic::Change,
        }
    }
}
