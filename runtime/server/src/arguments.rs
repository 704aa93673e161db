//! The command line: what is common to all commands. Each command's own flags are in its file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{client::ServerUrl, commands};

const GLOBAL: &str = "Global options";

/// Runs WebAssembly functions and ONNX models, and talks to a server that does.
///
/// Start with `quern demo`, or with `quern serve` and, in another terminal, `quern new hello`.
#[derive(Debug, Parser)]
#[command(name = "quern", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    /// The server that client commands talk to
    #[arg(long, global = true, help_heading = GLOBAL, env = "QUERN_URL", default_value = "http://127.0.0.1:7700")]
    pub(crate) url: ServerUrl,

    /// The token to show to a server that asks for one, as `quern token create` printed it
    #[arg(long, global = true, help_heading = GLOBAL, env = "QUERN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Certificates in PEM that an https:// server may be known by, beside those of the system
    #[arg(long, global = true, help_heading = GLOBAL, env = "QUERN_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// Print the server's answer as JSON, and errors as JSON on standard error
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands; their files describe them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(commands::serve::Serve),
    Config(commands::config::Config),
    Deploy(commands::deploy::Deploy),
    #[command(subcommand)]
    Model(commands::model::Model),
    List(commands::list::List),
    Versions(commands::versions::Versions),
    Rollback(commands::rollback::Rollback),
    Traffic(commands::traffic::Traffic),
    #[command(subcommand)]
    Alias(commands::alias::Alias),
    #[command(subcommand)]
    Canary(commands::canary::Canary),
    Delete(commands::delete::Delete),
    Infer(commands::infer::Infer),
    Call(commands::call::Call),
    Share(commands::share::Share),
    #[command(subcommand)]
    Batch(commands::batch::Batch),
    #[command(subcommand)]
    Invocations(commands::invocations::Invocations),
    #[command(subcommand)]
    DeadLetters(commands::dead_letters::DeadLetters),
    #[command(subcommand)]
    Schedule(commands::schedule::Schedule),
    #[command(subcommand)]
    Webhook(commands::webhook::Webhook),
    Logs(commands::logs::Logs),
    Top(commands::top::Top),
    Health(commands::health::Health),
    Devices(commands::devices::Devices),
    #[command(subcommand)]
    Settings(commands::settings::Settings),
    #[command(subcommand)]
    Secrets(commands::secrets::Secrets),
    #[command(subcommand)]
    Token(commands::token::Token),
    Audit(commands::audit::Audit),
    Backup(commands::backup::Backup),
    Restore(commands::restore::Restore),
    Openapi(commands::openapi::Openapi),
    Sim(commands::sim::Sim),
    New(commands::new::New),
    Dev(commands::dev::Dev),
    Demo(commands::demo::Demo),
    #[command(hide = true)]
    DeviceWorker(commands::device_worker::DeviceWorker),
    #[command(hide = true)]
    ParquetReader(commands::parquet_reader::ParquetReader),
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
