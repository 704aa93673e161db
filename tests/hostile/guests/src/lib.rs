//! The little that hostile guests share: they are well-behaved under the path `/well`, so that the
//! harm that one does can be held against the same component doing none.

use std::io::Write;

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// Makes a component of `$run`, which is given the request and where its response goes.
#[macro_export]
macro_rules! hostile {
    ($run:path) => {
        struct Hostile;

        impl wasip2::exports::http::incoming_handler::Guest for Hostile {
            fn handle(
                request: wasip2::http::types::IncomingRequest,
                out: wasip2::http::types::ResponseOutparam,
            ) {
                if request.path_with_query().is_some_and(|path| path == "/well") {
                    return $crate::respond(out, "well\n");
                }
                $run(request, out);
            }
        }

        wasip2::http::proxy::export!(Hostile);
    };
}

/// Sends the head of a response with these headers; its body is to be written.
pub fn begin(out: ResponseOutparam, headers: Fields) -> OutgoingBody {
    let head = OutgoingResponse::new(headers);
    let body = head.body().expect("the first call");
    ResponseOutparam::set(out, Ok(head));
    body
}

/// Sends a whole response.
pub fn respond(out: ResponseOutparam, text: &str) {
    let body = begin(out, Fields::new());
    let mut stream = body.write().expect("the first call");
    stream.write_all(text.as_bytes()).expect("the client reads");
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was declared");
}
