//! Imports an interface that no host has; only deploying it is of interest.

use wasip2::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({
    inline: "
        package example:mill@1.0.0;

        interface stones {
            turn: func() -> u32;
        }

        world unknown {
            import stones;
        }
    ",
});

struct UnknownImport;

impl wasip2::exports::http::incoming_handler::Guest for UnknownImport {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let turns = example::mill::stones::turn();
        ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(turns.to_string()))));
    }
}

wasip2::http::proxy::export!(UnknownImport);
