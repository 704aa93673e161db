//! What the protocol says about the server and about models, without running anything.

use quern_types::{Caller, Engine, InvokeError, TensorSpec, VersionNumber};
use serde_json::{Value, json};

use crate::{
    Gateway,
    body::{self, Reply},
    errors::{Code, Failure},
    route::Target,
    sharing::Reached,
};

/// The extensions that there always are, under the names that Triton gives them.
const EXTENSIONS: [&str; 5] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
];

/// The extensions that there are on this server.
pub(crate) fn extensions(gateway: &Gateway) -> Vec<&'static str> {
    let shared_memory = gateway.regions.are_allowed().then_some("system_shared_memory");
    EXTENSIONS.into_iter().chain(shared_memory).collect()
}

/// `GET /v2`
pub(crate) fn server_metadata(gateway: &Gateway) -> Reply {
    let (version, extensions) = (gateway.config.version, extensions(gateway));
    body::json(&json!({"name": "quern", "version": version, "extensions": extensions}))
}

/// `GET /v2/health/live`
pub(crate) fn live() -> Reply {
    body::json(&json!({"live": true}))
}

/// `GET /v2/health/ready`
pub(crate) fn ready(ready: bool) -> Reply {
    let mut reply = body::json(&json!({"ready": ready}));
    if !ready {
        *reply.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    reply
}

/// `GET /v2/models/{name}[/versions/{version}]`
pub(crate) fn model_metadata(
    gateway: &Gateway,
    caller: &Caller,
    target: &Target,
) -> Result<Reply, Failure> {
    let found = gateway.find(caller, target)?;
    let versions = found.versions();
    let signature = found.signature();
    Ok(body::json(&json!({
        "name": target.name,
        "versions": versions.iter().map(VersionNumber::to_string).collect::<Vec<_>>(),
        "platform": platform(found.engine()),
        "inputs": signature.inputs().iter().map(describe).collect::<Vec<_>>(),
        "outputs": signature.outputs().iter().map(describe).collect::<Vec<_>>(),
    })))
}

/// `GET /v2/models/{name}[/versions/{version}]/ready`
pub(crate) fn model_ready(
    gateway: &Gateway,
    caller: &Caller,
    target: &Target,
) -> Result<Reply, Failure> {
    let Target { name, version } = target;
    let Reached { owner, routes } = gateway.reach_target(caller, target)?;
    match gateway.dispatcher.readiness(&routes, &owner, &name.name, *version) {
        Ok(()) => Ok(body::json(&json!({"name": name, "ready": true}))),
        // Nothing else than a model or an inference function is there for the protocol.
        Err(error @ InvokeError::WrongKind { .. }) => Err(Failure::new(Code::NotFound, error)),
        Err(error) => Err(Failure::from(error).not_ready()),
    }
}

/// What computes a version, as the protocol calls that; functions have no engine.
pub(crate) fn platform(engine: Option<Engine>) -> String {
    match engine {
        Some(engine) => format!("{engine}_onnx"),
        None => "wasm_component".into(),
    }
}

fn describe(spec: &TensorSpec) -> Value {
    json!({"name": spec.name, "datatype": spec.dtype, "shape": spec.shape})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_named_as_in_the_protocol() {
        for (engine, expected) in [
            (Some(Engine::Tract), "tract_onnx"),
            (Some(Engine::OnnxRuntime), "onnxruntime_onnx"),
            (None, "wasm_component"),
        ] {
            assert_eq!(platform(engine), expected);
        }
    }
}
