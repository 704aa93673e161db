//! Sends requests as its query says, and answers with what came of them, one line each. Its last
//! parameter is `url`; the others are numbers:
//!
//! | parameter | what |
//! |---|---|
//! | `times` | fetches one after the other |
//! | `together` | fetches that are all begun before one is waited for |
//! | `send` | bytes of the request's body; 0 sends a GET |
//! | `declare` | bytes that the request's body is declared to have, if it is not sent whole |
//! | `follow` | redirects that are followed |
//! | `abandon` | 1: fails with half of the request's body written |
//! | `keep` | 1: keeps the response's body for good, without reading it |
//! | `tunnel` | 1: the method is CONNECT |
//! | `connect`, `first`, `between` | timeouts in ms |

mod fetch;

use std::io::Write;

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use crate::fetch::{Fetch, Query};

struct Outbound;

impl wasip2::exports::http::incoming_handler::Guest for Outbound {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path_with_query = request.path_with_query().unwrap_or_default();
        let (_, query) = path_with_query.split_once('?').unwrap_or_default();
        let (parameters, url) = query.split_once("url=").expect("a URL");
        let query = Query(parameters);
        let mut outcomes = Vec::new();
        for _ in 0..query.number("times", 1) {
            let begun: Vec<_> =
                (0..query.number("together", 1)).map(|_| Fetch::begin(&query, url)).collect();
            outcomes.extend(begun.into_iter().map(|fetch| fetch.outcome(&query)));
        }
        respond(out, &outcomes.join("\n"));
    }
}

wasip2::http::proxy::export!(Outbound);

fn respond(out: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the first call");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("the first call");
    stream.write_all(text.as_bytes()).expect("the client reads");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was declared");
}
