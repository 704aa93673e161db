//! `quern config`: prints the configuration that a server would have, every option explained.

use anyhow::Result;

use crate::{config::Flags, output};

/// Print a server's configuration as a commented file, with every option
///
/// Takes the flags of `quern serve`, and prints what a server with them would be configured by.
/// Without flags that is the default, to begin a file with: quern config > quern-server.toml
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    #[command(flatten)]
    flags: Flags,
}

pub(crate) fn run(command: Config) -> Result<()> {
    let config = command.flags.load()?;
    output::line(config.text().trim_end())?;
    Ok(())
}
