//! A model resident on the CPU: computes batches, at once where that is quicker than handing them
//! to a lane's thread.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::future::BoxFuture;
use quern_types::{Batch, BatchResult, DeviceError, DeviceId, ModelSpec, Replica};
use tokio::sync::oneshot;

use crate::{
    batch,
    engine::{Program, guarded},
    lanes::Lanes,
    metrics::EngineMetrics,
    pace::{Pace, SHORT},
    relief::Relief,
};

/// A replica on the CPU. Dropping it, once nothing runs, drops the weights.
pub(crate) struct CpuReplica {
    pub(crate) resident: Arc<Resident>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) relief: Option<Arc<Relief>>,
    /// The device's lane that its own lane 0 is; the others follow it, around the end.
    pub(crate) first: usize,
}

/// A loaded model.
pub(crate) struct Resident {
    device: DeviceId,
    spec: Arc<ModelSpec>,
    programs: Vec<Mutex<Box<dyn Program>>>,
    pace: Pace,
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
        Self { device, spec, programs, pace: Pace::default(), metrics }
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

    /// Computes a batch at once, if that is known to be quick and the lane is free. A caller that
    /// went away may have left it taken.
    fn compute_inline(
        &self,
        lane: usize,
        batch: &Batch,
        relief: Option<&Relief>,
    ) -> Option<Result<BatchResult, DeviceError>> {
        self.pace.predicted(input_bytes(batch)).filter(|&predicted| predicted <= SHORT)?;
        let mut program = self.programs.get(lane)?.try_lock().ok()?;
        let _underway = relief.map(Relief::underway);
        Some(self.compute_with(&mut **program, batch))
    }

    fn compute_with(
        &self,
        program: &mut dyn Program,
        batch: &Batch,
    ) -> Result<BatchResult, DeviceError> {
        self.run(program, batch).map_err(|reason| self.failed(reason))
    }

    fn run(&self, program: &mut dyn Program, batch: &Batch) -> Result<BatchResult, String> {
        let gathered = batch::gather(&self.spec, &batch.calls)?;
        let start = Instant::now();
        let outputs = guarded(|| program.run(&gathered.inputs))?;
        let ended = Instant::now();
        let compute = ended - start;
        self.metrics.run_seconds.observe(compute.as_secs_f64());
        self.pace.measured(input_bytes(batch), compute);
        let calls = gathered.split(&self.spec, outputs)?;
        Ok(BatchResult { calls, compute, ended })
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.metrics.replicas.dec();
    }
}

fn input_bytes(batch: &Batch) -> u64 {
    batch.calls.iter().flatten().map(|tensor| tensor.data().len() as u64).sum()
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
        let relief = self.relief.clone();
        let thread = (self.first + lane) % lanes.count();
        let own = self.lanes();
        Box::pin(async move {
            if lane >= own {
                return Err(resident.failed(format!("there is no lane {lane} of {own}")));
            }
            if let Some(result) = resident.compute_inline(lane, &batch, relief.as_deref()) {
                return result;
            }
            let (reply, answer) = oneshot::channel();
            let model = resident.clone();
            let job = move || {
                // Nobody waits for a run whose caller went away before it began.
                if !reply.is_closed() {
                    let result = model.compute(lane, &batch);
                    // Whoever lent the inputs has them back by the answer.
                    drop((model, batch));
                    _ = reply.send(result);
                }
            };
            lanes.submit(thread, Box::new(job)).map_err(|reason| resident.failed(reason))?;
            answer.await.unwrap_or_else(|_| Err(DeviceError::Lost { device: resident.device }))
        })
    }
}
