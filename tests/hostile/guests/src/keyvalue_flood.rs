//! Fills a bucket until it is refused, and reports by what.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

use crate::wasi::keyvalue::store;

wit_bindgen::generate!({
    inline: "
        package wasi:keyvalue@0.2.0-draft2;

        interface store {
            variant error {
                no-such-store,
                access-denied,
                other(string),
            }
            resource bucket {
                set: func(key: string, value: list<u8>) -> result<_, error>;
            }
            open: func(identifier: string) -> result<bucket, error>;
        }

        world flood {
            import store;
        }
    ",
});

fn run(request: IncomingRequest, out: ResponseOutparam) {
    let path = request.path_with_query().unwrap_or_default();
    let bucket = match store::open(path.trim_start_matches('/')) {
        Ok(bucket) => bucket,
        Err(error) => return hostile_guests::respond(out, &format!("not opened: {error:?}\n")),
    };
    let value = vec![b'x'; 64 << 10];
    let mut count = 0u64;
    let error = loop {
        match bucket.set(&format!("key-{count}"), &value) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    hostile_guests::respond(out, &format!("refused after {count}: {error:?}\n"));
}

hostile_guests::hostile!(run);
