//! The little that all of it needs: queries, and responses of one piece.

use std::io::Write;

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// The query of a request; values are not encoded.
pub(crate) struct Query<'a>(pub(crate) &'a str);

impl Query<'_> {
    /// A parameter.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A parameter that is a number.
    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).map_or(default, |text| text.parse().expect("a number"))
    }
}

/// Sends the head of a response; its body is to be written.
pub(crate) fn begin(
    out: ResponseOutparam,
    status: u16,
    headers: &[(String, Vec<u8>)],
) -> OutgoingBody {
    let head = OutgoingResponse::new(Fields::from_list(headers).expect("valid headers"));
    head.set_status_code(status).expect("a valid status");
    let body = head.body().expect("the first call");
    ResponseOutparam::set(out, Ok(head));
    body
}

/// Sends a whole response.
pub(crate) fn respond(out: ResponseOutparam, status: u16, text: &str) {
    let body = begin(out, status, &[]);
    let mut stream = body.write().expect("the first call");
    stream.write_all(text.as_bytes()).expect("the client reads");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was declared");
}
