//! The settings that the protocol lets clients read and change: of its own traces, of which there
//! are none, and of the log. They can be read; nothing here changes them.

use http::Request;
use quern_dispatcher::Found;
use serde_json::{Map, Value, json};
use tracing::level_filters::LevelFilter;

use super::receive::receive_control;
use quern_types::Caller;

use crate::{
    Gateway,
    body::{self, Reply, RequestBody},
    errors::Failure,
    route::Subject,
};

/// Why settings are not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingError {
    /// The body is not what it should be.
    #[error("body is not an object of settings: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The setting exists nowhere.
    #[error("{name}: is not a setting of this server, which has {known}")]
    Unknown {
        /// Its name.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// The setting has another value.
    #[error("{name}: is {value} on this server, and can't be changed by a client")]
    Fixed {
        /// Its name.
        name: String,
        /// Its value.
        value: Value,
    },
}

/// `GET` of the settings of something
pub(crate) fn settings(
    gateway: &Gateway,
    caller: &Caller,
    subject: &Subject,
) -> Result<Reply, Failure> {
    Ok(body::json(&Value::Object(current(gateway, caller, subject)?)))
}

/// `POST` to the settings of something: what they are already is accepted, everything else refused.
pub(crate) async fn change_settings(
    gateway: &Gateway,
    caller: &Caller,
    subject: Subject,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let body = receive_control(gateway, request).await?;
    let asked = read(body.as_ref())?;
    Ok(body::json(&Value::Object(agree(gateway, caller, &subject, asked)?)))
}

/// The settings of something, if they are what is asked for.
pub(crate) fn agree(
    gateway: &Gateway,
    caller: &Caller,
    subject: &Subject,
    asked: Map<String, Value>,
) -> Result<Map<String, Value>, Failure> {
    let current = current(gateway, caller, subject)?;
    compare(&current, asked)?;
    Ok(current)
}

fn current(
    gateway: &Gateway,
    caller: &Caller,
    subject: &Subject,
) -> Result<Map<String, Value>, Failure> {
    Ok(match subject {
        Subject::Log => log(LevelFilter::current()),
        Subject::Trace(model) => {
            if let Some(name) = model {
                Found::find(&gateway.dispatcher.routes(), &caller.tenant, name, None)?;
            }
            trace()
        }
    })
}

fn trace() -> Map<String, Value> {
    Map::from_iter([("trace_level".to_owned(), json!(["OFF"]))])
}

fn log(level: LevelFilter) -> Map<String, Value> {
    let verbose = match level {
        LevelFilter::TRACE => 2,
        LevelFilter::DEBUG => 1,
        _ => 0,
    };
    let settings = [
        ("log_file", json!("")),
        ("log_info", json!(level >= LevelFilter::INFO)),
        ("log_warning", json!(level >= LevelFilter::WARN)),
        ("log_error", json!(level >= LevelFilter::ERROR)),
        ("log_verbose_level", json!(verbose)),
        ("log_format", json!("ISO8601")),
    ];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn read(body: &[u8]) -> Result<Map<String, Value>, SettingError> {
    serde_json::from_slice(body)
        .map_err(|error| SettingError::Malformed { reason: error.to_string() })
}

/// Compares what settings are asked for with what they are. `null` asks for what they are anyway.
fn compare(current: &Map<String, Value>, asked: Map<String, Value>) -> Result<(), SettingError> {
    for (name, value) in asked {
        let Some(is) = current.get(&name) else {
            let known = current.keys().cloned().collect::<Vec<_>>().join(", ");
            let name = name.chars().take(80).collect();
            return Err(SettingError::Unknown { name, known });
        };
        // A list of one may be given as the one.
        let is_same = value == *is || is.as_array().is_some_and(|list| *list == [value.clone()]);
        if !is_same && !value.is_null() {
            return Err(SettingError::Fixed { name, value: is.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_described_by_its_level() {
        for (level, info, warning, error, verbose) in [
            (LevelFilter::OFF, false, false, false, 0),
            (LevelFilter::ERROR, false, false, true, 0),
            (LevelFilter::WARN, false, true, true, 0),
            (LevelFilter::INFO, true, true, true, 0),
            (LevelFilter::DEBUG, true, true, true, 1),
            (LevelFilter::TRACE, true, true, true, 2),
        ] {
            let expected = json!({
                "log_file": "", "log_info": info, "log_warning": warning, "log_error": error,
                "log_verbose_level": verbose, "log_format": "ISO8601",
            });
            assert_eq!(Value::Object(log(level)), expected, "{level}");
        }
    }

    #[test]
    fn only_what_is_already_so_can_be_set() {
        let accepted = [
            (trace(), r#"{}"#),
            (trace(), r#"{"trace_level": ["OFF"]}"#),
            (trace(), r#"{"trace_level": "OFF"}"#),
            (trace(), r#"{"trace_level": null}"#),
            (log(LevelFilter::INFO), r#"{"log_info": true, "log_verbose_level": 0}"#),
        ];
        for (current, body) in accepted {
            let compared = read(body.as_bytes()).and_then(|asked| compare(&current, asked));
            assert_eq!(compared, Ok(()), "{body}");
        }
        let refused = [
            (
                trace(),
                r#"{"trace_level": ["TIMESTAMPS"]}"#,
                "trace_level: is [\"OFF\"] on this server, and can't be changed by a client",
            ),
            (
                trace(),
                r#"{"trace_rate": "1"}"#,
                "trace_rate: is not a setting of this server, which has trace_level",
            ),
            (
                log(LevelFilter::INFO),
                r#"{"log_info": false}"#,
                "log_info: is true on this server, and can't be changed by a client",
            ),
        ];
        for (current, body, message) in refused {
            let compared = read(body.as_bytes()).and_then(|asked| compare(&current, asked));
            let error = compared.expect_err(body);
            assert_eq!(error.to_string(), message);
        }
        for body in ["", "[]", "{", "\u{0}", &"[".repeat(100_000)] {
            let malformed = read(body.as_bytes());
            assert!(matches!(malformed, Err(SettingError::Malformed { .. })), "{malformed:?}");
        }
    }
}
