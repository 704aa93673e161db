//! Opens a data folder, puts it in order, and closes it. Never serves a request itself.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use prometheus::Registry;
use quern_types::{Access, ByteSize, Caller, KeyValue, StorageFailure, StorageFault};
use rusqlite::Connection;
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    Backup, BackupEnd, BackupError, Blobs, CallQueue, Catalog, FunctionLogs, RecentFunctions,
    Removed, SecretsKey, SecretsKeyId,
    audit::AuditReader,
    backup::{self, Source, Stays, Turn},
    blobs,
    catalog::Shown,
    database::{self, Synchronous},
    fault,
    folder::{self, FolderLock},
    health::FolderHealth,
    integrity,
    keyvalue::{KeyValueStore, pairs},
    ledger::Ledger,
    log_writer::{self, Retention},
    metrics::StoreMetrics,
    queue, schedules, schema, settings,
    snapshot::{self, SnapshotError},
    tenants, tokens, webhooks,
    writer::{self, Writer},
};

/// The file of the catalog.
const CATALOG: &str = "catalog.sqlite";

/// Room that a server needs to start: its databases' logs and their indexes.
const ROOM: ByteSize = ByteSize::mib(4);

/// Where and how much to store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data folder; made where it is missing.
    pub directory: PathBuf,
    /// Newest versions to keep of each function and model; the live one is kept whatever its age.
    pub keep_versions: u32,
    /// Newest log records to keep of each function.
    pub log_records: u32,
    /// Bytes of text that the log records of each function have together, at most.
    pub log_bytes: ByteSize,
    /// The most that the keys and values of one bucket may take up, with 64 bytes for each pair.
    pub bucket_bytes: ByteSize,
    /// What secrets are sealed with. Without it none can be set, and those that are can't be opened.
    pub secrets_key: Option<Arc<SecretsKey>>,
}

impl StoreConfig {
    /// The room of a bucket unless the operator says otherwise.
    pub const DEFAULT_BUCKET_BYTES: ByteSize = ByteSize::mib(64);
}

/// An open data folder.
#[derive(Debug)]
pub struct Store {
    catalog: Catalog,
    blobs: Arc<Blobs>,
    logs: FunctionLogs,
    key_value: Arc<KeyValueStore>,
    queue: Arc<CallQueue>,
    recent: RecentFunctions,
    directory: PathBuf,
    /// Whose turn it is to make a backup.
    backups: Turn,
    pub(crate) health: FolderHealth,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Why a data folder can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder can't be made, locked or prepared.
    #[error("can't {action} {}: {cause}", path.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Another server has it.
    #[error(
        "data folder {} is in use by another server: stop that one, or choose another folder",
        directory.display()
    )]
    Locked {
        /// The folder.
        directory: PathBuf,
    },
    /// There is no room for what a server writes when it starts.
    #[error(
        "the disk of data folder {} is full: make room for {ROOM} more, and start again ({cause})",
        directory.display()
    )]
    Full {
        /// The folder.
        directory: PathBuf,
        /// What failed.
        cause: String,
    },
    /// Nothing can be written there.
    #[error(
        "the disk of data folder {} takes no writes: mount it so that it does, or choose another \
         folder ({cause})",
        directory.display()
    )]
    ReadOnly {
        /// The folder.
        directory: PathBuf,
        /// What failed.
        cause: String,
    },
    /// A database can't be opened or read.
    #[error("database {} can't be opened: {cause}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: rusqlite::Error,
    },
    /// The file system can't carry a write-ahead log.
    #[error(
        "database {} can't keep a write-ahead log (it stays in mode {mode:?}): put the data \
         folder on a local file system",
        path.display()
    )]
    JournalMode {
        /// The file.
        path: PathBuf,
        /// The mode that it stays in.
        mode: String,
    },
    /// A newer server has written it.
    #[error(
        "database {} has schema version {found}, this server knows up to {known}: run the newer \
         server that wrote it",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest known version.
        known: u32,
    },
    /// A database is not as it was written, or holds something that this server never writes.
    #[error(
        "database {} is damaged: {reason}; move the data folder away, make it anew of a backup with \
         `quern restore`, and start again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A backup was being restored there, which was interrupted.
    #[error(
        "data folder {} is half of what a backup has, as `quern restore` was interrupted: remove \
         it, and restore the backup again",
        directory.display()
    )]
    HalfRestored {
        /// The folder.
        directory: PathBuf,
    },
    /// The secrets are sealed with another key than the one that is given.
    #[error(
        "the secrets in {} are sealed with key {sealed_with}, and the key that is given is {given}: \
         give the other one, or, where it is lost, start without a key and remove the secrets",
        path.display()
    )]
    SecretsKey {
        /// The file.
        path: PathBuf,
        /// The key that they are sealed with.
        sealed_with: SecretsKeyId,
        /// The key that is given.
        given: SecretsKeyId,
    },
    /// The blob store can't be listed or cleaned.
    #[error("blob store can't be opened: {reason}")]
    Blobs {
        /// What failed.
        reason: String,
    },
    /// A metric of this name is registered already.
    #[error("metrics can't be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Store {
    /// Opens a data folder: locks it, looks for damage, migrates its databases, removes what is left
    /// of uploads, backups and blobs that no version refers to, and loads the routes.
    pub async fn open(config: StoreConfig, registry: &Registry) -> Result<Self, OpenError> {
        let metrics = StoreMetrics::register(registry)?;
        let (runtime, opening) = (Handle::current(), metrics.clone());
        let (directory, secrets_key) = (config.directory.clone(), config.secrets_key.clone());
        let opened = tokio::task::spawn_blocking(move || {
            open_files(&config, &opening, &runtime)
                .map_err(|error| error.by_disk(&config.directory))
        });
        let parts =
            opened.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let missing = parts.blobs.sweep(&parts.contents).await?;
        for content in missing {
            tracing::error!(%content, "blob of a version is missing: deploy the version again");
        }
        let (sender, operations) = mpsc::channel(writer::QUEUE);
        let shown = parts.writer.shown.clone();
        let ledger = parts.blobs.ledger().clone();
        let health = FolderHealth { directory: directory.clone(), metrics: metrics.clone() };
        let catalog = Catalog::new(shown, secrets_key, parts.audit, sender, ledger, metrics);
        let recent = RecentFunctions::new(directory.join("recent.json"));
        let writer = parts.writer.start(operations).map_err(|cause| OpenError::Folder {
            action: "start the writer of",
            path: directory.clone(),
            cause,
        })?;
        Ok(Self {
            catalog,
            blobs: parts.blobs,
            logs: parts.logs,
            key_value: Arc::new(parts.key_value),
            queue: Arc::new(parts.queue),
            recent,
            directory,
            backups: Turn::default(),
            health,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Whether this server could open a data folder that another one has open: whether it knows the
    /// databases there. It changes nothing.
    ///
    /// # Errors
    /// If a newer server has written one of them, or one can't be read.
    pub fn check(directory: &Path) -> Result<(), OpenError> {
        let databases = [
            (CATALOG, schema::MIGRATIONS),
            ("keyvalue.sqlite", pairs::MIGRATIONS),
            ("logs.sqlite", log_writer::MIGRATIONS),
            ("queue.sqlite", queue::MIGRATIONS),
        ];
        databases
            .iter()
            .try_for_each(|(name, migrations)| database::check(&directory.join(name), migrations))
    }

    /// Whether a folder is a data folder.
    pub fn is_in(directory: &Path) -> bool {
        directory.join(CATALOG).is_file()
    }

    /// What is deployed.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The contents of versions.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// What functions printed.
    pub fn logs(&self) -> &FunctionLogs {
        &self.logs
    }

    /// The pairs of keys and values that functions keep.
    pub fn key_value(&self) -> Arc<dyn KeyValue> {
        self.key_value.clone()
    }

    /// The calls that are carried out later.
    pub fn queue(&self) -> &Arc<CallQueue> {
        &self.queue
    }

    /// The functions that were in use.
    pub fn recent(&self) -> &RecentFunctions {
        &self.recent
    }

    /// Copies what a backup has in it; nothing that it refers to is removed before it is dropped.
    /// What was acknowledged before the call is in it.
    pub async fn prepare_backup(
        &self,
        caller: &Caller,
        logs: bool,
        made_by: &str,
    ) -> Result<Backup, BackupError> {
        let turn = self.backups.take()?;
        // First, so that every blob is there that the copy of the catalog refers to.
        let pause = self.blobs.ledger().pause();
        let recorded = self.catalog.record_backup(caller, logs).await;
        recorded.map_err(|reason| BackupError::Storage { reason })?;
        let (directory, made_by) = (self.directory.clone(), made_by.to_owned());
        let source = Source { directory, logs, made_by };
        let stays = Stays::Serving { _pause: pause, _turn: turn };
        let prepared = tokio::task::spawn_blocking(move || Backup::prepare(&source, stays)).await;
        prepared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Removes what was only kept for a backup that has been dropped; gives what is gone.
    pub async fn end_backup(&self, end: BackupEnd) -> Result<Removed, StorageFailure> {
        self.health.metrics.backup_ended(end);
        match self.blobs.ledger().take_postponed() {
            contents if contents.is_empty() => Ok(Removed::default()),
            contents => self.catalog.remove_unneeded(contents).await,
        }
    }

    /// Finishes what is queued and ends the writers; further writes are refused. The folder is
    /// free for another server when this returns.
    pub async fn close(&self) {
        self.catalog.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(writer).await;
        self.key_value.close().await;
        self.queue.close().await;
        self.logs.close().await;
        self.blobs.close().await;
    }
}

impl OpenError {
    /// What stands in the way, as far as that is the disk.
    pub(crate) fn fault(&self) -> StorageFault {
        match self {
            Self::Full { .. } => StorageFault::Full,
            Self::ReadOnly { .. } => StorageFault::ReadOnly,
            Self::Folder { cause, .. } => cause.kind().into(),
            Self::Database { path, cause } => {
                fault::of_opening(cause, path.parent().unwrap_or(path)).fault()
            }
            _ => StorageFault::Other,
        }
    }

    /// The same, unless the disk stands in the way of everything.
    fn by_disk(self, directory: &Path) -> Self {
        let fault = self.fault();
        let (directory, cause) = (directory.to_owned(), self.to_string());
        match fault {
            StorageFault::Full => Self::Full { directory, cause },
            StorageFault::ReadOnly => Self::ReadOnly { directory, cause },
            StorageFault::Other => self,
        }
    }
}

/// Waits for a thread without blocking the runtime.
pub(crate) async fn join(thread: Option<JoinHandle<()>>) {
    let Some(thread) = thread else { return };
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    if !matches!(joined, Ok(Ok(()))) {
        tracing::error!("a writer of the store ended with a panic");
    }
}

struct Parts {
    writer: Writer,
    audit: AuditReader,
    blobs: Arc<Blobs>,
    logs: FunctionLogs,
    key_value: KeyValueStore,
    queue: CallQueue,
    contents: std::collections::HashSet<quern_types::Digest>,
}

/// Who is let in, and how much they may ask for; what has long expired goes.
fn load_access(connection: &Connection) -> rusqlite::Result<Access> {
    let mut access = Access::default();
    tokens::sweep(connection, SystemTime::now())?;
    tokens::load(connection, &mut access)?;
    tenants::load(connection, &mut access)?;
    Ok(access)
}

fn open_files(
    config: &StoreConfig,
    metrics: &StoreMetrics,
    runtime: &Handle,
) -> Result<Parts, OpenError> {
    let directory = &config.directory;
    let lock = Arc::new(FolderLock::take(directory)?);
    if let Err(error) = backup::remove_copies(directory) {
        tracing::warn!(%error, "copies for a backup are left, and take up room");
    }
    integrity::prepare(directory)?;
    let path = directory.join(CATALOG);
    let connection = database::open(&path, Synchronous::Full, schema::MIGRATIONS)?;
    let damaged = |error: SnapshotError| match error {
        SnapshotError::Database(cause) => database::failure(&path, cause),
        error => OpenError::Damaged { path: path.clone(), reason: error.to_string() },
    };
    let routes = snapshot::load(&connection).map_err(damaged)?;
    let access = load_access(&connection).map_err(|error| damaged(error.into()))?;
    let schedules = schedules::load(&connection).map_err(|error| damaged(error.into()))?;
    let secrets_key = config.secrets_key.as_deref();
    check_key(&connection, &path, secrets_key).map_err(|error| damaged(error.into()))??;
    let webhooks = webhooks::load(&connection, secrets_key);
    let webhooks = webhooks.map_err(|error| damaged(error.into()))?;
    webhooks::report_locked(&webhooks, secrets_key);
    let settings = settings::load(&connection, secrets_key);
    let settings = settings.map_err(|error| damaged(error.into()))?;
    let contents = snapshot::contents(&connection).map_err(|error| damaged(error.into()))?;
    let audit = AuditReader::new(database::open_reader(&path)?);
    let ledger = Ledger::new(metrics.blob_bytes.clone());
    let blobs = Arc::new(Blobs::open(&directory.join(blobs::FOLDER), ledger)?);
    let logs = FunctionLogs::open(
        &directory.join("logs.sqlite"),
        Retention { records: config.log_records.into(), bytes: config.log_bytes.0 },
        metrics,
        lock.clone(),
    )?;
    let key_value = KeyValueStore::open(
        &directory.join("keyvalue.sqlite"),
        config.bucket_bytes,
        metrics,
        lock.clone(),
    )?;
    let queue = CallQueue::open(&directory.join("queue.sqlite"), metrics, lock.clone())?;
    // SQLite syncs the names of its files when it first syncs a log; not to depend on when.
    folder::sync(directory).map_err(|cause| OpenError::Folder {
        action: "sync",
        path: directory.clone(),
        cause,
    })?;
    let writer = Writer {
        connection,
        shown: Shown {
            routes: Arc::new(ArcSwap::from_pointee(routes)),
            access: Arc::new(ArcSwap::from_pointee(access)),
            schedules: Arc::new(ArcSwap::from_pointee(schedules)),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            webhooks: Arc::new(ArcSwap::from_pointee(webhooks)),
        },
        blobs: blobs.clone(),
        keep_versions: config.keep_versions,
        secrets_key: config.secrets_key.clone(),
        metrics: metrics.clone(),
        runtime: runtime.clone(),
        _lock: lock,
    };
    Ok(Parts { writer, audit, blobs, logs, key_value, queue, contents })
}

/// Refuses a key that opens none of the secrets there are.
fn check_key(
    connection: &Connection,
    path: &Path,
    secrets_key: Option<&SecretsKey>,
) -> rusqlite::Result<Result<(), OpenError>> {
    let Some(secrets_key) = secrets_key else { return Ok(Ok(())) };
    let sealed_with = settings::sealed_otherwise(connection, secrets_key)?;
    let (path, given) = (path.to_owned(), secrets_key.id().clone());
    Ok(match sealed_with {
        Some(sealed_with) => Err(OpenError::SecretsKey { path, sealed_with, given }),
        None => Ok(()),
    })
}
