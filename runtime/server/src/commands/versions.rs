//! `quern versions`: the kept versions of a function or model, newest first.

use anyhow::Result;
use quern_types::Name;

use super::{ClassFlags, Session};
use crate::output::{self, Table};

/// List the kept versions of a function or model
#[derive(Debug, clap::Args)]
pub(crate) struct Versions {
    /// The function or model
    name: Name,

    #[command(flatten)]
    class: ClassFlags,
}

pub(crate) async fn run(session: &Session, command: Versions) -> Result<()> {
    let class = command.class.resolve(&session.client, &command.name).await?;
    let answer = session.client.versions(class, &command.name).await?;
    if session.json {
        output::json(&answer.json)?;
        return Ok(());
    }
    let mut table = Table::new(&["VERSION", "", "DIGEST", "CREATED"]);
    for version in answer.parsed.versions {
        let live = if version.live { "live" } else { "" };
        let digest = output::short_digest(&version.digest);
        table.row(vec![version.version.to_string(), live.into(), digest, version.created]);
    }
    output::line(table)?;
    Ok(())
}
