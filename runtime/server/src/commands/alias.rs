//! `quern alias`: names for versions, by which requests can ask for them.

use anyhow::Result;
use quern_types::{Name, VersionNumber};

use super::{ClassFlags, Session};
use crate::output::{self, Table};

/// Name versions of functions and models, for requests that ask for them
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Alias {
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Name a version, or give its name to another one
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// The function or model
    name: Name,

    /// The name of the version, such as stable
    alias: Name,

    /// The version
    version: VersionNumber,

    #[command(flatten)]
    class: ClassFlags,
}

/// List the names of versions
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// The function or model
    name: Name,

    #[command(flatten)]
    class: ClassFlags,
}

/// Take the name of a version away
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// The function or model
    name: Name,

    /// The name of the version
    alias: Name,

    #[command(flatten)]
    class: ClassFlags,
}

pub(crate) async fn run(session: &Session, command: Alias) -> Result<()> {
    let client = &session.client;
    match command {
        Alias::Set(Set { name, alias, version, class }) => {
            let class = class.resolve(client, &name).await?;
            let answer = client.set_alias(class, &name, (&alias, version)).await?;
            match session.json {
                true => output::json(&answer.json)?,
                false => output::line(format_args!("{alias} is version {version} of {name} now"))?,
            }
        }
        Alias::List(List { name, class }) => {
            let class = class.resolve(client, &name).await?;
            let answer = client.traffic(class, &name).await?;
            if session.json {
                return Ok(output::json(&answer.json["aliases"])?);
            }
            let mut table = Table::new(&["ALIAS", "VERSION"]);
            for alias in answer.parsed.aliases {
                table.row(vec![alias.alias, alias.version.to_string()]);
            }
            output::line(table)?;
        }
        Alias::Remove(Remove { name, alias, class }) => {
            let class = class.resolve(client, &name).await?;
            client.remove_alias(class, &name, &alias).await?;
            if !session.json {
                output::line(format_args!("{name} has no alias {alias} any more"))?;
            }
        }
    }
    Ok(())
}
