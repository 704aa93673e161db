//! What a worker is told that is to compute models, and what the server then has of it.

use std::{io, path::PathBuf};

use quern_process::socket;
use quern_types::Confinement;
use tokio::runtime::Handle;

use super::{
    channel::Channel,
    connection::{Connection, Limits, Parts},
    protocol::Setup,
};
use crate::process::{Fresh, Process, Role, Task, channels, ready};

/// Models that are loaded at the same time.
const LOADERS: usize = 2;

/// Computing models.
pub(super) struct Models {
    pub(super) lanes: usize,
    pub(super) ort_library: Option<PathBuf>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) limits: Limits,
    /// Its threads watch the sockets.
    pub(super) runtime: Handle,
}

impl Role for Models {
    type Connection = Connection;

    fn connect(&self, fresh: Fresh) -> io::Result<Connection> {
        let Fresh { generation, process, control, ended } = fresh;
        let _entered = self.runtime.enter();
        let (lanes, loaders) = (
            u32::try_from(self.lanes).map_err(io::Error::other)?,
            u32::try_from(LOADERS).map_err(io::Error::other)?,
        );
        let (ort_library, memory_bytes) = (self.ort_library.clone(), self.memory_bytes);
        let setup = Setup { lanes, loaders, ort_library, memory_bytes };
        socket::send(&control, &Task::Models(setup), None)?;
        let sockets = channels(&control, lanes.saturating_add(loaders))?.into_iter();
        let mut lanes = sockets.map(Channel::new).collect::<io::Result<Vec<_>>>()?;
        let loaders = lanes.split_off(self.lanes);
        let (ready, limits) = (ready(&control)?, self.limits);
        let parts = Parts { generation, process, ready, limits, lanes, loaders, ended, control };
        Ok(Connection::new(parts))
    }

    fn process(connection: &Connection) -> &Process {
        &connection.process
    }

    fn confinement(connection: &Connection) -> &[Confinement] {
        &connection.ready.confinement
    }

    fn has_answered(connection: &Connection) -> bool {
        connection.has_answered()
    }
}
