//! `quern backup`: saves what a server has to a file, while it serves.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use quern_store::{Backup as Prepared, BackupDescription, StoppedFolder, verify_backup};
use quern_types::ByteSize;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::Session;
use crate::{
    client::{BackupArchive, Client},
    failure::{Failure, UsageError},
    interrupts::{Interrupts, on_a_thread},
    output,
    wiring::VERSION,
};

/// Bytes that are read or written at once.
const BUFFER: usize = 1 << 20;
/// Parts that have arrived and wait to be written.
const WAITING: usize = 16;
/// Said with every backup, as nobody should find it out with a lost key.
const KEY: &str = "secrets are in it as they are sealed, and the key that opens them is not: keep \
                   that elsewhere";
/// Said of a backup that is interrupted, where its file is gone.
const NOTHING: &str = "nothing is left of it here";
/// The same where nobody can take back what was written.
const PART: &str = "what was written of it is incomplete, and quern restore --verify refuses it";

/// Save to a file what is deployed and stored on a server, while it serves
///
/// The file is a tar archive of what is deployed, of tokens, settings, sealed secrets, schedules,
/// asynchronous calls, keys and values, and the audit log: all that was acknowledged before is in it.
/// It has its name once it is whole and checked. Not in it are the key for secrets, the configuration
/// of the server, batches, and, without --logs, what functions printed. Restore it with: quern restore
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// The file to make, or - for standard output [default: quern-TIME.tar in this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Save what functions printed as well
    #[arg(long)]
    logs: bool,

    /// Save this data folder, which no server has open, rather than what a server has
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What is saved.
enum Source {
    /// What a server has.
    Server(Client),
    /// A data folder that no server has open.
    Stopped(Arc<StoppedFolder>),
}

pub(crate) async fn run(session: &Session, command: Backup) -> Result<()> {
    let Backup { output, logs, data } = command;
    let file = output.unwrap_or_else(default_name);
    // Before anything is there that would be left behind.
    let interrupts = Interrupts::take()?;
    let source = match data {
        None => Source::Server(session.client.clone()),
        Some(data) => Source::Stopped(Arc::new(
            StoppedFolder::take(&data).with_context(|| format!("can't save {}", data.display()))?,
        )),
    };
    match file.as_os_str() == "-" {
        true => print(&source, logs, interrupts).await,
        false => {
            let description = save(&source, logs, &file, interrupts).await?;
            report(&file, &description, session.json)
        }
    }
}

fn default_name() -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    format!("quern-{}.tar", now.replace(['-', ':'], "")).into()
}

/// Writes a backup to standard output. Whether all of it arrives is for the next program to see.
async fn print(source: &Source, logs: bool, mut interrupts: Interrupts) -> Result<()> {
    let printed = interrupts.unless(source.write(logs, io::stdout())).await;
    printed.unwrap_or_else(|| Err(source.give_up(PART)))?;
    eprintln!("{KEY}");
    Ok(())
}

/// Writes a backup to a file, which has its name once it is whole and checked.
async fn save(
    source: &Source,
    logs: bool,
    file: &Path,
    mut interrupts: Interrupts,
) -> Result<BackupDescription> {
    if file.exists() {
        return Err(UsageError(format!("{} exists: choose another name", file.display())).into());
    }
    let failed = || format!("can't write {}", file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    // Without a name of its own until it is whole, and for its owner alone: it has hashes of tokens,
    // and whatever functions keep. It is gone with this function, whoever still writes to it.
    let draft = NamedTempFile::with_prefix_in(".quern-backup-", &folder).with_context(failed)?;
    let written = interrupts.unless(async {
        source.write(logs, draft.as_file().try_clone().with_context(failed)?).await?;
        let path = draft.path().to_owned();
        on_a_thread(move || check(&path)).await.with_context(failed)
    });
    let description = written.await.unwrap_or_else(|| Err(source.give_up(NOTHING)))?;
    draft.persist_noclobber(file).map_err(|error| error.error).with_context(failed)?;
    let named = interrupts.unless(on_a_thread(move || Ok(File::open(folder)?.sync_all()?)));
    let late = || Failure {
        message: "the backup was interrupted".into(),
        hint: format!("{} is whole and checked; a power cut may still take it", file.display()),
    };
    named.await.unwrap_or_else(|| Err(late().into())).with_context(failed)?;
    Ok(description)
}

fn report(file: &Path, description: &BackupDescription, json: bool) -> Result<()> {
    let (files, bytes) = (description.files.len(), description.bytes());
    if json {
        let made = humantime::format_rfc3339_millis(description.made()).to_string();
        let about = json!({ "file": file, "made": made, "files": files, "bytes": bytes });
        return Ok(output::json(&about)?);
    }
    let size = ByteSize(bytes);
    output::line(format_args!("{} has {files} files of {size}, checked", file.display()))?;
    Ok(output::line(KEY)?)
}

impl Source {
    /// Writes a backup, all of it, on a thread of its own: whatever takes it may block for as long as
    /// it likes.
    async fn write(&self, logs: bool, to: impl Write + Send + 'static) -> Result<()> {
        match self {
            Self::Server(client) => receive(client.backup(logs).await?, to).await,
            Self::Stopped(folder) => {
                let folder = folder.clone();
                on_a_thread(move || write_stopped(&folder, logs, to)).await
            }
        }
    }

    /// What to say of a backup that the user has interrupted, and of what was written. The server sees
    /// that its client leaves; here nobody else removes what was copied.
    fn give_up(&self, written: &str) -> anyhow::Error {
        let hint = match self {
            Self::Server(_) => format!("{written}; nor is anything left on the server"),
            Self::Stopped(folder) => match folder.remove_copies() {
                Ok(()) => written.into(),
                Err(error) => {
                    format!("{written}; {error}: what was copied goes when a server starts")
                }
            },
        };
        Failure { message: "the backup was interrupted".into(), hint }.into()
    }
}

/// Writes what arrives, all of it.
async fn receive(mut archive: BackupArchive, mut to: impl Write + Send + 'static) -> Result<()> {
    // Also where nobody reads the output any more: what is not taken is not saved.
    let failed = |error: io::Error| Failure {
        message: format!("the backup can't be written: {error}"),
        hint: "nothing is left of it on the server".into(),
    };
    let expected = archive.bytes();
    let progress = output::byte_progress(expected.unwrap_or(0), "saving".into());
    let (parts, mut arriving) = mpsc::channel::<Bytes>(WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(part) = arriving.blocking_recv() {
            to.write_all(&part)?;
        }
        to.flush()
    });
    let mut arrived = 0;
    while let Some(part) = archive.next().await? {
        arrived += part.len() as u64;
        if parts.send(part).await.is_err() {
            // It can't be written, which is told below.
            break;
        }
        progress.set_position(arrived);
    }
    drop(parts);
    writing.await.unwrap_or_else(|panic| Err(io::Error::other(panic))).map_err(failed)?;
    progress.finish_and_clear();
    match expected {
        Some(expected) if expected != arrived => Err(Failure {
            message: format!("the backup broke off after {arrived} of {expected} bytes"),
            hint: "the server's log has why".into(),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Writes a backup of a data folder that no server has open.
fn write_stopped(folder: &Arc<StoppedFolder>, logs: bool, to: impl Write) -> Result<()> {
    let failed = || format!("can't save {}", folder.directory().display());
    let prepared = Prepared::of_stopped(folder.clone(), logs, VERSION).with_context(failed)?;
    let progress = output::byte_progress(prepared.archive_bytes(), "saving".into());
    let to = BufWriter::with_capacity(BUFFER, progress.wrap_write(to));
    prepared.write(to).with_context(failed)?;
    progress.finish_and_clear();
    Ok(())
}

/// Brings a file to the disk, reads it again and checks what is in it.
fn check(path: &Path) -> Result<BackupDescription> {
    let file = File::open(path)?;
    file.sync_all()?;
    let progress = output::byte_progress(file.metadata()?.len(), "checking".into());
    let read = progress.wrap_read(file);
    let checked = verify_backup(BufReader::with_capacity(BUFFER, read))?;
    progress.finish_and_clear();
    Ok(checked)
}
