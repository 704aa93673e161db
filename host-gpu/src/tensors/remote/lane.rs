//! A lane whose session is in another process: writes what it is asked for into a message, which it
//! sends when that is full or nothing more is asked for at the moment. Waits only where elements
//! are read, all is to be done, or too much is ahead.

use std::{
    collections::BTreeSet,
    mem,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use quern_kernels::{BufferId, Lane, LaneError, Operand, Step};
use quern_process::socket::MAX_MESSAGE;
use serde::Serialize;

use super::{
    connection::Connection,
    link::{Link, Told},
    protocol::{Command, MOST_STEPS, MOST_WORK, Request},
};
use crate::process::region::{Part, Region};

/// The lane of one session.
pub(super) struct RemoteLane {
    connection: Arc<Connection>,
    /// Which link it shares.
    number: usize,
    session: u64,
    budget_bytes: u64,
    stage: Stage,
    told: Arc<Told>,
    /// What is not sent yet.
    message: Vec<u8>,
    steps: usize,
    work: u64,
    /// Operators that were asked for: what goes wrong is one of theirs.
    operators: BTreeSet<&'static str>,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The process has not heard of it.
    New,
    Open,
    Closed,
}

impl RemoteLane {
    pub(super) fn new(connection: Arc<Connection>, number: usize, budget_bytes: u64) -> Self {
        let session = connection.next_session();
        Self {
            connection,
            number,
            session,
            budget_bytes,
            stage: Stage::New,
            told: Arc::default(),
            message: Vec::new(),
            steps: 0,
            work: 0,
            operators: BTreeSet::new(),
        }
    }

    /// An error if the session has failed, or the process.
    fn check(&self) -> Result<(), LaneError> {
        let Some(fault) = self.told.fault.get() else { return self.connection.peer.check() };
        let asked = |name: &str| self.operators.get(name).copied();
        Err(match fault.error(asked) {
            Some(error) => error,
            None => self.connection.peer.lose("it failed at what it was not asked"),
        })
    }

    /// What a session has failed of counts, rather than that its process has ended after that.
    fn blamed<T>(&self, outcome: Result<T, LaneError>) -> Result<T, LaneError> {
        outcome.map_err(|lost| self.check().err().unwrap_or(lost))
    }

    /// Adds a command to what is sent next.
    fn add(&mut self, command: &Command<&Step>) -> Result<(), LaneError> {
        if self.message.is_empty() {
            self.message = encoded(&Request::Do { session: self.session })?;
        }
        let added = postcard::to_io(command, &mut self.message).map(drop);
        added.map_err(|error| unwritten(&error))
    }

    /// Sends what was added.
    fn send(&mut self, link: &mut Link) -> Result<(), LaneError> {
        if self.message.is_empty() {
            return Ok(());
        }
        (self.steps, self.work) = (0, 0);
        let message = mem::take(&mut self.message);
        self.begin(link)?;
        link.send(&self.told, &message, None)
    }

    /// Tells the process of the session, if it has not heard of it.
    fn begin(&mut self, link: &mut Link) -> Result<(), LaneError> {
        if self.stage != Stage::New {
            return Ok(());
        }
        self.stage = Stage::Open;
        let Self { session, budget_bytes, .. } = *self;
        link.send(&self.told, &encoded(&Request::Open { session, budget_bytes })?, None)
    }

    /// Asks for something after all that was asked for before.
    fn ask(
        &mut self,
        link: &mut Link,
        request: &Request,
        file: Option<&OwnedFd>,
    ) -> Result<(), LaneError> {
        self.send(link)?;
        self.begin(link)?;
        link.send(&self.told, &encoded(request)?, file)
    }

    /// Ends the session in the process, once it has heard of it.
    fn end(&mut self) -> Result<(), LaneError> {
        if mem::replace(&mut self.stage, Stage::Closed) != Stage::Open {
            return Ok(());
        }
        let (connection, session) = (self.connection.clone(), self.session);
        let mut link = connection.link(self.number);
        link.send(&self.told, &encoded(&Request::Close { session })?, None)?;
        link.settle()
    }
}

impl Lane for RemoteLane {
    fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), LaneError> {
        self.check()?;
        let connection = self.connection.clone();
        let mut link = connection.link(self.number);
        let length = bytes.len() as u64;
        match link.place(length)? {
            Some(part) => {
                put(link.region(), part, bytes)?;
                self.add(&Command::Write(buffer, part))?;
                // So that the part is not given to others before it is used.
                let sent = self.send(&mut link);
                self.blamed(sent)
            }
            None => {
                // One at a time, so that no more than that is on its way.
                let settled = link.settle();
                self.blamed(settled)?;
                let (region, file) = alone(length)?;
                put(&region, Part { offset: 0, length }, bytes)?;
                let request = Request::Write { session: self.session, buffer };
                let asked = self.ask(&mut link, &request, Some(&file));
                self.blamed(asked)
            }
        }
    }

    fn execute(&mut self, step: &Step) -> Result<(), LaneError> {
        self.check()?;
        self.operators.insert(step.kernel().name());
        self.add(&Command::Execute(step))?;
        self.steps += 1;
        self.work = self.work.saturating_add(step.work());
        let is_full = self.message.len() >= MAX_MESSAGE / 2;
        match is_full || self.steps >= MOST_STEPS || self.work >= MOST_WORK {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn read(&mut self, operand: &Operand) -> Result<Vec<u8>, LaneError> {
        self.check()?;
        let (connection, session) = (self.connection.clone(), self.session);
        let mut link = connection.link(self.number);
        let length = operand.description().bytes();
        let (part, own) = match link.place(length)? {
            Some(part) => (part, None),
            None => (Part { offset: 0, length }, Some(alone(length)?)),
        };
        let request = Request::Read { session, operand: *operand, part };
        let asked = self.ask(&mut link, &request, own.as_ref().map(|(_, file)| file));
        let answered = asked.and_then(|()| link.settle());
        self.blamed(answered)?;
        let region = match &own {
            Some((region, _)) => region,
            None => link.region(),
        };
        let elements = region.read(part);
        drop(link);
        self.check()?;
        Ok(elements.map_err(|error| unwritten(&error))?.into())
    }

    fn free(&mut self, buffer: BufferId) {
        // What can't be told to the process is gone with it.
        let _ = self.add(&Command::Free(buffer));
    }

    fn finish(&mut self) -> Result<(), LaneError> {
        self.check()?;
        let (connection, session) = (self.connection.clone(), self.session);
        let mut link = connection.link(self.number);
        let asked = self.ask(&mut link, &Request::Finish { session }, None);
        let answered = asked.and_then(|()| link.settle());
        drop(link);
        self.blamed(answered)?;
        self.check()
    }

    fn flush(&mut self) -> Result<(), LaneError> {
        if self.message.is_empty() {
            return Ok(());
        }
        let connection = self.connection.clone();
        let sent = self.send(&mut connection.link(self.number));
        self.blamed(sent)
    }

    fn close(&mut self) {
        // If the process is lost, everything is given back.
        let _ = self.end();
    }

    fn computed_ns(&mut self) -> Option<u64> {
        Some(self.told.computed_ns.swap(0, Relaxed))
    }
}

impl Drop for RemoteLane {
    fn drop(&mut self) {
        self.close();
    }
}

/// Memory for elements that a link has no room for.
fn alone(bytes: u64) -> Result<(Region, OwnedFd), LaneError> {
    Region::create(bytes).map_err(|_| LaneError::Memory { bytes })
}

fn put(region: &Region, part: Part, bytes: &[u8]) -> Result<(), LaneError> {
    region.write(part, &[bytes]).map_err(|error| unwritten(&error))
}

fn encoded<M: Serialize>(message: &M) -> Result<Vec<u8>, LaneError> {
    postcard::to_stdvec(message).map_err(|error| unwritten(&error))
}

fn unwritten(error: &dyn std::fmt::Display) -> LaneError {
    LaneError::Lost { reason: error.to_string() }
}
