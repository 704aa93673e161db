//! `quern model`: what there is to do with models. Each command has its own file.

use anyhow::Result;

use super::Session;

mod choice;
mod deploy;
mod learn_ranges;
mod npy;
mod pack;
mod profile;
mod ranges;

/// Work with models
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Model {
    Deploy(deploy::ModelDeploy),
    LearnRanges(learn_ranges::LearnRanges),
    Profile(profile::Profile),
}

pub(crate) async fn run(session: &Session, command: Model) -> Result<()> {
    match command {
        Model::Deploy(command) => deploy::run(session, command).await,
        Model::LearnRanges(command) => learn_ranges::run(session, command).await,
        Model::Profile(command) => profile::run(command, session.json).await,
    }
}
