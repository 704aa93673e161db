//! Calls of functions that serve HTTP: the request goes on as it is, but for the headers that
//! concern one connection only. Bodies stream both ways and are never held here.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri,
    header::{
        CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE,
    },
    uri::PathAndQuery,
};
use quern_types::Name;

use crate::{
    Gateway,
    body::{Reply, ReplyBody, RequestBody},
    errors::Failure,
    invocation::Invocation,
};

/// Why a request can't be passed on, or its response can't be passed back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForwardError {
    /// There is no usable host.
    #[error("the Host header is missing or malformed")]
    Host,
    /// What follows the function's name is no path.
    #[error("path {path:?} can't be passed to the function")]
    Path {
        /// What follows.
        path: String,
    },
    /// The function answered with an interim status as its last word.
    #[error("function answered with status {status}, which can't end a request")]
    Interim {
        /// The status.
        status: StatusCode,
    },
}

/// Calls a function with a request.
pub(crate) async fn call(
    gateway: &Gateway,
    invocation: Invocation,
    name: Name,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let (mut head, body) = request.into_parts();
    if head.uri.authority().is_none() && !has_host(&head.headers) {
        return Err(ForwardError::Host.into());
    }
    head.uri = below(head.uri, &name)?;
    head.extensions.clear();
    remove_hop_by_hop(&mut head.headers);
    let request = Request::from_parts(head, body.boxed());
    let answer =
        gateway.dispatcher.call_http(invocation.id(), &gateway.tenant, &name, request).await?;

    let mut reply = answer.response.map(ReplyBody::Stream);
    if reply.status().is_informational() {
        return Err(ForwardError::Interim { status: reply.status() }.into());
    }
    let headers = reply.headers_mut();
    remove_hop_by_hop(headers);
    // Says that an error is the server's own.
    headers.remove(ERROR);
    headers.insert(VERSION, HeaderValue::from(answer.version.get()));
    Ok(reply)
}

const ERROR: HeaderName = HeaderName::from_static("quern-error");
const VERSION: HeaderName = HeaderName::from_static("quern-version");

fn has_host(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| !host.is_empty())
}

/// The same URI as seen from below `/f/{name}`.
fn below(uri: Uri, name: &Name) -> Result<Uri, ForwardError> {
    let mut parts = uri.into_parts();
    let whole = parts.path_and_query.as_ref().map_or("", PathAndQuery::as_str);
    let rest = whole.get("/f/".len() + name.as_str().len()..).unwrap_or_default();
    let path = || ForwardError::Path { path: rest.chars().take(200).collect() };
    let inner = if rest.starts_with('/') {
        PathAndQuery::try_from(rest)
    } else {
        PathAndQuery::try_from(format!("/{rest}"))
    };
    let inner = inner.map_err(|_| path())?;
    let error = path();
    parts.path_and_query = Some(inner);
    Uri::from_parts(parts).map_err(|_| error)
}

/// Removes the headers that concern one connection (RFC 9110, section 7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let listed = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What addresses the request stays, whoever asks for its removal.
        .filter(|name: &HeaderName| name != HOST)
        .collect::<Vec<_>>();
    let own = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect::<Vec<_>>();
    for name in listed.into_iter().chain(own) {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION
            | PROXY_AUTHENTICATE
            | PROXY_AUTHORIZATION
            | TE
            | TRAILER
            | TRANSFER_ENCODING
            | UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_sees_the_path_below_its_name() {
        let cases = [
            ("/f/hello", "/"),
            ("/f/hello/", "/"),
            ("/f/hello?q=1", "/?q=1"),
            ("/f/hello/a/b%20c?x=/f/hello/&y", "/a/b%20c?x=/f/hello/&y"),
            ("/f/hello//a", "//a"),
            ("http://example.com:8080/f/hello/a", "http://example.com:8080/a"),
        ];
        let name: Name = "hello".parse().expect("a name");
        for (outer, inner) in cases {
            let uri = outer.parse::<Uri>().expect(outer);
            assert_eq!(below(uri, &name).expect(outer).to_string(), inner, "{outer}");
        }
    }

    #[test]
    fn headers_of_one_connection_go_no_further() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "example.com"),
            ("connection", "close, X-Secret, host"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("x-kept", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "basic"),
            ("proxy-authenticate", "basic"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
        ] {
            headers.append(name, value.parse().expect("a value"));
        }
        remove_hop_by_hop(&mut headers);
        let mut left = headers.keys().map(HeaderName::as_str).collect::<Vec<_>>();
        left.sort_unstable();
        assert_eq!(left, ["host", "x-kept"]);
    }

    #[test]
    fn a_request_without_a_usable_host_is_recognised() {
        let mut headers = HeaderMap::new();
        assert!(!has_host(&headers));
        headers.insert(HOST, HeaderValue::from_static(""));
        assert!(!has_host(&headers));
        headers.insert(HOST, HeaderValue::from_bytes(b"\xff").expect("opaque bytes"));
        assert!(!has_host(&headers));
        headers.insert(HOST, HeaderValue::from_static("localhost:8080"));
        assert!(has_host(&headers));
    }
}
