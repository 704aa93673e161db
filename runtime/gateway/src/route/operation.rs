//! The names of operations in the OpenAPI document. The match is exhaustive: a new route is
//! described, or it says here that something else describes it.

use quern_types::Class;

use super::{Route, SharingRoute, TenantRoute};

impl Route {
    /// Its name in the document; none where it belongs to a protocol that has a description of its
    /// own, or to a function.
    pub(crate) fn operation(&self) -> Option<&'static str> {
        let of = |class: &Class, function, model| match class {
            Class::Function => Some(function),
            Class::Model => Some(model),
        };
        match self {
            Self::Call(_)
            | Self::Infer(_)
            | Self::ModelMetadata(_)
            | Self::ModelReady(_)
            | Self::ServerMetadata
            | Self::ModelConfig(_)
            | Self::Statistics(_)
            | Self::RepositoryIndex
            | Self::LoadModel(_)
            | Self::UnloadModel(_)
            | Self::Settings(_)
            | Self::ChangeSettings(_)
            | Self::Regions(..)
            | Self::RegisterRegion(..)
            | Self::UnregisterRegions(..)
            | Self::Live
            | Self::Ready => None,
            Self::Deploy(class, _) => of(class, "deployFunction", "deployModel"),
            Self::List(class) => of(class, "listFunctions", "listModels"),
            Self::Show(class, _) => of(class, "showFunction", "showModel"),
            Self::Delete(class, _) => of(class, "deleteFunction", "deleteModel"),
            Self::Versions(class, _) => of(class, "listFunctionVersions", "listModelVersions"),
            Self::DeleteVersion(class, ..) => {
                of(class, "deleteFunctionVersion", "deleteModelVersion")
            }
            Self::Rollback(class, _) => of(class, "rollBackFunction", "rollBackModel"),
            Self::Traffic(class, _, route) => Some(route.operation(*class)),
            Self::Logs(_) => Some("readLogs"),
            Self::FunctionSettings(route) => Some(route.operation()),
            Self::Sharing(SharingRoute::Show(class, _)) => {
                of(class, "showFunctionAccess", "showModelAccess")
            }
            Self::Sharing(SharingRoute::Change(class, _)) => {
                of(class, "changeFunctionAccess", "changeModelAccess")
            }
            Self::Sharing(SharingRoute::Received) => Some("listShared"),
            Self::Tenant(TenantRoute::Limits(_)) => Some("showTenantLimits"),
            Self::Tenant(TenantRoute::ChangeLimits(_)) => Some("limitTenant"),
            Self::Stats => Some("readStats"),
            Self::Devices => Some("listDevices"),
            Self::Tokens => Some("listTokens"),
            Self::CreateToken => Some("createToken"),
            Self::RevokeToken(_) => Some("revokeToken"),
            Self::Audit => Some("readAudit"),
            Self::Backup => Some("makeBackup"),
            Self::Background(route) => Some(route.operation()),
            Self::Webhooks(route) => Some(route.operation()),
            Self::Batches(route) => Some(route.operation()),
            Self::Healthz => Some("isAlive"),
            Self::Readyz => Some("isReady"),
            Self::Metrics => Some("readMetrics"),
            Self::Description => Some("readDescription"),
        }
    }
}
