//! Requests: each part crosses the sandbox's border only when it is asked for.

use std::{cell::OnceCell, fmt, io};

use wasip2::{
    http::types::{IncomingBody, IncomingRequest, Method},
    io::streams::{InputStream, StreamError},
};

use crate::{Error, ErrorKind};

/// Bytes asked for at a time when a body is read whole.
const CHUNK: u64 = 64 * 1024;

/// A request as it arrived.
pub struct Request {
    // Before `incoming`: fields are dropped in order, and the body must go first.
    body: Option<Body>,
    method: OnceCell<Method>,
    path_with_query: OnceCell<String>,
    incoming: IncomingRequest,
}

impl Request {
    pub(crate) fn new(incoming: IncomingRequest) -> Self {
        Self { body: None, method: OnceCell::new(), path_with_query: OnceCell::new(), incoming }
    }

    /// `"GET"`, `"POST"`, …
    pub fn method(&self) -> &str {
        match self.method.get_or_init(|| self.incoming.method()) {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(name) => name,
        }
    }

    /// The path below the function, `/` at least, still percent-encoded.
    pub fn path(&self) -> &str {
        split_query(self.path_with_query()).0
    }

    /// The first value of a query parameter, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = split_query(self.path_with_query()).1;
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The first value of a header, whose name matches in any case. Bytes that are not UTF-8 are
    /// replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.incoming.headers().get(name);
        values.first().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// All headers in their order.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.incoming.headers().entries()
    }

    /// The body, to be read as it arrives or whole.
    pub fn body(&mut self) -> &mut Body {
        self.body.get_or_insert_with(|| Body::of(&self.incoming))
    }

    fn path_with_query(&self) -> &str {
        self.path_with_query
            .get_or_init(|| self.incoming.path_with_query().unwrap_or_else(|| "/".into()))
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.path_with_query())
    }
}

/// The body of a request. [`io::Read`] streams it: reading waits until bytes arrive.
pub struct Body {
    // Before its parent: fields are dropped in order, and a stream must go first.
    stream: InputStream,
    _parent: IncomingBody,
}

impl Body {
    fn of(incoming: &IncomingRequest) -> Self {
        let parent = incoming.consume().expect("a request gives its body once, and is asked once");
        let stream = parent.stream().expect("a body gives its stream once, and is asked once");
        Self { stream, _parent: parent }
    }

    /// Reads the rest of the body. One that is longer than `limit` bytes is an error of kind
    /// [`ErrorKind::TooLarge`].
    pub fn read_whole(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        loop {
            match self.stream.blocking_read(CHUNK) {
                Ok(chunk) if whole.is_empty() => whole = chunk,
                Ok(chunk) => whole.extend_from_slice(&chunk),
                Err(StreamError::Closed) => return Ok(whole),
                Err(StreamError::LastOperationFailed(error)) => {
                    let message = format!("the body breaks off: {}", error.to_debug_string());
                    return Err(Error::invalid_input(message));
                }
            }
            if whole.len() > limit {
                let message = format!("the body is longer than {limit} bytes");
                return Err(Error::new(ErrorKind::TooLarge, message));
            }
        }
    }
}

impl io::Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut self.stream, buffer)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body")
    }
}

fn split_query(path_with_query: &str) -> (&str, &str) {
    match path_with_query.split_once('?') {
        Some((path, query)) => (if path.is_empty() { "/" } else { path }, query),
        None => (path_with_query, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_from_its_query() {
        let cases = [
            ("/", ("/", "")),
            ("/a/b?x=1", ("/a/b", "x=1")),
            ("?x=1", ("/", "x=1")),
            ("/a?x=1?y", ("/a", "x=1?y")),
        ];
        for (path_with_query, parts) in cases {
            assert_eq!(split_query(path_with_query), parts, "{path_with_query}");
        }
    }
}
