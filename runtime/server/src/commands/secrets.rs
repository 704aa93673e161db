//! `quern secrets`: the secrets of functions, and the key that they are sealed with. A value comes
//! from standard input or a file: arguments are seen by others and stay in histories.

use std::{
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use quern_store::{Rotated, SecretsKey, rotate_secrets};
use quern_types::{Name, SecretValue, SettingKey};
use serde_json::json;

use super::Session;
use crate::{
    failure::UsageError,
    output::{self, Table},
    secrets_key,
};

/// Set, list and remove the secrets of functions, and handle the key that they are sealed with
///
/// A function reads its secrets through wasi:config, like its configuration; nobody is shown them
/// again. The server needs a key for them: quern secrets new-key
#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    Set(Set),
    List(List),
    Unset(Unset),
    NewKey(NewKey),
    Rotate(Rotate),
}

/// Give a secret a value, which is read from standard input
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// The function
    function: Name,

    /// What the function reads it by
    key: SettingKey,

    /// Take the value from this file, as it is, rather than from standard input, of which the end of
    /// the last line is left out
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

/// List the secrets of a function, and when they were set
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// The function
    function: Name,
}

/// Remove a secret
#[derive(Debug, clap::Args)]
pub(crate) struct Unset {
    /// The function
    function: Name,

    /// Its key
    key: SettingKey,
}

/// Make a key for secrets, for --secrets-key-file or QUERN_SECRETS_KEY
#[derive(Debug, clap::Args)]
pub(crate) struct NewKey {
    /// Write it to this new file, which only its owner can read, rather than to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Seal all secrets of a data folder with another key, in one commit
///
/// No server may have the folder open. Whatever interrupts this, all secrets are sealed with the old
/// key or all with the new one; it may be run again. Start the server with the new key afterwards.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// The data folder
    #[arg(long, env = "QUERN_DATA", value_name = "DIR")]
    data: PathBuf,

    /// File of the key that they are sealed with [default: the key in QUERN_SECRETS_KEY]
    #[arg(long, value_name = "FILE")]
    secrets_key_file: Option<PathBuf>,

    /// File of the key that they shall be sealed with
    #[arg(long, value_name = "FILE")]
    new_key_file: PathBuf,
}

pub(crate) async fn run(session: &Session, command: Secrets) -> Result<()> {
    match command {
        Secrets::Set(command) => set(session, command).await,
        Secrets::List(List { function }) => list(session, &function).await,
        Secrets::Unset(Unset { function, key }) => {
            session.client.unset_secret(&function, &key).await?;
            if !session.json {
                output::line(format_args!("secret {key} of {function} is removed"))?;
            }
            Ok(())
        }
        Secrets::NewKey(NewKey { out }) => new_key(out.as_deref()),
        Secrets::Rotate(command) => rotate(command, session.json),
    }
}

async fn set(session: &Session, command: Set) -> Result<()> {
    let Set { function, key, from_file } = command;
    let value = match from_file {
        Some(path) => {
            let read = read(std::fs::File::open(&path).map(|file| file.take(MOST_BYTES)));
            read.with_context(|| format!("can't read {}", path.display()))?
        }
        None if io::stdin().is_terminal() => {
            let hint = "the value is read from standard input, which shows what is typed there: \
                        pipe it in, or use --from-file";
            return Err(UsageError(hint.into()).into());
        }
        None => without_line_end(read(Ok(io::stdin().lock().take(MOST_BYTES)))?),
    };
    let value = SecretValue::new(value)?;
    let answer = session.client.set_secret(&function, &key, &value).await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    Ok(output::line(format_args!("secret {key} of {function} is set"))?)
}

/// More than any secret, so that one that is too large is told as such.
const MOST_BYTES: u64 = 1 << 20;

fn read(source: io::Result<impl io::Read>) -> Result<String> {
    let mut text = String::new();
    source?.read_to_string(&mut text).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => anyhow::anyhow!("the value is not UTF-8: encode it"),
        _ => error.into(),
    })?;
    Ok(text)
}

/// What was piped in, without the line's end that programs print behind it.
fn without_line_end(mut text: String) -> String {
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if let Some(length) = line.map(str::len) {
        text.truncate(length);
    }
    text
}

async fn list(session: &Session, function: &Name) -> Result<()> {
    let answer = session.client.secrets(function).await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table = Table::new(&["SECRET", "CHANGED", "STATE"]);
    for secret in answer.parsed.secrets {
        let state = if secret.locked { "locked" } else { "set" };
        table.row(vec![secret.key, secret.changed, state.to_owned()]);
    }
    Ok(output::line(table)?)
}

fn new_key(out: Option<&Path>) -> Result<()> {
    let key = SecretsKey::generate().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    match out {
        Some(path) => {
            secrets_key::write(path, &key)?;
            eprintln!(
                "key {} is in {}: keep a copy where backups are not",
                key.id(),
                path.display()
            );
            Ok(())
        }
        None => Ok(output::line(&*key.reveal())?),
    }
}

fn rotate(command: Rotate, json: bool) -> Result<()> {
    let Rotate { data, secrets_key_file, new_key_file } = command;
    let old = secrets_key::find(secrets_key_file.as_deref())?.ok_or_else(|| {
        let hint = "give the key that the secrets are sealed with: --secrets-key-file FILE, or \
                    QUERN_SECRETS_KEY";
        UsageError(hint.into())
    })?;
    let new = secrets_key::read(&new_key_file)?;
    let rotated = rotate_secrets(&data, &old, &new)
        .with_context(|| format!("can't rotate the key in {}", data.display()))?;
    let Rotated { secrets, dropped } = rotated;
    if json {
        let dropped =
            dropped.iter().map(|(tenant, name)| json!({"tenant": tenant, "webhook": name}));
        let dropped: Vec<_> = dropped.collect();
        let key = new.id().as_str();
        let rotated = json!({ "secrets": secrets, "key": key, "dropped": dropped });
        return Ok(output::json(&rotated)?);
    }
    for (tenant, name) in dropped {
        eprintln!(
            "the secret before of webhook {name} of tenant {tenant} was damaged, and is gone: its \
             messages are signed with the one that it has now alone"
        );
    }
    let id = new.id();
    Ok(output::line(format_args!("{secrets} secrets are sealed with key {id} now"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_goes_and_no_more() {
        for (text, expected) in
            [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("a\r", "a\r"), ("\n", "")]
        {
            assert_eq!(without_line_end(text.into()), expected, "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let refused = read(Ok(&b"\xff\xfe"[..])).expect_err("no text").to_string();
        assert!(refused.contains("not UTF-8"), "{refused}");
    }
}
