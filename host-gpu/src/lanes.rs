//! The threads on which long runs are computed, one for each lane, so that they never hold up the
//! threads that serve requests.

use std::{
    io,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// Something to compute on a lane.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// Jobs that may wait for one lane. Each replica gives a lane one job at a time, so that this many
/// wait only where as many models are loaded.
const WAITING: usize = 256;

/// A thread for each lane; dropping them waits for what runs.
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    taken: AtomicUsize,
}

struct Lane {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Lanes {
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let start = |index| {
            let (jobs, waiting) = sync_channel::<Job>(WAITING);
            let work = move || waiting.into_iter().for_each(|job| job());
            let thread = thread::Builder::new().name(format!("cpu-lane-{index}")).spawn(work)?;
            Ok(Lane { jobs: Some(jobs), thread: Some(thread) })
        };
        let lanes = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { lanes, taken: AtomicUsize::new(0) })
    }

    pub(crate) fn count(&self) -> usize {
        self.lanes.len()
    }

    /// The first lane of a model that uses so many: models with few of them take turns.
    pub(crate) fn next(&self, count: usize) -> usize {
        match count < self.count() {
            true => self.taken.fetch_add(count, Ordering::Relaxed) % self.count(),
            false => 0,
        }
    }

    /// Hands a job to a lane's thread. Never blocks; a job must not panic.
    pub(crate) fn submit(&self, lane: usize, job: Job) -> Result<(), String> {
        let jobs = self.lanes.get(lane).and_then(|lane| lane.jobs.as_ref());
        let jobs = jobs.ok_or_else(|| format!("there is no lane {lane} of {}", self.count()))?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => format!("{WAITING} runs are waiting for lane {lane} already"),
            TrySendError::Disconnected(_) => format!("the thread of lane {lane} has ended"),
        })
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            lane.jobs = None;
        }
        for thread in self.lanes.iter_mut().filter_map(|lane| lane.thread.take()) {
            if thread.join().is_err() {
                tracing::error!("a lane's thread panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn a_lane_takes_no_more_than_its_queue_holds() {
        let lanes = Lanes::start(1).expect("a thread");
        let (started, release) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (running, held) = (started.clone(), release.clone());
        let first = move || {
            running.wait();
            held.wait();
        };
        lanes.submit(0, Box::new(first)).expect("the lane is free");
        started.wait();
        for _ in 0..WAITING {
            lanes.submit(0, Box::new(|| ())).expect("there is room");
        }
        let refused = lanes.submit(0, Box::new(|| ())).expect_err("the queue is full");
        assert_eq!(refused, "256 runs are waiting for lane 0 already");
        release.wait();
    }

    #[test]
    fn models_with_few_lanes_take_turns() {
        let lanes = Lanes::start(3).expect("threads");
        assert_eq!([1, 1, 1, 1].map(|count| lanes.next(count)), [0, 1, 2, 0]);
        assert_eq!([3, 2, 2].map(|count| lanes.next(count)), [0, 1, 0]);
    }

    #[test]
    fn an_unknown_lane_is_named() {
        let lanes = Lanes::start(2).expect("threads");
        let refused = lanes.submit(2, Box::new(|| ())).expect_err("there are lanes 0 and 1");
        assert_eq!(refused, "there is no lane 2 of 2");
    }
}
