//! The one door to batches: makes, shows and removes them, and gives each its turns. A batch belongs
//! to a tenant, and to others it does not exist.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use prometheus::Registry;
use quern_dispatcher::{Dispatcher, Found};
use quern_types::{ByteSize, Hesitation, TenantId, Tracer};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BatchError, CreateError, OpenError, ScoringConfig, UploadError,
    batch::{BatchId, BatchRecord, BatchState, BatchStatus, Checkpoint, Ending},
    folder::Folder,
    live::Batch,
    look::{Look, Looks},
    metrics::ScoringMetrics,
    plan::Plan,
    quota::Quota,
    request::{BatchRequest, BatchSpec, Format, ResultFormat},
    run::{Turn, TurnEnd},
    turns,
    upload::Upload,
};

/// How often batches are looked for whose time is over.
const SWEEP: Duration = Duration::from_secs(30);

/// How long a batch waits whose results the disk has not taken.
const DISK_PAUSE: Duration = Duration::from_secs(2);

/// Bytes that an upload may have beside its file.
const AROUND: ByteSize = ByteSize::mib(2);

/// All batches of a server.
pub struct Scoring {
    config: ScoringConfig,
    folder: Folder,
    quota: Arc<Quota>,
    turn: Turn,
    table: Mutex<Table>,
    /// Told when a batch may have its turn.
    ready: Notify,
    looks: Looks,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Table {
    batches: BTreeMap<BatchId, Arc<Batch>>,
    /// Those that wait for their turn; who made room goes to the end.
    waiting: Vec<BatchId>,
    running: Vec<BatchId>,
    /// When each tenant had its last turn.
    served: HashMap<TenantId, u64>,
    turns: u64,
}

/// The results of a batch, as they are on the disk.
#[derive(Debug)]
pub struct Results {
    /// The file, of which only the first `bytes` count.
    pub file: File,
    /// Its length.
    pub bytes: u64,
    /// How it is written.
    pub format: ResultFormat,
    /// Rows in it, and those of them that could not be scored.
    pub rows: u64,
    /// See there.
    pub failed: u64,
}

impl Scoring {
    /// Reads the batches of a folder. None runs before [`Scoring::start`]. The tracer, if there is
    /// one, begins the traces of their calls.
    pub async fn open(
        config: ScoringConfig,
        dispatcher: Arc<Dispatcher>,
        tracer: Option<Arc<Tracer>>,
        registry: &Registry,
    ) -> Result<Arc<Self>, OpenError> {
        let metrics = ScoringMetrics::register(registry)?;
        let directory = config.directory.clone();
        let opened = tokio::task::spawn_blocking(move || Folder::open(directory)).await;
        let (folder, records) =
            opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let quota = Quota::new(config.storage);
        let mut table = Table::default();
        for record in records {
            let (id, goes_on) = (record.id, record.ending.is_none());
            let batch = Arc::new(Batch::new(record, folder.of(id), &quota));
            table.batches.insert(id, batch);
            if goes_on {
                table.waiting.push(id);
            }
        }
        let closing = CancellationToken::new();
        let (patience, reader) = (config.patience, config.reader.clone());
        let turn = Turn { dispatcher, metrics, patience, reader, closing, tracer };
        let scoring = Self {
            config,
            folder,
            quota,
            turn,
            table: Mutex::new(table),
            ready: Notify::new(),
            looks: Looks::default(),
            tasks: TaskTracker::new(),
        };
        scoring.count(&scoring.table());
        Ok(Arc::new(scoring))
    }

    /// Gives batches their turns from now on, and removes those whose time is over.
    pub fn start(self: &Arc<Self>) {
        self.tasks.spawn(self.clone().give_turns());
        self.tasks.spawn(self.clone().sweep());
    }

    /// Stops all batches at a checkpoint, from which they go on at the next start.
    pub async fn drain(&self) {
        self.turn.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Refuses a body by the length that it declares, before anything is read of it.
    pub fn check_declared(&self, bytes: u64) -> Result<(), UploadError> {
        let limit = self.config.upload;
        match bytes > limit.0.saturating_add(AROUND.0) {
            true => Err(UploadError::TooLarge { limit }),
            false => Ok(()),
        }
    }

    /// Begins to take a file.
    pub async fn upload(&self, tenant: &TenantId) -> Result<Upload, UploadError> {
        let limit = self.config.most;
        if self.table().of(tenant).count() >= limit as usize {
            return Err(UploadError::TooMany { limit });
        }
        let (id, folder) = (BatchId::new(), self.folder.clone());
        let begun = tokio::task::spawn_blocking(move || {
            let folder = folder.begin(id)?;
            let file = File::create(folder.input()).inspect_err(|_| folder.remove())?;
            Ok::<_, std::io::Error>((folder, file))
        });
        let (folder, file) = begun.await.map_err(std::io::Error::other)??;
        let (file, allotment) = (tokio::fs::File::from_std(file), self.quota.allot(tenant));
        let upload = self.config.upload;
        Ok(Upload::new(id, folder, file, upload, allotment, self.tasks.clone()))
    }

    /// Makes a batch of a file. It goes on should the caller leave.
    pub async fn create(
        self: &Arc<Self>,
        tenant: &TenantId,
        request: BatchRequest,
        said: Option<Format>,
        upload: Upload,
    ) -> Result<BatchStatus, CreateError> {
        if self.turn.closing.is_cancelled() {
            return Err(CreateError::ShuttingDown);
        }
        let format = request.format.or(said).ok_or(CreateError::Format)?;
        let look = self.looks.begin(tenant, format).await?;
        let (scoring, tenant, stop) = (self.clone(), tenant.clone(), look.stop.clone());
        let mut making =
            self.tasks.spawn_blocking(move || scoring.make(tenant, request, look, upload));
        let made = tokio::select! {
            made = &mut making => made,
            () = self.turn.closing.cancelled() => {
                stop.stop();
                making.await
            }
        };
        made.map_err(|error| CreateError::Storage { reason: error.to_string().into() })?
    }

    fn make(
        &self,
        tenant: TenantId,
        request: BatchRequest,
        look: Look,
        mut upload: Upload,
    ) -> Result<BatchStatus, CreateError> {
        let BatchRequest { model, version, output_format, columns, keep, .. } = request;
        let routes = self.turn.dispatcher.routes();
        let found = Found::find(&routes, &tenant, &model, version)?;
        let format = look.format;
        let spec = BatchSpec {
            model,
            version: found.version(),
            format,
            output_format: output_format.unwrap_or(format.of_results()),
            columns,
            keep,
            on_error: request.on_error,
            rows_per_call: request.rows_per_call,
        };
        let plan = Plan::new(&spec, &found)?;
        look.at(&upload.folder.input(), &plan, &self.config.reader)?;
        let record = BatchRecord {
            id: upload.id,
            tenant: tenant.clone(),
            spec,
            created: SystemTime::now(),
            input_bytes: upload.bytes,
            checkpoint: Checkpoint::default(),
            ending: None,
            finished: None,
        };
        let (id, limit) = (record.id, self.config.most);
        let storage = |error: std::io::Error| CreateError::Storage { reason: error.into() };
        self.folder.finish(&upload.folder, &record).map_err(storage)?;
        upload.keep();
        drop(upload);
        let mut table = self.table();
        if table.of(&tenant).count() >= limit as usize {
            // Others were made while its file arrived.
            drop(table);
            self.folder.remove(id).map_err(storage)?.remove();
            return Err(CreateError::TooMany { limit });
        }
        let batch = Arc::new(Batch::new(record, self.folder.of(id), &self.quota));
        let status = batch.status(self.config.keep);
        table.batches.insert(id, batch);
        table.waiting.push(id);
        self.count(&table);
        drop(table);
        self.ready.notify_one();
        Ok(status)
    }

    /// A tenant's batches, the newest first.
    pub fn list(&self, tenant: &TenantId) -> Vec<BatchStatus> {
        let table = self.table();
        let mut all: Vec<_> =
            table.of(tenant).map(|batch| batch.status(self.config.keep)).collect();
        all.reverse();
        all
    }

    /// One batch.
    pub fn status(&self, tenant: &TenantId, id: BatchId) -> Result<BatchStatus, BatchError> {
        Ok(self.find(tenant, id)?.status(self.config.keep))
    }

    /// Told whenever there is something new to say of a batch.
    pub fn changes(
        &self,
        tenant: &TenantId,
        id: BatchId,
    ) -> Result<watch::Receiver<u64>, BatchError> {
        Ok(self.find(tenant, id)?.changes())
    }

    /// The results of a batch that has ended.
    pub async fn results(&self, tenant: &TenantId, id: BatchId) -> Result<Results, BatchError> {
        let batch = self.find(tenant, id)?;
        let record = batch.record();
        if record.ending.is_none() {
            return Err(BatchError::NotEnded { id, state: batch.state().as_str() });
        }
        let path = batch.folder.results();
        let opened = tokio::task::spawn_blocking(move || File::open(path)).await;
        let storage = |error: std::io::Error| BatchError::Storage { id, reason: error.into() };
        let file = opened.map_err(|error| storage(error.into()))?.map_err(storage)?;
        let Checkpoint { position, failed, results } = record.checkpoint;
        let format = record.spec.output_format;
        Ok(Results { file, bytes: results, format, rows: position.row, failed })
    }

    /// Removes a batch with all its files, wherever it is on its way. It goes on should the caller
    /// leave.
    pub async fn remove(
        self: &Arc<Self>,
        tenant: &TenantId,
        id: BatchId,
    ) -> Result<(), BatchError> {
        let batch = self.find(tenant, id)?;
        let scoring = self.clone();
        let removing = self.tasks.spawn(async move { scoring.take_away(batch).await });
        let removed = removing.await;
        removed.map_err(|error| BatchError::Storage { id, reason: error.to_string().into() })?
    }

    async fn take_away(self: Arc<Self>, batch: Arc<Batch>) -> Result<(), BatchError> {
        let id = batch.id;
        batch.removed.cancel();
        // Until its turn has ended, somebody writes to its files.
        let _running = batch.running.lock().await;
        let folder = self.folder.clone();
        let renamed = tokio::task::spawn_blocking(move || folder.remove(id)).await;
        let storage = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => BatchError::NotFound { id },
            _ => BatchError::Storage { id, reason: error.into() },
        };
        let gone = renamed.map_err(|error| storage(error.into()))?.map_err(storage)?;
        let mut table = self.table();
        table.batches.remove(&id);
        table.waiting.retain(|other| *other != id);
        self.count(&table);
        drop(table);
        self.tasks.spawn_blocking(move || gone.remove());
        Ok(())
    }

    fn find(&self, tenant: &TenantId, id: BatchId) -> Result<Arc<Batch>, BatchError> {
        let table = self.table();
        let own = table.batches.get(&id).filter(|batch| batch.tenant == *tenant);
        own.filter(|batch| !batch.removed.is_cancelled())
            .cloned()
            .ok_or(BatchError::NotFound { id })
    }

    async fn give_turns(self: Arc<Self>) {
        loop {
            while let Some(batch) = self.choose() {
                self.tasks.spawn(self.clone().give_turn(batch));
            }
            tokio::select! {
                () = self.turn.closing.cancelled() => return,
                () = self.ready.notified() => {}
            }
        }
    }

    /// The batch that is to run next, if there is room.
    fn choose(&self) -> Option<Arc<Batch>> {
        let mut table = self.table();
        if table.running.len() >= self.config.running as usize || self.turn.closing.is_cancelled() {
            return None;
        }
        let place = turns::next(
            &table.tenants(&table.waiting),
            &table.tenants(&table.running),
            &table.served,
        )?;
        let id = table.waiting.remove(place);
        let batch = table.batches.get(&id)?.clone();
        table.running.push(id);
        table.turns += 1;
        let turn = table.turns;
        table.served.insert(batch.tenant.clone(), turn);
        Some(batch)
    }

    async fn give_turn(self: Arc<Self>, batch: Arc<Batch>) {
        let running = batch.running.lock().await;
        if !batch.removed.is_cancelled() {
            batch.set_running(true);
            self.count(&self.table());
            let makes_room = || {
                let table = self.table();
                let (waiting, running) =
                    (table.tenants(&table.waiting), table.tenants(&table.running));
                turns::makes_room(&batch.tenant, &waiting, &running)
            };
            let end = self.turn.run(&batch, makes_room).await;
            batch.set_running(false);
            match end {
                TurnEnd::Ended(ending) if !batch.removed.is_cancelled() => {
                    end_batch(&batch, ending).await;
                }
                TurnEnd::Held(reason) => self.hold(&batch, &reason).await,
                TurnEnd::Ended(_) | TurnEnd::Paused => {}
            }
        }
        drop(running);
        let mut table = self.table();
        table.running.retain(|id| *id != batch.id);
        // One that is being removed has no further turn, also if that fails.
        if batch.state() == BatchState::Queued && !batch.removed.is_cancelled() {
            table.waiting.push(batch.id);
        }
        // Who has nothing more to be served has no place in the order.
        let tenants: Vec<TenantId> =
            table.batches.values().map(|batch| batch.tenant.clone()).collect();
        table.served.retain(|tenant, _| tenants.contains(tenant));
        self.count(&table);
        drop(table);
        self.ready.notify_one();
    }

    /// Waits until the disk may take results again. The turn stays the batch's: no other one could
    /// write either.
    async fn hold(&self, batch: &Batch, reason: &str) {
        tracing::warn!(batch = %batch.id, reason, "a batch waits for the disk");
        tokio::select! {
            () = self.turn.closing.cancelled() => {}
            () = batch.removed.cancelled() => {}
            () = tokio::time::sleep(DISK_PAUSE) => {}
        }
    }

    async fn sweep(self: Arc<Self>) {
        let start = SystemTime::now();
        let last = self.table().last_noted(start);
        let mut hesitation = Hesitation::new(start, Instant::now(), last);
        loop {
            let now = SystemTime::now();
            let stays = hesitation.holds(now, Instant::now());
            let expired: Vec<_> = {
                let table = self.table();
                let all = table.batches.values();
                let is_over = |batch: &&Arc<Batch>| batch.is_expired(self.config.keep, now);
                all.filter(|batch| !stays && is_over(batch)).cloned().collect()
            };
            for batch in expired {
                tracing::info!(batch = %batch.id, "the time of a batch is over");
                if let Err(error) = self.clone().take_away(batch).await {
                    tracing::warn!(%error, "a batch whose time is over stays");
                }
            }
            tokio::select! {
                () = self.turn.closing.cancelled() => return,
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }

    fn count(&self, table: &Table) {
        self.turn.metrics.states(table.batches.values().map(|batch| batch.state()));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of(&self, tenant: &TenantId) -> impl Iterator<Item = &Arc<Batch>> {
        self.batches.values().filter(move |batch| batch.tenant == *tenant)
    }

    /// When a batch was last made or ended before a moment, if any was.
    fn last_noted(&self, before: SystemTime) -> Option<SystemTime> {
        let records = self.batches.values().map(|batch| batch.record());
        let times = records.flat_map(|record| [Some(record.created), record.finished]).flatten();
        times.filter(|time| *time <= before).max()
    }

    fn tenants(&self, ids: &[BatchId]) -> Vec<TenantId> {
        ids.iter().filter_map(|id| self.batches.get(id)).map(|batch| batch.tenant.clone()).collect()
    }
}

/// Writes down how a batch ended. Where even that can't be written, it is known until the server
/// stops, and the batch goes on at the next start.
async fn end_batch(batch: &Arc<Batch>, ending: Ending) {
    let record =
        BatchRecord { finished: Some(SystemTime::now()), ending: Some(ending), ..batch.record() };
    let (id, folder) = (batch.id, batch.folder.clone());
    let written = tokio::task::spawn_blocking({
        let record = record.clone();
        move || {
            folder.write(&record)?;
            if record.ending == Some(Ending::Completed) {
                folder.remove_input();
            }
            Ok::<_, std::io::Error>(())
        }
    });
    match written.await.map_err(std::io::Error::other).and_then(|written| written) {
        Ok(()) => tracing::info!(batch = %id, ending = ?record.ending, "a batch has ended"),
        Err(error) => tracing::error!(batch = %id, %error, "the end of a batch can't be written"),
    }
    batch.ended(record);
}
