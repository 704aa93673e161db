//! Drives each interface that functions may import beside HTTP and `quern:ml`, as the path says.
//! Every answer is JSON: `{"ok": …}` or `{"error": …}`.

mod draft;
mod keyvalue;
mod nn;
mod system;

use std::{
    io::{Write as _, stdout},
    sync::OnceLock,
};

use quern_sdk::{Error, Request, Response};
use serde_json::{Value, json};

wit_bindgen::generate!({ world: "proposals", path: "../../../wit", generate_all });

quern_sdk::http!(drive);

/// A value of the configuration, as it was when the instance was asked for it first.
static REMEMBERED: OnceLock<String> = OnceLock::new();

/// What an interface said: its answer, or its error as text.
type Outcome = Result<Value, String>;

fn drive(request: Request) -> Result<Response, Error> {
    let path = request.path().to_owned();
    let outcome = match path.split_once('/').map(|(_, rest)| rest).unwrap_or_default() {
        "config" => config(&request),
        "log" => log(&request),
        "tell" => tell(&request),
        "panic" => panic!("it is {}", configured(&request)),
        "remembered" => Ok(json!(REMEMBERED.get_or_init(|| configured(&request)))),
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

/// A value of the configuration; empty if it is missing.
fn configured(request: &Request) -> String {
    let value = wasi::config::store::get(&text(request, "key")).expect("is there");
    value.unwrap_or_default()
}

/// Prints a value of the configuration, as a whole and in two writes, and logs it.
fn tell(request: &Request) -> Outcome {
    use wasi::logging::logging::{Level, log};
    let value = configured(request);
    println!("it is {value}");
    let (first, second) = value.split_at(value.len() / 2);
    for part in ["in parts ", first, second, "\n"] {
        print!("{part}");
        stdout().flush().map_err(|error| error.to_string())?;
    }
    eprintln!("it is {value}");
    log(Level::Info, &value, &format!("it is {value}"));
    Ok(Value::Null)
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
