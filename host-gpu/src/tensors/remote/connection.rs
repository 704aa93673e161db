//! One started process as the server sees it, and how it gets to know what it is for.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use quern_process::socket;
use quern_types::Confinement;

use super::{
    link::{Link, Peer},
    protocol::{Computing, Ready, Setup},
};
use crate::process::{Fresh, Process, Role, Task, channels, ready};

/// Computing tensors.
pub(super) struct Tensors {
    pub(super) lanes: usize,
    pub(super) computing: Computing,
    pub(super) patience: Duration,
}

/// A process that computes.
pub(super) struct Connection {
    pub(super) peer: Arc<Peer>,
    ready: Ready,
    links: Vec<Mutex<Link>>,
    sessions: AtomicU64,
    /// Open as long as the process is to live.
    _control: OwnedFd,
}

impl Connection {
    pub(super) fn new(peer: Arc<Peer>, ready: Ready, links: Vec<Link>, control: OwnedFd) -> Self {
        let links = links.into_iter().map(Mutex::new).collect();
        Self { peer, ready, links, sessions: AtomicU64::new(0), _control: control }
    }

    /// What the lanes of a number share; any number leads to one.
    pub(super) fn link(&self, number: usize) -> MutexGuard<'_, Link> {
        self.links[number % self.links.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a new session is called.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Relaxed)
    }
}

impl Role for Tensors {
    type Connection = Connection;

    fn connect(&self, fresh: Fresh) -> io::Result<Connection> {
        let Fresh { process, control, .. } = fresh;
        let lanes = u32::try_from(self.lanes).map_err(io::Error::other)?;
        let setup = Setup { lanes, computing: self.computing.clone() };
        socket::send(&control, &Task::Tensors(setup), None)?;
        let sockets = channels(&control, lanes)?;
        let ready = ready(&control)?;
        let peer = Arc::new(Peer::new(process, self.patience));
        let links = sockets.into_iter().map(|socket| Link::new(socket, peer.clone()));
        let links = links.collect::<io::Result<_>>()?;
        Ok(Connection::new(peer, ready, links, control))
    }

    fn process(connection: &Connection) -> &Process {
        &connection.peer.process
    }

    fn confinement(connection: &Connection) -> &[Confinement] {
        &connection.ready.confinement
    }

    fn has_answered(connection: &Connection) -> bool {
        connection.peer.has_answered()
    }
}
