//! `quern restore`: makes a data folder of a backup, or checks one.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use quern_store::{BackupDescription, Restored, restore_backup, verify_backup};
use quern_types::ByteSize;
use serde_json::json;

use crate::output;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// Make a data folder of a backup, or check one
///
/// The folder must be missing or empty. Everything in the backup is checked before it is a data
/// folder; if anything is wrong, the folder is as it was. Start a server on it with the key that its
/// secrets were sealed with. Asynchronous calls that waited when the backup was made begin then.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The file that `quern backup` has made, or - for standard input
    file: PathBuf,

    /// The folder to make
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    data: Option<PathBuf>,

    /// Only check that every file in it is what was put in; no folder is made
    #[arg(long, conflicts_with = "data")]
    verify: bool,
}

pub(crate) fn run(command: Restore, json: bool) -> Result<()> {
    let Restore { file, data, verify: _ } = command;
    match data {
        Some(data) => restore(&file, &data, json),
        None => verify(&file, json),
    }
}

fn verify(file: &Path, json: bool) -> Result<()> {
    let description = read(file, "checking", |backup| Ok(verify_backup(backup)?))
        .with_context(|| format!("{} is not good", file.display()))?;
    let (files, made) = (description.files.len(), made(&description));
    if json {
        return Ok(output::json(&about(&description))?);
    }
    let size = ByteSize(description.bytes());
    Ok(output::line(format_args!(
        "{} has {files} files of {size}, as of {made}: each is what was put in",
        file.display()
    ))?)
}

fn restore(file: &Path, data: &Path, json: bool) -> Result<()> {
    let restored = read(file, "restoring", |backup| Ok(restore_backup(backup, data)?))
        .with_context(|| format!("can't restore {} to {}", file.display(), data.display()))?;
    let Restored { description, deployed, versions, calls, sealed_with } = restored;
    let keys: Vec<_> = sealed_with.iter().map(ToString::to_string).collect();
    if json {
        let mut about = about(&description);
        about["data"] = json!(data);
        about["deployed"] = deployed.into();
        about["versions"] = versions.into();
        about["calls"] = calls.into();
        about["sealed_with"] = json!(keys);
        return Ok(output::json(&about)?);
    }
    let made = made(&description);
    output::line(format_args!(
        "{} has {deployed} functions and models in {versions} versions, as of {made}",
        data.display()
    ))?;
    if calls > 0 {
        output::line(format_args!(
            "{calls} asynchronous calls begin when a server starts on it, also those that the first \
             server has carried out since"
        ))?;
    }
    for key in keys {
        output::line(format_args!("its secrets are sealed with key {key}: the server needs that"))?;
    }
    Ok(())
}

fn made(description: &BackupDescription) -> String {
    humantime::format_rfc3339_millis(description.made()).to_string()
}

fn about(description: &BackupDescription) -> serde_json::Value {
    json!({
        "made": made(description),
        "made_by": description.made_by,
        "files": description.files.len(),
        "bytes": description.bytes(),
    })
}

/// Has a backup read, and shows how far it is.
fn read<T>(
    file: &Path,
    doing: &'static str,
    of: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    if file.as_os_str() == "-" {
        return of(&mut io::stdin().lock());
    }
    let backup = File::open(file).with_context(|| format!("can't read {}", file.display()))?;
    let progress = output::byte_progress(backup.metadata()?.len(), doing.into());
    let done = of(&mut BufReader::with_capacity(BUFFER, progress.wrap_read(backup)));
    progress.finish_and_clear();
    done
}
