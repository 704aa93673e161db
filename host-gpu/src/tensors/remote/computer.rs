//! The process's end of one link: carries out what sessions ask for, one message after another, by
//! the device that the process has. Answers when nothing more waits, or much was done since.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use quern_kernels::{Device, Lane, LaneError, Operand, Step};
use quern_process::socket::{self, MAX_MESSAGE};
use quern_types::Lookout;

use super::protocol::{Command, Fault, Held, MOST_AHEAD, MOST_WORK, Reply, Request};
use crate::process::region::{Part, Region, open_sealed};

/// One end of a link.
pub(super) struct Computer {
    number: usize,
    socket: OwnedFd,
    device: Arc<dyn Device>,
    /// How many reports there were of what the device holds.
    reports: Arc<Mutex<u64>>,
    region: Option<Arc<Region>>,
    seats: HashMap<u64, Seat>,
    unsettled: Option<Unsettled>,
}

/// A session.
struct Seat {
    /// None if there is none, or it was lost.
    lane: Option<Box<dyn Lane>>,
    fault: Option<Fault>,
}

/// Requests of one session that were taken one after another, and have no answer.
struct Unsettled {
    session: u64,
    requests: usize,
    work: u64,
    since: Instant,
}

impl Computer {
    pub(super) fn new(
        number: usize,
        socket: OwnedFd,
        device: Arc<dyn Device>,
        reports: Arc<Mutex<u64>>,
    ) -> Self {
        let seats = HashMap::new();
        Self { number, socket, device, reports, region: None, seats, unsettled: None }
    }

    /// Computes until the server is gone.
    pub(super) fn serve(mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut lookout = Lookout::default();
        loop {
            let (length, file) = match self.next(&mut buffer, &mut lookout) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                received => received?,
            };
            self.take(&buffer[..length], file)?;
        }
    }

    /// The next message. Where none waits, what was done is answered first. Where they come one
    /// soon after the other, it looks out for the next one for a moment before it sleeps.
    fn next(
        &mut self,
        buffer: &mut [u8],
        lookout: &mut Lookout,
    ) -> io::Result<(usize, Option<OwnedFd>)> {
        if self.unsettled.is_some() {
            match socket::try_receive_bytes(&self.socket, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.settle()?,
                received => return received,
            }
        }
        let since = Instant::now();
        let receive = || socket::try_receive_bytes(&self.socket, buffer);
        let received = match socket::look(lookout.patience(), receive) {
            Some(received) => received,
            None => socket::receive_bytes(&self.socket, buffer),
        };
        lookout.came_after(since.elapsed());
        received
    }

    fn take(&mut self, message: &[u8], file: Option<OwnedFd>) -> io::Result<()> {
        let (request, commands) = postcard::take_from_bytes(message).map_err(senseless)?;
        match request {
            Request::Region => {
                self.region = Some(Arc::new(Region::open(&own(file)?)?));
                return Ok(());
            }
            Request::Elsewhere => return self.take(&open_sealed(&own(file)?)?, None),
            Request::Open { session, budget_bytes } => {
                self.begin(session)?;
                let opened = guarded(|| self.device.open_on(self.number, budget_bytes));
                let (lane, fault) = match opened {
                    Ok(lane) => (Some(lane), None),
                    Err(error) => (None, Some(error.into())),
                };
                self.seats.insert(session, Seat { lane, fault });
            }
            Request::Do { session } => {
                self.begin(session)?;
                self.carry_out(session, commands)?;
            }
            Request::Write { session, buffer } => {
                self.begin(session)?;
                let region = Arc::new(Region::open(&own(file)?)?);
                let whole = Part { offset: 0, length: region.bytes() };
                let elements = region.window(whole).map_err(senseless)?;
                self.seat(session)?.run(|lane| lane.write(buffer, &elements));
            }
            Request::Read { session, operand, part } => {
                self.settle()?;
                self.begin(session)?;
                self.read(session, &operand, part, file)?;
                return self.settle();
            }
            Request::Finish { session } => {
                self.seat(session)?;
                self.settle()?;
                self.begin(session)?;
                return self.settle();
            }
            Request::Close { session } => {
                self.seat(session)?;
                self.settle()?;
                self.begin(session)?;
                if let Some(Seat { lane: Some(lane), .. }) = self.seats.remove(&session) {
                    // What it says of that is of no interest any more.
                    let _ = guarded(|| {
                        drop(lane);
                        Ok(())
                    });
                }
                return self.settle();
            }
        }
        let is_much =
            |unsettled: &Unsettled| unsettled.work >= MOST_WORK || unsettled.requests >= MOST_AHEAD;
        if self.unsettled.as_ref().is_some_and(is_much) { self.settle() } else { Ok(()) }
    }

    /// A request of a session begins, which is to be answered. What was done for another is answered
    /// first, as time is one session's.
    fn begin(&mut self, session: u64) -> io::Result<()> {
        if self.unsettled.as_ref().is_some_and(|unsettled| unsettled.session != session) {
            self.settle()?;
        }
        let now = Instant::now();
        let begun = Unsettled { session, requests: 0, work: 0, since: now };
        self.unsettled.get_or_insert(begun).requests += 1;
        Ok(())
    }

    fn carry_out(&mut self, session: u64, mut commands: &[u8]) -> io::Result<()> {
        while !commands.is_empty() {
            let (command, rest) =
                postcard::take_from_bytes::<Command<Step>>(commands).map_err(senseless)?;
            commands = rest;
            match command {
                Command::Execute(step) => {
                    if let Some(unsettled) = &mut self.unsettled {
                        unsettled.work = unsettled.work.saturating_add(step.work());
                    }
                    self.seat(session)?.run(|lane| lane.execute(&step));
                }
                Command::Write(buffer, part) => {
                    let region = self.region.as_ref().ok_or_else(|| senseless("no memory"))?;
                    let elements = region.window(part).map_err(senseless)?;
                    self.seat(session)?.run(|lane| lane.write(buffer, &elements));
                }
                Command::Free(buffer) => self.seat(session)?.free(|lane| lane.free(buffer)),
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        session: u64,
        operand: &Operand,
        part: Part,
        file: Option<OwnedFd>,
    ) -> io::Result<()> {
        let region = match file {
            Some(file) => Some(Arc::new(Region::open(&file)?)),
            None => self.region.clone(),
        };
        let region = region.ok_or_else(|| senseless("no memory"))?;
        let mut elements = Vec::new();
        self.seat(session)?.run(|lane| {
            elements = lane.read(operand)?;
            Ok(())
        });
        match self.seat(session)?.fault {
            Some(_) => Ok(()),
            None => region.write(part, &[elements]).map_err(senseless),
        }
    }

    fn seat(&mut self, session: u64) -> io::Result<&mut Seat> {
        self.seats.get_mut(&session).ok_or_else(|| senseless("a session that there is not"))
    }

    /// Waits until everything is done that was asked for, and answers it.
    fn settle(&mut self) -> io::Result<()> {
        let Some(Unsettled { session, requests, since, .. }) = self.unsettled.take() else {
            return Ok(());
        };
        let fault = self.seats.get_mut(&session).and_then(|seat| {
            seat.run(|lane| lane.finish());
            seat.fault.clone()
        });
        let mut computed_ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        for _ in 0..requests {
            let reply = Reply { computed_ns, held: self.held(), fault: fault.clone() };
            socket::send(&self.socket, &reply, None)?;
            computed_ns = 0;
        }
        match self.device.lost() {
            // Nothing here can be relied on: the server starts another process.
            Some(reason) => Err(io::Error::other(format!("the device is lost: {reason}"))),
            None => Ok(()),
        }
    }

    /// What the device holds. Whoever changes that reports it afterwards, so that the last report
    /// tells of all changes.
    fn held(&self) -> Held {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        *reports += 1;
        Held { report: *reports, bytes: self.device.held_bytes() }
    }
}

impl Seat {
    /// Does something, unless something has gone wrong before.
    fn run(&mut self, run: impl FnOnce(&mut dyn Lane) -> Result<(), LaneError>) {
        let Some(lane) = self.lane.as_mut().filter(|_| self.fault.is_none()) else { return };
        if let Err(error) = guarded(|| run(&mut **lane)) {
            self.fault = Some(error.into());
        }
    }

    /// Does what is done whatever has gone wrong.
    fn free(&mut self, free: impl FnOnce(&mut dyn Lane)) {
        let Some(lane) = &mut self.lane else { return };
        let free = || {
            free(&mut **lane);
            Ok(())
        };
        if let Err(error) = guarded(free) {
            self.fault.get_or_insert(error.into());
        }
    }
}

/// A panic of the device is an error of the session that it computed for.
fn guarded<T>(run: impl FnOnce() -> Result<T, LaneError>) -> Result<T, LaneError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(LaneError::Lost { reason: "it failed while it computed".to_owned() })
    })
}

fn own(file: Option<OwnedFd>) -> io::Result<OwnedFd> {
    file.ok_or_else(|| senseless("no memory comes along"))
}

fn senseless(problem: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_string())
}
