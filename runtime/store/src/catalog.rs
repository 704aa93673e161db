//! The catalog as the rest of the program sees it: a snapshot to read, and operations that return
//! once the disk has them. Never touches the database itself.

mod settings;
mod webhooks;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use quern_types::{
    Access, Caller, Class, Digest, FunctionSpec, ModelSpec, Name, Routes, Schedule, ScheduleSpec,
    Sharing, StorageFailure, TenantId, TenantLimits, Token, TokenId, VersionNumber, Webhook,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    AuditError, AuditQuery, AuditRecord, DeleteVersionError, ScheduleError, SecretsKey,
    SharingError, TenantLimitsError, TokenError, TrafficChange, TrafficError,
    audit::AuditReader,
    backup::{RecordBackup, RemoveUnneeded},
    ledger::Ledger,
    metrics::StoreMetrics,
    operation::{CommitVersion, DeleteName, Operation, RollBack},
    removal::DeleteVersion,
    rows::{Key, NewRow},
    schedules::{DeleteSchedule, PutSchedule},
    settings::AllSettings,
    sharing::Share,
    snapshot::Deployable,
    tenants::LimitTenant,
    tokens::{AddToken, RevokeToken},
    traffic::ChangeTraffic,
};

/// The catalog of one data folder.
#[derive(Debug)]
pub struct Catalog {
    shown: Shown,
    /// What secrets are sealed with.
    secrets_key: Option<Arc<SecretsKey>>,
    audit: AuditReader,
    operations: Mutex<Option<mpsc::Sender<Box<dyn Operation>>>>,
    ledger: Arc<Ledger>,
    metrics: StoreMetrics,
}

/// What requests read, which the writer keeps up to date.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) access: Arc<ArcSwap<Access>>,
    pub(crate) schedules: Arc<ArcSwap<Vec<Arc<Schedule>>>>,
    pub(crate) settings: Arc<ArcSwap<AllSettings>>,
    pub(crate) webhooks: Arc<ArcSwap<Vec<Arc<Webhook>>>>,
}

/// A version to be deployed.
#[derive(Debug, Clone)]
pub struct NewVersion<Spec> {
    /// Who deploys it; it is the caller's tenant's.
    pub caller: Caller,
    /// What it is a version of.
    pub name: Name,
    /// Names manifest and content together.
    pub digest: Digest,
    /// Names its content; it must have been kept.
    pub content: Digest,
    /// Everything else about it.
    pub spec: Spec,
    /// Now.
    pub created: SystemTime,
    /// Whether it gets all requests; otherwise none, until somebody says so. The first version of a
    /// name always does.
    pub live: bool,
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The version.
    pub version: VersionNumber,
    /// Whether it is new; otherwise its digest was kept already.
    pub created: bool,
    /// Whether it is live now.
    pub live: bool,
    /// What fell out of retention.
    pub removed: Removed,
}

/// What nothing refers to any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Contents without any version, whoever's; their blobs are gone.
    pub contents: Vec<Digest>,
}

/// Why a version was not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
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
    /// The content was never kept, or is gone again.
    #[error("content {content} of {name:?} is not in the store: upload it again")]
    ContentMissing {
        /// The name.
        name: Name,
        /// The digest of the content.
        content: Digest,
    },
    /// The database failed; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// Why a rollback was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
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
    /// The database failed; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

/// Why something was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// No such function or model.
    #[error("{class} {name:?} is not deployed")]
    NotFound {
        /// Function or model.
        class: Class,
        /// The name asked for.
        name: Name,
    },
    /// The database failed; nothing changed.
    #[error("catalog can't be written: {reason}")]
    Storage {
        /// What failed.
        reason: StorageFailure,
    },
}

impl Catalog {
    pub(crate) fn new(
        shown: Shown,
        secrets_key: Option<Arc<SecretsKey>>,
        audit: AuditReader,
        operations: mpsc::Sender<Box<dyn Operation>>,
        ledger: Arc<Ledger>,
        metrics: StoreMetrics,
    ) -> Self {
        let operations = Mutex::new(Some(operations));
        Self { shown, secrets_key, audit, operations, ledger, metrics }
    }

    /// What is deployed now.
    pub fn routes(&self) -> Arc<Routes> {
        self.shown.routes.load_full()
    }

    /// Who is let in now.
    pub fn access(&self) -> Arc<Access> {
        self.shown.access.load_full()
    }

    /// What is called at which times now, by tenant and name.
    pub fn schedules(&self) -> Arc<Vec<Arc<Schedule>>> {
        self.shown.schedules.load_full()
    }

    /// Adds a schedule of the caller's tenant, or changes one; returns whether it is new. One that
    /// says the same is left as it is.
    pub async fn put_schedule(
        &self,
        caller: &Caller,
        name: Name,
        spec: ScheduleSpec,
        created: SystemTime,
    ) -> Result<bool, ScheduleError> {
        self.submit(
            |reply| PutSchedule::new(caller.clone(), name, spec, created, reply),
            |reason| ScheduleError::Storage { reason },
        )
        .await
    }

    /// Takes a schedule of the caller's tenant away.
    pub async fn delete_schedule(&self, caller: &Caller, name: Name) -> Result<(), ScheduleError> {
        self.submit(
            |reply| DeleteSchedule::new(caller.clone(), name, reply),
            |reason| ScheduleError::Storage { reason },
        )
        .await
    }

    /// Adds a token.
    pub async fn add_token(&self, caller: &Caller, token: Token) -> Result<(), TokenError> {
        self.submit(
            |reply| AddToken::new(caller.clone(), token, reply),
            |reason| TokenError::Storage { reason },
        )
        .await
    }

    /// Takes a token away: once this returns, it lets nobody in.
    pub async fn revoke_token(&self, caller: &Caller, id: TokenId) -> Result<(), TokenError> {
        self.submit(
            |reply| RevokeToken::new(caller.clone(), id, reply),
            |reason| TokenError::Storage { reason },
        )
        .await
    }

    /// Says how much a tenant may ask for; nothing: as the server says.
    pub async fn limit_tenant(
        &self,
        caller: &Caller,
        tenant: TenantId,
        limits: TenantLimits,
    ) -> Result<(), TenantLimitsError> {
        self.submit(
            |reply| LimitTenant::new(caller.clone(), tenant, limits, reply),
            |reason| TenantLimitsError::Storage { reason },
        )
        .await
    }

    /// Says who else may call something; once this returns, nobody whom it leaves out begins to.
    pub async fn share(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        sharing: Sharing,
    ) -> Result<(), SharingError> {
        let key = Key { tenant: caller.tenant.clone(), class, name: name.clone() };
        self.submit(
            |reply| Share::new(caller.clone(), key, sharing, reply),
            |reason| SharingError::Storage { reason },
        )
        .await
    }

    /// What was changed, and by whom: the newest first.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, AuditError> {
        self.audit.read(query).await
    }

    /// Adds a version of a function, and makes it live unless it is to wait. It must be followed by nothing: once this returns,
    /// requests see it, and power loss can't take it back.
    pub async fn commit_function(
        &self,
        new: NewVersion<FunctionSpec>,
    ) -> Result<Committed, CommitError> {
        self.commit(new).await
    }

    /// Adds a version of a model, as [`Catalog::commit_function`] does.
    pub async fn commit_model(&self, new: NewVersion<ModelSpec>) -> Result<Committed, CommitError> {
        self.commit(new).await
    }

    /// Gives a kept version all requests: `to`; or, where they are split, the live one; or else the
    /// newest one below it.
    pub async fn rollback(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        to: Option<VersionNumber>,
    ) -> Result<VersionNumber, RollbackError> {
        let key = Key { tenant: caller.tenant.clone(), class, name: name.clone() };
        self.submit(
            |reply| RollBack::new(caller.clone(), key, to, reply),
            |reason| RollbackError::Storage { reason },
        )
        .await
    }

    /// Changes where the requests to a function or model go.
    pub async fn change_traffic(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        change: TrafficChange,
    ) -> Result<(), TrafficError> {
        let key = Key { tenant: caller.tenant.clone(), class, name: name.clone() };
        self.submit(
            |reply| ChangeTraffic::new(caller.clone(), key, change, reply),
            |reason| TrafficError::Storage { reason },
        )
        .await
    }

    /// Removes a function or model with all its versions.
    pub async fn delete(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
    ) -> Result<Removed, DeleteError> {
        let key = Key { tenant: caller.tenant.clone(), class, name: name.clone() };
        self.submit(
            |reply| DeleteName::new(caller.clone(), key, reply),
            |reason| DeleteError::Storage { reason },
        )
        .await
    }

    /// Removes one version of a function or model that nothing stands by.
    pub async fn delete_version(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        version: VersionNumber,
    ) -> Result<Removed, DeleteVersionError> {
        let key = Key { tenant: caller.tenant.clone(), class, name: name.clone() };
        self.submit(
            |reply| DeleteVersion::new(caller.clone(), key, version, reply),
            |reason| DeleteVersionError::Storage { reason },
        )
        .await
    }

    /// Records that a backup is made.
    pub(crate) async fn record_backup(
        &self,
        caller: &Caller,
        logs: bool,
    ) -> Result<(), StorageFailure> {
        self.submit(|reply| RecordBackup::new(caller.clone(), logs, reply), |reason| reason).await
    }

    /// Removes contents that were kept though no version refers to them.
    pub(crate) async fn remove_unneeded(
        &self,
        contents: Vec<Digest>,
    ) -> Result<Removed, StorageFailure> {
        self.submit(|reply| RemoveUnneeded::new(contents, reply), |reason| reason).await
    }

    /// Refuses further operations; the writer ends once it has done what is queued.
    pub(crate) fn close(&self) {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    async fn commit<Spec: Deployable>(
        &self,
        new: NewVersion<Spec>,
    ) -> Result<Committed, CommitError> {
        let hold = self.ledger.claim(new.content);
        let failed = |reason| CommitError::Storage { reason };
        let row = NewRow::new(new).map_err(|error| failed(error.to_string().into()))?;
        self.submit(|reply| CommitVersion::new(row, hold, reply), failed).await
    }

    /// Queues an operation and waits until it is decided and on the disk.
    async fn submit<O: Operation + 'static, T, E>(
        &self,
        operation: impl FnOnce(oneshot::Sender<Result<T, E>>) -> O,
        failed: impl Fn(StorageFailure) -> E,
    ) -> Result<T, E> {
        let sender = self.operations.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let closed = || failed("the store is closed".into());
        let sender = sender.ok_or_else(closed)?;
        let permit = sender.reserve().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        self.metrics.queued_operations.inc();
        permit.send(Box::new(operation(reply)));
        answer.await.unwrap_or_else(|_| Err(failed("the catalog's writer has stopped".into())))
    }
}
