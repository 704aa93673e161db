//! What is set for functions, over HTTP. The value of a secret comes in here and never goes out, not
//! even in an error about it.

use std::collections::BTreeMap;

use http::{Request, Response, StatusCode};
use quern_deploy::{ConfigChange, SettingError};
use quern_types::{
    ByteSize, Caller, Configured, InvalidSecret, Name, Secret, SecretValue, SettingKey,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
    json_body::Form,
    route::SettingsRoute,
    timestamp::Timestamp,
};

/// Bytes of a body that sets a configuration: more than its largest, however it is escaped.
const MAX_CONFIG_BODY: ByteSize = ByteSize(512 << 10);
/// The same for a secret.
const MAX_SECRET_BODY: ByteSize = ByteSize(128 << 10);

/// The configuration of a function, all of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigRequest {
    /// Values by their keys; what is not among them is removed.
    config: BTreeMap<SettingKey, String>,
}

/// A change of the configuration of a function.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigPatch {
    /// Values by their keys; null removes one, and what is not among them stays.
    config: BTreeMap<SettingKey, Option<String>>,
}

/// The value of a secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretRequest {
    /// What the function reads.
    #[schemars(with = "String", length(min = 1, max = 16384))]
    value: GivenValue,
}

/// What is given as a value: anything can be read, so that no error of the reader quotes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum GivenValue {
    Text(String),
    Other(IgnoredAny),
}

impl std::fmt::Debug for GivenValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// The configuration of a function.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigReply<'a> {
    /// The function.
    name: &'a Name,
    /// What is set for it.
    config: BTreeMap<&'a SettingKey, &'a str>,
    /// When a value of that was last set; null if nothing is.
    changed: Option<Timestamp>,
    /// What the live version's manifest says, which counts where nothing is set.
    defaults: &'a BTreeMap<String, String>,
}

/// A secret, without its value.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SecretEntry<'a> {
    /// What the function reads it by.
    key: &'a SettingKey,
    /// When it was set.
    changed: Timestamp,
    /// Whether the server can't open it, so that calls of its function are refused.
    locked: bool,
}

/// The secrets of a function.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SecretList<'a> {
    /// The function.
    name: &'a Name,
    /// In the order of their keys.
    secrets: Vec<SecretEntry<'a>>,
}

/// Why a body does not set a secret. Quotes no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretBodyError {
    /// It is no object.
    #[error("body is not of the form {{\"value\": \"…\"}}")]
    Form,
    /// It is no JSON, or has other fields.
    #[error("body is not of the form {{\"value\": \"…\"}}: {reason}")]
    Content {
        /// Where, and what was expected there.
        reason: String,
    },
    /// Its value is no text.
    #[error("field \"value\" is not a text")]
    NoText,
    /// Its value is none for a secret.
    #[error("field \"value\": {0}")]
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
            let asked = ConfigRequest::FORM.read(gateway, request.into_body()).await?;
            let ConfigRequest { config } = asked;
            let change = ConfigChange::Replace(config);
            gateway.deployer.change_config(caller, &name, change).await?;
            show_config(gateway, caller, &name)
        }
        SettingsRoute::MergeConfig(name) => {
            let asked = ConfigPatch::FORM.read(gateway, request.into_body()).await?;
            let ConfigPatch { config } = asked;
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

impl ConfigRequest {
    const FORM: Form = Form { limit: MAX_CONFIG_BODY, example: r#"{"config": {"mode": "fast"}}"# };
}

impl ConfigPatch {
    const FORM: Form = Form {
        limit: MAX_CONFIG_BODY,
        example: r#"{"config": {"mode": "fast", "retries": null}}"#,
    };
}

/// An error of the reader quotes names of fields, and values that stand where an object should: so
/// nothing else is given to it.
fn secret_body(body: &[u8]) -> Result<SecretValue, SecretBodyError> {
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(SecretBodyError::Form);
    }
    let read = serde_json::from_slice::<SecretRequest>(body);
    let read = read.map_err(|error| {
        let reason = error.to_string().chars().take(200).collect();
        SecretBodyError::Content { reason }
    })?;
    match read.value {
        GivenValue::Text(text) => Ok(SecretValue::new(text)?),
        GivenValue::Other(_) => Err(SecretBodyError::NoText),
    }
}

fn show_config(gateway: &Gateway, caller: &Caller, name: &Name) -> Result<Reply, Failure> {
    let found = gateway.deployer.settings(&caller.tenant, name)?;
    let set = found.settings.iter().flat_map(|settings| &settings.config);
    let changed = set.clone().map(|(_, Configured { changed, .. })| *changed).max();
    let reply = ConfigReply {
        name,
        config: set.map(|(key, set)| (key, &*set.value)).collect(),
        changed: changed.map(Timestamp::from),
        defaults: &found.live.config,
    };
    Ok(body::json(&reply))
}

fn show_secrets(gateway: &Gateway, caller: &Caller, name: &Name) -> Result<Reply, Failure> {
    let found = gateway.deployer.settings(&caller.tenant, name)?;
    let secrets = found.settings.iter().flat_map(|settings| &settings.secrets);
    let reply = SecretList { name, secrets: secrets.map(SecretEntry::from).collect() };
    Ok(body::json(&reply))
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
    let secret = settings.and_then(|settings| settings.secrets.get_key_value(key));
    // Whoever has removed it meanwhile is told so, and this caller too.
    let secret = secret.ok_or_else(|| {
        let (function, key) = (name.clone(), key.clone());
        Failure::from(SettingError::NoSecret { function, key })
    })?;
    let mut reply = body::json(&SecretEntry::from(secret));
    *reply.status_mut() = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(reply)
}

impl<'a> From<(&'a SettingKey, &'a Secret)> for SecretEntry<'a> {
    fn from((key, secret): (&'a SettingKey, &'a Secret)) -> Self {
        Self { key, changed: secret.changed.into(), locked: secret.value.is_none() }
    }
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
            ("hunter2", "body is not of the form"),
            (r#""hunter2""#, "body is not of the form"),
            (r#"["hunter2"]"#, "body is not of the form"),
            ("", "body is not of the form"),
            (r#"{"value": "hunter2"#, "EOF while parsing a string"),
            (r#"{"value": hunter2}"#, "expected value at line 1 column 11"),
            (r#"{"value": "hunter2"} x"#, "trailing characters"),
            (r#"{"value": ["hunter2"]}"#, "\"value\" is not a text"),
            (r#"{"value": {"a": "hunter2"}}"#, "\"value\" is not a text"),
            (r#"{"value": 1234567}"#, "\"value\" is not a text"),
            ("{}", "missing field `value`"),
            (r#"{"value": "hunter2", "vault": "hunter2"}"#, "unknown field `vault`"),
            (r#"{"value": "hunter2", "value": "hunter2"}"#, "duplicate field `value`"),
            (r#"{"value": ""}"#, "\"value\": value is empty"),
            (&large, "\"value\": value has 21000 bytes: a secret has at most 16.0 KiB"),
        ];
        for (body, expected) in cases {
            let error = secret_body(body.as_bytes()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
            assert!(!error.contains("hunter2") && !error.contains("1234567"), "{error}");
        }
    }
}
