//! What the program says when a command fails: what went wrong, and what to do next.

use std::{io, process::ExitCode};

use serde_json::json;

use crate::{client::ClientError, project::ProjectError};

/// The command line asks for something that can't be meant. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Anything else, together with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// Prints an error to standard error and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    if is_closed_pipe(error) {
        // Whoever read the output has enough of it, as `head` does.
        return ExitCode::SUCCESS;
    }
    let detail = format!("{error:#}");
    let (code, hint) = (error_code(error), hint(error));
    if json {
        eprintln!("{}", json!({"code": code, "detail": detail, "hint": hint}));
    } else {
        match code {
            Some(code) => eprintln!("error: {detail} ({code})"),
            None => eprintln!("error: {detail}"),
        }
        if let Some(hint) = hint {
            eprintln!("hint: {hint}");
        }
    }
    if error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn error_code(error: &anyhow::Error) -> Option<&str> {
    error.downcast_ref::<ClientError>()?.code()
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<ProjectError>() {
        return error.hint();
    }
    Some(error.downcast_ref::<Failure>()?.hint.clone())
}
