//! Makes the host keep sets of headers, each as large as it can be, and never lets one go.

use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

fn run(_request: IncomingRequest, _out: ResponseOutparam) {
    let value = vec![b'x'; 16 << 10];
    loop {
        let fields = Fields::new();
        fields.append("x-sand", &value).expect("is below the limit");
        std::mem::forget(fields);
    }
}

hostile_guests::hostile!(run);
