//! `quern settings`: the configuration of a function beside its versions.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::Result;
use clap::Subcommand;
use quern_types::{Name, SettingKey};

use super::Session;
use crate::{
    client::FunctionConfig,
    output::{self, Table},
};

/// Show and change what functions read through wasi:config, without a new version
///
/// What is set here comes before what the manifest says, and holds for all versions until it
/// is unset or the function deleted. For what nobody may see, use: quern secrets
#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    Get(Get),
    Set(Set),
    Unset(Unset),
}

/// Show what a function reads, and where it is set
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// The function
    function: Name,
}

/// Give keys values; others stay as they are
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// The function
    function: Name,

    /// Keys with their values
    #[arg(required = true, value_name = "KEY=VALUE")]
    values: Vec<Assignment>,
}

/// Remove keys: the function reads what its manifest says again
#[derive(Debug, clap::Args)]
pub(crate) struct Unset {
    /// The function
    function: Name,

    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<SettingKey>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    key: SettingKey,
    value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
        let key = key.parse::<SettingKey>().map_err(|error| error.to_string())?;
        Ok(Self { key, value: value.to_owned() })
    }
}

pub(crate) async fn run(session: &Session, command: Settings) -> Result<()> {
    let client = &session.client;
    let answer = match command {
        Settings::Get(Get { function }) => client.config(&function).await?,
        Settings::Set(Set { function, values }) => {
            let changes = values.into_iter().map(|set| (set.key, Some(set.value))).collect();
            client.change_config(&function, &changes).await?
        }
        Settings::Unset(Unset { function, keys }) => {
            let changes: BTreeMap<_, _> = keys.into_iter().map(|key| (key, None)).collect();
            client.change_config(&function, &changes).await?
        }
    };
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    Ok(output::line(table(answer.parsed))?)
}

fn table(FunctionConfig { config, defaults }: FunctionConfig) -> Table {
    let mut all: BTreeMap<String, (String, &str)> = BTreeMap::new();
    all.extend(defaults.into_iter().map(|(key, value)| (key, (value, "manifest"))));
    all.extend(config.into_iter().map(|(key, value)| (key, (value, "settings"))));
    let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
    for (key, (value, from)) in all {
        table.row(vec![key, value, from.to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_cut_at_its_first_sign() {
        let parsed: Assignment = "mode=a=b".parse().expect("valid");
        assert_eq!((parsed.key.as_str(), &*parsed.value), ("mode", "a=b"));
        assert_eq!("mode=".parse::<Assignment>().expect("valid").value, "");
        assert!("mode".parse::<Assignment>().is_err());
        assert!("a b=c".parse::<Assignment>().expect_err("a blank").contains("is not valid"));
    }

    #[test]
    fn what_is_set_hides_what_the_manifest_says() {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let config = pairs(&[("mode", "fast")]);
        let defaults = pairs(&[("mode", "slow"), ("name", "a")]);
        let shown = table(FunctionConfig { config, defaults }).to_string();
        assert_eq!(shown, "KEY   VALUE  FROM\nmode  fast   settings\nname  a      manifest");
    }
}
