//! `quern health`: asks a server how it fares, for probes and for people.

use anyhow::Result;

use super::Session;
use crate::output;

/// Say whether a server takes requests, and what an operator has to see to
///
/// Ends with 0 if it takes requests, and with 1 if it doesn't or can't be reached: fit for a
/// container's or a supervisor's probe. Takes no token.
#[derive(Debug, clap::Args)]
pub(crate) struct Health {}

pub(crate) async fn run(session: &Session, Health {}: Health) -> Result<()> {
    session.client.ready().await?;
    let health = session.client.health().await?;
    if session.json {
        return Ok(output::json(&health.json)?);
    }
    output::line(health.parsed.status)?;
    for trouble in health.parsed.troubles {
        output::line(format_args!("see to: {trouble} (the server's log says why)"))?;
    }
    Ok(())
}
