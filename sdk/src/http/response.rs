//! Responses: a status, headers, and a body that is either whole or written as it is made.

use std::{fmt, io::Write};

use serde::Serialize;

use super::events::Events;
use crate::{Error, ErrorKind};

/// What a function answers.
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: ResponseBody,
}

/// Writes a body while it is sent.
pub(crate) type BodyWriter = Box<dyn FnOnce(&mut dyn Write) -> Result<(), Error>>;

pub(crate) enum ResponseBody {
    Whole(Vec<u8>),
    Stream(BodyWriter),
}

impl Response {
    /// A response without headers and body.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: ResponseBody::Whole(Vec::new()) }
    }

    /// `200` with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", text.into())
    }

    /// `200` with a value as JSON. Fails if its `Serialize` does.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        let mut body = serde_json::to_vec(value)?;
        body.push(b'\n');
        Ok(Self::bytes("application/json", body))
    }

    /// `200` with a body of this content type.
    pub fn bytes(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut response = Self::new(200).with_header("content-type", content_type);
        response.body = ResponseBody::Whole(body.into());
        response
    }

    /// `200` with a body that is sent while `write` runs: each write goes out as soon as the
    /// client takes it. If `write` fails, the response is cut off, so that the client notices.
    ///
    /// ```
    /// # use quern_sdk::Response;
    /// Response::stream("text/plain", |body| {
    ///     for line in 1..=3 {
    ///         writeln!(body, "line {line}")?;
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn stream(
        content_type: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Error> + 'static,
    ) -> Self {
        let mut response = Self::new(200).with_header("content-type", content_type);
        response.body = ResponseBody::Stream(Box::new(write));
        response
    }

    /// `200` with server-sent events that are sent while `write` runs: each goes out as soon as it
    /// is made, and no later one is made before the client takes it. Caches must not keep them, and
    /// proxies not hold them back. If `write` fails, the response is cut off.
    ///
    /// ```
    /// # use quern_sdk::{Event, Response};
    /// Response::events(|events| {
    ///     for word in ["one", "two", "three"] {
    ///         events.send(&Event::new(word))?;
    ///     }
    ///     events.send(&Event::new("").with_name("end")?)
    /// });
    /// ```
    pub fn events(write: impl FnOnce(&mut Events<'_>) -> Result<(), Error> + 'static) -> Self {
        Self::stream("text/event-stream", |body| write(&mut Events::new(body)))
            .with_header("cache-control", "no-store")
            // No standard, but what nginx, and others after it, go by.
            .with_header("x-accel-buffering", "no")
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same with a header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The response to an error: the caller learns what concerns it, and no internals.
    pub(crate) fn of_error(error: &Error) -> Self {
        let status = match error.kind() {
            ErrorKind::InvalidInput => 400,
            ErrorKind::TooLarge => 413,
            ErrorKind::Overloaded => 503,
            ErrorKind::TimedOut => 504,
            ErrorKind::NotFound | ErrorKind::Internal => 500,
        };
        let shown = if status == 500 { "the function failed" } else { error.message() };
        let shown = serde_json::Value::from(shown);
        let body = format!("{{\"error\":{shown}}}\n");
        Self::bytes("application/json", body).with_status(status)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            ResponseBody::Whole(body) => write!(f, "{} with {} bytes", self.status, body.len()),
            ResponseBody::Stream(_) => write!(f, "{} with a stream", self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(response: &Response) -> &str {
        match &response.body {
            ResponseBody::Whole(body) => std::str::from_utf8(body).expect("text"),
            ResponseBody::Stream(_) => panic!("a stream"),
        }
    }

    #[test]
    fn errors_tell_the_caller_only_what_concerns_it() {
        let cases = [
            (ErrorKind::InvalidInput, 400, "{\"error\":\"secret \\\"x\\\"\"}\n"),
            (ErrorKind::TooLarge, 413, "{\"error\":\"secret \\\"x\\\"\"}\n"),
            (ErrorKind::Overloaded, 503, "{\"error\":\"secret \\\"x\\\"\"}\n"),
            (ErrorKind::TimedOut, 504, "{\"error\":\"secret \\\"x\\\"\"}\n"),
            (ErrorKind::NotFound, 500, "{\"error\":\"the function failed\"}\n"),
            (ErrorKind::Internal, 500, "{\"error\":\"the function failed\"}\n"),
        ];
        for (kind, status, body) in cases {
            let response = Response::of_error(&Error::new(kind, "secret \"x\""));
            assert_eq!((response.status, whole(&response)), (status, body), "{kind:?}");
        }
    }

    #[test]
    fn values_become_json() -> Result<(), Error> {
        let response = Response::json(&[1, 2])?.with_status(201).with_header("x-a", "b");
        assert_eq!((response.status, whole(&response)), (201, "[1,2]\n"));
        let header =
            |index: usize| (response.headers[index].0.as_str(), &response.headers[index].1);
        assert_eq!(header(0), ("content-type", &b"application/json".to_vec()));
        assert_eq!(header(1), ("x-a", &b"b".to_vec()));
        Ok(())
    }
}
