//! `quern health`: whether the server is starting, ready, degraded or draining, and why.

use anyhow::Result;

use super::Session;
use crate::{failure::Failure, output};

/// Say whether a server is well, and what is wrong if not
///
/// Ends with 0 if it takes requests, which one that is degraded does, and with 1 if it doesn't or
/// can't be reached: fit for a container's or a supervisor's probe. Takes no token.
#[derive(Debug, clap::Args)]
pub(crate) struct Health {}

pub(crate) async fn run(session: &Session, _: Health) -> Result<()> {
    let answer = session.client.health().await?;
    let health = answer.parsed;
    if session.json {
        output::json(&answer.json)?;
    } else {
        output::line(&health.state)?;
        for reason in &health.reasons {
            output::line(format_args!("  {}: {}", reason.code, reason.detail))?;
        }
    }
    match health.state.as_str() {
        "ready" | "degraded" => Ok(()),
        state => Err(Failure {
            message: format!("the server is {state}"),
            hint: "requests are better sent to another one, or later".into(),
        }
        .into()),
    }
}
