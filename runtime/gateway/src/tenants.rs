//! How much tenants may ask for, as admins see and change it. Keeps nobody to it.

use http::Request;
use quern_types::{ByteSize, Caller, TenantId, TenantLimits};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Gateway,
    body::{self, Reply, RequestBody},
    errors::Failure,
    json_body::Form,
    route::TenantRoute,
};

/// What is asked for in limiting a tenant.
const FORM: Form = Form {
    limit: ByteSize(4096),
    example: r#"{"requests_per_second": 100, "burst": 200, "concurrency": 16}"#,
};

/// How much a tenant may ask for.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LimitsOfTenant {
    /// The tenant.
    tenant: TenantId,
    /// What was said of it; null: as the server says.
    own: LimitsEntry,
    /// What counts for it; null: no limit.
    effective: LimitsEntry,
}

/// Bounds on the requests of one tenant.
#[derive(Debug, Serialize, JsonSchema)]
struct LimitsEntry {
    /// Calls of functions and models that begin in a second, in the long run.
    requests_per_second: Option<u32>,
    /// Calls that may come at once.
    burst: Option<u32>,
    /// Calls under way at a time.
    concurrency: Option<u32>,
}

impl From<TenantLimits> for LimitsEntry {
    fn from(limits: TenantLimits) -> Self {
        let TenantLimits { requests_per_second, burst, concurrency } = limits;
        Self { requests_per_second, burst, concurrency }
    }
}

/// Answers what there is to tenants.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    route: TenantRoute,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    match route {
        TenantRoute::Limits(tenant) => {
            let own = gateway.deployer.access().limits(&tenant);
            Ok(describe(gateway, tenant, own))
        }
        TenantRoute::ChangeLimits(tenant) => {
            let own: TenantLimits = FORM.read(gateway, request.into_body()).await?;
            let own = own.checked()?;
            gateway.deployer.limit_tenant(caller, tenant.clone(), own).await?;
            Ok(describe(gateway, tenant, own))
        }
    }
}

fn describe(gateway: &Gateway, tenant: TenantId, own: TenantLimits) -> Reply {
    let effective = gateway.limiter.effective(own);
    let (own, effective) = (own.into(), effective.into());
    body::json(&LimitsOfTenant { tenant, own, effective })
}
