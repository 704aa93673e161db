//! Runs a handler and sends what it answers. Never waits for the client to take a whole body: the
//! host holds what was written.

use std::io::{self, Write};

use wasip2::{
    http::types::{
        ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
    },
    io::streams::OutputStream,
};

use super::response::ResponseBody;
use crate::{Error, ErrorKind, Request, Response};

/// Runs a handler on the contract's types.
#[doc(hidden)]
pub fn answer(
    request: IncomingRequest,
    out: ResponseOutparam,
    handler: fn(Request) -> Result<Response, Error>,
) {
    let response = handler(Request::new(request)).unwrap_or_else(|error| {
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Internal) {
            eprintln!("error: {error}");
        }
        Response::of_error(&error)
    });
    match head(&response) {
        Ok((head, body)) => {
            ResponseOutparam::set(out, Ok(head));
            if let Err(error) = send(body, response.body) {
                eprintln!("error: the response breaks off: {error}");
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ResponseOutparam::set(out, Err(ErrorCode::InternalError(None)));
        }
    }
}

/// Status and headers as the contract wants them, and the body to be written.
fn head(response: &Response) -> Result<(OutgoingResponse, OutgoingBody), Error> {
    let fields = Fields::from_list(&response.headers)
        .map_err(|error| Error::internal(format!("a response header is not allowed: {error}")))?;
    if let ResponseBody::Whole(body) = &response.body
        && may_have_body(response.status)
    {
        let length = body.len().to_string().into_bytes();
        fields.set("content-length", &[length]).expect("a number is a valid content-length");
    }
    let head = OutgoingResponse::new(fields);
    head.set_status_code(response.status)
        .map_err(|()| Error::internal(format!("{} is not an HTTP status", response.status)))?;
    let body = head.body().expect("a response gives its body once, and is asked once");
    Ok((head, body))
}

/// Whether the status allows a body, and so a length of one.
fn may_have_body(status: u16) -> bool {
    !(status < 200 || status == 204 || status == 304)
}

/// Sends a body. On an error it is left unfinished, which cuts the response off.
fn send(outgoing: OutgoingBody, body: ResponseBody) -> Result<(), Error> {
    let stream = outgoing.write().expect("a body gives its stream once, and is asked once");
    let mut stream = BodyStream(stream);
    match body {
        ResponseBody::Whole(body) => stream.write_all(&body)?,
        ResponseBody::Stream(write) => write(&mut stream)?,
    }
    drop(stream);
    OutgoingBody::finish(outgoing, None)?;
    Ok(())
}

/// The writer that handlers see.
struct BodyStream(OutputStream);

impl Write for BodyStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match io::Write::write(&mut self.0, bytes)? {
            0 => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone")),
            written => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::Write::flush(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_statuses_have_bodies() {
        for (status, expected) in
            [(100, false), (200, true), (204, false), (304, false), (404, true)]
        {
            assert_eq!(may_have_body(status), expected, "{status}");
        }
    }
}
