//! A model resident on the CPU: computes batches, at once where that is quicker than handing them
//! to a lane's thread.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use quern_types::{Batch, BatchResult, DeviceError, DeviceId, ModelSpec, Replica, Tensor};
use tokio::sync::oneshot;

use crate::{
    batch,
    engine::{Program, guarded},
    lanes::Lanes,
    metrics::EngineMetrics,
};

/// Handing a run to a thread and waking up the caller costs 10 to 50 µs, which is more than a
/// small model computes. Runs this short stay on the thread that asks: they block it for less than
/// a request's own work does. All others go to a lane, so that requests are served meanwhile.
const SHORT: Duration = Duration::from_micros(200);

/// Not yet measured: counts as long.
const UNKNOWN: u64 = u64::MAX;

/// A replica on the CPU. Dropping it, once nothing runs, drops the weights.
pub(crate) struct CpuReplica {
    pub(crate) resident: Arc<Resident>,
    pub(crate) lanes: Arc<Lanes>,
}

/// A loaded model.
pub(crate) struct Resident {
    device: DeviceId,
    spec: Arc<ModelSpec>,
    programs: Vec<Mutex<Box<dyn Program>>>,
    /// Time of recent runs in ns, later ones weighing more.
    recent_ns: AtomicU64,
    metrics: EngineMetrics,
}

impl Resident {
    pub(crate) fn new(
        device: DeviceId,
        spec: Arc<ModelSpec>,
        programs: Vec<Box<dyn Program>>,
        metrics: EngineMetrics,
    ) -> Self {
        metrics.replicas.inc();
        let programs = programs.into_iter().map(Mutex::new).collect();
        Self { device, spec, programs, recent_ns: AtomicU64::new(UNKNOWN), metrics }
    }

    fn is_short(&self) -> bool {
        u128::from(self.recent_ns.load(Ordering::Relaxed)) <= SHORT.as_nanos()
    }

    fn failed(&self, reason: String) -> DeviceError {
        self.metrics.run_failures.inc();
        DeviceError::Run { engine: self.spec.engine, reason }
    }

    /// Computes a batch on the thread that asks, waiting for the lane if it is taken.
    fn compute(&self, lane: usize, batch: &Batch) -> Result<BatchResult, DeviceError> {
        let program = self.programs.get(lane);
        let program = program.ok_or_else(|| self.failed(format!("there is no lane {lane}")))?;
        let mut program = program.lock().unwrap_or_else(PoisonError::into_inner);
        self.compute_with(&mut **program, batch)
    }

    /// Computes a batch at once, if the model is known to be quick and the lane is free. A caller
    /// that went away may have left it taken.
    fn compute_inline(
        &self,
        lane: usize,
        batch: &Batch,
    ) -> Option<Result<BatchResult, DeviceError>> {
        if !self.is_short() {
            return None;
        }
        let mut program = self.programs.get(lane)?.try_lock().ok()?;
        Some(self.compute_with(&mut **program, batch))
    }

    fn compute_with(
        &self,
        program: &mut dyn Program,
        batch: &Batch,
    ) -> Result<BatchResult, DeviceError> {
        let mut compute = Duration::ZERO;
        let calls = self.run(program, batch, &mut compute);
        calls.map(|calls| BatchResult { calls, compute }).map_err(|reason| self.failed(reason))
    }

    fn run(
        &self,
        program: &mut dyn Program,
        batch: &Batch,
        compute: &mut Duration,
    ) -> Result<Vec<Vec<Tensor>>, String> {
        let gathered = batch::gather(&self.spec, &batch.calls)?;
        let start = Instant::now();
        let outputs = guarded(|| program.run(&gathered.inputs))?;
        *compute = start.elapsed();
        self.measured(*compute);
        gathered.split(&self.spec, outputs)
    }

    fn measured(&self, compute: Duration) {
        self.metrics.run_seconds.observe(compute.as_secs_f64());
        let now = u64::try_from(compute.as_nanos()).unwrap_or(UNKNOWN - 1);
        // Lanes may overwrite each other's: either value is as good.
        let recent = match self.recent_ns.load(Ordering::Relaxed) {
            UNKNOWN => now,
            recent => recent - recent / 4 + now / 4,
        };
        self.recent_ns.store(recent, Ordering::Relaxed);
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.metrics.replicas.dec();
    }
}

impl Replica for CpuReplica {
    fn lanes(&self) -> usize {
        self.resident.programs.len()
    }

    fn run(
        &self,
        lane: usize,
        batch: Batch,
    ) -> BoxFuture<'static, Result<BatchResult, DeviceError>> {
        let (resident, lanes) = (self.resident.clone(), self.lanes.clone());
        Box::pin(async move {
            if let Some(result) = resident.compute_inline(lane, &batch) {
                return result;
            }
            let (reply, answer) = oneshot::channel();
            let model = resident.clone();
            let job = move || {
                // Nobody waits for a run whose caller went away before it began.
                if !reply.is_closed() {
                    let result = model.compute(lane, &batch);
                    drop(model);
                    _ = reply.send(result);
                }
            };
            lanes.submit(lane, Box::new(job)).map_err(|reason| resident.failed(reason))?;
            answer.await.unwrap_or_else(|_| Err(DeviceError::Lost { device: resident.device }))
        })
    }
}
