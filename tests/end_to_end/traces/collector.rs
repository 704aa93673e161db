//! A collector of traces for tests: takes OTLP over HTTP with the messages of OpenTelemetry's own
//! crate, and keeps what it is sent.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::Link},
};
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::{Server, until};

/// A collector that runs as long as its test.
pub(crate) struct Collector {
    port: u16,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    spans: Vec<Exported>,
    headers: Vec<http::HeaderMap>,
    /// Answers with these statuses first, the last one at the end.
    refusals: Vec<u16>,
    /// Spans of each request that are not wanted.
    rejects: i64,
}

/// A span with what was said of its server.
#[derive(Debug, Clone)]
pub(crate) struct Exported {
    pub(crate) span: Span,
    pub(crate) resource: Vec<KeyValue>,
}

impl Collector {
    /// On a thread of its own: it answers while the test waits for a server to end.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("is set");
        let port = listener.local_addr().expect("bound").port();
        let taken = Arc::<Mutex<Taken>>::default();
        let serving = serve(listener, taken.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        std::thread::spawn(move || runtime.block_on(serving));
        Self { port, taken }
    }

    /// A server that sends its spans here; `options` are further ones of its file.
    pub(crate) fn server(&self, options: &str) -> Server {
        self.server_with(&format!("delay = \"10ms\"\n{options}"))
    }

    /// The same with all options but the endpoint.
    pub(crate) fn server_with(&self, options: &str) -> Server {
        start(&format!("[tracing]\nendpoint = \"{}\"\n{options}", self.url()))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers the next requests with these statuses.
    pub(crate) fn refuse(&self, statuses: &[u16]) {
        self.taken.lock().expect("no panic").refusals = statuses.to_vec();
    }

    /// Takes so many spans of each request less than it is sent.
    pub(crate) fn reject(&self, spans: i64) {
        self.taken.lock().expect("no panic").rejects = spans;
    }

    /// Everything that has come so far.
    pub(crate) fn spans(&self) -> Vec<Exported> {
        self.taken.lock().expect("no panic").spans.clone()
    }

    pub(crate) fn headers(&self) -> Vec<http::HeaderMap> {
        self.taken.lock().expect("no panic").headers.clone()
    }

    /// The spans of this name in a trace.
    pub(crate) fn spans_of(&self, trace: &str, name: &str) -> Vec<Exported> {
        let is_it = |found: &Exported| found.trace() == trace && found.span.name == name;
        self.spans().into_iter().filter(is_it).collect()
    }

    /// The only span of this name in a trace, as soon as it comes.
    pub(crate) async fn span(&self, trace: &str, name: &str) -> Exported {
        until(name, async || !self.spans_of(trace, name).is_empty()).await;
        let mut found = self.spans_of(trace, name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found.remove(0)
    }

    /// The span that a link names, as soon as it comes.
    pub(crate) async fn linked(&self, link: &Link) -> Exported {
        let find = || self.spans().into_iter().find(|found| found.is(link));
        until("the linked span", async || find().is_some()).await;
        find().expect("it is there")
    }
}

/// Starts a server with a configuration.
pub(crate) fn start(configuration: &str) -> Server {
    let data = Arc::new(TempDir::new().expect("a folder"));
    let file = data.path().join("quern-server.toml");
    std::fs::write(&file, configuration).expect("written");
    Server::start_on(data.clone(), &["--config", file.to_str().expect("text")])
}

impl Exported {
    pub(crate) fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub(crate) fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// Whether it is a part of another span.
    pub(crate) fn is_below(&self, parent: &Self) -> bool {
        self.span.trace_id == parent.span.trace_id
            && self.span.parent_span_id == parent.span.span_id
    }

    pub(crate) fn is(&self, link: &Link) -> bool {
        self.span.trace_id == link.trace_id && self.span.span_id == link.span_id
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        match attribute(&self.span.attributes, key) {
            Some(Value::StringValue(text)) => text,
            other => panic!("{key} is {other:?} in {:?}", self.span),
        }
    }

    pub(crate) fn number(&self, key: &str) -> i64 {
        match attribute(&self.span.attributes, key) {
            Some(Value::IntValue(number)) => *number,
            other => panic!("{key} is {other:?} in {:?}", self.span),
        }
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        match attribute(&self.span.attributes, key) {
            Some(Value::BoolValue(flag)) => *flag,
            other => panic!("{key} is {other:?} in {:?}", self.span),
        }
    }

    /// Why it failed, if it did.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.span.status.as_ref().map(|status| status.message.as_str())
    }

    pub(crate) fn resource(&self, key: &str) -> &str {
        match attribute(&self.resource, key) {
            Some(Value::StringValue(text)) => text,
            other => panic!("{key} is {other:?} in {:?}", self.resource),
        }
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let pair = attributes.iter().find(|pair| pair.key == key)?;
    pair.value.as_ref()?.value.as_ref()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn serve(listener: std::net::TcpListener, taken: Arc<Mutex<Taken>>) {
    let listener = TcpListener::from_std(listener).expect("it blocks nobody");
    while let Ok((socket, _)) = listener.accept().await {
        let taken = taken.clone();
        let service = service_fn(move |request| take(taken.clone(), request));
        tokio::spawn(async move {
            // The server may be gone in the middle of it.
            let connection = http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn take(
    taken: Arc<Mutex<Taken>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/traces"));
    let body = body.collect().await.expect("a whole body").to_bytes();
    let request = ExportTraceServiceRequest::decode(body).expect("a request of OTLP");
    let mut taken = taken.lock().expect("no panic");
    taken.headers.push(head.headers);
    let mut response = Response::new(Full::default());
    if !taken.refusals.is_empty() {
        let status = taken.refusals.remove(0);
        *response.status_mut() = status.try_into().expect("a status");
        return Ok(response);
    }
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.expect("a resource").attributes;
        for of_scope in of_resource.scope_spans {
            assert_eq!(of_scope.scope.expect("a scope").name, "quern");
            let spans = of_scope.spans.into_iter();
            taken.spans.extend(spans.map(|span| Exported { span, resource: resource.clone() }));
        }
    }
    let partial_success = ExportTracePartialSuccess {
        rejected_spans: taken.rejects,
        ..ExportTracePartialSuccess::default()
    };
    let answer = ExportTraceServiceResponse { partial_success: Some(partial_success) };
    *response.body_mut() = Full::new(answer.encode_to_vec().into());
    Ok(response)
}
