//! What is set for functions, over HTTP. The value of a secret comes in here and never goes out, not
//! even in an error about it.

use std::{collections::BTreeMap, time::SystemTime};

use http::{Request, Response, StatusCode};
use quern_deploy::{ConfigChange, SettingError};
use quern_types::{ByteSize, Caller, Configured, InvalidSecret, Name, SecretValue, SettingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::{Code, Failure},
    inspection::timestamp,
    route::SettingsRoute,
};

/// Bytes of a body that sets a configuration: more than its largest, however it is escaped.
const MAX_CONFIG_BODY: ByteSize = ByteSize(512 << 10);
/// The same for a secret.
const MAX_SECRET_BODY: ByteSize = ByteSize(128 << 10);

/// The configuration of a function, all of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeConfig {
    config: BTreeMap<SettingKey, String>,
}

/// A change of it; null removes a key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartialConfig {
    config: BTreeMap<SettingKey, Option<String>>,
}

/// What is told of a configuration.
#[derive(Debug, Serialize)]
struct ConfigReply<'a> {
    name: &'a Name,
    /// What is set for the function.
    config: BTreeMap<&'a SettingKey, &'a str>,
    /// When it was last added to or a value of it changed; null if nothing is set.
    changed: Option<String>,
    /// What the live version's manifest says, where nothing is set.
    defaults: &'a BTreeMap<String, String>,
}

/// What is told of a secret.
#[derive(Debug, Serialize)]
struct SecretReply<'a> {
    key: &'a SettingKey,
    changed: String,
    /// Whether the server can't open it, so that calls of its function are refused.
    locked: bool,
}

/// What is told of a function's secrets.
#[derive(Debug, Serialize)]
struct SecretsReply<'a> {
    name: &'a Name,
    secrets: Vec<SecretReply<'a>>,
}

/// Why a body does not set a secret. Quotes no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretBodyError {
    /// It is no JSON.
    #[error("body is not JSON: {reason}")]
    Syntax {
        /// Where, and what was expected there.
        reason: String,
    },
    /// It is something else than an object.
    #[error("body is not of the form {{\"value\": \"…\"}}")]
    Form,
    /// It has a field too many.
    #[error("unknown field {field:?}: there is only value")]
    Unknown {
        /// The field's name.
        field: String,
    },
    /// It has no value, or one that is no text.
    #[error("value is missing, or not a text")]
    NoText,
    /// Its value is none for a secret.
    #[error(transparent)]
    Value(#[from] InvalidSecret),
}

/// Carries out an operation on what is set for a function.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    route: SettingsRoute,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    match route {
        SettingsRoute::Config(name) => show_config(gateway, caller, &name),
        SettingsRoute::ReplaceConfig(name) => {
            let WholeConfig { config } = config_body(gateway, request, EXAMPLE).await?;
            let change = ConfigChange::Replace(config);
            gateway.deployer.change_config(caller, &name, change).await?;
            show_config(gateway, caller, &name)
        }
        SettingsRoute::MergeConfig(name) => {
            let PartialConfig { config } = config_body(gateway, request, PARTIAL_EXAMPLE).await?;
            let change = ConfigChange::Merge(config);
            gateway.deployer.change_config(caller, &name, change).await?;
            show_config(gateway, caller, &name)
        }
        SettingsRoute::Secrets(name) => show_secrets(gateway, caller, &name),
        SettingsRoute::SetSecret(name, key) => {
            let body = request.into_body().collect(MAX_SECRET_BODY, &gateway.body_room).await?;
            let value = secret_body(&body)?;
            let created = gateway.deployer.set_secret(caller, &name, key.clone(), value).await?;
            show_secret(gateway, caller, &name, &key, created)
        }
        SettingsRoute::UnsetSecret(name, key) => {
            gateway.deployer.unset_secret(caller, &name, key).await?;
            let mut reply = Response::new(ReplyBody::empty());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            Ok(reply)
        }
    }
}

const EXAMPLE: &str = r#"{"config": {"mode": "fast"}}"#;
const PARTIAL_EXAMPLE: &str = r#"{"config": {"mode": "fast", "retries": null}}"#;

async fn config_body<T: serde::de::DeserializeOwned>(
    gateway: &Gateway,
    request: Request<RequestBody>,
    example: &str,
) -> Result<T, Failure> {
    let body = request.into_body().collect(MAX_CONFIG_BODY, &gateway.body_room).await?;
    serde_json::from_slice(&body).map_err(|error| {
        Failure::new(Code::InvalidJson, format!("body is not of the form {example}: {error}"))
    })
}

/// Not by serde's derive, whose errors quote what they don't expect.
fn secret_body(body: &[u8]) -> Result<SecretValue, SecretBodyError> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| SecretBodyError::Syntax { reason: error.to_string() })?;
    let Value::Object(mut fields) = body else { return Err(SecretBodyError::Form) };
    let value = Map::remove(&mut fields, "value");
    if let Some(field) = fields.keys().next() {
        return Err(SecretBodyError::Unknown { field: field.chars().take(40).collect() });
    }
    match value {
        Some(Value::String(text)) => Ok(SecretValue::new(text)?),
        _ => Err(SecretBodyError::NoText),
    }
}

fn show_config(gateway: &Gateway, caller: &Caller, name: &Name) -> Result<Reply, Failure> {
    let found = gateway.deployer.settings(&caller.tenant, name)?;
    let set = found.settings.iter().flat_map(|settings| &settings.config);
    let changed = set.clone().map(|(_, Configured { changed, .. })| *changed).max();
    let reply = ConfigReply {
        name,
        config: set.map(|(key, set)| (key, &*set.value)).collect(),
        changed: changed.map(timestamp),
        defaults: &found.live.config,
    };
    Ok(body::json(&json!(reply)))
}

fn show_secrets(gateway: &Gateway, caller: &Caller, name: &Name) -> Result<Reply, Failure> {
    let found = gateway.deployer.settings(&caller.tenant, name)?;
    let secrets = found.settings.iter().flat_map(|settings| &settings.secrets);
    let describe = |(key, secret): (_, &quern_types::Secret)| {
        describe_secret(key, secret.changed, secret.value.is_none())
    };
    let reply = SecretsReply { name, secrets: secrets.map(describe).collect() };
    Ok(body::json(&json!(reply)))
}

fn show_secret(
    gateway: &Gateway,
    caller: &Caller,
    name: &Name,
    key: &SettingKey,
    created: bool,
) -> Result<Reply, Failure> {
    let found = gateway.deployer.settings(&caller.tenant, name)?;
    let settings = found.settings.as_ref();
    let secret = settings.and_then(|settings| settings.secrets.get(key));
    // Whoever has removed it meanwhile is told so, and this caller too.
    let secret = secret.ok_or_else(|| {
        let (function, key) = (name.clone(), key.clone());
        Failure::from(SettingError::NoSecret { function, key })
    })?;
    let mut reply =
        body::json(&json!(describe_secret(key, secret.changed, secret.value.is_none())));
    *reply.status_mut() = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(reply)
}

fn describe_secret(key: &SettingKey, changed: SystemTime, locked: bool) -> SecretReply<'_> {
    SecretReply { key, changed: timestamp(changed), locked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_text_and_no_error_quotes_it() {
        let value = secret_body(br#"{"value": "hunter2 \u00e9"}"#).expect("a value");
        assert_eq!(value.expose(), "hunter2 é");
        let large = format!(r#"{{"value": "{}"}}"#, "hunter2".repeat(3_000));
        let cases = [
            ("hunter2", "body is not JSON"),
            (r#"{"value": "hunter2"#, "body is not JSON"),
            (r#""hunter2""#, "is not of the form"),
            (r#"["hunter2"]"#, "is not of the form"),
            (r#"{"value": ["hunter2"]}"#, "value is missing, or not a text"),
            (r#"{"value": 1234567}"#, "value is missing, or not a text"),
            ("{}", "value is missing, or not a text"),
            (r#"{"value": "hunter2", "vault": "x"}"#, "unknown field \"vault\""),
            (r#"{"value": ""}"#, "value is empty"),
            (&large, "value has 21000 bytes: a secret has at most 16.0 KiB"),
        ];
        for (body, expected) in cases {
            let error = secret_body(body.as_bytes()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
            assert!(!error.contains("hunter2") && !error.contains("1234567"), "{error}");
        }
    }
}
