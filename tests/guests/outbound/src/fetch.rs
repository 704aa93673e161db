//! One request and what came of it.

use std::io::Write;

use wasip2::{
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody,
            OutgoingRequest, RequestOptions, Scheme,
        },
    },
    io::streams::StreamError,
};

/// Most bytes of a response that are shown.
const SHOWN: usize = 256;

/// The query of a request, without its URL.
pub(crate) struct Query<'a>(pub(crate) &'a str);

impl Query<'_> {
    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name);
        found.map_or(default, |(_, value)| value.parse().expect("a number"))
    }

    fn duration(&self, name: &str) -> Option<u64> {
        let milliseconds = self.number(name, 0);
        (milliseconds > 0).then_some(milliseconds * 1_000_000)
    }
}

/// A request that was begun.
pub(crate) struct Fetch {
    sent: Result<FutureIncomingResponse, String>,
    follow: u64,
}

impl Fetch {
    pub(crate) fn begin(query: &Query<'_>, url: &str) -> Self {
        Self { sent: send(query, url), follow: query.number("follow", 0) }
    }

    /// What came of it, in one line.
    pub(crate) fn outcome(self, query: &Query<'_>) -> String {
        let response = match self.sent.and_then(|future| response(&future)) {
            Ok(response) => response,
            Err(outcome) => return outcome,
        };
        let location = response.headers().get("location");
        if let (Some(location), true) = (location.first(), self.follow > 0) {
            let url = String::from_utf8_lossy(location);
            let next = Self { sent: send(query, &url), follow: self.follow - 1 };
            return next.outcome(query);
        }
        if query.number("keep", 0) == 1 {
            let line = format!("status {} kept", response.status());
            std::mem::forget(response);
            return line;
        }
        read(&response)
    }
}

fn send(query: &Query<'_>, url: &str) -> Result<FutureIncomingResponse, String> {
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let headers = Fields::new();
    let declared = query.number("declare", 0);
    if declared > 0 {
        headers.append("content-length", declared.to_string().as_bytes()).expect("is allowed");
    }
    let request = OutgoingRequest::new(headers);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).expect("a valid scheme");
    request.set_authority(Some(authority)).map_err(|()| "error malformed authority".to_owned())?;
    request.set_path_with_query(Some(path)).expect("a valid path");
    let bytes = query.number("send", 0);
    if query.number("tunnel", 0) == 1 {
        request.set_method(&Method::Connect).expect("a valid method");
    } else if bytes > 0 {
        request.set_method(&Method::Post).expect("a valid method");
    }
    let options = RequestOptions::new();
    options.set_connect_timeout(query.duration("connect")).expect("is supported");
    options.set_first_byte_timeout(query.duration("first")).expect("is supported");
    options.set_between_bytes_timeout(query.duration("between")).expect("is supported");
    let body = (bytes > 0).then(|| request.body().expect("the first call"));
    let future = outgoing_handler::handle(request, Some(options)).map_err(error)?;
    if let Some(body) = body {
        write(body, bytes, query.number("abandon", 0) == 1);
    }
    Ok(future)
}

/// Writes a body; a server that takes no more of it ends this early.
fn write(body: OutgoingBody, bytes: u64, abandon: bool) {
    let mut stream = body.write().expect("the first call");
    let mut left = if abandon { bytes / 2 } else { bytes };
    while left > 0 {
        let piece = vec![b'x'; usize::try_from(left.min(4_096)).expect("fits")];
        if stream.write_all(&piece).is_err() {
            break;
        }
        left -= piece.len() as u64;
    }
    assert!(!abandon, "abandons its request");
    drop(stream);
    // The outcome is that of the response.
    let _ = OutgoingBody::finish(body, None);
}

fn response(future: &FutureIncomingResponse) -> Result<IncomingResponse, String> {
    future.subscribe().block();
    future.get().expect("it is ready").expect("the first call").map_err(error)
}

/// Reads a response to its end.
fn read(response: &IncomingResponse) -> String {
    let status = response.status();
    let body = response.consume().expect("the first call");
    let stream = body.stream().expect("the first call");
    let (mut length, mut shown) = (0, Vec::new());
    loop {
        match stream.blocking_read(65_536) {
            Ok(piece) => {
                length += piece.len();
                shown.extend_from_slice(&piece[..piece.len().min(SHOWN - shown.len())]);
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(failed)) => {
                return format!("status {status} broke off: {}", failed.to_debug_string());
            }
        }
    }
    format!("status {status} bytes {length} body {}", String::from_utf8_lossy(&shown))
}

fn error(code: ErrorCode) -> String {
    format!("error {code:?}")
}
