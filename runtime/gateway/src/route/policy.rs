//! Who may ask for a route, and what it is counted as.

use quern_types::QualifiedName;

use super::{Route, TrafficRoute, WebhookRoute};
use crate::{access::Needs, metrics::Traffic};

impl Route {
    /// The function or model to be called or asked for, where it may be another tenant's.
    pub(crate) fn target(&self) -> Option<&QualifiedName> {
        match self {
            Self::Call(name) => Some(name),
            Self::Infer(target)
            | Self::ModelMetadata(target)
            | Self::ModelReady(target)
            | Self::ModelConfig(target) => Some(&target.name),
            _ => None,
        }
    }

    /// Who may ask for it.
    pub(crate) fn needs(&self) -> Needs {
        if self.target().is_some_and(|name| name.owner.is_some()) {
            return Needs::Open;
        }
        match self {
            Self::Sharing(route) => route.needs(),
            Self::Tenant(route) => route.needs(),
            Self::Live | Self::Ready | Self::Healthz | Self::Readyz | Self::Description => {
                Needs::Nothing
            }
            Self::Background(route) => route.needs(),
            Self::Call(_)
            | Self::Infer(_)
            | Self::ModelMetadata(_)
            | Self::ModelReady(_)
            | Self::ServerMetadata
            | Self::ModelConfig(_)
            | Self::Statistics(_)
            | Self::RepositoryIndex
            | Self::Settings(_)
            | Self::ChangeSettings(_)
            | Self::List(_)
            | Self::Show(..)
            | Self::Versions(..) => Needs::INVOKER,
            Self::Batches(route) => route.needs(),
            Self::Deploy(..)
            | Self::Delete(..)
            | Self::DeleteVersion(..)
            | Self::Rollback(..)
            | Self::LoadModel(_)
            | Self::UnloadModel(_)
            | Self::Logs(_)
            | Self::FunctionSettings(_)
            | Self::Stats => Needs::DEPLOYER,
            Self::Traffic(..) => TrafficRoute::needs(),
            Self::Webhooks(_) => WebhookRoute::needs(),
            Self::Regions(..)
            | Self::RegisterRegion(..)
            | Self::UnregisterRegions(..)
            | Self::Devices
            | Self::Metrics
            | Self::CreateToken
            | Self::Tokens
            | Self::RevokeToken(_)
            | Self::Audit
            | Self::Backup => Needs::ADMIN,
        }
    }

    /// What it is counted as.
    pub(crate) fn traffic(&self) -> Traffic {
        match self {
            Self::Sharing(route) => route.traffic(),
            Self::Tenant(route) => route.traffic(),
            Self::Call(_) => Traffic::Call,
            Self::Background(route) => route.traffic(),
            Self::Webhooks(route) => route.traffic(),
            Self::Infer(_) => Traffic::Infer,
            Self::ModelMetadata(_)
            | Self::ModelReady(_)
            | Self::ServerMetadata
            | Self::ModelConfig(_)
            | Self::Statistics(_)
            | Self::RepositoryIndex
            | Self::Settings(_)
            | Self::ChangeSettings(_)
            | Self::Regions(..)
            | Self::RegisterRegion(..)
            | Self::UnregisterRegions(..) => Traffic::Protocol,
            Self::Deploy(..)
            | Self::Delete(..)
            | Self::DeleteVersion(..)
            | Self::Rollback(..)
            | Self::LoadModel(_)
            | Self::UnloadModel(_)
            | Self::CreateToken
            | Self::RevokeToken(_) => Traffic::Change,
            Self::List(_)
            | Self::Show(..)
            | Self::Versions(..)
            | Self::Devices
            | Self::Stats
            | Self::Tokens
            | Self::Audit => Traffic::Inspect,
            Self::Backup => Traffic::Logs,
            Self::FunctionSettings(route) if route.is_change() => Traffic::Change,
            Self::FunctionSettings(_) => Traffic::Inspect,
            Self::Traffic(_, _, route) => route.traffic(),
            Self::Logs(_) => Traffic::Logs,
            Self::Batches(route) => route.traffic(),
            Self::Live
            | Self::Ready
            | Self::Healthz
            | Self::Readyz
            | Self::Metrics
            | Self::Description => Traffic::Operations,
        }
    }
}
