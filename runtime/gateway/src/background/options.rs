//! What a request asks for its asynchronous call, in headers of its own.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use quern_jobs::JobsConfig;
use quern_types::{InvalidName, Name, Period};

/// What its caller names a call by (draft-ietf-httpapi-idempotency-key-header).
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ATTEMPTS: HeaderName = HeaderName::from_static("quern-max-attempts");
const AGE: HeaderName = HeaderName::from_static("quern-max-age");
const WEBHOOK: HeaderName = HeaderName::from_static("quern-webhook");
/// Longest idempotency key.
const MAX_KEY: usize = 255;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) key: Option<String>,
    pub(super) attempts: Option<u32>,
    pub(super) age: Option<Duration>,
    pub(super) webhook: Option<Name>,
}

/// Why a header makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionError {
    /// It is there twice.
    #[error("header {name} is given more than once")]
    Repeated {
        /// The header.
        name: HeaderName,
    },
    /// The key is no key.
    #[error("header {KEY} is not 1 to {MAX_KEY} printable ASCII characters")]
    Key,
    /// The number of tries is none, or too large.
    #[error("header {ATTEMPTS} is not a number from 1 to {most}")]
    Attempts {
        /// The most.
        most: u32,
    },
    /// The time is none, or too long.
    #[error("header {AGE} is not a time from 1ms to {most}, such as \"10m\"")]
    Age {
        /// The longest.
        most: Period,
    },
    /// The name of a webhook is none.
    #[error("header {WEBHOOK}: {0}")]
    Webhook(InvalidName),
    /// Nor is it text.
    #[error("header {WEBHOOK} is not the name of a webhook")]
    NoWebhook,
}

impl Options {
    pub(super) fn of(headers: &HeaderMap, config: &JobsConfig) -> Result<Self, OptionError> {
        let key = only(headers, KEY, OptionError::Key)?.map(key).transpose()?;
        let refused = OptionError::Attempts { most: config.max_attempts };
        let attempts = only(headers, ATTEMPTS, refused.clone())?.map(|text| {
            let number =
                text.parse().ok().filter(|number| (1..=config.max_attempts).contains(number));
            number.ok_or_else(|| refused.clone())
        });
        let refused = OptionError::Age { most: Period(config.max_age) };
        let age = only(headers, AGE, refused.clone())?.map(|text| {
            let age = text.parse().ok().map(|Period(age)| age);
            let bounds = Duration::from_millis(1)..=config.max_age;
            age.filter(|age| bounds.contains(age)).ok_or_else(|| refused.clone())
        });
        let webhook = only(headers, WEBHOOK, OptionError::NoWebhook)?
            .map(|text| text.parse().map_err(OptionError::Webhook));
        Ok(Self {
            key,
            attempts: attempts.transpose()?,
            age: age.transpose()?,
            webhook: webhook.transpose()?,
        })
    }

    /// Removes what concerns nobody but this server.
    pub(super) fn remove_from(headers: &mut HeaderMap) {
        headers.remove(ATTEMPTS);
        headers.remove(AGE);
        headers.remove(WEBHOOK);
    }
}

/// The one value of a header, if it is there.
fn only(
    headers: &HeaderMap,
    name: HeaderName,
    not_text: OptionError,
) -> Result<Option<&str>, OptionError> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(OptionError::Repeated { name });
    }
    value.to_str().map(|text| Some(text.trim())).map_err(|_| not_text)
}

/// A key, with or without the quotes of a structured field.
fn key(text: &str) -> Result<String, OptionError> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let printable = inner.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    match printable && (1..=MAX_KEY).contains(&inner.len()) {
        true => Ok(inner.to_owned()),
        false => Err(OptionError::Key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[(&'static str, &str)]) -> Result<Options, OptionError> {
        let values = values
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
        Options::of(&values.collect(), &JobsConfig::default())
    }

    #[test]
    fn options_are_read_from_headers() {
        let nothing = Options { key: None, attempts: None, age: None, webhook: None };
        assert_eq!(of(&[]), Ok(nothing.clone()));
        let all = [
            ("idempotency-key", "\"a b\""),
            ("quern-max-attempts", "100"),
            ("quern-max-age", "7days"),
            ("quern-webhook", "shop"),
        ];
        let expected = Options {
            key: Some("a b".into()),
            attempts: Some(100),
            age: Some(JobsConfig::default().max_age),
            webhook: Some("shop".parse().expect("a name")),
        };
        assert_eq!(of(&all), Ok(expected));
        let unquoted = Options { key: Some("a-1".into()), ..nothing };
        assert_eq!(of(&[("idempotency-key", "a-1")]), Ok(unquoted));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let long = "k".repeat(256);
        let cases = [
            ("idempotency-key", "", "idempotency-key"),
            ("idempotency-key", "\"\"", "idempotency-key"),
            ("idempotency-key", &long, "idempotency-key"),
            ("idempotency-key", "é", "idempotency-key"),
            ("quern-max-attempts", "0", "quern-max-attempts is not a number from 1 to 100"),
            ("quern-max-attempts", "101", "quern-max-attempts"),
            ("quern-max-attempts", "many", "quern-max-attempts"),
            ("quern-max-age", "0s", "quern-max-age is not a time from 1ms to 7days"),
            ("quern-max-age", "8days", "quern-max-age"),
            ("quern-max-age", "soon", "quern-max-age"),
            ("quern-webhook", "https://example.com", "quern-webhook"),
            ("quern-webhook", "é", "quern-webhook"),
        ];
        for (name, value, part) in cases {
            let error = of(&[(name, value)]).expect_err(value).to_string();
            assert!(error.contains(part), "{error}");
        }
        let twice = of(&[("quern-max-age", "1s"), ("quern-max-age", "1s")]);
        assert_eq!(twice, Err(OptionError::Repeated { name: AGE }));
    }
}
