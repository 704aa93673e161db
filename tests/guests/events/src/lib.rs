//! Streams of server-sent events by the guest library: at the pace of the request's body, or many
//! and large ones as fast as the client takes them.

use std::io::Read;

use quern_sdk::{Error, Event, Request, Response, wasi::clocks::monotonic_clock};

quern_sdk::http!(stream);

fn stream(request: Request) -> Result<Response, Error> {
    match (request.method(), request.path()) {
        ("POST", "/paced") => Ok(paced(request)),
        ("GET", "/numbered") => numbered(&request),
        _ => Ok(Response::text("no such stream\n").with_status(404)),
    }
}

/// Sends an event at once, and one for each piece of the request's body that has arrived.
fn paced(mut request: Request) -> Response {
    Response::events(move |events| {
        let mut piece = [0; 64];
        for number in 0_u32.. {
            events.send(&Event::new("go on").with_id(number.to_string())?)?;
            if request.body().read(&mut piece)? == 0 {
                break;
            }
        }
        Ok(())
    })
}

/// Sends `count` events of `bytes` bytes, `ms` apart; without `count` it never ends.
fn numbered(request: &Request) -> Result<Response, Error> {
    let number = |name: &str, default| request.query(name).map_or(Ok(default), |text| text.parse());
    let (count, bytes, ms) = (number("count", u64::MAX)?, number("bytes", 8)?, number("ms", 0)?);
    Ok(Response::events(move |events| {
        let padding = "q".repeat(usize::try_from(bytes)?);
        for number in 0..count {
            events.send(&Event::new(&*padding).with_id(number.to_string())?)?;
            if ms > 0 {
                monotonic_clock::subscribe_duration(ms * 1_000_000).block();
            }
        }
        Ok(())
    }))
}
