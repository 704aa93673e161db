//! `quern delete`: removes a function or model with all its versions.

use anyhow::Result;
use quern_types::Name;
use serde_json::json;

use super::{ClassFlags, Session};
use crate::output;

/// Remove a function or model with all its versions
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// The function or model
    name: Name,

    #[command(flatten)]
    class: ClassFlags,
}

pub(crate) async fn run(session: &Session, command: Delete) -> Result<()> {
    let class = command.class.resolve(&session.client, &command.name).await?;
    session.client.delete(class, &command.name).await?;
    if session.json {
        output::json(&json!({"name": command.name, "class": class, "deleted": true}))?;
    } else {
        output::line(format_args!("{class} {} is deleted", command.name))?;
    }
    Ok(())
}
