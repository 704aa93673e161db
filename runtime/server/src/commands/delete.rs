//! `quern delete`: removes a function or model with all its versions, or one of these.

use anyhow::Result;
use quern_types::{Name, VersionNumber};
use serde_json::json;

use super::{ClassFlags, Session};
use crate::output;

/// Remove a function or model with all its versions, or one of its versions
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// The function or model
    name: Name,

    /// Remove this version alone, which must neither be live nor get requests or have an alias
    #[arg(long)]
    version: Option<VersionNumber>,

    #[command(flatten)]
    class: ClassFlags,
}

pub(crate) async fn run(session: &Session, command: Delete) -> Result<()> {
    let Delete { name, version, class } = command;
    let class = class.resolve(&session.client, &name).await?;
    match version {
        None => session.client.delete(class, &name).await?,
        Some(version) => session.client.delete_version(class, &name, version).await?,
    }
    if session.json {
        let mut deleted = json!({"name": name, "class": class, "deleted": true});
        if let Some(version) = version {
            deleted["version"] = json!(version);
        }
        output::json(&deleted)?;
    } else {
        match version {
            None => output::line(format_args!("{class} {name} is deleted"))?,
            Some(version) => {
                output::line(format_args!("version {version} of {class} {name} is deleted"))?;
            }
        }
    }
    Ok(())
}
