//! What the protocol lets clients do beside inference: the repository, settings, shared memory. It
//! is the same as over HTTP, in messages.

use quern_dispatcher::IndexEntry;
use serde_json::{Map, Value};

use super::{
    CallError,
    protocol::{
        LogSettingsRequest, LogSettingsResponse, ModelRepositoryParameter, RepositoryIndexRequest,
        RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
        TraceSettingRequest, TraceSettingResponse, log_settings_request, log_settings_response,
        model_repository_parameter::ParameterChoice, repository_index_response::ModelIndex,
        trace_setting_response,
    },
};
use quern_types::Caller;

use crate::{
    Gateway,
    errors::Failure,
    route::{RouteError, Subject},
    v2,
};

pub(super) fn index(
    gateway: &Gateway,
    caller: &Caller,
    request: &RepositoryIndexRequest,
) -> Result<RepositoryIndexResponse, Failure> {
    only_repository(&request.repository_name)?;
    let mut entries = gateway.dispatcher.index(&caller.tenant);
    entries.retain(|entry| entry.readiness.is_ok() || !request.ready);
    Ok(RepositoryIndexResponse { models: entries.iter().map(describe).collect() })
}

fn describe(entry: &IndexEntry) -> ModelIndex {
    let (state, reason) = v2::state(&entry.readiness);
    ModelIndex {
        name: entry.name.to_string(),
        version: entry.version.to_string(),
        state: state.into(),
        reason,
    }
}

pub(super) async fn load(
    gateway: &Gateway,
    caller: &Caller,
    request: RepositoryModelLoadRequest,
) -> Result<(), Failure> {
    only_repository(&request.repository_name)?;
    if request.parameters.keys().any(|key| key == "config" || key.starts_with("file:")) {
        let reason = "a model is served as it was deployed: deploy it with PUT /v1/models/{name}";
        return Err(
            CallError::Unsupported { call: "loading with a config or files", reason }.into()
        );
    }
    let name = request.model_name.parse().map_err(RouteError::Name)?;
    // It may have brought a lot, and loading takes long.
    drop(request);
    Ok(gateway.dispatcher.load(&caller.tenant, &name).await?)
}

pub(super) async fn unload(
    gateway: &Gateway,
    caller: &Caller,
    request: RepositoryModelUnloadRequest,
) -> Result<(), Failure> {
    only_repository(&request.repository_name)?;
    let is_true = |parameter: &ModelRepositoryParameter| {
        parameter.parameter_choice == Some(ParameterChoice::BoolParam(true))
    };
    if request.parameters.get("unload_dependents").is_some_and(is_true) {
        let reason = "nothing is unloaded together with a model: unload each by its name";
        return Err(CallError::Unsupported { call: "unload_dependents", reason }.into());
    }
    let name = request.model_name.parse().map_err(RouteError::Name)?;
    drop(request);
    Ok(gateway.dispatcher.unload(&caller.tenant, &name).await?)
}

/// There is one repository, which has no name.
fn only_repository(name: &str) -> Result<(), CallError> {
    if name.is_empty() {
        return Ok(());
    }
    let reason = "there is one repository: leave repository_name empty";
    Err(CallError::Unsupported { call: "a repository of a name", reason })
}

/// Reads settings; those that are given must be what they are already.
pub(super) fn log_settings(
    gateway: &Gateway,
    caller: &Caller,
    request: LogSettingsRequest,
) -> Result<LogSettingsResponse, Failure> {
    use log_settings_request::setting_value::ParameterChoice as Asked;
    let asked = request.settings.into_iter().map(|(name, value)| {
        let value = match value.parameter_choice {
            Some(Asked::BoolParam(value)) => value.into(),
            Some(Asked::Uint32Param(value)) => value.into(),
            Some(Asked::StringParam(value)) => value.into(),
            None => Value::Null,
        };
        (name, value)
    });
    let current = v2::agree(gateway, caller, &Subject::Log, asked.collect())?;
    let settings = current.into_iter().map(|(name, value)| (name, log_setting(&value)));
    Ok(LogSettingsResponse { settings: settings.collect() })
}

fn log_setting(value: &Value) -> log_settings_response::SettingValue {
    use log_settings_response::{SettingValue, setting_value::ParameterChoice as Is};
    let value = match value {
        Value::Bool(value) => Is::BoolParam(*value),
        Value::Number(value) => {
            let value = value.as_u64().and_then(|value| value.try_into().ok());
            Is::Uint32Param(value.unwrap_or(u32::MAX))
        }
        other => Is::StringParam(text(other)),
    };
    SettingValue { parameter_choice: Some(value) }
}

/// The same for traces.
pub(super) fn trace_settings(
    gateway: &Gateway,
    caller: &Caller,
    request: TraceSettingRequest,
) -> Result<TraceSettingResponse, Failure> {
    let TraceSettingRequest { settings, model_name } = request;
    let model = Some(model_name).filter(|name| !name.is_empty());
    let model = model.map(|name| name.parse().map_err(RouteError::Name)).transpose()?;
    // A setting without values is set back to what it is anyway.
    let asked: Map<String, Value> = settings
        .into_iter()
        .map(|(name, setting)| (name, Some(setting.value).filter(|value| !value.is_empty()).into()))
        .collect();
    let current = v2::agree(gateway, caller, &Subject::Trace(model), asked)?;
    let settings = current.into_iter().map(|(name, value)| {
        let value = value.as_array().into_iter().flatten().map(text).collect();
        (name, trace_setting_response::SettingValue { value })
    });
    Ok(TraceSettingResponse { settings: settings.collect() })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
