//! `quern invocations`: asynchronous calls and their answers.

use anyhow::Result;
use clap::Subcommand;
use quern_types::{CallState, InvocationId, Name};

use super::{Session, call};
use crate::{
    client::{CallFilter, ListedCall},
    failure::Failure,
    output::{self, Table},
};

/// Show asynchronous calls and their answers, and call them off
#[derive(Debug, Subcommand)]
pub(crate) enum Invocations {
    List(List),
    Show(Show),
    Result(ShowResult),
    Cancel(Cancel),
}

/// List asynchronous calls, the newest first
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only those in this state: queued, running, succeeded, failed, dead or cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<CallState>,

    #[command(flatten)]
    page: Page,
}

/// Which part of a list to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Page {
    /// Only calls of this function or model
    #[arg(long, value_name = "NAME")]
    target: Option<Name>,

    /// How many calls, the newest ones
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// Only those before this one
    #[arg(long, value_name = "ID")]
    before: Option<InvocationId>,
}

/// Show where an asynchronous call is on its way
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The call, as `quern call --async` named it
    id: InvocationId,
}

/// Print the answer to an asynchronous call
#[derive(Debug, clap::Args)]
pub(crate) struct ShowResult {
    /// The call, as `quern call --async` named it
    id: InvocationId,
}

/// Call an asynchronous call off, which must still be waiting
#[derive(Debug, clap::Args)]
pub(crate) struct Cancel {
    /// The call, as `quern call --async` named it
    id: InvocationId,
}

impl Page {
    pub(crate) fn filter(self, state: Option<CallState>) -> CallFilter {
        let Self { target, limit, before } = self;
        CallFilter { state: state.map(|state| state.to_string()), target, before, limit }
    }
}

pub(crate) async fn run(session: &Session, command: Invocations) -> Result<()> {
    match command {
        Invocations::List(List { state, page }) => list(session, page.filter(state)).await,
        Invocations::Show(Show { id }) => show(session, id).await,
        Invocations::Result(ShowResult { id }) => result(session, id).await,
        Invocations::Cancel(Cancel { id }) => {
            session.client.cancel(id).await?;
            if !session.json {
                output::line(format_args!("invocation {id} is cancelled"))?;
            }
            Ok(())
        }
    }
}

async fn list(session: &Session, filter: CallFilter) -> Result<()> {
    let answer = session.client.invocations(&filter).await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table = Table::new(&["INVOCATION", "STATE", "TARGET", "STATUS", "ATTEMPTS", "CREATED"]);
    for call in answer.parsed.invocations {
        let (status, attempts) = (status(&call), attempts(&call));
        table.row(vec![call.id, call.state, call.target, status, attempts, call.created]);
    }
    Ok(output::line(table)?)
}

async fn show(session: &Session, id: InvocationId) -> Result<()> {
    let answer = session.client.invocation(id).await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let call = answer.parsed;
    let attempts = attempts(&call);
    let rows = [
        ("invocation", Some(call.id)),
        ("request", Some(format!("{} {}", call.method, call.path))),
        ("state", Some(call.state)),
        ("attempts", Some(attempts)),
        ("status", call.status.map(|status| status.to_string())),
        ("reason", call.reason),
        ("created", Some(call.created)),
        ("due", call.due),
        ("finished", call.finished),
        ("kept until", call.kept_until),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            output::line(format_args!("{name:<11} {value}"))?;
        }
    }
    Ok(())
}

async fn result(session: &Session, id: InvocationId) -> Result<()> {
    let response = session.client.result(id).await?;
    let status = response.status();
    call::print(response, session.json).await?;
    if status.is_client_error() || status.is_server_error() {
        let message = format!("invocation {id} was answered with {status}");
        let hint = format!("see how it went with: quern invocations show {id}");
        return Err(Failure { message, hint }.into());
    }
    Ok(())
}

pub(crate) fn status(call: &ListedCall) -> String {
    call.status.map_or_else(|| "-".to_owned(), |status| status.to_string())
}

pub(crate) fn attempts(call: &ListedCall) -> String {
    format!("{} of {}", call.attempts, call.max_attempts)
}
