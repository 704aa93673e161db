//! What is deployed, and on which devices it runs, as JSON. Reads the routing snapshot and changes
//! nothing.

use std::{sync::Arc, time::SystemTime};

use quern_types::{
    Caller, Class, Deployed, FunctionSpec, InvokeError, ModelError, ModelSpec, Name, Routes,
    TenantId, Version,
};
use serde_json::{Map, Value, json};

use crate::{
    Gateway,
    body::{self, Reply},
    errors::Failure,
};

/// `GET /v1/{class}`
pub(crate) fn list(gateway: &Gateway, caller: &Caller, class: Class) -> Reply {
    let routes = gateway.deployer.routes();
    let mut entries = Vec::new();
    if let Some(own) = routes.tenant(&caller.tenant) {
        match class {
            Class::Function => entries.extend(own.functions.iter().map(summarise)),
            Class::Model => entries.extend(own.models.iter().map(summarise)),
        }
    }
    body::json(&json!({class.plural(): entries}))
}

/// `GET /v1/{class}/{name}`
pub(crate) fn show(
    gateway: &Gateway,
    caller: &Caller,
    class: Class,
    name: &Name,
) -> Result<Reply, Failure> {
    let routes = gateway.deployer.routes();
    let about = match class {
        Class::Function => {
            let function = find_function(&routes, &caller.tenant, name)?;
            let spec = &function.live().spec;
            let mut about = summarise((name, function));
            about["limits"] = json!(gateway.dispatcher.limits(spec));
            about["concurrency"] = json!(gateway.dispatcher.concurrency(&caller.tenant, name));
            about["grants"] = json!(spec.grants);
            if let Some(signature) = spec.kind.signature() {
                about["signature"] = json!(signature);
            }
            about
        }
        Class::Model => {
            let model = find_model(&routes, &caller.tenant, name)?;
            let spec = &model.live().spec;
            let mut about = summarise((name, model));
            describe_model(&mut about, spec);
            about["profile"] = json!(gateway.dispatcher.run_times(&caller.tenant, name));
            about
        }
    };
    Ok(body::json(&about))
}

/// Adds what is known of a model; what its manifest does not say is left out.
pub(crate) fn describe_model(about: &mut Value, spec: &ModelSpec) {
    about["engine"] = json!(spec.engine);
    about["signature"] = json!(spec.signature);
    about["batch"] = json!(spec.batch);
    if let Some(delay) = spec.max_delay {
        about["max_delay"] = json!(delay);
    }
    if let Some(timeout) = spec.timeout {
        about["timeout"] = json!(timeout);
    }
    if let Some(lanes) = spec.lanes {
        about["lanes"] = json!(lanes);
    }
    if let Some(warm_up) = &spec.warm_up {
        about["warm_up"] = json!(warm_up);
    }
    if !spec.labels.is_empty() {
        about["labels"] = json!(spec.labels);
    }
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
    Ok(body::json(&json!({"name": name, "versions": versions})))
}

/// `GET /v1/devices`
pub(crate) fn devices(gateway: &Gateway) -> Reply {
    body::json(&json!({"devices": gateway.dispatcher.devices()}))
}

/// A function's or model's kind, in a word.
trait Kind {
    fn kind(&self) -> &'static str;
}

impl Kind for FunctionSpec {
    fn kind(&self) -> &'static str {
        self.kind.as_str()
    }
}

impl Kind for ModelSpec {
    fn kind(&self) -> &'static str {
        "model"
    }
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

fn summarise<Spec: Kind>((name, deployed): (&Name, &Arc<Deployed<Spec>>)) -> Value {
    let live = deployed.live();
    let mut about = outline(live);
    about.insert("name".into(), json!(name));
    about.insert("kind".into(), live.spec.kind().into());
    about.into()
}

fn list_versions<Spec>(deployed: &Deployed<Spec>) -> Vec<Value> {
    let live = deployed.live().number;
    let describe = |version: &Arc<Version<Spec>>| {
        let mut about = outline(version);
        about.insert("live".into(), (version.number == live).into());
        about.into()
    };
    deployed.versions().rev().map(describe).collect()
}

fn outline<Spec>(version: &Version<Spec>) -> Map<String, Value> {
    Map::from_iter([
        ("version".into(), json!(version.number)),
        ("digest".into(), json!(version.digest)),
        ("created".into(), timestamp(version.created).into()),
    ])
}

/// A time as RFC 3339 writes it, in UTC.
pub(crate) fn timestamp(time: SystemTime) -> String {
    // A clock before 1970 is no reason to fail.
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}
