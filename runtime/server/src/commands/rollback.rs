//! `quern rollback`: makes an earlier version of a function or model live.

use anyhow::Result;
use quern_types::{Name, VersionNumber};

use super::{ClassFlags, Session};
use crate::output;

/// Give an earlier version of a function or model all requests
///
/// Where several versions share them, they all go to the live one again, and a canary ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// The function or model
    name: Name,

    /// The version to go to [default: where several share the requests, the live one; else the newest
    /// kept one below it]
    #[arg(long, value_name = "VERSION")]
    to: Option<VersionNumber>,

    #[command(flatten)]
    class: ClassFlags,
}

pub(crate) async fn run(session: &Session, command: Rollback) -> Result<()> {
    let class = command.class.resolve(&session.client, &command.name).await?;
    let answer = session.client.rollback(class, &command.name, command.to).await?;
    if session.json {
        output::json(&answer.json)?;
    } else {
        output::line(format_args!(
            "{class} {} is at version {} now",
            command.name, answer.parsed.version
        ))?;
    }
    Ok(())
}
