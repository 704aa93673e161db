//! What the protocol says about the server and about models, without running anything.

use http::Response;
use quern_dispatcher::Found;
use quern_types::{InvokeError, TensorSpec, VersionNumber};
use serde_json::{Value, json};

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody},
    errors::{Code, Failure},
    route::Target,
};

/// `GET /v2`
pub(crate) fn server_metadata(gateway: &Gateway) -> Reply {
    let version = gateway.config.version;
    body::json(&json!({"name": "quern", "version": version, "extensions": []}))
}

/// `GET /v2/models/{name}[/versions/{version}]`
pub(crate) fn model_metadata(gateway: &Gateway, target: &Target) -> Result<Reply, Failure> {
    let found = find(gateway, target)?;
    let versions = found.versions();
    let signature = found.signature();
    Ok(body::json(&json!({
        "name": target.name,
        "versions": versions.iter().map(VersionNumber::to_string).collect::<Vec<_>>(),
        "platform": found.platform(),
        "inputs": signature.inputs().iter().map(describe).collect::<Vec<_>>(),
        "outputs": signature.outputs().iter().map(describe).collect::<Vec<_>>(),
    })))
}

/// `GET /v2/models/{name}[/versions/{version}]/ready`
pub(crate) fn model_ready(gateway: &Gateway, target: &Target) -> Result<Reply, Failure> {
    match find(gateway, target) {
        Ok(_) => Ok(Response::new(ReplyBody::empty())),
        // Nothing else than a model or an inference function is there for the protocol.
        Err(error) => Err(Failure::new(Code::NotFound, error)),
    }
}

fn find(gateway: &Gateway, target: &Target) -> Result<Found, InvokeError> {
    Found::find(&gateway.dispatcher.routes(), &gateway.tenant, &target.name, target.version)
}

fn describe(spec: &TensorSpec) -> Value {
    json!({"name": spec.name, "datatype": spec.dtype, "shape": spec.shape})
}
