//! Prints forever.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    let line = "grist ".repeat(1000);
    loop {
        println!("{line}");
        eprintln!("{line}");
    }
}

hostile_guests::hostile!(run);
