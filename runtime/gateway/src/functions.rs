//! Calls of functions that serve HTTP: the request goes on as it is, but for the headers that
//! concern one connection only. Bodies stream both ways and are never held here.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, Version,
    header::{
        AUTHORIZATION, CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
    request,
    uri::{Authority, PathAndQuery},
};
use quern_dispatcher::HttpCall;
use quern_types::{Caller, Class, Credential, Priority, QualifiedName};

use crate::{
    Gateway,
    body::{Reply, ReplyBody, RequestBody},
    errors::{ERROR, Failure},
    invocation::Way,
    selection::{VERSION, selector},
    sharing::Reached,
};

/// Why a request can't be passed on, or its response can't be passed back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForwardError {
    /// There is no usable host, or more than one.
    #[error("the Host header is missing, malformed or given more than once")]
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
    caller: &Caller,
    way: Way<'_>,
    name: QualifiedName,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let Reached { owner, routes } = gateway.reach(caller, Class::Function, &name)?;
    let (mut head, body) = request.into_parts();
    check_host(&head)?;
    head.uri = below(head.uri)?;
    head.extensions.clear();
    head.extensions.insert(way.invocation.priority(Priority::default()));
    remove_hop_by_hop(&mut head.headers);
    // It is the caller's, and would let the function act as it, here or on a server that asks.
    if shows_token(&head.headers) {
        head.headers.remove(AUTHORIZATION);
    }
    let selector = selector(&head.headers, None)?;
    let request = Request::from_parts(head, body.boxed());
    let (id, target, trace) = (way.invocation.id(), name.name, way.trace.clone());
    let call = HttpCall { id, routes, tenant: owner, target, selector, trace, request };
    let answer = gateway.dispatcher.call_http(call).await?;

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

/// Checks that a request names one host (RFC 9112, section 3.2). HTTP/2 may name it in the URI alone.
pub(crate) fn check_host(head: &request::Parts) -> Result<(), ForwardError> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => head.version >= Version::HTTP_2 && head.uri.authority().is_some(),
        (Some(_), Some(_)) => false,
    };
    if named { Ok(()) } else { Err(ForwardError::Host) }
}

/// Whether this is a host with or without a port, and nothing else.
fn is_host(text: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(text) else { return false };
    let after = authority.as_str().strip_prefix(authority.host());
    // User information comes before the host, so that nothing would be stripped.
    !authority.host().is_empty()
        && after
            .is_some_and(|port| port.is_empty() || port == ":" || authority.port_u16().is_some())
}

/// Whether any of the headers shows one of Quern's tokens.
pub(crate) fn shows_token(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().any(|value| {
        let mut words = value.to_str().unwrap_or_default().split_ascii_whitespace();
        words.any(|word| Credential::parse(word).is_some())
    })
}

/// The same URI as seen from below `/f/{name}`.
fn below(uri: Uri) -> Result<Uri, ForwardError> {
    let mut parts = uri.into_parts();
    let whole = parts.path_and_query.as_ref().map_or("", PathAndQuery::as_str);
    let named = whole.strip_prefix("/f/").unwrap_or_default();
    let rest = &named[named.find(['/', '?']).unwrap_or(named.len())..];
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
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
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
            ("/f/hello@acme/a?b", "/a?b"),
            ("/f/hello%40acme?b", "/?b"),
            ("http://example.com:8080/f/hello/a", "http://example.com:8080/a"),
        ];
        for (outer, inner) in cases {
            let uri = outer.parse::<Uri>().expect(outer);
            assert_eq!(below(uri).expect(outer).to_string(), inner, "{outer}");
        }
    }

    #[test]
    fn tokens_are_told_from_what_functions_are_sent() {
        let token = Credential::from_random([7; Credential::BYTES]).reveal();
        for (value, shows) in [
            (format!("Bearer {token}"), true),
            (format!("bearer   {token} "), true),
            (token.clone(), true),
            (format!("Bearer {}", &token[..70]), false),
            ("Bearer eyJhbGciOiJIUzI1NiJ9.e30.x".to_owned(), false),
            ("Basic dXNlcjpwYXNz".to_owned(), false),
        ] {
            let header = (AUTHORIZATION, HeaderValue::try_from(&value).expect("a value"));
            assert_eq!(shows_token(&HeaderMap::from_iter([header])), shows, "{value}");
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
    fn a_request_names_exactly_one_host() {
        let old = Version::HTTP_11;
        let new = Version::HTTP_2;
        let cases: [(Version, &str, &[&[u8]], bool); 17] = [
            (old, "/f/a", &[b"localhost:8080"], true),
            (old, "/f/a", &[b"example.com"], true),
            (old, "/f/a", &[b"example.com:"], true),
            (old, "/f/a", &[b"[::1]:80"], true),
            (old, "http://example.com/f/a", &[b"example.com"], true),
            (new, "http://example.com/f/a", &[], true),
            (old, "http://example.com/f/a", &[], false),
            (old, "/f/a", &[], false),
            (new, "/f/a", &[], false),
            (old, "/f/a", &[b""], false),
            (old, "/f/a", &[b"\xff"], false),
            (old, "/f/a", &[b"a b"], false),
            (old, "/f/a", &[b"a/b"], false),
            (old, "/f/a", &[b"user@a"], false),
            (old, "/f/a", &[b"a:port"], false),
            (old, "/f/a", &[b"a", b"b"], false),
            (new, "http://example.com/f/a", &[b"a", b"a"], false),
        ];
        for (version, uri, hosts, expected) in cases {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(HOST, HeaderValue::from_bytes(host).expect("a value"));
            }
            let (head, ()) = request.body(()).expect("a request").into_parts();
            assert_eq!(check_host(&head).is_ok(), expected, "{version:?} {uri} {hosts:?}");
        }
    }
}
