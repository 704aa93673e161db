//! Errors about what is set for functions.

use quern_deploy::SettingError;

use super::super::{Code, Failure};
use crate::settings::SecretBodyError;

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        let code = match &error {
            SettingError::NotFound { .. } | SettingError::NoSecret { .. } => Code::NotFound,
            SettingError::IsSecret { .. } | SettingError::IsConfig { .. } => Code::SettingTaken,
            SettingError::TooManyKeys { .. }
            | SettingError::TooLarge { .. }
            | SettingError::TooManySecrets { .. } => Code::TooManySettings,
            SettingError::NoKey => Code::SecretsLocked,
            SettingError::Storage { reason } => return Self::storage(reason),
        };
        Self::new(code, error)
    }
}

impl From<SecretBodyError> for Failure {
    fn from(error: SecretBodyError) -> Self {
        let code = match error {
            SecretBodyError::Value(_) => Code::InvalidRequest,
            SecretBodyError::Form | SecretBodyError::Content { .. } | SecretBodyError::NoText => {
                Code::InvalidJson
            }
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use quern_types::{ByteSize, InvalidSecret};

    use super::*;

    #[test]
    fn errors_about_settings_have_their_codes() {
        let (function, limit) = (|| "f".parse().expect("a name"), ByteSize(1));
        let key = || "k".parse().expect("a key");
        let setting = |error: SettingError| Failure::from(error);
        let secret = |error: SecretBodyError| Failure::from(error);
        let cases = [
            (Code::NotFound, setting(SettingError::NotFound { function: function() })),
            (Code::NotFound, setting(SettingError::NoSecret { function: function(), key: key() })),
            (
                Code::SettingTaken,
                setting(SettingError::IsSecret { function: function(), key: key() }),
            ),
            (
                Code::SettingTaken,
                setting(SettingError::IsConfig { function: function(), key: key() }),
            ),
            (
                Code::TooManySettings,
                setting(SettingError::TooManyKeys { function: function(), count: 2, limit: 1 }),
            ),
            (
                Code::TooManySettings,
                setting(SettingError::TooLarge { function: function(), bytes: 2, limit }),
            ),
            (
                Code::TooManySettings,
                setting(SettingError::TooManySecrets { function: function(), limit: 1 }),
            ),
            (Code::SecretsLocked, setting(SettingError::NoKey)),
            (Code::Internal, setting(SettingError::Storage { reason: "disk".into() })),
            (Code::InvalidJson, secret(SecretBodyError::Form)),
            (Code::InvalidJson, secret(SecretBodyError::Content { reason: "eof".into() })),
            (Code::InvalidJson, secret(SecretBodyError::NoText)),
            (Code::InvalidRequest, secret(InvalidSecret::Empty.into())),
        ];
        for (expected, failure) in cases {
            assert_eq!(failure.code, expected, "{}", failure.detail);
        }
    }
}
