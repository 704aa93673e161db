//! The server's end of one link: sends what lanes ask for, a bounded number of messages ahead of
//! the answers, and ends the process where it does not answer as it has to. Waits for the process,
//! and so is not for whoever must not wait.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use quern_kernels::LaneError;
use quern_process::socket::{self, MAX_MESSAGE};
use quern_types::Lookout;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::protocol::{Fault, Held, MOST_AHEAD, Reply, Request};
use crate::{
    engine::shortened,
    process::{
        Process,
        region::{KEPT_BYTES, Layout, Part, Region, sealed},
    },
};

/// The process that all links of a device lead to.
pub(super) struct Peer {
    pub(super) process: Arc<Process>,
    /// How long it may take for anything.
    pub(super) patience: Duration,
    lost: OnceLock<LaneError>,
    answered: AtomicBool,
    held: Mutex<Held>,
}

/// What a session was told by the process.
#[derive(Default)]
pub(super) struct Told {
    pub(super) computed_ns: AtomicU64,
    pub(super) fault: OnceLock<Fault>,
}

/// A link, for all sessions of its number.
pub(super) struct Link {
    socket: OwnedFd,
    peer: Arc<Peer>,
    /// Elements on their way. What is placed there stays until everything is answered.
    region: Region,
    placed: Layout,
    outstanding: VecDeque<Outstanding>,
    buffer: Vec<u8>,
    lookout: Lookout,
}

/// A message without an answer.
struct Outstanding {
    session: Arc<Told>,
    sent: Instant,
}

impl Peer {
    pub(super) fn new(process: Arc<Process>, patience: Duration) -> Self {
        let (lost, answered, held) = (OnceLock::new(), AtomicBool::new(false), Mutex::default());
        Self { process, patience, lost, answered, held }
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Relaxed)
    }

    /// What the device holds, by the newest report; nothing once it is lost.
    pub(super) fn held_bytes(&self) -> u64 {
        match self.lost.get() {
            Some(_) => 0,
            None => self.held.lock().unwrap_or_else(PoisonError::into_inner).bytes,
        }
    }

    /// An error if the process is lost.
    pub(super) fn check(&self) -> Result<(), LaneError> {
        self.lost.get().map_or(Ok(()), |lost| Err(lost.clone()))
    }

    /// Ends the process, for this reason if it is the first.
    pub(super) fn lose(&self, reason: &str) -> LaneError {
        let lost = self.lost.get_or_init(|| {
            tracing::warn!(process = self.process.id, reason, "ending the device worker");
            LaneError::Lost { reason: format!("{reason}: try again") }
        });
        self.process.kill();
        lost.clone()
    }

    /// The same where a socket has failed.
    fn lose_by(&self, error: &io::Error) -> LaneError {
        match error.kind() {
            _ if socket::is_end(error) => self.lose("its process has ended"),
            io::ErrorKind::WouldBlock => {
                self.lose(&format!("it did not get on for {:?}", self.patience))
            }
            _ => self.lose(&error.to_string()),
        }
    }

    fn note(&self, held: Held) {
        self.answered.store(true, Relaxed);
        let mut known = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.report >= known.report {
            *known = held;
        }
    }
}

impl Link {
    /// A link over a socket, whose other end gets to know its memory first of all.
    pub(super) fn new(socket: OwnedFd, peer: Arc<Peer>) -> io::Result<Self> {
        for direction in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&socket, direction, Some(peer.patience))?;
        }
        let (region, file) = Region::create(KEPT_BYTES)?;
        socket::send(&socket, &Request::Region, Some(file.as_fd()))?;
        Ok(Self {
            socket,
            peer,
            region,
            placed: Layout::default(),
            outstanding: VecDeque::new(),
            buffer: vec![0; MAX_MESSAGE],
            lookout: Lookout::default(),
        })
    }

    /// Sends a message of a session. Waits where too many are ahead.
    pub(super) fn send(
        &mut self,
        session: &Arc<Told>,
        message: &[u8],
        file: Option<&OwnedFd>,
    ) -> Result<(), LaneError> {
        self.peer.check()?;
        self.take_what_came()?;
        while self.outstanding.len() >= MOST_AHEAD {
            self.take_reply()?;
        }
        let sent = match message.len() > MAX_MESSAGE {
            true => self.send_elsewhere(message),
            false => socket::send_bytes(&self.socket, message, file.map(OwnedFd::as_fd)),
        };
        if let Err(error) = sent {
            // What it has said before it ended says more.
            let _ = self.take_what_came();
            return Err(self.peer.lose_by(&error));
        }
        self.outstanding.push_back(Outstanding { session: session.clone(), sent: Instant::now() });
        Ok(())
    }

    /// Sends a message that is too long for one, in memory of its own.
    fn send_elsewhere(&self, message: &[u8]) -> io::Result<()> {
        socket::send(&self.socket, &Request::Elsewhere, Some(sealed(message)?.as_fd()))
    }

    /// Waits until everything is answered.
    pub(super) fn settle(&mut self) -> Result<(), LaneError> {
        while !self.outstanding.is_empty() {
            self.take_reply()?;
        }
        self.placed = Layout::default();
        self.peer.check()
    }

    /// Room for so many bytes of elements, for as long as it takes to have them answered. None if
    /// that is more than the link has: then they need memory of their own.
    pub(super) fn place(&mut self, bytes: u64) -> Result<Option<Part>, LaneError> {
        if bytes > self.region.bytes() {
            return Ok(None);
        }
        for _ in 0..2 {
            let mut placed = self.placed.clone();
            if let Ok(part) = placed.place(bytes)
                && placed.end() <= self.region.bytes()
            {
                self.placed = placed;
                return Ok(Some(part));
            }
            self.settle()?;
        }
        Ok(None)
    }

    /// Where parts are.
    pub(super) fn region(&self) -> &Region {
        &self.region
    }

    /// Takes note of answers that are there.
    fn take_what_came(&mut self) -> Result<(), LaneError> {
        while !self.outstanding.is_empty() {
            match socket::try_receive(&self.socket, &mut self.buffer) {
                Ok(reply) => self.note(reply)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.peer.lose_by(&error)),
            }
        }
        Ok(())
    }

    /// Waits for the next answer: where they come soon it looks for it, as being woken up takes
    /// longer than most steps.
    fn take_reply(&mut self) -> Result<(), LaneError> {
        let since = Instant::now();
        let receive = || socket::try_receive(&self.socket, &mut self.buffer);
        let received = match socket::look(self.lookout.patience(), receive) {
            Some(received) => received,
            None => socket::receive(&self.socket, &mut self.buffer),
        };
        self.lookout.came_after(since.elapsed());
        match received {
            Ok(reply) => self.note(reply),
            Err(error) => Err(self.peer.lose_by(&error)),
        }
    }

    fn note(&mut self, reply: Reply) -> Result<(), LaneError> {
        let Reply { computed_ns, held, fault } = reply;
        let Some(Outstanding { session, sent }) = self.outstanding.pop_front() else {
            return Err(self.peer.lose("it answered what it was not asked"));
        };
        self.peer.note(held);
        let most = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        session.computed_ns.fetch_add(computed_ns.min(most), Relaxed);
        if let Some(fault) = fault {
            let fault = match fault {
                Fault::Lost { reason } => Fault::Lost { reason: shortened(&reason) },
                fault => fault,
            };
            session.fault.get_or_init(|| fault);
        }
        Ok(())
    }
}
