//! The command line: what is common to all commands. Each command's own flags are in its file.

use clap::{Parser, Subcommand};

use crate::{client::ServerUrl, commands};

/// Runs WebAssembly functions and ONNX models, and talks to a server that does.
///
/// Start with `quern demo`, or with `quern serve` and, in another terminal, `quern new hello`.
#[derive(Debug, Parser)]
#[command(name = "quern", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The server that client commands talk to
    #[arg(long, global = true, env = "QUERN_URL", default_value = "http://127.0.0.1:7700")]
    pub(crate) url: ServerUrl,

    /// Print the server's answer as JSON, and errors as JSON on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server
    Serve(commands::serve::Serve),
    /// Deploy a function: a folder with quern.toml, or a component
    Deploy(commands::deploy::Deploy),
    /// Work with models
    #[command(subcommand)]
    Model(commands::model::Model),
    /// List the functions and models that are deployed
    List(commands::list::List),
    /// List the kept versions of a function or model
    Versions(commands::versions::Versions),
    /// Make an earlier version of a function or model live
    Rollback(commands::rollback::Rollback),
    /// Remove a function or model with all its versions
    Delete(commands::delete::Delete),
    /// Run a model or an inference function on tensors
    Infer(commands::infer::Infer),
    /// Send an HTTP request to a function
    Call(commands::call::Call),
    /// Show what a function printed, and why it failed
    Logs(commands::logs::Logs),
    /// Show the server's devices and engines
    Devices(commands::devices::Devices),
    /// Create a project of a Rust function that builds
    New(commands::new::New),
    /// Build and deploy a project, again on every change, and follow its logs
    Dev(commands::dev::Dev),
    /// Show the whole thing: a server, a model, a function, and real images sent through them
    Demo(commands::demo::Demo),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_has_a_help_text() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                let name = argument.get_id();
                assert!(argument.get_help().is_some(), "{} {name}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }

    #[test]
    fn global_flags_may_stand_anywhere() {
        for line in ["quern --json list", "quern list --json"] {
            let arguments = Arguments::try_parse_from(line.split(' ')).expect(line);
            assert!(arguments.json);
        }
    }
}
