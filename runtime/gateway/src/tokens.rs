//! Tokens and the audit log over HTTP, for admins. The one place that ever shows a secret.

use std::time::SystemTime;

use http::{Request, Response, StatusCode};
use quern_deploy::{AuditQuery, AuditRecord, NewToken};
use quern_types::{ByteSize, Caller, Name, Period, Role, TenantId, Token, TokenId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::{Code, Failure},
    inspection::timestamp,
};

/// Bytes of what is asked for in making a token.
const MAX_BODY: ByteSize = ByteSize(4096);
/// Audit records in one answer, unless fewer are asked for.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

/// What is asked for in making a token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Whom it acts for; the caller's own tenant if it isn't said.
    tenant: Option<Name>,
    role: Role,
    #[serde(default)]
    note: String,
    /// How long it is good for; for ever if it isn't said.
    expires_in: Option<Period>,
}

/// `POST /v1/tokens`
pub(crate) async fn create(
    gateway: &Gateway,
    caller: &Caller,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let body = request.into_body().collect(MAX_BODY, &gateway.body_room).await?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"{"role": "invoker", "tenant": "acme", "expires_in": "90d"}"#;
        Failure::new(Code::InvalidJson, format!("body is not of the form {example}: {error}"))
    })?;
    let Asked { tenant, role, note, expires_in } = asked;
    let tenant = tenant.as_ref().map_or_else(|| caller.tenant.clone(), TenantId::from);
    let new = NewToken { tenant, role, note, lifetime: expires_in };
    let (token, credential) = gateway.deployer.create_token(caller, new).await?;
    let mut about = describe(&token);
    about["secret"] = json!(credential.reveal());
    let mut reply = body::json(&about);
    *reply.status_mut() = StatusCode::CREATED;
    reply
        .headers_mut()
        .insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    Ok(reply)
}

/// `GET /v1/tokens`
pub(crate) fn list(gateway: &Gateway) -> Reply {
    let access = gateway.deployer.access();
    let mut tokens: Vec<_> = access.tokens().collect();
    tokens.sort_by_key(|token| (token.created, token.id));
    let tokens: Vec<_> = tokens.into_iter().map(|token| describe(token)).collect();
    body::json(&json!({ "tokens": tokens }))
}

/// `DELETE /v1/tokens/{id}`
pub(crate) async fn revoke(
    gateway: &Gateway,
    caller: &Caller,
    id: TokenId,
) -> Result<Reply, Failure> {
    gateway.deployer.revoke_token(caller, id).await?;
    let mut reply = Response::new(ReplyBody::empty());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    Ok(reply)
}

/// `GET /v1/audit`
pub(crate) async fn audit(gateway: &Gateway, query: Option<&str>) -> Result<Reply, Failure> {
    let records = gateway.deployer.audit(parse(query)?).await?;
    let records: Vec<_> = records.iter().map(describe_record).collect();
    Ok(body::json(&json!({ "records": records })))
}

fn parse(query: Option<&str>) -> Result<AuditQuery, Failure> {
    let refuse = |key: &str, problem: &str| {
        let key: String = key.chars().take(80).collect();
        Failure::new(Code::InvalidRequest, format!("query parameter {key:?} {problem}"))
    };
    let mut parsed = AuditQuery { tenant: None, before: None, limit: PAGE };
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "tenant" => {
                let name: Name =
                    value.parse().map_err(|_| refuse(key, "is not the name of a tenant"))?;
                parsed.tenant = Some(TenantId::from(&name));
            }
            "before" => {
                let sequence = value.parse().map_err(|_| refuse(key, "is not a number"))?;
                parsed.before = Some(sequence);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                parsed.limit = limit.ok_or_else(|| refuse(key, "is not 1 to 1000"))?;
            }
            _ => return Err(refuse(key, "is not known: use tenant, before and limit")),
        }
    }
    Ok(parsed)
}

fn describe(token: &Token) -> Value {
    let Token { id, tenant, role, note, created, expires, hash: _ } = token;
    json!({
        "id": id,
        "tenant": tenant,
        "role": role,
        "note": note,
        "created": timestamp(*created),
        "expires": expires.map(timestamp),
        "expired": expires.is_some_and(|expires| expires <= SystemTime::now()),
    })
}

fn describe_record(record: &AuditRecord) -> Value {
    let AuditRecord { sequence, time, tenant, token, action, subject, detail } = record;
    json!({
        "sequence": sequence,
        "time": timestamp(*time),
        "tenant": tenant,
        "token": token,
        "action": action,
        "subject": subject,
        "detail": detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_records() {
        let parsed = parse(Some("tenant=acme&before=7&limit=3")).expect("a query");
        assert_eq!(parsed.tenant, Some(TenantId::new("acme")));
        assert_eq!((parsed.before, parsed.limit), (Some(7), 3));
        assert_eq!(parse(None).expect("none").limit, PAGE);
        for query in ["tenant=A", "before=x", "limit=0", "limit=1001", "since=1", "limit"] {
            assert_eq!(parse(Some(query)).expect_err(query).status(), 400, "{query}");
        }
    }
}
