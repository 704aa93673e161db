//! `quern openapi`: what the HTTP API is, for programs.

use anyhow::Result;

use crate::output;

/// Print the OpenAPI document of the HTTP API, as a server serves it at /openapi.json
#[derive(Debug, clap::Args)]
pub(crate) struct Openapi {
    /// Describe a server that asks for tokens
    #[arg(long)]
    authenticate: bool,
}

pub(crate) fn run(command: Openapi) -> Result<()> {
    let document = quern_gateway::openapi_document(env!("CARGO_PKG_VERSION"), command.authenticate);
    Ok(output::line(document)?)
}
