//! Takes a call in, to be carried out later. What can be refused at once is refused at once.

use http::{
    HeaderName, HeaderValue, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, LOCATION},
    request,
};
use quern_jobs::NewJob;
use quern_types::{
    CallKind, CallState, Callee, Caller, Class, Digest, DigestWriter, InvocationId, InvokeError,
    Name, QualifiedName, TenantId,
};
use serde::Serialize;

use super::{
    options::Options,
    prefer::{APPLIED, PREFER, RESPOND_ASYNC},
};
use crate::{
    Gateway,
    access::AccessError,
    body::{self, Reply, RequestBody},
    errors::Failure,
    functions::{check_host, remove_hop_by_hop, shows_token},
    invocation::Invocation,
    route::Route,
    selection::VERSION,
    sharing::Reached,
};

/// Divides a body of the Open Inference Protocol, and so belongs to what a key stands for.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The answer to a call that was taken in.
#[derive(Debug, Serialize)]
struct Accepted {
    id: InvocationId,
    state: CallState,
    /// Whether it was brought before, with the same idempotency key.
    repeated: bool,
}

/// A call of a function or a model, with `Prefer: respond-async`.
pub(crate) async fn enqueue(
    gateway: &Gateway,
    caller: &Caller,
    invocation: Invocation,
    route: Route,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let callee = find(gateway, caller, route)?;
    let (mut head, body) = request.into_parts();
    let config = gateway.jobs.config();
    let Options { key, attempts, age, webhook } = Options::of(&head.headers, config)?;
    let webhook = webhook.map(|webhook| gateway.jobs.webhook(&caller.tenant, &webhook));
    let webhook = webhook.transpose()?.map(|webhook| webhook.named());
    prepare(&mut head, caller)?;
    let body = body.collect(config.max_request, &gateway.body_room).await?;
    let digest = digest(&head, webhook.as_ref().map(|webhook| &webhook.name), &body);
    let job = NewJob {
        id: invocation.id(),
        tenant: caller.tenant.clone(),
        callee,
        // With its room, until it is on the disk.
        request: Request::from_parts(head, body.into_bytes()),
        key,
        webhook,
        digest,
        attempts,
        age,
    };
    let enqueued = gateway.jobs.enqueue(job).await?;
    let named = Invocation::stored(enqueued.id);
    let accepted = Accepted { id: enqueued.id, state: enqueued.state, repeated: !enqueued.is_new };
    let mut reply = body::json(&accepted);
    *reply.status_mut() = StatusCode::ACCEPTED;
    reply.extensions_mut().insert(named);
    let headers = reply.headers_mut();
    let location = HeaderValue::try_from(format!("/v1/invocations/{named}"));
    headers.insert(LOCATION, location.expect("digits and letters"));
    headers.insert(APPLIED, RESPOND_ASYNC);
    Ok(reply)
}

/// What is called, if it can be called so at this moment.
pub(super) fn find(gateway: &Gateway, caller: &Caller, route: Route) -> Result<Callee, Failure> {
    if caller.is_anonymous() {
        // Nobody could ask for what comes of it.
        return Err(AccessError::Missing.into());
    }
    match route {
        Route::Call(name) => {
            let Reached { owner, routes } = gateway.reach(caller, Class::Function, &name)?;
            let name = name.name;
            let function = routes.function(&owner, &name);
            let function = function.ok_or_else(|| InvokeError::NotFound { name: name.clone() })?;
            match function.live().spec.kind.as_str() {
                "http" => Ok(callee(caller, CallKind::Http, owner, name)),
                actual => Err(InvokeError::WrongKind { name, actual, expected: "http" }.into()),
            }
        }
        Route::Infer(target) => {
            gateway.find(caller, &target)?;
            let QualifiedName { name, owner } = target.name;
            let owner = owner.unwrap_or_else(|| caller.tenant.clone());
            Ok(callee(caller, CallKind::Inference, owner, name))
        }
        other => Err(Failure::internal(format!("{other:?} is no call"))),
    }
}

/// What a caller calls, whose owner is named where that is somebody else.
fn callee(caller: &Caller, kind: CallKind, owner: TenantId, name: Name) -> Callee {
    let owner = (owner != caller.tenant).then_some(owner);
    Callee { kind, name: QualifiedName { name, owner } }
}

/// Makes a head one that can be stored: without what concerns its connection or this server, or
/// would let others act as the caller.
fn prepare(head: &mut request::Parts, caller: &Caller) -> Result<(), Failure> {
    check_host(head)?;
    let host = head.uri.authority().map(|authority| HeaderValue::try_from(authority.as_str()));
    if let Some(Ok(host)) = host
        && !head.headers.contains_key(HOST)
    {
        head.headers.insert(HOST, host);
    }
    remove_hop_by_hop(&mut head.headers);
    Options::remove_from(&mut head.headers);
    for name in [PREFER, EXPECT, CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    if caller.token.is_some() || shows_token(&head.headers) {
        head.headers.remove(AUTHORIZATION);
    }
    head.extensions.clear();
    Ok(())
}

/// Of what two requests with one key must have in common.
fn digest(head: &request::Parts, webhook: Option<&Name>, body: &[u8]) -> Digest {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let header = |name| head.headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    let mut digest = DigestWriter::default();
    let (kind, json_length) = (header(CONTENT_TYPE), header(JSON_LENGTH));
    for part in [head.method.as_str().as_bytes(), path.as_bytes(), kind, json_length] {
        digest.update(part);
        // No part has a line break.
        digest.update(b"\n");
    }
    // Only where they are: what was stored before they counted keeps its digest.
    if let Some(version) = head.headers.get(VERSION) {
        digest.update(version.as_bytes());
        digest.update(b"\n");
    }
    if let Some(webhook) = webhook {
        digest.update(b"webhook ");
        digest.update(webhook.as_str().as_bytes());
        digest.update(b"\n");
    }
    digest.update(body);
    digest.finish()
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, TRANSFER_ENCODING};
    use quern_types::{Role, TokenId};

    use super::*;

    fn head(path: &str, headers: &[(HeaderName, &str)]) -> request::Parts {
        let mut request = Request::builder().method("POST").uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn a_stored_head_has_nothing_of_its_connection_and_no_credential() {
        let sent = [
            (HOST, "localhost:7700"),
            (CONNECTION, "close"),
            (TRANSFER_ENCODING, "chunked"),
            (EXPECT, "100-continue"),
            (PREFER, "respond-async"),
            (HeaderName::from_static("quern-max-age"), "1h"),
            (HeaderName::from_static("quern-webhook"), "shop"),
            (HeaderName::from_static("idempotency-key"), "k"),
            (AUTHORIZATION, "Bearer x"),
            (HeaderName::from_static("x-mine"), "1"),
        ];
        let left = |caller: &Caller| {
            let mut head = head("/f/hello", &sent);
            prepare(&mut head, caller).expect("a host");
            let mut names: Vec<_> = head.headers.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        let token: TokenId = "0123456789abcdef".parse().expect("an id");
        let known = Caller { tenant: TenantId::default(), role: Role::Invoker, token: Some(token) };
        assert_eq!(left(&known), ["host", "idempotency-key", "x-mine"]);
        // Where no token is asked for, it is the function's own.
        let unasked = left(&Caller::unasked());
        assert_eq!(unasked, ["authorization", "host", "idempotency-key", "x-mine"]);
        assert!(prepare(&mut head("/f/hello", &[]), &known).is_err(), "no host");
    }

    #[test]
    fn a_key_stands_for_method_path_kind_webhook_and_body() {
        let of = |path: &str, kind: &str, body: &[u8]| {
            digest(&head(path, &[(CONTENT_TYPE, kind)]), None, body)
        };
        let first = of("/f/a?x=1", "text/plain", b"body");
        assert_eq!(of("/f/a?x=1", "text/plain", b"body"), first);
        for (path, kind, body) in [
            ("/f/a?x=2", "text/plain", &b"body"[..]),
            ("/f/a?x=1", "text/html", b"body"),
            ("/f/a?x=1", "text/plain", b"other"),
        ] {
            assert_ne!(of(path, kind, body), first, "{path} {kind}");
        }
        let shop: Name = "shop".parse().expect("a name");
        let told = head("/f/a?x=1", &[(CONTENT_TYPE, "text/plain")]);
        assert_ne!(digest(&told, Some(&shop), b"body"), first, "another webhook");
    }
}
