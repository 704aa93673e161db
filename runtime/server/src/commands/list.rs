//! `quern list`: the functions and models that are deployed. Never shows old versions.

use anyhow::Result;
use quern_types::Class;
use serde_json::json;

use super::Session;
use crate::output::{self, Table};

/// List the functions and models that are deployed
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

pub(crate) async fn run(session: &Session, _: List) -> Result<()> {
    let functions = session.client.list(Class::Function).await?;
    let models = session.client.list(Class::Model).await?;
    if session.json {
        output::json(&json!({"functions": functions.json, "models": models.json}))?;
        return Ok(());
    }
    if functions.parsed.is_empty() && models.parsed.is_empty() {
        output::line("nothing is deployed; create a function with: quern new NAME")?;
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "KIND", "VERSION", "DIGEST", "CREATED"]);
    for entry in functions.parsed.into_iter().chain(models.parsed) {
        let digest = output::short_digest(&entry.digest);
        let version = entry.version.to_string();
        table.row(vec![entry.name, entry.kind, version, digest, entry.created]);
    }
    output::line(table)?;
    Ok(())
}
