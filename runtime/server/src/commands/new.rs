//! `quern new`: creates a project of a Rust function that builds. Never overwrites anything.

use std::path::PathBuf;

use anyhow::Result;
use quern_types::Name;
use serde_json::json;

use crate::{
    failure::{Failure, UsageError},
    output,
    scaffold::{self, Kind},
};

/// Create a project of a Rust function that builds
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The function's name, and the folder that is created for it
    name: Name,

    /// What the function does
    #[arg(long, value_enum, default_value = "http")]
    kind: Kind,
}

pub(crate) fn run(command: New, as_json: bool) -> Result<()> {
    let New { name, kind } = command;
    check_package_name(&name)?;
    let folder = PathBuf::from(name.as_str());
    let files = scaffold::expand(&name, kind);
    scaffold::write(&folder, &files).map_err(|error| Failure {
        message: format!("can't create the project in {}: {error}", folder.display()),
        hint: "choose another name, or an empty folder".into(),
    })?;
    if as_json {
        output::json(&json!({"name": name, "folder": folder, "files": files.len()}))?;
        return Ok(());
    }
    output::line(format_args!("created {name} in ./{}", folder.display()))?;
    output::line("  src/lib.rs  the function")?;
    output::line("  quern.toml  its name, kind, limits and grants")?;
    output::line("  quern/      the SDK and the contract, so that it builds anywhere")?;
    output::line(format_args!(
        "next: cd {name} && quern dev .   # deploys to a server (quern serve) on every change"
    ))?;
    Ok(())
}

/// Names of functions are freer than those of Cargo's packages, and the project has both.
fn check_package_name(name: &Name) -> Result<(), UsageError> {
    let first = name.as_str().chars().next();
    if first.is_some_and(|first| first.is_ascii_alphabetic()) && !name.as_str().contains('.') {
        return Ok(());
    }
    Err(UsageError(format!(
        "name {name:?} can't be a Cargo package's: begin with a letter, and use no '.'"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_refuses_are_refused_before() {
        for (name, accepted) in [("hello", true), ("a-b_c2", true), ("2a", false), ("a.b", false)] {
            let name = name.parse().expect("a function's name");
            assert_eq!(check_package_name(&name).is_ok(), accepted, "{name}");
        }
    }
}
