//! `quern rollback`: makes an earlier version of a function or model live.

use anyhow::Result;
use quern_types::{Name, VersionNumber};

use super::{ClassFlags, Session};
use crate::output;

/// Make an earlier version of a function or model live
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// The function or model
    name: Name,

    /// The version to go to [default: the newest kept one below the live version]
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
