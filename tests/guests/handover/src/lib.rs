//! Hands device tensors to models and to other sessions, and reports what came of it: `{"ok": …}` or
//! `{"error": {"by": …, "kind": …, "message": …}}`. What is done is the path.

mod models;
mod offers;

use quern_sdk::{
    Error, Request, Response,
    gpu::{self, CallError},
};
use serde_json::{Value, json};

quern_sdk::http!(hand_over);

type Outcome = Result<Value, Fault>;

/// What was refused, and by whom.
struct Fault {
    by: &'static str,
    kind: String,
    message: String,
}

fn hand_over(request: Request) -> Result<Response, Error> {
    let number = |name: &str| match request.query(name) {
        Some(text) => text.parse().map_err(|_| Error::invalid_input(format!("{name} = {text}"))),
        None => Ok(1),
    };
    let ticket = request.query("ticket").unwrap_or_default();
    let path = request.path().trim_start_matches('/').to_owned();
    let outcome = match &path[..] {
        "classify" => models::classify(number("rows")?),
        "repeat" => models::repeat(number("rows")?, number("times")?),
        "goes-on" => models::goes_on(),
        "offer" => offers::offer(number("count")?, number("milliseconds")?),
        "accept" => offers::accept(&ticket, number("bytes")?),
        "offers" => offers::repeat(number("count")?),
        "exchange" => offers::exchange(),
        path => match path.split_once('/') {
            Some(("refused", name)) => models::refused(name),
            _ => return Ok(Response::new(404)),
        },
    };
    Response::json(&match outcome {
        Ok(value) => json!({ "ok": value }),
        Err(Fault { by, kind, message }) => {
            json!({ "error": { "by": by, "kind": kind, "message": message } })
        }
    })
}

impl Fault {
    fn unknown(name: &str) -> Self {
        let (kind, message) = ("Unknown".to_owned(), name.to_owned());
        Self { by: "guest", kind, message }
    }
}

impl From<gpu::Error> for Fault {
    fn from(error: gpu::Error) -> Self {
        let (kind, message) = (format!("{:?}", error.kind()), error.message().to_owned());
        Self { by: "device", kind, message }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (kind, message) = (format!("{:?}", error.kind()), error.message().to_owned());
        Self { by: "model", kind, message }
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Device(error) => error.into(),
            CallError::Model(error) => error.into(),
        }
    }
}
