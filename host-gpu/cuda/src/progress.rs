//! How far a stream is. Bounds how much it is asked for ahead, and notices when its device does not
//! get on: one that hangs never says so. A stream may have to wait long for its turn, so that what
//! counts is whether any stream of the device gets on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
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

/// How far all streams of a device are.
#[derive(Default)]
pub(crate) struct Pulse {
    streams: Mutex<Vec<Weak<Mutex<Marks>>>>,
}

/// Marks of a stream, which others look at as well.
#[derive(Default)]
struct Marks {
    ahead: VecDeque<Arc<CudaEvent>>,
    /// How many were taken out once they had come.
    passed: u64,
}

impl Pulse {
    fn follow(&self, marks: &Arc<Mutex<Marks>>) {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(marks));
    }

    /// How many marks have come, of all streams: as long as it changes, the device gets on.
    fn passed(&self, core: &Core) -> Result<u64, LaneError> {
        let streams: Vec<_> = lock(&self.streams).iter().filter_map(Weak::upgrade).collect();
        let mut passed = 0;
        for marks in streams {
            let marks = lock(&marks);
            passed += marks.passed;
            for event in &marks.ahead {
                if !has_come(core, event)? {
                    break;
                }
                passed += 1;
            }
        }
        Ok(passed)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks along a stream.
pub(crate) struct Progress {
    marks: Arc<Mutex<Marks>>,
    spare: Vec<Arc<CudaEvent>>,
    steps: u32,
    work: u64,
}

impl Progress {
    /// That of a new stream.
    pub(crate) fn new(core: &Core) -> Self {
        let marks = Arc::default();
        core.pulse.follow(&marks);
        Self { marks, spare: Vec::new(), steps: 0, work: 0 }
    }

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
        if lock(&self.marks).ahead.len() > MARKS { self.pass(core) } else { Ok(()) }
    }

    /// Waits for all that the stream was asked for.
    pub(crate) fn finish(&mut self, core: &Core, stream: &CudaStream) -> Result<(), LaneError> {
        self.mark(core, stream)?;
        while self.next().is_some() {
            self.pass(core)?;
        }
        Ok(())
    }

    /// Waits for an event of the stream. On the way there it is enough to get from mark to mark.
    pub(crate) fn reach(&mut self, core: &Core, event: &CudaEvent) -> Result<(), LaneError> {
        while self.next().is_some() && !has_come(core, event)? {
            self.pass(core)?;
        }
        wait(core, event)
    }

    fn mark(&mut self, core: &Core, stream: &CudaStream) -> Result<(), LaneError> {
        let event = match self.spare.pop() {
            Some(event) => event,
            None => Arc::new(core.check("making an event", core.context.new_event(None))?),
        };
        core.check("marking a stream", event.record(stream))?;
        lock(&self.marks).ahead.push_back(event);
        (self.steps, self.work) = (0, 0);
        Ok(())
    }

    fn next(&self) -> Option<Arc<CudaEvent>> {
        lock(&self.marks).ahead.front().cloned()
    }

    fn pass(&mut self, core: &Core) -> Result<(), LaneError> {
        if let Some(event) = self.next() {
            wait(core, &event)?;
            let mut marks = lock(&self.marks);
            marks.ahead.pop_front();
            marks.passed += 1;
            self.spare.push(event);
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
/// microseconds. Time counts from when the device was last seen to get on, which is looked at when
/// it would be over.
fn wait(core: &Core, event: &CudaEvent) -> Result<(), LaneError> {
    const BUSY: Duration = Duration::from_micros(50);
    const LONGEST_NAP: Duration = Duration::from_millis(1);
    let begin = Instant::now();
    let mut nap = Duration::from_micros(10);
    let mut seen: Option<(Instant, u64)> = None;
    while !has_come(core, event)? {
        if begin.elapsed() < BUSY {
            std::hint::spin_loop();
            continue;
        }
        match seen {
            Some((since, _)) if since.elapsed() < core.patience => {}
            _ => {
                let passed = core.pulse.passed(core)?;
                if seen.is_some_and(|(_, before)| before == passed) {
                    return Err(core.lose(format!("it did not get on for {:?}", core.patience)));
                }
                seen = Some((Instant::now(), passed));
            }
        }
        thread::sleep(nap);
        nap = (nap * 2).min(LONGEST_NAP);
    }
    Ok(())
}
