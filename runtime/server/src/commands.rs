//! Runs the command that was asked for; each has its own file.

use anyhow::Result;
use quern_types::{Class, Credential, Name};

use crate::{
    arguments::{Arguments, Command},
    client::{Client, Trust},
    failure::{Failure, UsageError},
};

pub(crate) mod alias;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod batch;
pub(crate) mod call;
pub(crate) mod canary;
pub(crate) mod config;
pub(crate) mod dead_letters;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod deploy;
pub(crate) mod dev;
pub(crate) mod device_worker;
pub(crate) mod devices;
pub(crate) mod health;
pub(crate) mod infer;
pub(crate) mod invocations;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod new;
pub(crate) mod openapi;
pub(crate) mod parquet_reader;
pub(crate) mod restore;
pub(crate) mod rollback;
pub(crate) mod schedule;
pub(crate) mod secrets;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod share;
pub(crate) mod sim;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod traffic;
pub(crate) mod versions;
pub(crate) mod webhook;

/// What client commands share.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Whether answers are printed as JSON.
    pub(crate) json: bool,
}

/// Runs a command to its end.
pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let token = arguments.token.as_deref().map(token).transpose()?;
    let trust = Trust { token, ca_file: arguments.ca_file };
    if trust.token.is_some() && arguments.url.is_in_the_clear() {
        eprintln!("warning: the token travels unencrypted: name the server by https://");
    }
    let session = Session { client: Client::new(arguments.url, &trust)?, json: arguments.json };
    match arguments.command {
        Command::Serve(command) => serve::run(command).await,
        Command::Config(command) => config::run(command),
        Command::Deploy(command) => deploy::run(&session, command).await,
        Command::Model(command) => model::run(&session, command).await,
        Command::List(command) => list::run(&session, command).await,
        Command::Versions(command) => versions::run(&session, command).await,
        Command::Rollback(command) => rollback::run(&session, command).await,
        Command::Traffic(command) => traffic::run(&session, command).await,
        Command::Alias(command) => alias::run(&session, command).await,
        Command::Canary(command) => canary::run(&session, command).await,
        Command::Delete(command) => delete::run(&session, command).await,
        Command::Infer(command) => infer::run(&session, command).await,
        Command::Call(command) => call::run(&session, command).await,
        Command::Share(command) => share::run(&session, command).await,
        Command::Invocations(command) => invocations::run(&session, command).await,
        Command::DeadLetters(command) => dead_letters::run(&session, command).await,
        Command::Schedule(command) => schedule::run(&session, command).await,
        Command::Webhook(command) => webhook::run(&session, command).await,
        Command::Batch(command) => batch::run(&session, command).await,
        Command::Logs(command) => logs::run(&session, command).await,
        Command::Top(command) => top::run(&session, command).await,
        Command::Health(command) => health::run(&session, command).await,
        Command::Devices(command) => devices::run(&session, command).await,
        Command::Settings(command) => settings::run(&session, command).await,
        Command::Secrets(command) => secrets::run(&session, command).await,
        Command::Token(command) => token::run(&session, command).await,
        Command::Audit(command) => audit::run(&session, command).await,
        Command::Backup(command) => backup::run(&session, command).await,
        Command::Restore(command) => restore::run(command, session.json),
        Command::Openapi(command) => openapi::run(command),
        Command::Sim(command) => sim::run(&command, session.json),
        Command::New(command) => new::run(command, session.json),
        Command::Dev(command) => dev::run(&session, command).await,
        Command::Demo(command) => demo::run(command, session.json).await,
        // Run already, by `main`.
        Command::DeviceWorker(_) => device_worker::run(),
        Command::ParquetReader(_) => parquet_reader::run(),
    }
}

/// Never quotes what is no token: it may be a secret nevertheless.
fn token(text: &str) -> Result<Credential, UsageError> {
    let token = Credential::parse(text.trim());
    token.ok_or_else(|| {
        let form = "is not of the form quern_…: copy all of what `quern token create` printed";
        UsageError(format!("--token, or QUERN_TOKEN, {form}"))
    })
}

/// Says which of a function and a model of the same name is meant.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct ClassFlags {
    /// NAME is a function; needed only where a model has the same name
    #[arg(long)]
    function: bool,

    /// NAME is a model; needed only where a function has the same name
    #[arg(long)]
    model: bool,
}

impl ClassFlags {
    /// The class of `name`: as the flags say, or else as the server does.
    pub(crate) async fn resolve(&self, client: &Client, name: &Name) -> Result<Class> {
        match (self.function, self.model) {
            (true, _) => Ok(Class::Function),
            (_, true) => Ok(Class::Model),
            (false, false) => Ok(only_class(&client.classes(name).await?, name)?),
        }
    }
}

fn only_class(found: &[Class], name: &Name) -> Result<Class> {
    match found {
        [class] => Ok(*class),
        [] => Err(Failure {
            message: format!("no function or model {name:?} is deployed"),
            hint: "see what is deployed with: quern list".into(),
        }
        .into()),
        _ => Err(UsageError(format!(
            "{name:?} is a function and a model: say which with --function or --model"
        ))
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_two_things_needs_a_flag() {
        let name = "digits".parse().expect("a name");
        assert_eq!(only_class(&[Class::Model], &name).expect("one"), Class::Model);
        let missing = only_class(&[], &name).expect_err("none");
        assert!(missing.is::<Failure>(), "{missing}");
        let ambiguous = only_class(&[Class::Function, Class::Model], &name).expect_err("two");
        assert!(ambiguous.is::<UsageError>() && ambiguous.to_string().contains("--model"));
    }
}
