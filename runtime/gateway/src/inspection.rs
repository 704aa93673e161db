//! What is deployed, and on which devices it runs, as JSON. Reads the routing snapshot and changes
//! nothing.

mod replies;

use std::sync::Arc;

use quern_types::{
    Caller, Class, Deployed, FunctionSpec, InvokeError, ModelError, ModelSpec, Name, Routes,
    TenantId, Version,
};

pub(crate) use replies::{
    DeviceList, FunctionDetails, FunctionList, Kind, ModelDetails, ModelList, ModelTraits,
    VersionList,
};
use replies::{Summary, VersionEntry};

use crate::{
    Gateway,
    body::{self, Reply},
    errors::Failure,
};

/// `GET /v1/{class}`
pub(crate) fn list(gateway: &Gateway, caller: &Caller, class: Class) -> Reply {
    let routes = gateway.deployer.routes();
    let own = routes.tenant(&caller.tenant);
    match class {
        Class::Function => {
            let functions = own.map(|own| own.functions.iter().map(summarise).collect());
            body::json(&FunctionList { functions: functions.unwrap_or_default() })
        }
        Class::Model => {
            let models = own.map(|own| own.models.iter().map(summarise).collect());
            body::json(&ModelList { models: models.unwrap_or_default() })
        }
    }
}

/// `GET /v1/{class}/{name}`
pub(crate) fn show(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: &Name,
) -> Result<Reply, Failure> {
    let routes = gateway.deployer.routes();
    Ok(match class {
        Class::Function => {
            let function = find_function(&routes, &caller.tenant, name)?;
            let spec = &function.live().spec;
            body::json(&FunctionDetails {
                summary: summarise((name, function)),
                limits: gateway.dispatcher.limits(spec),
                concurrency: gateway.dispatcher.concurrency(&caller.tenant, name),
                grants: &spec.grants,
                signature: spec.kind.signature(),
            })
        }
        Class::Model => {
            let model = find_model(&routes, &caller.tenant, name)?;
            body::json(&ModelDetails {
                summary: summarise((name, model)),
                traits: ModelTraits::from(&*model.live().spec),
                profile: gateway.dispatcher.run_times(&caller.tenant, name),
            })
        }
    })
}

/// `GET /v1/{class}/{name}/versions`
pub(crate) fn versions(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: &Name,
) -> Result<Reply, Failure> {
    let routes = gateway.deployer.routes();
    let versions = match class {
        Class::Function => list_versions(find_function(&routes, &caller.tenant, name)?),
        Class::Model => list_versions(find_model(&routes, &caller.tenant, name)?),
    };
    Ok(body::json(&VersionList { name: name.clone(), versions }))
}

/// `GET /v1/devices`
pub(crate) fn devices(gateway: &Gateway) -> Reply {
    let (devices, absent) = (gateway.dispatcher.devices(), gateway.dispatcher.absent_devices());
    body::json(&DeviceList { devices, absent })
}

fn find_function<'r>(
    routes: &'r Routes,
    tenant: &TenantId,
    name: &Name,
) -> Result<&'r Arc<Deployed<FunctionSpec>>, InvokeError> {
    let function = routes.function(tenant, name);
    function.ok_or_else(|| InvokeError::NotFound { name: name.clone() })
}

fn find_model<'r>(
    routes: &'r Routes,
    tenant: &TenantId,
    name: &Name,
) -> Result<&'r Arc<Deployed<ModelSpec>>, ModelError> {
    let model = routes.model(tenant, name);
    model.ok_or_else(|| ModelError::NotFound { name: name.clone() })
}

fn summarise<Spec>((name, deployed): (&Name, &Arc<Deployed<Spec>>)) -> Summary
where
    for<'s> Kind: From<&'s Spec>,
{
    let live = deployed.live();
    Summary {
        name: name.clone(),
        kind: Kind::from(&*live.spec),
        version: live.number,
        digest: live.digest,
        created: live.created.into(),
    }
}

fn list_versions<Spec>(deployed: &Deployed<Spec>) -> Vec<VersionEntry> {
    let live = deployed.live().number;
    let describe = |version: &Arc<Version<Spec>>| VersionEntry {
        version: version.number,
        digest: version.digest,
        created: version.created.into(),
        live: version.number == live,
    };
    deployed.versions().rev().map(describe).collect()
}
