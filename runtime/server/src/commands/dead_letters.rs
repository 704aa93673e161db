//! `quern dead-letters`: asynchronous calls that were given up.

use anyhow::Result;
use clap::Subcommand;
use quern_types::InvocationId;

use super::{
    Session,
    invocations::{self, Page},
};
use crate::output::{self, Table};

/// Show asynchronous calls that were given up, and replay or drop them
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    List(List),
    Replay(Replay),
    Drop(DropThem),
}

/// List asynchronous calls that were given up, the newest first
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    page: Page,
}

/// Queue dead letters again, as if they were new
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The dead letters, as `quern dead-letters list` names them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<InvocationId>,
}

/// Remove dead letters
#[derive(Debug, clap::Args)]
pub(crate) struct DropThem {
    /// The dead letters, as `quern dead-letters list` names them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<InvocationId>,
}

pub(crate) async fn run(session: &Session, command: DeadLetters) -> Result<()> {
    match command {
        DeadLetters::List(List { page }) => list(session, page).await,
        DeadLetters::Replay(Replay { ids }) => {
            for id in ids {
                let answer = session.client.replay(id).await?;
                match session.json {
                    true => output::json(&answer.json)?,
                    false => output::line(format_args!("{id} is {}", answer.parsed.state))?,
                }
            }
            Ok(())
        }
        DeadLetters::Drop(DropThem { ids }) => {
            for id in ids {
                session.client.drop_dead_letter(id).await?;
                if !session.json {
                    output::line(format_args!("{id} is dropped"))?;
                }
            }
            Ok(())
        }
    }
}

async fn list(session: &Session, page: Page) -> Result<()> {
    let answer = session.client.dead_letters(&page.filter(None)).await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table = Table::new(&["INVOCATION", "TARGET", "STATUS", "ATTEMPTS", "REASON"]);
    for call in answer.parsed.invocations {
        let (status, attempts) = (invocations::status(&call), invocations::attempts(&call));
        table.row(vec![call.id, call.target, status, attempts, call.reason.unwrap_or_default()]);
    }
    Ok(output::line(table)?)
}
