//! Reports what can be seen and reached from inside.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU32, Ordering},
};

use wasip2::{
    filesystem::preopens,
    http::{
        outgoing_handler,
        types::{Fields, IncomingRequest, OutgoingRequest, ResponseOutparam, Scheme},
    },
};

use crate::reply::{Query, respond};

/// Method, path, authority and headers, a line each; `\` and the like show what is not printable.
pub(crate) fn request(request: &IncomingRequest, out: ResponseOutparam) {
    let mut seen = format!("method {:?}\n", request.method());
    let _ = writeln!(seen, "scheme {:?}", request.scheme());
    let _ = writeln!(seen, "authority {:?}", request.authority());
    let _ = writeln!(seen, "path {:?}", request.path_with_query());
    for (name, value) in request.headers().entries() {
        let _ = writeln!(seen, "header {name}: {}", value.escape_ascii());
    }
    respond(out, 200, &seen);
}

/// Everything that the host might have given away.
pub(crate) fn environment(out: ResponseOutparam) {
    let file = match std::fs::read("/etc/hostname") {
        Ok(_) => "readable",
        Err(_) => "refused",
    };
    let socket = match std::net::TcpStream::connect("127.0.0.1:80") {
        Ok(_) => "connected",
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => "reached the host",
        Err(_) => "refused",
    };
    let seen = format!(
        "variables {}\narguments {}\ndirectories {}\nfile {file}\nsocket {socket}\n",
        std::env::vars().count(),
        std::env::args().count(),
        preopens::get_directories().len(),
    );
    respond(out, 200, &seen);
}

/// How many requests this instance has seen: always 1 in a fresh one.
pub(crate) fn count(out: ResponseOutparam) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    respond(out, 200, &format!("{count}\n"));
}

/// Counts as well, and keeps a handle for ever.
pub(crate) fn hold(out: ResponseOutparam) {
    std::mem::forget(Fields::new());
    count(out);
}

/// Tries an outbound request to `authority`, and reports how it ended.
pub(crate) fn connect(query: &Query<'_>, out: ResponseOutparam) {
    let request = OutgoingRequest::new(Fields::new());
    let authority = query.text("authority").unwrap_or("127.0.0.1:1");
    request.set_scheme(Some(&Scheme::Http)).expect("a valid scheme");
    request.set_authority(Some(authority)).expect("a valid authority");
    request.set_path_with_query(Some("/")).expect("a valid path");
    let outcome = match outgoing_handler::handle(request, None) {
        Err(error) => format!("refused at the call: {error:?}"),
        Ok(future) => {
            future.subscribe().block();
            match future.get().expect("it is ready").expect("the first call") {
                Ok(response) => format!("answered: {}", response.status()),
                Err(error) => format!("failed: {error:?}"),
            }
        }
    };
    respond(out, 200, &format!("{outcome}\n"));
}
