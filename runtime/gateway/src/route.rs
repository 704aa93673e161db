//! Which operation a method and a path mean. Knows nothing of what is deployed.

mod background;
mod batches;
mod methods;
mod operation;
mod paths;
mod policy;
mod settings;
mod sharing;
mod template;
mod tenants;
#[cfg(test)]
pub(crate) mod tests;
mod traffic;
mod webhooks;

pub(crate) use batches::BatchRoute;
use http::Method;
use quern_scoring::InvalidBatchId;
use quern_types::{
    Class, InvalidName, InvalidSettingKey, InvalidTokenId, Name, QualifiedName, TokenId,
    VersionNumber,
};

pub(crate) use settings::SettingsRoute;
pub(crate) use sharing::SharingRoute;
pub(crate) use tenants::TenantRoute;

pub(crate) use self::{background::BackgroundRoute, traffic::TrafficRoute, webhooks::WebhookRoute};

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `ANY /f/{name}/…`
    Call(QualifiedName),
    /// `POST /v2/models/{name}[/versions/{version}]/infer`
    Infer(Target),
    /// `GET /v2/models/{name}[/versions/{version}]`
    ModelMetadata(Target),
    /// `GET /v2/models/{name}[/versions/{version}]/ready`
    ModelReady(Target),
    /// `GET /v2`
    ServerMetadata,
    /// `GET /v2/models/{name}[/versions/{version}]/config`
    ModelConfig(Target),
    /// `GET /v2/models[/{name}[/versions/{version}]]/stats`
    Statistics(Option<Target>),
    /// `POST /v2/repository/index`
    RepositoryIndex,
    /// `POST /v2/repository/models/{name}/load`
    LoadModel(Name),
    /// `POST /v2/repository/models/{name}/unload`
    UnloadModel(Name),
    /// `GET` of the settings of something
    Settings(Subject),
    /// `POST` to the settings of something
    ChangeSettings(Subject),
    /// `GET /v2/{system,cuda}sharedmemory[/region/{region}]/status`
    Regions(Memory, Option<String>),
    /// `POST /v2/{system,cuda}sharedmemory/region/{region}/register`
    RegisterRegion(Memory, String),
    /// `POST /v2/{system,cuda}sharedmemory[/region/{region}]/unregister`
    UnregisterRegions(Memory, Option<String>),
    /// `GET /v2/health/live`
    Live,
    /// `GET /v2/health/ready`
    Ready,
    /// `PUT /v1/{class}/{name}`
    Deploy(Class, Name),
    /// `GET /v1/{class}`
    List(Class),
    /// `GET /v1/{class}/{name}`
    Show(Class, Name),
    /// `DELETE /v1/{class}/{name}`
    Delete(Class, Name),
    /// `GET /v1/{class}/{name}/versions`
    Versions(Class, Name),
    /// `DELETE /v1/{class}/{name}/versions/{version}`
    DeleteVersion(Class, Name, VersionNumber),
    /// `POST /v1/{class}/{name}/rollback`
    Rollback(Class, Name),
    /// `/v1/{class}/{name}/{traffic,aliases,canary}/…`
    Traffic(Class, Name, TrafficRoute),
    /// `GET /v1/functions/{name}/logs`
    Logs(Name),
    /// What is set for a function.
    FunctionSettings(SettingsRoute),
    /// Sharing of functions and models
    Sharing(SharingRoute),
    /// Tenants
    Tenant(TenantRoute),
    /// `GET /v1/stats`
    Stats,
    /// `GET /v1/devices`
    Devices,
    /// `GET /v1/tokens`
    Tokens,
    /// `POST /v1/tokens`
    CreateToken,
    /// `DELETE /v1/tokens/{id}`
    RevokeToken(TokenId),
    /// `GET /v1/audit`
    Audit,
    /// `POST /v1/backup`
    Backup,
    /// Asynchronous calls.
    Background(BackgroundRoute),
    /// Webhooks, and messages to them.
    Webhooks(WebhookRoute),
    /// `/v1/batches…`
    Batches(BatchRoute),
    /// `GET /healthz`
    Healthz,
    /// `GET /readyz`
    Readyz,
    /// `GET /metrics`
    Metrics,
    /// `GET /openapi.json`
    Description,
}

/// A model or an inference function, and the version asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: QualifiedName,
    /// None: the live one.
    pub(crate) version: Option<VersionNumber>,
}

impl Target {
    /// What a name and a version mean that were given on their own; an empty version is none.
    pub(crate) fn parse(name: &str, version: &str) -> Result<Self, RouteError> {
        let version = Some(version).filter(|version| !version.is_empty());
        let version = version.map(paths::parse_version).transpose()?;
        Ok(Self { name: name.parse()?, version })
    }
}

/// What has settings in the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `/v2[/models/{name}]/trace/setting`
    Trace(Option<Name>),
    /// `/v2/logging`
    Log,
}

/// The memory that a region is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// The machine's.
    System,
    /// A device's.
    Cuda,
}

/// Why a method and a path mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    /// There is no such path.
    #[error("nothing answers at {path:?}: see docs/api.md for what does")]
    NotFound {
        /// The path.
        path: String,
    },
    /// The path takes other methods.
    #[error("{path:?} does not take {method}, but {allow}")]
    MethodNotAllowed {
        /// The path.
        path: String,
        /// The method asked for.
        method: Method,
        /// The methods that it takes.
        allow: Box<str>,
    },
    /// The request is none of gRPC's, at an address that is for nothing else.
    #[error("only gRPC is answered at this address")]
    GrpcOnly,
    /// A name in the path is malformed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A name in the path is percent-encoded.
    #[error("name {name:?} is percent-encoded: names consist of characters that need no encoding")]
    EncodedName {
        /// The name.
        name: String,
    },
    /// What should name a token doesn't.
    #[error(transparent)]
    Token(#[from] InvalidTokenId),
    /// What should be the key of a setting isn't.
    #[error(transparent)]
    SettingKey(#[from] InvalidSettingKey),
    /// What should name an invocation doesn't.
    #[error("invocation {id:?} is not valid: it is named by the UUID that its answer gave")]
    Invocation {
        /// What stands in its place.
        id: String,
    },
    /// What should name a message to a webhook doesn't.
    #[error("delivery {id:?} is not valid: it is named by the UUID in its header webhook-id")]
    Delivery {
        /// What stands in its place.
        id: String,
    },
    /// What should name a batch doesn't.
    #[error(transparent)]
    Batch(#[from] InvalidBatchId),
    /// A region's name in the path is no text.
    #[error("name of the region {name:?} is not UTF-8 once it is decoded")]
    RegionName {
        /// The name as it came.
        name: String,
    },
    /// A version in the path is no number.
    #[error("version {version:?} is not a number: versions are 1, 2, …")]
    Version {
        /// What stands in its place.
        version: String,
    },
}

impl Route {
    /// The route of a method and a path.
    pub(crate) fn of(method: &Method, path: &str) -> Result<Self, RouteError> {
        if let Some(rest) = path.strip_prefix("/f/") {
            let name = rest.split_once('/').map_or(rest, |(name, _)| name);
            return paths::parse_qualified(name, path).map(Self::Call);
        }
        paths::find(path)?.take(method).map_err(|allow| RouteError::MethodNotAllowed {
            path: shorten(path),
            method: method.clone(),
            allow,
        })
    }
}

/// A caller's text, cut to a length for messages.
fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}
