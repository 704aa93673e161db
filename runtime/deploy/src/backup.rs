//! Backups of a server that serves: the archive streams to whoever asked for it, and what was kept
//! for it goes when it is through, however it ends.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quern_store::{Backup, BackupEnd, BackupError};
use quern_types::Caller;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use crate::{Deployer, deployer::Parts};

/// Bytes that are handed on at a time.
const PART: usize = 256 << 10;
/// Parts that wait for whoever takes them.
const WAITING: usize = 4;
/// Longest time that a part waits to be taken.
const STALL: Duration = Duration::from_secs(60);
/// Longest time that a backup takes: what is replaced meanwhile stays on the disk.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// A backup on its way.
#[derive(Debug)]
pub struct BackupStream {
    /// Bytes of the archive.
    pub bytes: u64,
    /// Its parts; an error breaks it off. If this is dropped, the backup ends.
    pub parts: mpsc::Receiver<io::Result<Bytes>>,
}

impl Deployer {
    /// Makes a backup, with what functions printed if `logs` says so.
    pub async fn backup(
        &self,
        caller: &Caller,
        logs: bool,
        made_by: &str,
    ) -> Result<BackupStream, BackupError> {
        let (parts, caller, made_by) = (self.parts.clone(), caller.clone(), made_by.to_owned());
        let (reply, prepared) = oneshot::channel();
        // A task of its own: what was kept goes also where the caller leaves.
        self.under_way.spawn(async move {
            match parts.store.prepare_backup(&caller, logs, &made_by).await {
                Ok(backup) => stream(&parts, backup, reply).await,
                Err(error) => {
                    if !matches!(error, BackupError::Busy) {
                        end(&parts, BackupEnd::BrokenOff).await;
                    }
                    let _ = reply.send(Err(error));
                }
            }
        });
        let failed = || BackupError::Storage { reason: "the backup ended with a panic".into() };
        prepared.await.unwrap_or_else(|_| Err(failed()))
    }
}

/// Streams a backup to its end, and removes what was kept for it.
async fn stream(
    parts: &Arc<Parts>,
    backup: Backup,
    reply: oneshot::Sender<Result<BackupStream, BackupError>>,
) {
    let started = Instant::now();
    let (bytes, files) = (backup.archive_bytes(), backup.description().files.len());
    let (sender, receiver) = mpsc::channel(WAITING);
    // Whoever has left takes no part of it, which ends it.
    let _ = reply.send(Ok(BackupStream { bytes, parts: receiver }));
    let written = tokio::task::spawn_blocking(move || write(&backup, sender)).await;
    let took = started.elapsed();
    let outcome = match written {
        Ok(Ok(())) => {
            tracing::info!(bytes, files, ?took, "backup made");
            BackupEnd::Complete
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, ?took, "backup broken off");
            BackupEnd::BrokenOff
        }
        Err(error) => {
            tracing::error!(%error, "the host failed in a backup");
            BackupEnd::BrokenOff
        }
    };
    end(parts, outcome).await;
}

/// Removes what was only kept for a backup.
async fn end(parts: &Parts, end: BackupEnd) {
    match parts.store.end_backup(end).await {
        Ok(removed) => parts.forget(removed.contents).await,
        Err(reason) => tracing::warn!(%reason, "unneeded blobs stay until the next start"),
    }
}

fn write(backup: &Backup, to: mpsc::Sender<io::Result<Bytes>>) -> Result<(), BackupError> {
    let sender = Sender { to: to.clone(), part: Vec::with_capacity(PART), started: Instant::now() };
    let written = backup.write(sender);
    if let Err(error) = &written {
        // Nobody must take what there is for the whole. Who has left, or does not take what is
        // there, is told nothing; the end of the channel says it to them as well.
        let _ = to.try_send(Err(io::Error::other(error.to_string())));
    }
    written
}

/// Hands parts on from a thread that may block.
struct Sender {
    to: mpsc::Sender<io::Result<Bytes>>,
    part: Vec<u8>,
    started: Instant,
}

impl io::Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        if self.part.len() == PART {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let left = LONGEST.checked_sub(self.started.elapsed());
        let left = left.ok_or_else(|| {
            io::Error::new(io::ErrorKind::TimedOut, format!("it takes longer than {LONGEST:?}"))
        })?;
        let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        let send = self.to.send_timeout(Ok(part.into()), STALL.min(left));
        Handle::current().block_on(send).map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => {
                io::Error::new(io::ErrorKind::TimedOut, format!("nobody took it for {STALL:?}"))
            }
            mpsc::error::SendTimeoutError::Closed(_) => {
                io::Error::new(io::ErrorKind::BrokenPipe, "its reader has left")
            }
        })
    }
}
