//! Misbehaves, and probes its sandbox, as the path says. Written against the standard interfaces
//! alone: nothing of the host may depend on the guest library.

mod faults;
mod probes;
mod reply;
mod streams;

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

use crate::reply::{Query, respond};

struct Misbehave;

impl wasip2::exports::http::incoming_handler::Guest for Misbehave {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path_with_query = request.path_with_query().unwrap_or_default();
        let (path, query) = path_with_query.split_once('?').unwrap_or((&path_with_query, ""));
        let query = Query(query);
        match path {
            "/loop" => faults::run_forever(),
            "/trap" => faults::panic_with_message(),
            "/grow" => faults::take_all_memory(),
            "/overflow" => drop(faults::overflow_stack(0)),
            "/exit" => std::process::exit(3),
            "/silent" => {}
            "/sleep" => faults::sleep(&query, out),
            "/print" => faults::print(&query, out),
            "/headers" => faults::many_headers(&query, out),

            "/stream" => streams::chunks(&query, out),
            "/echo" => streams::echo(&request, out),
            "/half" => streams::half(&query, out),
            "/stall" => streams::never_end(out),
            "/short" => streams::three_bytes(&query, out),
            "/leak" => streams::never_finished(out),
            "/after" => streams::work_after(&query, out),

            "/request" => probes::request(&request, out),
            "/environment" => probes::environment(out),
            "/count" => probes::count(out),
            "/hold" => probes::hold(out),
            "/connect" => probes::connect(&query, out),
            _ => respond(out, 404, "there is no such misbehaviour\n"),
        }
    }
}

wasip2::http::proxy::export!(Misbehave);
