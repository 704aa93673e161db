//! Connections that read beside the writer, off the async threads. What is read is what was
//! committed at one point in time.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use quern_types::KeyValueError;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pairs::Failed;
use crate::{OpenError, database};

/// Reads at the same time; more wait for their turn.
const CONNECTIONS: usize = 4;

/// Connections for reading, lent to one read each.
#[derive(Debug)]
pub(crate) struct Readers {
    free: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

/// A connection that goes back when the read ends, however it does.
struct Lent {
    connection: Option<Connection>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.readers.free().extend(self.connection.take());
    }
}

impl Readers {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let connections: Result<Vec<_>, _> =
            (0..CONNECTIONS).map(|_| database::open_reader(path)).collect();
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        Ok(Self { free: Mutex::new(connections?), permits })
    }

    /// Reads on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        let permit = self.permits.clone().acquire_owned().await.expect("is never closed");
        let connection = self.free().pop();
        let mut lent = Lent { connection, readers: self, _permit: permit };
        let task = tokio::task::spawn_blocking(move || {
            let connection = lent.connection.as_mut().expect("as many permits as connections");
            let transaction = connection.transaction()?;
            read(&transaction)
        });
        match task.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Failed::Refused(error))) => Err(error),
            Ok(Err(Failed::Database(error))) => {
                Err(KeyValueError::Storage { reason: error.to_string() })
            }
            Err(error) => Err(KeyValueError::Storage { reason: error.to_string() }),
        }
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
