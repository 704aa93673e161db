//! Outbound HTTP of functions: to origins that their manifests grant, at addresses that the operator
//! allows, within their limits. It follows no redirect, knows no proxy and adds nothing of its own but
//! where the request stands in a trace, if it is in one: what a guest sends is what is sent.

mod addresses;
mod body;
mod client;
mod connect;
mod courier;
mod exchange;
mod fault;
mod metrics;
mod names;
mod network;

use std::{sync::Arc, time::Duration};

use ::http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::client::legacy::connect::capture_connection;
use quern_types::{Span, SpanKind, TRACEPARENT, Trace};
use tokio_util::sync::DropGuard;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

use self::{
    body::{ReceivedBody, SentBody},
    exchange::{Exchange, Invocation, header_bytes},
    fault::{Fault, Part},
};
use crate::output::Capture;

pub use self::network::OutboundConfig;
pub(crate) use self::{client::Client, courier::Courier, network::Network};

/// The outbound requests of one invocation. Dropping this ends them.
pub(crate) struct Outbound {
    client: Arc<Client>,
    capture: Capture,
    /// Where the invocation stands.
    trace: Trace,
    /// Made for the first request.
    begun: Option<(Arc<Invocation>, DropGuard)>,
}

type Sent = Result<(Response<WasiBody>, Finished), HttpError>;
type Finished = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

impl Outbound {
    pub(crate) fn new(client: Arc<Client>, capture: Capture, trace: Trace) -> Self {
        Self { client, capture, trace, begun: None }
    }

    /// Ends the requests of one invocation, before the next one begins.
    pub(crate) fn renew(&mut self, trace: Trace) {
        self.trace = trace;
        self.begun = None;
    }

    /// Whether no request of the invocation is under way.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.begun.as_ref().is_none_or(|(invocation, _)| Arc::strong_count(invocation) == 1)
    }

    fn invocation(&mut self) -> Arc<Invocation> {
        let (invocation, _) = self.begun.get_or_insert_with(|| {
            let invocation = Invocation::new(&self.client, self.capture.clone());
            let ends = invocation.ended.clone().drop_guard();
            (Arc::new(invocation), ends)
        });
        invocation.clone()
    }

    /// Admits a request, or says why not.
    fn begin(&mut self, request: &Request<WasiBody>) -> Result<Arc<Exchange>, HttpError> {
        let permit = self.client.admit(request).map_err(|fault| {
            self.client.network.metrics.count(fault.outcome());
            self.capture.note(&format!("outbound request refused: {fault}"));
            fault.error()
        })?;
        let exchange = Exchange::new(self.client.clone(), self.invocation(), permit);
        exchange
            .take(request_head_bytes(request), Part::RequestHead)
            .map_err(|fault| exchange.fail_guest(fault))?;
        Ok(Arc::new(exchange))
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Finished,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let mut span = span(&self.trace, &request);
        if let Some(context) = span.trace().context()
            && !request.headers().contains_key(TRACEPARENT)
        {
            context.write(request.headers_mut());
        }
        let exchange = match self.begin(&request) {
            Ok(exchange) => exchange,
            Err(error) => {
                span.fail(&error);
                return Box::new(std::future::ready(Err(error)));
            }
        };
        Box::new(async move {
            let sent = send(&exchange, request, options.unwrap_or_default()).await;
            match &sent {
                Ok(response) => span.note(|| {
                    let status = u32::from(response.status().as_u16());
                    [("http.response.status_code", status.into())]
                }),
                Err(fault) => span.fail(fault),
            }
            drop(span);
            let response = sent.map_err(|fault| exchange.fail_guest(fault))?;
            let finished: Finished = Box::new(std::future::ready(Ok(())));
            Ok((response, finished))
        })
    }
}

/// The span of a request, up to the head of its response. Its query may have secrets in it.
fn span(trace: &Trace, request: &Request<WasiBody>) -> Span {
    if !trace.is_recorded() {
        return trace.begin(SpanKind::Client, "");
    }
    let (method, url) = (request.method(), request.uri());
    let mut span = trace.begin(SpanKind::Client, method.as_str().to_owned());
    span.note(|| {
        let scheme = url.scheme_str().unwrap_or_default();
        let authority = url.authority().map_or("", |authority| authority.as_str());
        [
            ("http.request.method", method.as_str().into()),
            ("server.address", url.host().unwrap_or_default().into()),
            ("url.full", format!("{scheme}://{authority}{}", url.path()).into()),
        ]
    });
    span
}

/// Sends a request, and waits for the head of its response. A guest may ask for shorter waits than
/// the operator's; that its own time is up ends it from outside.
async fn send(
    exchange: &Arc<Exchange>,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Response<WasiBody>, Fault> {
    let longest = exchange.client.network.config.head_timeout;
    let patience = |asked: Option<Duration>| asked.map_or(longest, |asked| asked.min(longest));
    let host = request.uri().host().unwrap_or_default().to_owned();
    let mut request = request.map(|body| SentBody::new(body, exchange));
    let mut connected = capture_connection(&mut request);
    let mut response = exchange.client.http().request(request);
    let connect_timeout = async {
        // The operator's is kept by the connector itself.
        match options.connect_timeout {
            Some(asked) => tokio::time::sleep(asked).await,
            None => std::future::pending().await,
        }
    };
    let early = tokio::select! {
        biased;
        response = &mut response => Some(response),
        _ = connected.wait_for_connection_metadata() => None,
        () = connect_timeout => return Err(Fault::ConnectTimeout { host }),
    };
    let response = match early {
        Some(response) => response,
        None => tokio::time::timeout(patience(options.first_byte_timeout), response)
            .await
            .map_err(|_| Fault::ReadTimeout)?,
    };
    let response = response.map_err(|error| Fault::of_client(&error))?;
    exchange.take(header_bytes(response.headers()), Part::ResponseHead)?;
    let patience = patience(options.between_bytes_timeout);
    Ok(response.map(|body| ReceivedBody::new(body, exchange.clone(), patience).boxed_unsync()))
}

/// Bytes of a request's head as HTTP/1.1 writes it, near enough.
fn request_head_bytes(request: &Request<WasiBody>) -> usize {
    let target = request.uri().path_and_query().map_or(1, |target| target.as_str().len());
    request.method().as_str().len() + target + header_bytes(request.headers())
}
