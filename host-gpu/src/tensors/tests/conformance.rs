//! The suite that every device is held to, through lanes: what waits and is computed by another
//! thread answers the same.

use quern_kernels::{Elements, HostBuffer, suite::suite};

use super::*;
use crate::tensors::command::Command;

/// The device, as one that makes whoever asks wait.
struct Waited(TensorDevice);

struct WaitedLane {
    lane: Arc<Lane>,
    key: u64,
    failure: Failure,
}

impl Device for Waited {
    fn open(&self, budget_bytes: u64) -> Result<Box<dyn Computer>, LaneError> {
        let lane = Arc::clone(&self.0.lanes[0]);
        let failure = Failure::default();
        let held = Held {
            tenant: TenantId::default(),
            account: Arc::default(),
            computer: self.0.device.open(budget_bytes)?,
            lease: Arc::new(()),
        };
        let share_milli = SessionRequest::WHOLE_MILLI;
        let key = lane.enter(Entry { share_milli, held, failure: Arc::clone(&failure) })?;
        Ok(Box::new(WaitedLane { lane, key, failure }))
    }

    fn held_bytes(&self) -> u64 {
        self.0.held_bytes()
    }
}

impl WaitedLane {
    fn submit(&self, command: Command) -> Result<(), LaneError> {
        self.lane.submit(self.key, command, false);
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }
}

impl Computer for WaitedLane {
    fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), LaneError> {
        match self.lane.write_early(self.key, buffer, bytes) {
            true => Ok(()),
            false => self.submit(Command::Write(buffer, HostBuffer::of(bytes)?)),
        }
    }

    fn execute(&mut self, step: &Step) -> Result<(), LaneError> {
        self.submit(Command::Execute(Box::new(step.clone())))
    }

    fn read(&mut self, operand: &Operand) -> Result<Vec<u8>, LaneError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.lane.submit(self.key, Command::Read(*operand, reply), false);
        answer.blocking_recv().expect("it is answered")
    }

    fn lend(&mut self, operand: &Operand) -> Result<Elements, LaneError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.lane.submit(self.key, Command::Lend(*operand, reply), false);
        answer.blocking_recv().expect("it is answered")
    }

    fn free(&mut self, buffer: BufferId) {
        self.lane.free(self.key, buffer, 0);
    }

    fn finish(&mut self) -> Result<(), LaneError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.lane.submit(self.key, Command::Finish(reply), false);
        answer.blocking_recv().expect("it is answered")
    }
}

impl Drop for WaitedLane {
    fn drop(&mut self) {
        // So that all is given back when this returns, as the suite wants it.
        _ = self.finish();
        self.lane.leave(self.key, 0);
    }
}

#[test]
fn lanes_answer_as_every_device_must() {
    let device = Waited(TensorDevice::cpu(ONE, config(ONE, false)).expect("threads"));
    let report = suite(&device);
    let shown: Vec<_> = report.failures.iter().take(40).collect();
    assert!(shown.is_empty(), "{} of {}: {shown:#?}", report.failures.len(), report.cases);
    assert!(report.cases > 1_000, "{}", report.cases);
}
