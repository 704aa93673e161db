//! The one owner of the catalog's database: takes what is queued, commits it together, shows it to
//! requests, and only then answers. Never answers before the disk has it.

use std::{sync::Arc, thread::JoinHandle, time::Instant};

use quern_types::{Access, Class, Digest, Routes, StorageFailure};
use rusqlite::TransactionBehavior;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    Removed, SecretsKey, audit,
    blobs::Blobs,
    catalog::Shown,
    database::Database,
    fault,
    folder::FolderLock,
    group,
    metrics::StoreMetrics,
    operation::{Effects, Operation, Subject},
    rows, schedules,
    settings::AllSettings,
    snapshot::{self, SnapshotError},
    webhooks,
};

/// Operations that can wait for the writer; whoever comes next waits for room.
pub(crate) const QUEUE: usize = 256;
/// Most operations in one commit.
const GROUP: usize = 64;

/// Everything that the writer owns.
pub(crate) struct Writer {
    pub(crate) connection: Database,
    pub(crate) shown: Shown,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) keep_versions: u32,
    /// What secrets are opened with.
    pub(crate) secrets_key: Option<Arc<SecretsKey>>,
    pub(crate) metrics: StoreMetrics,
    /// Runs the removal of blobs.
    pub(crate) runtime: Handle,
    /// Nobody else may open the folder before the writer is through.
    pub(crate) _lock: Arc<FolderLock>,
}

impl Writer {
    /// Starts the writer's thread; it ends when all senders are gone and the queue is empty.
    pub(crate) fn start(
        mut self,
        operations: mpsc::Receiver<Box<dyn Operation>>,
    ) -> std::io::Result<JoinHandle<()>> {
        group::start("quern-catalog", GROUP, operations, move |group| {
            self.metrics.queued_operations.sub(group.len() as i64);
            self.write(group);
        })
    }

    fn write(&mut self, mut group: Vec<Box<dyn Operation>>) {
        let started = Instant::now();
        let committed = self.commit(&mut group);
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.metrics.group_operations.observe(group.len() as f64);
        match committed {
            Ok(effects) => {
                if effects.iter().any(|effects| effects.changed) {
                    self.metrics.catalog_failing.succeeded();
                }
                // All holds of the group end here, before anything is removed.
                let loosened: Vec<_> = effects.into_iter().map(Effects::settle).collect();
                for (operation, loosened) in group.into_iter().zip(loosened) {
                    let removed = self.remove(loosened);
                    operation.answer(Ok(removed));
                }
            }
            // A failed commit may still turn up after a crash, so its blobs stay until the next
            // start, when the tables tell what is true.
            Err(error) => {
                tracing::error!(%error, operations = group.len(), "catalog commit failed");
                let failure = match &error {
                    SnapshotError::Database(error) => fault::of_database(error, &self.connection),
                    error => StorageFailure::from(error.to_string()),
                };
                self.metrics.catalog_failing.failed(&failure);
                for operation in group {
                    operation.answer(Err(failure.clone()));
                }
            }
        }
    }

    /// Applies a group in one transaction and shows the result to requests.
    fn commit(&mut self, group: &mut [Box<dyn Operation>]) -> Result<Vec<Effects>, SnapshotError> {
        let mut transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut effects = Vec::with_capacity(group.len());
        let (shown, secrets_key) = (&self.shown, self.secrets_key.as_deref());
        let (mut routes, mut access, mut schedules, mut webhooks) = (None, None, None, None);
        let mut settings: Option<AllSettings> = None;
        for operation in group {
            let savepoint = transaction.savepoint()?;
            let applied = operation.apply(&savepoint, self.keep_versions)?;
            if applied.changed {
                audit::insert(&savepoint, &operation.entry())?;
                // Read before the commit, so that nothing can fail after it.
                let set = match operation.subject() {
                    Subject::Routes(key) => {
                        let routes =
                            routes.get_or_insert_with(|| Routes::clone(&shown.routes.load()));
                        snapshot::refresh(&savepoint, routes, key)?;
                        // What is deleted goes with what is set for it.
                        let is_gone = routes.function(&key.tenant, &key.name).is_none();
                        (key.class == Class::Function && is_gone).then_some(key)
                    }
                    Subject::Settings(key) => Some(key),
                    Subject::Nothing => None,
                    Subject::Access => {
                        operation.show(
                            access.get_or_insert_with(|| Access::clone(&shown.access.load())),
                        );
                        None
                    }
                    Subject::Schedules => {
                        schedules = Some(schedules::load(&savepoint)?);
                        None
                    }
                    Subject::Webhooks => {
                        webhooks = Some(webhooks::load(&savepoint, secrets_key)?);
                        None
                    }
                };
                if let Some(key) = set {
                    settings
                        .get_or_insert_with(|| AllSettings::clone(&shown.settings.load()))
                        .refresh(&savepoint, key, secrets_key)?;
                }
                savepoint.commit()?;
            }
            effects.push(applied);
        }
        transaction.commit()?;
        if let Some(routes) = routes {
            self.shown.routes.store(Arc::new(routes));
        }
        // After the routes: a request that finds a version there still finds what is set for it.
        if let Some(settings) = settings {
            self.shown.settings.store(Arc::new(settings));
        }
        if let Some(access) = access {
            self.shown.access.store(Arc::new(access));
        }
        if let Some(schedules) = schedules {
            self.shown.schedules.store(Arc::new(schedules));
        }
        if let Some(webhooks) = webhooks {
            self.shown.webhooks.store(Arc::new(webhooks));
        }
        Ok(effects)
    }

    /// Removes the blobs among `loosened` that no row refers to and nobody holds.
    fn remove(&self, loosened: Vec<Digest>) -> Removed {
        let mut contents = Vec::new();
        for digest in loosened {
            match rows::referenced(&self.connection, &digest) {
                Ok(true) => {}
                Ok(false) => {
                    if !contents.contains(&digest)
                        && self.runtime.block_on(self.blobs.remove(digest))
                    {
                        contents.push(digest);
                    }
                }
                Err(error) => {
                    tracing::warn!(%digest, %error, "blob that may be unneeded stays");
                }
            }
        }
        Removed { contents }
    }
}
