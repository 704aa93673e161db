//! The paths of what is set for functions.

use quern_types::{Name, SettingKey};

use super::{Route, RouteError, methods::Methods, paths::parse_name, shorten};

/// An operation on what is set for a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SettingsRoute {
    /// `GET /v1/functions/{name}/config`
    Config(Name),
    /// `PUT /v1/functions/{name}/config`
    ReplaceConfig(Name),
    /// `PATCH /v1/functions/{name}/config`
    MergeConfig(Name),
    /// `GET /v1/functions/{name}/secrets`
    Secrets(Name),
    /// `PUT /v1/functions/{name}/secrets/{key}`
    SetSecret(Name, SettingKey),
    /// `DELETE /v1/functions/{name}/secrets/{key}`
    UnsetSecret(Name, SettingKey),
}

impl SettingsRoute {
    /// Its path with what differs left out.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::ReplaceConfig(_) | Self::MergeConfig(_) => {
                "/v1/functions/{name}/config"
            }
            Self::Secrets(_) => "/v1/functions/{name}/secrets",
            Self::SetSecret(..) | Self::UnsetSecret(..) => "/v1/functions/{name}/secrets/{key}",
        }
    }

    /// Its name in the OpenAPI document.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::Config(_) => "showConfig",
            Self::ReplaceConfig(_) => "replaceConfig",
            Self::MergeConfig(_) => "changeConfig",
            Self::Secrets(_) => "listSecrets",
            Self::SetSecret(..) => "setSecret",
            Self::UnsetSecret(..) => "removeSecret",
        }
    }

    /// Whether it changes anything.
    pub(super) fn is_change(&self) -> bool {
        !matches!(self, Self::Config(_) | Self::Secrets(_))
    }
}

/// What there is below a function's path; none if nothing of it concerns settings.
pub(super) fn find(
    function: &str,
    rest: &[&str],
    path: &str,
) -> Result<Option<Methods>, RouteError> {
    let name = || parse_name(function, path);
    let route = Route::FunctionSettings;
    Ok(Some(match *rest {
        ["config"] => Methods::get(route(SettingsRoute::Config(name()?)))
            .and_put(route(SettingsRoute::ReplaceConfig(name()?)))
            .and_patch(route(SettingsRoute::MergeConfig(name()?))),
        ["secrets"] => Methods::get(route(SettingsRoute::Secrets(name()?))),
        ["secrets", ""] => return Err(RouteError::NotFound { path: shorten(path) }),
        ["secrets", key] => {
            let (name, key) = (name()?, key.parse::<SettingKey>()?);
            Methods::delete(route(SettingsRoute::UnsetSecret(name.clone(), key.clone())))
                .and_put(route(SettingsRoute::SetSecret(name, key)))
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use http::Method;

    use super::*;

    /// Every call, as method and path, and what it means.
    pub(crate) fn calls() -> Vec<(&'static str, Route)> {
        let name: Name = "f".parse().expect("a name");
        let key: SettingKey = "API_KEY".parse().expect("a key");
        let calls = [
            ("GET /v1/functions/f/config", SettingsRoute::Config(name.clone())),
            ("PUT /v1/functions/f/config", SettingsRoute::ReplaceConfig(name.clone())),
            ("PATCH /v1/functions/f/config", SettingsRoute::MergeConfig(name.clone())),
            ("GET /v1/functions/f/secrets", SettingsRoute::Secrets(name.clone())),
            (
                "PUT /v1/functions/f/secrets/API_KEY",
                SettingsRoute::SetSecret(name.clone(), key.clone()),
            ),
            ("DELETE /v1/functions/f/secrets/API_KEY", SettingsRoute::UnsetSecret(name, key)),
        ];
        calls.into_iter().map(|(call, route)| (call, Route::FunctionSettings(route))).collect()
    }

    #[test]
    fn what_is_no_path_of_a_setting_is_named() {
        let cases = [
            ("/v1/functions/f/config/a", "nothing answers at"),
            ("/v1/functions/f/secrets/", "nothing answers at"),
            ("/v1/functions/f/secrets/a/b", "nothing answers at"),
            ("/v1/models/f/secrets", "nothing answers at"),
            ("/v1/functions/f/secrets/a%20b", "key \"a%20b\" is not valid"),
            ("/v1/functions/F/secrets/a", "name \"F\" is not valid"),
            ("/v1/functions/f/secrets/a", "does not take GET, but DELETE, PUT"),
        ];
        for (path, expected) in cases {
            let error = Route::of(&Method::GET, path).expect_err(path).to_string();
            assert!(error.contains(expected), "{path}: {error}");
        }
    }
}
