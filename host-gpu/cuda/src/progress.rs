//! How far a stream is. Bounds how much it is asked for ahead, and notices when it does not get
//! on: a device that hangs never says so.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use cudarc::driver::{CudaEvent, CudaStream};
use quern_kernels::LaneError;

use crate::device::Core;

/// Most steps between two marks.
const STEPS: u32 = 64;

/// Most work between two marks, unless a single step has more: far less than a device does while
/// there is patience.
const WORK: u64 = 1 << 32;

/// Most marks that are ahead.
const MARKS: usize = 16;

/// Marks along a stream.
#[derive(Default)]
pub(crate) struct Progress {
    ahead: VecDeque<CudaEvent>,
    passed: Vec<CudaEvent>,
    steps: u32,
    work: u64,
}

impl Progress {
    /// Counts something that the stream was asked for, which touches so many elements; waits
    /// where too much is ahead.
    pub(crate) fn step(
        &mut self,
        core: &Core,
        stream: &CudaStream,
        work: u64,
    ) -> Result<(), LaneError> {
        self.steps += 1;
        self.work = self.work.saturating_add(work);
        if self.steps < STEPS && self.work < WORK {
            return Ok(());
        }
        self.mark(core, stream)?;
        if self.ahead.len() > MARKS { self.pass(core) } else { Ok(()) }
    }

    /// Waits for all that the stream was asked for.
    pub(crate) fn finish(&mut self, core: &Core, stream: &CudaStream) -> Result<(), LaneError> {
        self.mark(core, stream)?;
        while !self.ahead.is_empty() {
            self.pass(core)?;
        }
        Ok(())
    }

    /// Waits for an event of the stream. On the way there it is enough to get from mark to mark.
    pub(crate) fn reach(&mut self, core: &Core, event: &CudaEvent) -> Result<(), LaneError> {
        while !self.ahead.is_empty() && !has_come(core, event)? {
            self.pass(core)?;
        }
        wait(core, event)
    }

    fn mark(&mut self, core: &Core, stream: &CudaStream) -> Result<(), LaneError> {
        let event = match self.passed.pop() {
            Some(event) => event,
            None => core.check("making an event", core.context.new_event(None))?,
        };
        core.check("marking a stream", event.record(stream))?;
        self.ahead.push_back(event);
        (self.steps, self.work) = (0, 0);
        Ok(())
    }

    fn pass(&mut self, core: &Core) -> Result<(), LaneError> {
        if let Some(event) = self.ahead.pop_front() {
            wait(core, &event)?;
            self.passed.push(event);
        }
        Ok(())
    }
}

fn has_come(core: &Core, event: &CudaEvent) -> Result<bool, LaneError> {
    // A lane may have come to another thread since it last asked for something.
    let bound = core.context.bind_to_thread();
    core.check("waiting for the device", bound.and_then(|()| event.try_is_complete()))
}

/// Waits for what a stream was asked for before an event: at first busily, as most of it takes
/// microseconds.
fn wait(core: &Core, event: &CudaEvent) -> Result<(), LaneError> {
    const BUSY: Duration = Duration::from_micros(50);
    const LONGEST_NAP: Duration = Duration::from_millis(1);
    let begin = Instant::now();
    let mut nap = Duration::from_micros(10);
    while !has_come(core, event)? {
        let waited = begin.elapsed();
        if waited > core.patience {
            return Err(core.lose(format!("it did not get on for {:?}", core.patience)));
        }
        if waited < BUSY {
            std::hint::spin_loop();
        } else {
            thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }
    Ok(())
}
