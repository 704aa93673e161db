//! `quern backup`: saves what a server has to a file, while it serves.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context as _, Result};
use quern_store::{Backup as Prepared, BackupDescription, verify_backup};
use quern_types::ByteSize;
use serde_json::json;
use tempfile::NamedTempFile;

use super::Session;
use crate::{
    client::BackupArchive,
    failure::{Failure, UsageError},
    output,
    wiring::VERSION,
};

/// Bytes that are read or written at once.
const BUFFER: usize = 1 << 20;
/// Said with every backup, as nobody should find it out with a lost key.
const KEY: &str = "secrets are in it as they are sealed, and the key that opens them is not: keep \
                   that elsewhere";

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

pub(crate) async fn run(session: &Session, command: Backup) -> Result<()> {
    let Backup { output, logs, data } = command;
    let file = output.unwrap_or_else(default_name);
    match file.as_os_str() == "-" {
        true => print(session, logs, data).await,
        false => save(session, &file, logs, data).await,
    }
}

fn default_name() -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    format!("quern-{}.tar", now.replace(['-', ':'], "")).into()
}

/// Writes a backup to standard output. Whether all of it arrives is for the next program to see.
async fn print(session: &Session, logs: bool, data: Option<PathBuf>) -> Result<()> {
    match data {
        None => receive(session, logs, &mut io::stdout()).await?,
        Some(data) => write_stopped(&data, logs, io::stdout().lock())?,
    }
    eprintln!("{KEY}");
    Ok(())
}

async fn save(session: &Session, file: &Path, logs: bool, data: Option<PathBuf>) -> Result<()> {
    if file.exists() {
        return Err(UsageError(format!("{} exists: choose another name", file.display())).into());
    }
    let failed = || format!("can't write {}", file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Without a name of its own until it is whole, and for its owner alone: it has hashes of tokens,
    // and whatever functions keep.
    let mut draft =
        NamedTempFile::with_prefix_in(".quern-backup-", folder.unwrap_or(Path::new(".")))
            .with_context(failed)?;
    match data {
        None => receive(session, logs, draft.as_file_mut()).await?,
        Some(data) => write_stopped(&data, logs, draft.as_file_mut())?,
    }
    draft.as_file().sync_all().with_context(failed)?;
    let description = check(draft.path()).with_context(failed)?;
    draft.persist_noclobber(file).map_err(|error| error.error).with_context(failed)?;
    File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .with_context(failed)?;
    let (files, bytes) = (description.files.len(), description.bytes());
    if session.json {
        let made = humantime::format_rfc3339_millis(description.made()).to_string();
        let about = json!({ "file": file, "made": made, "files": files, "bytes": bytes });
        return Ok(output::json(&about)?);
    }
    let size = ByteSize(bytes);
    output::line(format_args!("{} has {files} files of {size}, checked", file.display()))?;
    Ok(output::line(KEY)?)
}

/// Writes what a server sends, unless the user interrupts it.
async fn receive(session: &Session, logs: bool, to: &mut impl Write) -> Result<()> {
    let receiving = async { write(session.client.backup(logs).await?, to).await };
    tokio::select! {
        received = receiving => received,
        _ = tokio::signal::ctrl_c() => Err(Failure {
            message: "the backup was interrupted".into(),
            hint: "nothing is left of it, here or on the server".into(),
        }
        .into()),
    }
}

/// Writes what arrives, all of it.
async fn write(mut archive: BackupArchive, to: &mut impl Write) -> Result<()> {
    // Also where nobody reads the output any more: what is not taken is not saved.
    let failed = |error: io::Error| Failure {
        message: format!("the backup can't be written: {error}"),
        hint: "nothing is left of it on the server".into(),
    };
    let expected = archive.bytes();
    let progress = output::byte_progress(expected.unwrap_or(0), "saving".into());
    let mut arrived = 0;
    while let Some(part) = archive.next().await? {
        to.write_all(&part).map_err(failed)?;
        arrived += part.len() as u64;
        progress.set_position(arrived);
    }
    to.flush().map_err(failed)?;
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
fn write_stopped(data: &Path, logs: bool, to: impl Write) -> Result<()> {
    let failed = || format!("can't save {}", data.display());
    let prepared = Prepared::of_stopped(data, logs, VERSION).with_context(failed)?;
    let progress = output::byte_progress(prepared.archive_bytes(), "saving".into());
    let to = BufWriter::with_capacity(BUFFER, progress.wrap_write(to));
    prepared.write(to).with_context(failed)?;
    progress.finish_and_clear();
    Ok(())
}

/// Reads a file again and checks what is in it.
fn check(path: &Path) -> Result<BackupDescription> {
    let file = File::open(path)?;
    let progress = output::byte_progress(file.metadata()?.len(), "checking".into());
    let read = progress.wrap_read(file);
    let checked = verify_backup(BufReader::with_capacity(BUFFER, read))?;
    progress.finish_and_clear();
    Ok(checked)
}
