//! What answers about the traffic of a function or model. Knows nothing of what is deployed.

use quern_types::{Class, Name};

use super::{Route, RouteError, methods::Methods, paths::parse_name};
use crate::{access::Needs, metrics::Traffic};

/// An operation on the traffic of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrafficRoute {
    /// `GET …/traffic`
    Show,
    /// `PUT …/traffic`
    Set,
    /// `PUT …/aliases/{alias}`
    SetAlias(Name),
    /// `DELETE …/aliases/{alias}`
    RemoveAlias(Name),
    /// `GET …/canary`
    Canary,
    /// `POST …/canary`
    StartCanary,
    /// `DELETE …/canary`
    AbortCanary,
    /// `POST …/canary/promote`
    PromoteCanary,
}

/// What a path below a name takes.
pub(super) enum Found {
    Traffic,
    Alias(Name),
    Canary,
    Promotion,
}

/// What there is below a name; `path` is all of it, for messages.
pub(super) fn find(area: &str, rest: &[&str], path: &str) -> Result<Option<Found>, RouteError> {
    Ok(match (area, rest) {
        ("traffic", []) => Some(Found::Traffic),
        ("aliases", [alias]) => Some(Found::Alias(parse_name(alias, path)?)),
        ("canary", []) => Some(Found::Canary),
        ("canary", ["promote"]) => Some(Found::Promotion),
        _ => None,
    })
}

impl Found {
    /// The methods, for this name.
    pub(super) fn of(self, class: Class, name: &Name) -> Methods {
        let route = |route| Route::Traffic(class, name.clone(), route);
        match self {
            Self::Traffic => {
                Methods::get(route(TrafficRoute::Show)).and_put(route(TrafficRoute::Set))
            }
            Self::Alias(alias) => Methods::delete(route(TrafficRoute::RemoveAlias(alias.clone())))
                .and_put(route(TrafficRoute::SetAlias(alias))),
            Self::Canary => Methods::get(route(TrafficRoute::Canary))
                .and_post(route(TrafficRoute::StartCanary))
                .and_delete(route(TrafficRoute::AbortCanary)),
            Self::Promotion => Methods::post(route(TrafficRoute::PromoteCanary)),
        }
    }
}

impl TrafficRoute {
    /// Who may ask for any of them.
    pub(super) fn needs() -> Needs {
        // To look as well: the examples of a shadow show what callers were answered.
        Needs::DEPLOYER
    }

    /// Its name in the document.
    pub(super) fn operation(&self, class: Class) -> &'static str {
        let (of_function, of_model) = match self {
            Self::Show => ("showFunctionTraffic", "showModelTraffic"),
            Self::Set => ("setFunctionTraffic", "setModelTraffic"),
            Self::SetAlias(_) => ("setFunctionAlias", "setModelAlias"),
            Self::RemoveAlias(_) => ("removeFunctionAlias", "removeModelAlias"),
            Self::Canary => ("showFunctionCanary", "showModelCanary"),
            Self::StartCanary => ("startFunctionCanary", "startModelCanary"),
            Self::AbortCanary => ("abortFunctionCanary", "abortModelCanary"),
            Self::PromoteCanary => ("promoteFunctionCanary", "promoteModelCanary"),
        };
        match class {
            Class::Function => of_function,
            Class::Model => of_model,
        }
    }

    /// Its path with its names left out.
    pub(super) fn template(&self, class: Class) -> &'static str {
        let (of_function, of_model) = match self {
            Self::Show | Self::Set => ("/v1/functions/{name}/traffic", "/v1/models/{name}/traffic"),
            Self::SetAlias(_) | Self::RemoveAlias(_) => {
                ("/v1/functions/{name}/aliases/{alias}", "/v1/models/{name}/aliases/{alias}")
            }
            Self::Canary | Self::StartCanary | Self::AbortCanary => {
                ("/v1/functions/{name}/canary", "/v1/models/{name}/canary")
            }
            Self::PromoteCanary => {
                ("/v1/functions/{name}/canary/promote", "/v1/models/{name}/canary/promote")
            }
        };
        match class {
            Class::Function => of_function,
            Class::Model => of_model,
        }
    }

    /// What it is counted as.
    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::Show | Self::Canary => Traffic::Inspect,
            Self::Set
            | Self::SetAlias(_)
            | Self::RemoveAlias(_)
            | Self::StartCanary
            | Self::AbortCanary
            | Self::PromoteCanary => Traffic::Change,
        }
    }
}
