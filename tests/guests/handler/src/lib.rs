//! Serves HTTP through `wasi:http/handler` 0.3, well and badly, as the path says. Written against
//! the standard interfaces alone.

use std::{
    future::poll_fn,
    hint::black_box,
    mem::forget,
    sync::atomic::{AtomicU32, Ordering},
    task::Poll,
};

use wasip3::{
    clocks::monotonic_clock::wait_for,
    http::{
        client,
        types::{ErrorCode, Fields, Method, Request, Response, Scheme, Trailers},
    },
    spawn_local,
    wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter},
    wit_future, wit_stream,
};

type Ending = Result<Option<Trailers>, ErrorCode>;

const MILLISECOND: u64 = 1_000_000;

struct Handler;

impl wasip3::exports::http::handler::Guest for Handler {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/request" => Ok(whole(seen(&request))),
            "/echo" => Ok(echo(request)),
            "/pass" => Ok(pass(request)),
            "/count" => Ok(whole(count())),
            "/stream" => Ok(chunks(number(query, "chunks", 3), number(query, "bytes", 6))),
            "/paced" => Ok(paced(request)),
            "/numbered" => Ok(numbered(query)),
            "/declare" => Ok(declare(number(query, "bytes", 6))),
            "/five" => Ok(five(number(query, "bytes", 5))),
            "/after" => Ok(work_after()),
            "/half" => Ok(half()),
            "/leak" => Ok(never_finished()),
            "/sleep" => {
                wait_for(number(query, "ms", 100) * MILLISECOND).await;
                Ok(whole("slept\n".into()))
            }
            "/error" => Err(ErrorCode::InternalError(Some("no flour".into()))),
            "/trap" => panic!("the millstone cracked"),
            "/loop" => run_forever(),
            "/upload" => Ok(whole(upload(query).await)),
            "/hoard" => hoard(query).await,
            _ => Ok(whole("there is no such misbehaviour\n".into())),
        }
    }
}

wasip3::http::service::export!(Handler);

/// The writing ends of a response's body.
struct Body {
    stream: StreamWriter<u8>,
    ending: FutureWriter<Ending>,
}

impl Body {
    /// Ends the body well.
    async fn finish(self) {
        drop(self.stream);
        // Whoever reads may have left.
        let _ = self.ending.write(Ok(None)).await;
    }
}

/// A body that is to be written, and its reading ends.
fn body() -> (Body, StreamReader<u8>, FutureReader<Ending>) {
    let (stream, contents) = wit_stream::new();
    let (ending, trailers) = wit_future::new(broken);
    (Body { stream, ending }, contents, trailers)
}

/// A response whose body is to be written.
fn begin(headers: &[(String, Vec<u8>)]) -> (Response, Body) {
    let (body, contents, trailers) = body();
    (respond(headers, contents, trailers), body)
}

fn respond(
    headers: &[(String, Vec<u8>)],
    contents: StreamReader<u8>,
    trailers: FutureReader<Ending>,
) -> Response {
    let headers = Fields::from_list(headers).expect("valid headers");
    Response::new(headers, Some(contents), trailers).0
}

fn broken() -> Ending {
    Err(ErrorCode::InternalError(Some("the body broke off".into())))
}

/// A response of one piece.
fn whole(text: String) -> Response {
    let (response, mut body) = begin(&[]);
    spawn_local(async move {
        body.stream.write_all(text.into_bytes()).await;
        body.finish().await;
    });
    response
}

/// Method, scheme, authority and headers, a line each.
fn seen(request: &Request) -> String {
    let mut seen = format!(
        "method {:?}\nscheme {:?}\nauthority {:?}\n",
        request.get_method(),
        request.get_scheme(),
        request.get_authority(),
    );
    for (name, value) in request.get_headers().copy_all() {
        seen += &format!("header {name}: {}\n", value.escape_ascii());
    }
    seen
}

/// Sends back what arrives, while it arrives.
fn echo(request: Request) -> Response {
    let (mut source, _trailers) = consume(request);
    let (response, mut body) = begin(&[]);
    spawn_local(async move {
        loop {
            let (outcome, bytes) = source.read(Vec::with_capacity(64 << 10)).await;
            body.stream.write_all(bytes).await;
            if !matches!(outcome, StreamResult::Complete(_)) {
                break;
            }
        }
        body.finish().await;
    });
    response
}

/// Makes the request's body the response's, without touching it.
fn pass(request: Request) -> Response {
    let (contents, trailers) = consume(request);
    respond(&[], contents, trailers)
}

fn consume(request: Request) -> (StreamReader<u8>, FutureReader<Ending>) {
    let (processed, processing) = wit_future::new(|| Ok(()));
    drop(processed);
    Request::consume_body(request, processing)
}

/// How many requests this instance has seen: always 1 in a fresh one.
fn count() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}\n", COUNT.fetch_add(1, Ordering::Relaxed) + 1)
}

/// Sends `count` chunks of `bytes` bytes.
fn chunks(count: u64, bytes: u64) -> Response {
    let (response, mut body) = begin(&[]);
    spawn_local(async move {
        for _ in 0..count {
            let unread = body.stream.write_all(vec![b'q'; bytes as usize]).await;
            if !unread.is_empty() {
                return;
            }
        }
        body.finish().await;
    });
    response
}

/// A response of server-sent events that are to be written.
fn begin_events() -> (Response, Body) {
    begin(&[("content-type".to_owned(), b"text/event-stream".to_vec())])
}

/// Sends an event at once, and one for each piece of the request's body that has arrived.
fn paced(request: Request) -> Response {
    let (mut source, _trailers) = consume(request);
    let (response, mut body) = begin_events();
    spawn_local(async move {
        for number in 0_u32.. {
            body.stream.write_all(event(number.into(), "go on")).await;
            let (outcome, _) = source.read(Vec::with_capacity(64)).await;
            if !matches!(outcome, StreamResult::Complete(_)) {
                break;
            }
        }
        body.finish().await;
    });
    response
}

/// Sends `count` events of `bytes` bytes, `ms` apart; without `count` it never ends.
fn numbered(query: &str) -> Response {
    let (count, ms) = (number(query, "count", u64::MAX), number(query, "ms", 0));
    let padding = "q".repeat(number(query, "bytes", 8) as usize);
    let (response, mut body) = begin_events();
    spawn_local(async move {
        for number in 0..count {
            let unread = body.stream.write_all(event(number, &padding)).await;
            if !unread.is_empty() {
                return;
            }
            if ms > 0 {
                wait_for(ms * MILLISECOND).await;
            }
        }
        body.finish().await;
    });
    response
}

fn event(number: u64, data: &str) -> Vec<u8> {
    format!("id: {number}\ndata: {data}\n\n").into_bytes()
}

/// Declares `bytes` bytes, and sends none for a long time.
fn declare(bytes: u64) -> Response {
    let length = ("content-length".to_owned(), bytes.to_string().into_bytes());
    let (response, body) = begin(&[length]);
    spawn_local(async move {
        wait_for(3_600_000 * MILLISECOND).await;
        body.finish().await;
    });
    response
}

/// Declares `bytes` bytes, and sends five.
fn five(bytes: u64) -> Response {
    let length = ("content-length".to_owned(), bytes.to_string().into_bytes());
    let (response, mut body) = begin(&[length]);
    spawn_local(async move {
        body.stream.write_all(b"hello".to_vec()).await;
        body.finish().await;
    });
    response
}

/// Sends five bytes to the server on `port`, and declares `bytes`; what came of it.
async fn upload(query: &str) -> String {
    let length = number(query, "bytes", 5).to_string().into_bytes();
    let headers = Fields::from_list(&[("content-length".to_owned(), length)]);
    let (mut body, contents, trailers) = body();
    let headers = headers.expect("valid headers");
    let (request, _sent) = Request::new(headers, Some(contents), trailers, None);
    let authority = format!("127.0.0.1:{}", number(query, "port", 0));
    request.set_method(&Method::Post).expect("a valid method");
    request.set_scheme(Some(&Scheme::Http)).expect("a valid scheme");
    request.set_authority(Some(&authority)).expect("a valid authority");
    request.set_path_with_query(Some("/")).expect("a valid path");
    spawn_local(async move {
        body.stream.write_all(b"hello".to_vec()).await;
        body.finish().await;
    });
    match client::send(request).await {
        Ok(response) => format!("status {}", response.get_status_code()),
        Err(code) => format!("error {code:?}"),
    }
}

/// Sends a whole response, and goes on for a while.
fn work_after() -> Response {
    let (response, mut body) = begin(&[]);
    spawn_local(async move {
        body.stream.write_all(b"hello".to_vec()).await;
        body.finish().await;
        wait_for(50 * MILLISECOND).await;
        println!("done after the response");
    });
    response
}

/// Sends a part of the body, then panics.
fn half() -> Response {
    let (response, mut body) = begin(&[]);
    spawn_local(async move {
        body.stream.write_all(b"half a ".to_vec()).await;
        panic!("the sack burst");
    });
    response
}

/// Sends a part, and ends its tasks without ever ending the body.
fn never_finished() -> Response {
    let (response, mut body) = begin(&[]);
    spawn_local(async move {
        body.stream.write_all(b"a part".to_vec()).await;
        forget(body);
    });
    response
}

/// Makes things of the asynchronous model without end, and keeps them.
async fn hoard(what: &str) -> ! {
    loop {
        match what {
            "streams" => forget(wit_stream::new::<u8>()),
            "futures" => forget(wit_future::new(broken)),
            "calls" => {
                let mut call = Box::pin(wait_for(3_600_000 * MILLISECOND));
                poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_ready())).await;
                forget(call);
            }
            _ => panic!("no {what:?} to hoard"),
        }
    }
}

fn run_forever() -> ! {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// A parameter of the query that is a number.
fn number(query: &str, name: &str, default: u64) -> u64 {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let text = pairs.find(|(key, _)| *key == name).map(|(_, value)| value);
    text.map_or(default, |text| text.parse().expect("a number"))
}
