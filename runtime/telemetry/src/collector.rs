//! One collector and how it is reached: OTLP in binary protobuf over HTTP/1.1. Sends a request once;
//! whether to try again is for its caller to decide.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::attributes::pairs;

/// Where a collector takes spans, below its address.
const PATH: &str = "/v1/traces";
/// Bytes of an answer that are read.
const MOST_ANSWER_BYTES: usize = 64 << 10;
/// How long a connection that is not in use is kept: less than collectors keep theirs.
const IDLE: Duration = Duration::from_secs(20);

/// The address of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// A text is no address of a collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the address of a collector: write http://HOST:PORT, mostly of port 4318")]
pub struct InvalidEndpoint {
    text: String,
}

/// Headers that go with every request, such as a key. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(HeaderMap);

/// A text is none of headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("headers are not of the form key=value,key=value, percent-encoded")]
pub struct InvalidHeaders;

/// Sends spans to a collector.
pub(crate) struct Collector {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Endpoint,
    headers: Headers,
    timeout: Duration,
}

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("it can't be reached: {0}")]
    Unreachable(String),
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error("it answered {status}")]
    Refused { status: StatusCode, retry_after: Option<Duration> },
}

impl SendError {
    /// Whether another try may succeed, as the specification of OTLP has it; after how long at
    /// least, if the collector says so.
    pub(crate) fn retry(&self) -> Option<Duration> {
        match self {
            Self::Unreachable(_) | Self::Timeout(_) => Some(Duration::ZERO),
            Self::Refused { status, retry_after } => {
                let passing = matches!(status.as_u16(), 429 | 502 | 503 | 504);
                passing.then(|| retry_after.unwrap_or_default())
            }
        }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint { text: text.chars().take(200).collect() };
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        if !is_http || authority.is_none() || uri.query().is_some() {
            return Err(invalid());
        }
        let path = format!("{}{PATH}", uri.path().trim_end_matches('/'));
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(path.parse().map_err(|_| invalid())?);
        Uri::from_parts(parts).map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Headers {
    type Err = InvalidHeaders;

    fn from_str(text: &str) -> Result<Self, InvalidHeaders> {
        let mut headers = HeaderMap::new();
        for (key, value) in pairs(text).map_err(|_| InvalidHeaders)? {
            let key: HeaderName = key.parse().map_err(|_| InvalidHeaders)?;
            let mut value: HeaderValue = value.parse().map_err(|_| InvalidHeaders)?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(Self(headers))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Collector {
    /// A collector; the system's certificates are read if it is to be reached over TLS.
    pub(crate) fn new(
        endpoint: Endpoint,
        headers: Headers,
        timeout: Duration,
    ) -> Result<Self, TlsError> {
        let tls = tls(endpoint.0.scheme_str() == Some("https")).map_err(TlsError)?;
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector.build());
        Ok(Self { http, endpoint, headers, timeout })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends spans once; says how many of them the collector did not want.
    pub(crate) async fn send(
        &self,
        request: &ExportTraceServiceRequest,
    ) -> Result<usize, SendError> {
        let exchange = self.exchange(request.encode_to_vec().into());
        let exchange = tokio::time::timeout(self.timeout, exchange);
        exchange.await.map_err(|_| SendError::Timeout(self.timeout))?
    }

    async fn exchange(&self, body: Bytes) -> Result<usize, SendError> {
        let unreachable = |error: &dyn std::error::Error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            SendError::Unreachable(format!("{error}{cause}"))
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.0.clone();
        let headers = request.headers_mut();
        headers.extend(self.headers.0.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static("quern"));
        let response = self.http.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            let seconds = response.headers().get(RETRY_AFTER).and_then(|value| {
                let seconds: u64 = value.to_str().ok()?.parse().ok()?;
                Some(Duration::from_secs(seconds))
            });
            return Err(SendError::Refused { status, retry_after: seconds });
        }
        let answer = Limited::new(response.into_body(), MOST_ANSWER_BYTES).collect().await;
        // The spans were taken; what more is said of them may be lost.
        let answer = answer.map(|answer| answer.to_bytes()).unwrap_or_default();
        let answer = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(usize::try_from(rejected).unwrap_or(0))
    }
}

/// The certificates of others can't be checked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

fn tls(is_used: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match is_used {
        true => builder.with_native_roots().map_err(|error| error.to_string())?,
        false => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_below_which_spans_are_taken() {
        for (text, uri) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("https://otel.example.com/", "https://otel.example.com/v1/traces"),
            ("http://[::1]:1/a/b/", "http://[::1]:1/a/b/v1/traces"),
        ] {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), uri);
        }
        for text in [
            "",
            "localhost",
            "localhost:4318",
            "grpc://localhost:4317",
            "http://",
            "http://user:secret@localhost",
            "http://localhost?a=b",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn headers_are_read_and_not_shown() {
        let headers: Headers = "authorization=Bearer%20secret,x-a=1".parse().expect("headers");
        assert_eq!(headers.0["authorization"], "Bearer secret");
        let shown = format!("{headers:?}");
        assert!(shown.contains("x-a") && !shown.contains("secret"), "{shown}");
        for text in ["a", "a b=1", "a=%0a"] {
            assert_eq!(text.parse::<Headers>(), Err(InvalidHeaders), "{text}");
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let refused = |status| {
            let status = StatusCode::from_u16(status).expect("a status");
            SendError::Refused { status, retry_after: None }.retry().is_some()
        };
        let statuses = [400, 401, 404, 413, 429, 500, 502, 503, 504];
        let retried: Vec<_> = statuses.into_iter().filter(|status| refused(*status)).collect();
        assert_eq!(retried, [429, 502, 503, 504]);
        assert!(SendError::Unreachable(String::new()).retry().is_some());
        assert!(SendError::Timeout(Duration::ZERO).retry().is_some());
        let (status, seconds) = (StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(7));
        let later = SendError::Refused { status, retry_after: Some(seconds) };
        assert_eq!(later.retry(), Some(seconds));
    }
}
