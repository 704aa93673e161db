//! Webhooks over HTTP, and what came of the messages to them. A webhook's secret goes out once, when it
//! is made.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use quern_jobs::{DeliveryQuery, DeliveryRecord};
use quern_types::{
    ByteSize, Caller, DeliveryId, DeliveryState, InvalidWebhookUrl, InvocationId, Name, Period,
    SecretValue, TenantId, Webhook,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Gateway,
    body::{self, Reply, ReplyBody, RequestBody},
    errors::Failure,
    json_body::Form,
    query::{self, Between},
    route::WebhookRoute,
    timestamp::Timestamp,
};

/// Bytes of a body about a webhook: more than its largest, however it is escaped.
const MAX_BODY: ByteSize = ByteSize(16 << 10);
const PUT: Form = Form { limit: MAX_BODY, example: r#"{"url": "https://example.com/hooks"}"# };
const ROTATE: Form = Form { limit: MAX_BODY, example: r#"{"keep_previous": "1day"}"# };
/// How long the secret before a new one is good for, if nobody says.
const KEEP_PREVIOUS: Duration = Duration::from_secs(24 * 3_600);
/// Longest time for that.
const MAX_KEEP: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Where messages are to be sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookRequest {
    /// An address, with `https://` or `http://`.
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    url: String,
}

/// How a secret is replaced.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RotateRequest {
    /// How long messages are signed with the secret before as well: up to 30 days, one if nothing is
    /// said.
    keep_previous: Option<Period>,
}

/// A webhook.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WebhookView {
    /// Its name.
    name: Name,
    /// Where its messages go.
    url: String,
    /// When it was made.
    created: Timestamp,
    /// When its secret was made.
    secret_created: Timestamp,
    /// Until when its messages are signed with the secret before as well; null if they are not.
    previous_until: Option<Timestamp>,
    /// Whether the server can't open its secret, so that its messages wait.
    locked: bool,
}

/// A webhook with a new secret.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NewSecret {
    #[serde(flatten)]
    webhook: WebhookView,
    /// What its messages are signed with, which is never shown again.
    secret: String,
}

/// The webhooks of a tenant.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WebhookList {
    /// By name.
    webhooks: Vec<WebhookView>,
}

/// A message to a webhook.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeliveryView {
    /// Its id, which its receiver finds in the header `webhook-id`.
    id: DeliveryId,
    /// The webhook.
    webhook: Name,
    /// The asynchronous call whose end it tells.
    invocation: InvocationId,
    /// Where it is on its way.
    state: DeliveryState,
    /// How often it was sent.
    attempts: u32,
    /// When the call ended.
    created: Timestamp,
    /// From when on it is not sent again, once it was sent in vain.
    expires: Timestamp,
    /// When it is sent next; null unless it waits, and while it waits for its webhook's secret.
    due: Option<Timestamp>,
    /// When it was taken or given up.
    ended: Option<Timestamp>,
    /// Until when this can be seen; null before its end.
    kept_until: Option<Timestamp>,
    /// The status of the last answer.
    status: Option<u16>,
    /// Why it was not taken the last time.
    reason: Option<String>,
}

/// Some messages to webhooks.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeliveryList {
    /// The newest first.
    deliveries: Vec<DeliveryView>,
}

/// Which messages are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveryFilter {
    /// Only those to this webhook.
    webhook: Option<Name>,
    /// Only those in this state.
    state: Option<DeliveryState>,
    /// Only those that came before this one.
    before: Option<DeliveryId>,
    /// How many, the newest ones.
    #[serde(default = "page")]
    limit: Between<1, 1000>,
}

/// Why a body makes no sense of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebhookBodyError {
    /// Its address is none.
    #[error("field `url`: {0}")]
    Url(#[from] InvalidWebhookUrl),
    /// The secret before would be good for too long.
    #[error("field `keep_previous` is above {most}")]
    Keep {
        /// The longest time.
        most: Period,
    },
}

fn page() -> Between<1, 1000> {
    Between::new(100)
}

impl From<&Webhook> for WebhookView {
    fn from(webhook: &Webhook) -> Self {
        let now = std::time::SystemTime::now();
        let previous = webhook.previous.as_ref().map(|previous| previous.until);
        Self {
            name: webhook.name.clone(),
            url: webhook.url.to_string(),
            created: webhook.created.into(),
            secret_created: webhook.secret_created.into(),
            previous_until: previous.filter(|until| *until > now).map(Timestamp::from),
            locked: webhook.secret.is_none(),
        }
    }
}

impl From<DeliveryRecord> for DeliveryView {
    fn from(delivery: DeliveryRecord) -> Self {
        Self {
            id: delivery.id,
            webhook: delivery.webhook,
            invocation: delivery.call,
            state: delivery.state,
            attempts: delivery.attempts,
            created: delivery.created.into(),
            expires: delivery.expires.into(),
            due: delivery.due.map(Timestamp::from),
            ended: delivery.ended.map(Timestamp::from),
            kept_until: delivery.kept_until.map(Timestamp::from),
            status: delivery.status.map(|status| status.as_u16()),
            reason: delivery.reason,
        }
    }
}

impl DeliveryFilter {
    fn of(self, tenant: &TenantId) -> DeliveryQuery {
        let Self { webhook, state, before, limit } = self;
        DeliveryQuery { tenant: tenant.clone(), webhook, state, before, limit: limit.get() }
    }
}

/// Carries out an operation on webhooks.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    route: WebhookRoute,
    request: Request<RequestBody>,
) -> Result<Reply, Failure> {
    let tenant = &caller.tenant;
    match route {
        WebhookRoute::List => {
            let webhooks = gateway.jobs.webhooks(tenant);
            let webhooks = webhooks.iter().map(|webhook| WebhookView::from(&**webhook)).collect();
            Ok(body::json(&WebhookList { webhooks }))
        }
        WebhookRoute::Show(name) => Ok(body::json(&view(gateway, caller, &name)?)),
        WebhookRoute::Put(name) => put(gateway, caller, name, request.into_body()).await,
        WebhookRoute::Delete(name) => {
            gateway.jobs.delete_webhook(caller, name).await?;
            let mut reply = Response::new(ReplyBody::empty());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            Ok(reply)
        }
        WebhookRoute::Rotate(name) => rotate(gateway, caller, name, request.into_body()).await,
        WebhookRoute::Deliveries => {
            let filter: DeliveryFilter = query::parse(request.uri().query())?;
            let found = gateway.jobs.deliveries(filter.of(tenant)).await?;
            let deliveries = found.into_iter().map(DeliveryView::from).collect();
            Ok(body::json(&DeliveryList { deliveries }))
        }
        WebhookRoute::ShowDelivery(id) => {
            let found = gateway.jobs.delivery(tenant, id).await?;
            Ok(body::json(&DeliveryView::from(found)))
        }
        WebhookRoute::Retry(id) => {
            gateway.jobs.retry_delivery(tenant, id).await?;
            let found = gateway.jobs.delivery(tenant, id).await?;
            let mut reply = body::json(&DeliveryView::from(found));
            *reply.status_mut() = StatusCode::ACCEPTED;
            Ok(reply)
        }
    }
}

/// `PUT /v1/webhooks/{name}`
async fn put(
    gateway: &Gateway,
    caller: &Caller,
    name: Name,
    body: RequestBody,
) -> Result<Reply, Failure> {
    let WebhookRequest { url } = PUT.read(gateway, body).await?;
    let url = url.parse().map_err(WebhookBodyError::from)?;
    match gateway.jobs.put_webhook(caller, name.clone(), url).await? {
        Some(secret) => {
            let mut reply = with_secret(gateway, caller, &name, &secret)?;
            *reply.status_mut() = StatusCode::CREATED;
            Ok(reply)
        }
        None => Ok(body::json(&view(gateway, caller, &name)?)),
    }
}

/// `POST /v1/webhooks/{name}/rotate`
async fn rotate(
    gateway: &Gateway,
    caller: &Caller,
    name: Name,
    body: RequestBody,
) -> Result<Reply, Failure> {
    let RotateRequest { keep_previous } = ROTATE.read_if_any(gateway, body).await?;
    let keep = keep_previous.map_or(KEEP_PREVIOUS, |Period(keep)| keep);
    if keep > MAX_KEEP {
        return Err(WebhookBodyError::Keep { most: Period(MAX_KEEP) }.into());
    }
    let secret = gateway.jobs.rotate_webhook(caller, name.clone(), keep).await?;
    with_secret(gateway, caller, &name, &secret)
}

fn with_secret(
    gateway: &Gateway,
    caller: &Caller,
    name: &Name,
    secret: &SecretValue,
) -> Result<Reply, Failure> {
    let webhook = view(gateway, caller, name)?;
    Ok(body::json(&NewSecret { webhook, secret: secret.expose().to_owned() }))
}

fn view(gateway: &Gateway, caller: &Caller, name: &Name) -> Result<WebhookView, Failure> {
    Ok(WebhookView::from(&*gateway.jobs.webhook(&caller.tenant, name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_messages() {
        let tenant = TenantId::default();
        let id = "01936a5e-0000-7000-8000-0123456789ab";
        let text = format!("webhook=shop&state=failed&before={id}&limit=3");
        let parsed: DeliveryFilter = query::parse(Some(&text)).expect("a query");
        let parsed = parsed.of(&tenant);
        assert_eq!((parsed.state, parsed.limit), (Some(DeliveryState::Failed), 3));
        assert_eq!(parsed.webhook, Some("shop".parse().expect("a name")));
        assert_eq!(parsed.before.map(|id| id.to_string()).as_deref(), Some(id));
        let all: DeliveryFilter = query::parse(None).expect("none");
        assert_eq!(all.of(&tenant).limit, 100);
        for text in ["state=lost", "webhook=A", "before=x", "limit=0", "limit=1001", "since=1"] {
            assert!(query::parse::<DeliveryFilter>(Some(text)).is_err(), "{text}");
        }
    }
}
