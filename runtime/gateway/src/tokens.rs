//! Tokens and the audit log over HTTP, for admins. The one place that ever shows a secret.

use std::time::SystemTime;

use http::{HeaderValue, Request, Response, StatusCode, header::CACHE_CONTROL};
use quern_deploy::{AuditQuery, AuditRecord, NewToken};
use quern_types::{ByteSize, Caller, Name, Period, Role, TenantId, Token, TokenId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
    json_body::Form,
    query::{self, Between},
    timestamp::Timestamp,
};

/// What is asked for in making a token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    /// Whom it acts for; the caller's own tenant if it isn't said.
    tenant: Option<Name>,
    /// What it allows.
    role: Role,
    /// What to remember about it; no control characters.
    #[serde(default)]
    #[schemars(length(max = 200), regex(pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"))]
    note: String,
    /// How long it is good for, ten years at most; for ever if it isn't said.
    expires_in: Option<Period>,
}

impl TokenRequest {
    const FORM: Form = Form {
        limit: ByteSize(4096),
        example: r#"{"role": "invoker", "tenant": "acme", "expires_in": "90d"}"#,
    };
}

/// A token, without its secret.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TokenEntry {
    /// Its name.
    id: TokenId,
    /// Whom it acts for.
    tenant: TenantId,
    /// What it allows.
    role: Role,
    /// What its maker noted about it.
    note: String,
    /// When it was made.
    created: Timestamp,
    /// From when on it allows nothing; null: never.
    expires: Option<Timestamp>,
    /// Whether that has passed.
    expired: bool,
}

/// The tokens of a server.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TokenList {
    /// In the order in which they were made.
    tokens: Vec<TokenEntry>,
}

/// A token that was just made.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CreatedToken {
    #[serde(flatten)]
    token: TokenEntry,
    /// What to show as `Authorization: Bearer …`; it can't be had again.
    secret: String,
}

/// Which audit records are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditFilter {
    /// Only what was done for this tenant.
    tenant: Option<Name>,
    /// Only what was done before the record of this sequence.
    before: Option<u64>,
    /// How many, the newest ones.
    #[serde(default = "page")]
    limit: Between<1, 1000>,
}

fn page() -> Between<1, 1000> {
    Between::new(100)
}

/// A part of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditPage {
    /// The newest first.
    records: Vec<AuditEntry>,
}

/// A change.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditEntry {
    /// Its place among all records; only grows.
    sequence: u64,
    /// When it was committed.
    time: Timestamp,
    /// Whoever made it acted for this tenant.
    tenant: TenantId,
    /// And showed this token; null where nobody is asked for one.
    token: Option<TokenId>,
    /// What was done, such as `deploy`.
    action: String,
    /// What it was done to, such as `function hello`.
    subject: String,
    /// What else there is to say.
    #[schemars(with = "Map<String, Value>")]
    detail: Value,
}

/// `POST /v1/tokens`
pub(crate) async fn create(
    gateway: &Gateway,
    caller: &Caller,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let asked: TokenRequest = TokenRequest::FORM.read(gateway, request.into_body()).await?;
    let TokenRequest { tenant, role, note, expires_in } = asked;
    let tenant = tenant.as_ref().map_or_else(|| caller.tenant.clone(), TenantId::from);
    let new = NewToken { tenant, role, note, lifetime: expires_in };
    let (token, credential) = gateway.deployer.create_token(caller, new).await?;
    let mut reply =
        body::json(&CreatedToken { token: (&token).into(), secret: credential.reveal() });
    *reply.status_mut() = StatusCode::CREATED;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

/// `GET /v1/tokens`
pub(crate) fn list(gateway: &Gateway) -> Reply {
    let access = gateway.deployer.access();
    let mut tokens: Vec<_> = access.tokens().collect();
    tokens.sort_by_key(|token| (token.created, token.id));
    body::json(&TokenList { tokens: tokens.into_iter().map(|token| (&**token).into()).collect() })
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
    let AuditFilter { tenant, before, limit } = query::parse(query)?;
    let tenant = tenant.as_ref().map(TenantId::from);
    let asked = AuditQuery { tenant, before, limit: limit.get() };
    let records = gateway.deployer.audit(asked).await?;
    Ok(body::json(&AuditPage { records: records.into_iter().map(AuditEntry::from).collect() }))
}

impl From<&Token> for TokenEntry {
    fn from(token: &Token) -> Self {
        let Token { id, tenant, role, note, created, expires, hash: _ } = token;
        Self {
            id: *id,
            tenant: tenant.clone(),
            role: *role,
            note: note.clone(),
            created: (*created).into(),
            expires: expires.map(Timestamp::from),
            expired: expires.is_some_and(|expires| expires <= SystemTime::now()),
        }
    }
}

impl From<AuditRecord> for AuditEntry {
    fn from(record: AuditRecord) -> Self {
        let AuditRecord { sequence, time, tenant, token, action, subject, detail } = record;
        Self { sequence, time: time.into(), tenant, token, action, subject, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_records() {
        let parsed: AuditFilter =
            query::parse(Some("tenant=acme&before=7&limit=3")).expect("a query");
        assert_eq!(parsed.tenant.expect("a name").as_str(), "acme");
        assert_eq!((parsed.before, parsed.limit.get()), (Some(7), 3));
        assert_eq!(query::parse::<AuditFilter>(None).expect("none").limit, page());
        for query in ["tenant=A", "before=x", "limit=0", "limit=1001", "since=1", "limit"] {
            let refused = query::parse::<AuditFilter>(Some(query)).expect_err(query);
            assert_eq!(Failure::from(refused).status(), 400, "{query}");
        }
    }
}
