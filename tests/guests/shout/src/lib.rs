//! What the guest library does with HTTP: streams the body back in capitals while it arrives,
//! breaks off where `?after=` says, and answers with the error of `/error?kind=`.

use std::io::Read;

use quern_sdk::{Error, ErrorKind, Request, Response};

quern_sdk::http!(shout);

fn shout(mut request: Request) -> Result<Response, Error> {
    match (request.method(), request.path()) {
        ("GET", "/error") => Err(error(&request.query("kind").unwrap_or_default())),
        ("GET", "/header") => {
            Ok(Response::new(204)
                .with_header("x-seen", request.header("X-Probe").unwrap_or_default()))
        }
        ("POST", "/whole") => {
            let body = request.body().read_whole(16)?;
            Ok(Response::bytes("text/plain", body.to_ascii_uppercase()))
        }
        ("POST", "/") => {
            let after: usize =
                request.query("after").map_or(Ok(usize::MAX), |text| text.parse())?;
            Ok(stream(request, after))
        }
        _ => Ok(Response::text("no such way to shout\n").with_status(404)),
    }
}

fn stream(mut request: Request, after: usize) -> Response {
    Response::stream("text/plain", move |out| {
        let (mut chunk, mut sent) = ([0; 4096], 0);
        loop {
            let read = request.body().read(&mut chunk)?;
            if read == 0 {
                return Ok(());
            }
            out.write_all(&chunk[..read].to_ascii_uppercase())?;
            sent += read;
            if sent >= after {
                return Err(Error::internal("lost its voice"));
            }
        }
    })
}

fn error(kind: &str) -> Error {
    let kind = match kind {
        "invalid-input" => ErrorKind::InvalidInput,
        "too-large" => ErrorKind::TooLarge,
        "not-found" => ErrorKind::NotFound,
        "overloaded" => ErrorKind::Overloaded,
        "timed-out" => ErrorKind::TimedOut,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, "chosen to fail")
}
