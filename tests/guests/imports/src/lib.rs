//! Drives each interface that functions may import beside HTTP and `quern:ml`, as the path says.
//! Every answer is JSON: `{"ok": …}` or `{"error": …}`.

mod draft;
mod keyvalue;
mod nn;
mod system;

use quern_sdk::{Error, Request, Response};
use serde_json::{Value, json};

wit_bindgen::generate!({ world: "proposals", path: "../../../wit", generate_all });

quern_sdk::http!(drive);

/// What an interface said: its answer, or its error as text.
type Outcome = Result<Value, String>;

fn drive(request: Request) -> Result<Response, Error> {
    let path = request.path().to_owned();
    let outcome = match path.split_once('/').map(|(_, rest)| rest).unwrap_or_default() {
        "config" => config(&request),
        "log" => log(&request),
        "clocks" => system::clocks(),
        "random" => system::random(),
        "nn/compute" => nn::compute(&request),
        "nn/load" => nn::load(),
        "nn/hoard" => nn::hoard(&request),
        rest => match rest.split_once('/') {
            Some(("keyvalue", operation)) => keyvalue::operate(operation, &request),
            Some(("draft", operation)) => draft::operate(operation, &request),
            _ => return Ok(Response::new(404)),
        },
    };
    Response::json(&match outcome {
        Ok(value) => json!({ "ok": value }),
        Err(text) => json!({ "error": text }),
    })
}

/// A parameter of the request; empty if it is missing.
fn text(request: &Request, name: &str) -> String {
    request.query(name).unwrap_or_default()
}

/// A parameter that is a number; zero if it is missing.
fn number(request: &Request, name: &str) -> i64 {
    request.query(name).map_or(0, |text| text.parse().expect("a number"))
}

fn config(request: &Request) -> Outcome {
    use wasi::config::store;
    let mut all = store::get_all().map_err(|error| format!("{error:?}"))?;
    all.sort();
    let one = store::get(&text(request, "key")).map_err(|error| format!("{error:?}"))?;
    Ok(json!({ "all": all, "one": one }))
}

/// Prints, logs one message of each level, and prints again; `?size=` makes the last one long.
fn log(request: &Request) -> Outcome {
    use wasi::logging::logging::{Level, log};
    println!("before");
    for (level, word) in [
        (Level::Trace, "trace"),
        (Level::Debug, "debug"),
        (Level::Info, "info"),
        (Level::Warn, "warn"),
        (Level::Error, "error"),
        (Level::Critical, "critical"),
    ] {
        log(level, &format!("context of {word}"), &format!("a message of level {word}"));
    }
    println!("after");
    let size = number(request, "size") as usize;
    log(Level::Info, "", &"x".repeat(size));
    Ok(json!(size))
}
