//! A model that a worker computes. Follows the device from worker to worker: what is not loaded in
//! the present one is loaded by the first run that finds it missing, while the others wait.

use std::{
    num::NonZeroU32,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use quern_types::{Batch, BatchResult, DeviceError, ModelSpec, Replica};
use tokio::sync::Mutex;

use super::{
    connection::{Connection, Expected, Failure, Ran},
    device::Shared,
    protocol::{Load, ModelId, Port},
    unbroken::Unbroken,
};
use crate::{
    batch,
    cpu::ID,
    engine::Input,
    metrics::EngineMetrics,
    pace::{Pace, SHORT},
};

/// What a first run's outputs are guessed to take.
const FIRST_OUTPUTS: u64 = 64 << 10;

/// A replica in a worker. Dropping it, once nothing runs, has the worker let go of the model.
pub(super) struct WorkerReplica {
    model: Arc<Model>,
}

/// A model, wherever it is loaded at the moment.
pub(super) struct Model {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ModelId,
    pub(super) spec: Arc<ModelSpec>,
    /// Its file, for every worker that is to load it.
    pub(super) onnx: OwnedFd,
    pub(super) metrics: EngineMetrics,
    /// Which worker has loaded it; 0: none.
    loaded_in: AtomicU64,
    loading: Mutex<()>,
    /// What the outputs of the largest run so far took.
    output_bytes: AtomicU64,
    pace: Pace,
}

impl Model {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: ModelId,
        spec: Arc<ModelSpec>,
        onnx: OwnedFd,
        metrics: EngineMetrics,
    ) -> Self {
        Self {
            shared,
            id,
            spec,
            onnx,
            metrics,
            loaded_in: AtomicU64::new(0),
            loading: Mutex::new(()),
            output_bytes: AtomicU64::new(FIRST_OUTPUTS),
            pace: Pace::default(),
        }
    }

    /// How many of the device's lanes it runs on.
    fn lanes(&self) -> usize {
        let most = self.spec.lanes.map_or(u32::MAX, NonZeroU32::get);
        self.shared.lanes.min(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// The present worker, with this model loaded.
    pub(super) async fn loaded(&self) -> Result<Arc<Connection>, DeviceError> {
        let connection = self.shared.connection().await?;
        let is_loaded = || self.loaded_in.load(Ordering::Acquire) == connection.generation;
        if is_loaded() {
            return Ok(connection);
        }
        let _loading = self.loading.lock().await;
        if !is_loaded() {
            let engine = self.spec.engine;
            let inputs = self.spec.signature.inputs().iter();
            let inputs = inputs.map(|spec| Port { name: spec.name.clone(), dtype: spec.dtype });
            let load = Load {
                model: self.id,
                engine,
                lanes: u32::try_from(self.lanes()).unwrap_or(u32::MAX),
                inputs: inputs.collect(),
            };
            let loaded = connection.load(load, &self.onnx).await;
            loaded.map_err(|failure| match failure {
                Failure::Lost => DeviceError::Lost { device: ID },
                Failure::Failed { reason } => DeviceError::Load { engine, reason },
                Failure::Absent { reason } => DeviceError::EngineAbsent { engine, reason },
            })?;
            self.loaded_in.store(connection.generation, Ordering::Release);
        }
        Ok(connection)
    }

    async fn compute(&self, lane: usize, batch: &Batch) -> Result<BatchResult, DeviceError> {
        let engine = self.spec.engine;
        let failed = |reason| DeviceError::Run { engine, reason };
        let gathered = batch::gather(&self.spec, &batch.calls).map_err(failed)?;
        let connection = self.loaded().await?;
        let ran =
            self.run(&connection, lane, &gathered.inputs).await.map_err(
                |failure| match failure {
                    Failure::Lost => DeviceError::Lost { device: ID },
                    Failure::Failed { reason } | Failure::Absent { reason } => failed(reason),
                },
            )?;
        self.metrics.run_seconds.observe(ran.compute.as_secs_f64());
        let calls = gathered.split(&self.spec, ran.outputs).map_err(failed)?;
        Ok(BatchResult { calls, compute: ran.compute, ended: ran.ended })
    }

    async fn run(
        &self,
        connection: &Connection,
        lane: usize,
        inputs: &[Input],
    ) -> Result<Ran, Failure> {
        let given = inputs.iter().map(|input| input.byte_length() as u64).sum();
        let expected = Expected {
            outputs: self.spec.signature.outputs().len(),
            bytes: self.output_bytes.load(Ordering::Relaxed),
            time: self.pace.predicted(given).filter(|time| *time <= SHORT),
        };
        let ran = connection.run(lane, self.id, inputs, expected).await?;
        self.pace.measured(given, ran.compute);
        let bytes: u64 = ran.outputs.iter().map(|output| output.data.len() as u64).sum();
        // What lies between them, for alignment.
        let bytes = bytes.saturating_add(64 * expected.outputs as u64);
        self.output_bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(ran)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let (id, generation) = (self.id, *self.loaded_in.get_mut());
        let present = self.shared.present();
        if let Some(connection) = present.filter(|present| present.generation == generation) {
            // Ends with the answer, for which the worker has as long as for loading.
            self.shared.runtime.spawn(async move { connection.unload(id).await });
        }
    }
}

impl WorkerReplica {
    /// A replica of a model that was loaded.
    pub(super) fn new(model: Arc<Model>) -> Self {
        model.metrics.replicas.inc();
        Self { model }
    }
}

impl Drop for WorkerReplica {
    fn drop(&mut self) {
        self.model.metrics.replicas.dec();
    }
}

impl Replica for WorkerReplica {
    fn lanes(&self) -> usize {
        self.model.lanes()
    }

    fn run(
        &self,
        lane: usize,
        batch: Batch,
    ) -> BoxFuture<'static, Result<BatchResult, DeviceError>> {
        let model = self.model.clone();
        let runtime = model.shared.runtime.clone();
        let run = async move {
            let result = model.compute(lane, &batch).await;
            if result.is_err() {
                model.metrics.run_failures.inc();
            }
            result
        };
        // Once begun, a run goes on to its answer, whoever leaves: only then is the lane free. It
        // ends with the answer or at the limit of a run.
        Box::pin(Unbroken::new(runtime, run))
    }
}
