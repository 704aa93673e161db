//! What is set for a function beside its versions: configuration and secrets. Never shows the value
//! of a secret but to whoever exposes it, and never touches what keeps them.

mod redaction;

use std::{borrow::Borrow, collections::BTreeMap, fmt, str::FromStr, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use redaction::Redactor;

use crate::ByteSize;

/// The key of a setting, by which guests read it: 1 to 128 of `a-z A-Z 0-9 . _ -`, beginning with a
/// letter, a digit or `_`, so that it can stand in a path and on a command line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SettingKey(Arc<str>);

/// Why a text is not a [`SettingKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "key {0:?} is not valid: use 1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-', beginning with a \
     letter, a digit or '_'"
)]
pub struct InvalidSettingKey(String);

/// The value of a secret. It is wiped when it is dropped, and `Debug` does not show it.
#[derive(PartialEq, Eq)]
pub struct SecretValue(Zeroizing<String>);

/// Why a text is not a [`SecretValue`]; never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// There is nothing in it.
    #[error("value is empty: remove a secret to unset it")]
    Empty,
    /// It is too large.
    #[error("value has {bytes} bytes: a secret has at most {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: ByteSize,
    },
}

/// A part of a function's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// What guests read.
    pub value: String,
    /// When it was set.
    pub changed: SystemTime,
}

/// A secret of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct Secret {
    /// What guests read; none where the server can't open it.
    pub value: Option<SecretValue>,
    /// When it was set.
    pub changed: SystemTime,
}

/// What is set for one function. It comes before what its manifest says.
#[derive(Default, PartialEq, Eq)]
pub struct Settings {
    /// Plain values.
    pub config: BTreeMap<SettingKey, Configured>,
    /// Secrets, of which none has the key of a plain value.
    pub secrets: BTreeMap<SettingKey, Secret>,
}

impl SettingKey {
    /// Longest key, in bytes.
    pub const MAX_BYTES: usize = 128;

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SettingKey {
    type Err = InvalidSettingKey;

    fn from_str(text: &str) -> Result<Self, InvalidSettingKey> {
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let inner = |byte: u8| first(byte) || matches!(byte, b'.' | b'-');
        let valid = text.len() <= Self::MAX_BYTES
            && text.bytes().next().is_some_and(first)
            && text.bytes().all(inner);
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSettingKey(text.chars().take(40).collect()))
        }
    }
}

impl TryFrom<String> for SettingKey {
    type Error = InvalidSettingKey;

    fn try_from(text: String) -> Result<Self, InvalidSettingKey> {
        text.parse()
    }
}

impl From<SettingKey> for String {
    fn from(key: SettingKey) -> Self {
        key.as_str().to_owned()
    }
}

impl Borrow<str> for SettingKey {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for SettingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SettingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl SecretValue {
    /// Largest value.
    pub const MAX_SIZE: ByteSize = ByteSize(16 << 10);

    /// A value of some length, but not of any.
    pub fn new(text: String) -> Result<Self, InvalidSecret> {
        let value = Self(Zeroizing::new(text));
        match value.0.len() {
            0 => Err(InvalidSecret::Empty),
            bytes if bytes as u64 > Self::MAX_SIZE.0 => {
                Err(InvalidSecret::TooLarge { bytes, limit: Self::MAX_SIZE })
            }
            _ => Ok(value),
        }
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Settings {
    /// Most keys of a function's configuration.
    pub const MAX_CONFIG_KEYS: usize = 256;
    /// Most bytes of a function's configuration, keys and values together.
    pub const MAX_CONFIG_SIZE: ByteSize = ByteSize(64 << 10);
    /// Most secrets of a function.
    pub const MAX_SECRETS: usize = 64;

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.config.is_empty() && self.secrets.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let secret = self.secrets.get(key).and_then(|secret| secret.value.as_ref());
        secret
            .map(SecretValue::expose)
            .or_else(|| self.config.get(key).map(|configured| &*configured.value))
    }

    /// All values by their keys, in no order.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let config = self.config.iter().map(|(key, set)| (key.as_str(), &*set.value));
        let secrets = self.secrets.iter();
        let secrets = secrets.filter_map(|(key, set)| Some((key, set.value.as_ref()?)));
        config.chain(secrets.map(|(key, value)| (key.as_str(), value.expose())))
    }

    /// The first secret that the server can't open. Nothing must run as if there were none.
    pub fn locked(&self) -> Option<&SettingKey> {
        self.secrets.iter().find(|(_, secret)| secret.value.is_none()).map(|(key, _)| key)
    }
}

impl fmt::Debug for Settings {
    /// Says what is set, but nothing of what it is set to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, secrets } = self;
        f.debug_struct("Settings")
            .field("config", &config.keys())
            .field("secrets", &secrets.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_safe_in_a_path() {
        for good in ["a", "DATABASE_URL", "retry.limit", "x-1", "_", "7", &"k".repeat(128)] {
            assert!(good.parse::<SettingKey>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a b", "a/b", "a=b", "é", "a\0", &"k".repeat(129)] {
            let error = bad.parse::<SettingKey>().expect_err(bad).to_string();
            assert!(error.contains("is not valid: use 1 to 128"), "{error}");
        }
        assert!(serde_json::from_str::<SettingKey>("\"a b\"").is_err());
    }

    #[test]
    fn secrets_have_a_size_and_are_never_quoted() {
        assert_eq!(SecretValue::new(String::new()), Err(InvalidSecret::Empty));
        let most = usize::try_from(SecretValue::MAX_SIZE.0).expect("small");
        assert!(SecretValue::new("s".repeat(most)).is_ok());
        let refused = SecretValue::new("s".repeat(most + 1)).expect_err("too large");
        assert_eq!(refused.to_string(), "value has 16385 bytes: a secret has at most 16.0 KiB");
        let value = SecretValue::new("hunter2".into()).expect("valid");
        assert_eq!(value.expose(), "hunter2");
        assert!(!format!("{value:?}").contains("hunter2"));
    }

    #[test]
    fn a_key_has_one_value_and_a_locked_secret_none() {
        let changed = SystemTime::UNIX_EPOCH;
        let key = |text: &str| text.parse::<SettingKey>().expect("a key");
        let secret = SecretValue::new("hunter2".into()).ok();
        let mut settings = Settings::default();
        assert!(settings.is_empty() && settings.locked().is_none());
        settings.config.insert(key("mode"), Configured { value: "fast".into(), changed });
        settings.secrets.insert(key("password"), Secret { value: secret, changed });
        assert_eq!(
            (settings.get("mode"), settings.get("password")),
            (Some("fast"), Some("hunter2"))
        );
        assert_eq!(settings.get("other"), None);
        assert_eq!(Vec::from_iter(settings.all()), [("mode", "fast"), ("password", "hunter2")]);
        let shown = format!("{settings:?}");
        assert!(shown.contains("password") && !shown.contains("hunter2"), "{shown}");
        settings.secrets.insert(key("token"), Secret { value: None, changed });
        assert_eq!(settings.locked(), Some(&key("token")));
        assert_eq!(settings.all().count(), 2);
    }
}
