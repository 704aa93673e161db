//! Sends a request to every URL in the lines of its own request's body, and reports how each went.

use std::{fmt::Write as _, io::Read};

use wasip2::http::{
    outgoing_handler,
    types::{ErrorCode, Fields, IncomingRequest, OutgoingRequest, ResponseOutparam, Scheme},
};

/// How a request to a URL went: `answered STATUS`, `malformed`, or the error.
fn attempt(url: &str) -> Result<String, ErrorCode> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok("malformed".into()) };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    let made = request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })));
    if made.is_err() {
        return Ok("malformed".into());
    }
    let response = outgoing_handler::handle(request, None)?;
    response.subscribe().block();
    let response = response.get().expect("it is ready").expect("the first call")?;
    Ok(format!("answered {}", response.status()))
}

fn run(request: IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the first call");
    let mut urls = String::new();
    body.stream().expect("the first call").read_to_string(&mut urls).expect("a whole body");
    let mut seen = String::new();
    for url in urls.lines() {
        let outcome = attempt(url).unwrap_or_else(|error| format!("{error:?}"));
        let _ = writeln!(seen, "{url} {outcome}");
    }
    hostile_guests::respond(out, &seen);
}

hostile_guests::hostile!(run);
