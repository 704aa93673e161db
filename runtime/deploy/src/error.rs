//! Why a deployment, or a change to one, was refused. Never a status code.

use quern_sandbox::ComponentError;
use quern_store::{
    BlobError, CommitError, DeleteError, LogError, RollbackError, StageError, TokenError,
};
use quern_types::{
    Class, DeviceError, ManifestError, Name, Period, StorageFailure, StorageFault, VersionNumber,
};

/// Why a deployment, or a change to one, was refused. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployError {
    /// The upload did not arrive.
    #[error(transparent)]
    Upload(#[from] StageError),
    /// The manifest is wrong.
    #[error("manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The manifest is another function's.
    #[error(
        "the manifest names function {manifest:?}, but is deployed as {path:?}: use one name for \
         both"
    )]
    NameMismatch {
        /// The name that it is deployed under.
        path: Name,
        /// The name in the manifest.
        manifest: Name,
    },
    /// The component is wrong.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The model is wrong.
    #[error("the model can't be served: {reason}")]
    Model {
        /// What is wrong with it.
        reason: String,
    },
    /// The engine is absent, or refuses the model.
    #[error(transparent)]
    Engine(#[from] DeviceError),
    /// A model and an inference function would share a name.
    #[error(
        "name {name:?} is taken by a {by}: models and inference functions share their names, \
         choose another or delete the {by}"
    )]
    NameTaken {
        /// The name.
        name: Name,
        /// What has it.
        by: Class,
    },
    /// No such function or model.
    #[error("{class} {name:?} is not deployed")]
    NotFound {
        /// Function or model.
        class: Class,
        /// The name asked for.
        name: Name,
    },
    /// The version is not kept, or never was.
    #[error("{class} {name:?} has no version {version}: list its versions to see what is kept")]
    VersionNotFound {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// The version asked for.
        version: VersionNumber,
    },
    /// Nothing older is kept.
    #[error("{class} {name:?} has no version before {live}, the live one")]
    NoPreviousVersion {
        /// Function or model.
        class: Class,
        /// The name.
        name: Name,
        /// The live version.
        live: VersionNumber,
    },
    /// As many deployments as are allowed are under way already.
    #[error("{limit} deployments are under way already: try again later")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The store failed.
    #[error("the store failed: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// Why a change of who is let in, or a look at the audit log, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessChangeError {
    /// The note on a token is too long, or no text.
    #[error("note has {length} characters: write at most {limit}, without control characters")]
    Note {
        /// Its length, in characters.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The lifetime of a token is nothing, or too long.
    #[error("expires_in is zero or above {limit}: leave it out for a token that never expires")]
    Lifetime {
        /// The limit.
        limit: Period,
    },
    /// The token can't be made or revoked.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store failed.
    #[error("the store failed: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

impl DeployError {
    /// Whether the server is at fault, and not what was uploaded or asked for.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Storage { .. }
                | Self::Upload(StageError::Storage { .. })
                | Self::Component(ComponentError::Artifact { .. })
                | Self::Engine(DeviceError::Lost { .. })
        )
    }
}

impl From<BlobError> for DeployError {
    fn from(error: BlobError) -> Self {
        let fault = match &error {
            BlobError::Storage { reason, .. } => reason.fault(),
            BlobError::Missing { .. } | BlobError::Corrupt { .. } => StorageFault::Other,
        };
        Self::Storage { reason: StorageFailure::new(fault, error) }
    }
}

impl From<CommitError> for DeployError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NameTaken { name, by } => Self::NameTaken { name, by },
            CommitError::ContentMissing { .. } => {
                Self::Storage { reason: error.to_string().into() }
            }
            CommitError::Storage { reason } => Self::Storage { reason },
        }
    }
}

impl From<RollbackError> for DeployError {
    fn from(error: RollbackError) -> Self {
        match error {
            RollbackError::NotFound { class, name } => Self::NotFound { class, name },
            RollbackError::VersionNotFound { class, name, version } => {
                Self::VersionNotFound { class, name, version }
            }
            RollbackError::NoPreviousVersion { class, name, live } => {
                Self::NoPreviousVersion { class, name, live }
            }
            RollbackError::Storage { reason } => Self::Storage { reason },
        }
    }
}

impl From<DeleteError> for DeployError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::NotFound { class, name } => Self::NotFound { class, name },
            DeleteError::Storage { reason } => Self::Storage { reason },
        }
    }
}

impl From<LogError> for DeployError {
    fn from(LogError::Storage { reason, .. }: LogError) -> Self {
        Self::Storage { reason }
    }
}

impl From<tokio::task::JoinError> for DeployError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Storage { reason: format!("the deployment ended early: {error}").into() }
    }
}
