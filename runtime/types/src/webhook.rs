//! Webhooks: addresses that are told how asynchronous calls end; and the trait that inverts the edge
//! from whoever has something to tell to whoever has the way out. Never any I/O.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, StatusCode, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Name, SecretValue, TenantId};

/// Where a webhook's messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl(Uri);

/// Why a text is not a [`WebhookUrl`]. Does not quote it: there may be a secret in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "url is not an address such as https://example.com/hooks: write http:// or https://, a host, \
     no user and no fragment, in {} bytes at most",
    WebhookUrl::MAX_BYTES
)]
pub struct InvalidWebhookUrl;

/// A webhook, as whoever sends its messages needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name, one of its tenant's webhooks.
    pub name: Name,
    /// Where its messages go.
    pub url: WebhookUrl,
    /// When it was made.
    pub created: SystemTime,
    /// When its secret was made.
    pub secret_created: SystemTime,
    /// What its messages are signed with; none where the server can't open it.
    pub secret: Option<SecretValue>,
    /// The secret before, if there was one.
    pub previous: Option<PreviousSecret>,
}

/// The webhook that a call names, which is no other one that had its name before or has it later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedWebhook {
    /// Its name.
    pub name: Name,
    /// When it was made; none: whichever has the name, as there was none when the call was taken in,
    /// or this was not noted then.
    pub created: Option<SystemTime>,
}

/// A secret that was replaced, and signs beside its successor for a while.
#[derive(Debug, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The secret; none where the server can't open it.
    pub secret: Option<SecretValue>,
    /// Until when it signs.
    pub until: SystemTime,
}

/// Names a message to a webhook, however often it is sent: a UUID of version 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(uuid::Uuid);

/// Where a message to a webhook is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It waits for its turn, for the first time or again.
    Waiting,
    /// It was taken.
    Delivered,
    /// It was given up.
    Failed,
}

/// Why a text is not a [`DeliveryState`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state {0:?} is not known: choose waiting, delivered or failed")]
pub struct InvalidDeliveryState(String);

/// Sends requests to other servers, at addresses that the operator allows alone.
pub trait Courier: Send + Sync + 'static {
    /// Sends a request once and reads the head of its answer, all within a time. It follows no
    /// redirect, and reads no more than a little of the answer's body.
    fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Receipt, NotSent>>;
}

/// What a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The status.
    pub status: StatusCode,
    /// How long it asks to wait before another try.
    pub retry_after: Option<Duration>,
}

/// Why a request got no answer, for whoever had it sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotSent {
    /// What went wrong.
    pub reason: String,
}

impl Webhook {
    /// What names this one.
    pub fn named(&self) -> NamedWebhook {
        NamedWebhook { name: self.name.clone(), created: Some(self.created) }
    }
}

impl NamedWebhook {
    /// Whether it is this one, of webhooks of the same tenant.
    pub fn is(&self, webhook: &Webhook) -> bool {
        self.name == webhook.name && self.created.is_none_or(|created| created == webhook.created)
    }
}

impl WebhookUrl {
    /// Longest one.
    pub const MAX_BYTES: usize = 2_048;

    /// The address itself.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Scheme, host and port: what can be shown to those who need not know the rest.
    pub fn origin(&self) -> String {
        let scheme = self.0.scheme_str().unwrap_or_default();
        format!("{scheme}://{}", self.0.authority().map_or("", |authority| authority.as_str()))
    }
}

impl FromStr for WebhookUrl {
    type Err = InvalidWebhookUrl;

    fn from_str(text: &str) -> Result<Self, InvalidWebhookUrl> {
        // The parser drops a fragment in silence.
        if text.len() > Self::MAX_BYTES || text.contains('#') {
            return Err(InvalidWebhookUrl);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidWebhookUrl)?;
        // It is kept as it is written then, which adds a path where there is none.
        if uri.to_string().len() > Self::MAX_BYTES {
            return Err(InvalidWebhookUrl);
        }
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let is_host = uri.authority().is_some_and(|authority| {
            let port = authority.as_str().strip_prefix(authority.host());
            let fits = port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some());
            // A user would come before it.
            !authority.host().is_empty() && fits && !authority.as_str().contains('@')
        });
        if is_http && is_host { Ok(Self(uri)) } else { Err(InvalidWebhookUrl) }
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl DeliveryId {
    /// The id with these bits; the caller makes them (version 7 is expected).
    pub fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid)
    }

    /// Its bits.
    pub fn uuid(self) -> uuid::Uuid {
        self.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl FromStr for DeliveryId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Delivered, Self::Failed];

    /// The word of the API and of the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeliveryState {
    type Err = InvalidDeliveryState;

    fn from_str(text: &str) -> Result<Self, InvalidDeliveryState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| InvalidDeliveryState(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_a_message_can_be_sent_to() {
        for (text, origin) in [
            ("https://example.com", "https://example.com"),
            ("https://example.com/hooks?key=a", "https://example.com"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://[::1]:1/a", "http://[::1]:1"),
        ] {
            let url: WebhookUrl = text.parse().expect(text);
            assert_eq!(url.origin(), origin);
            assert_eq!(url.to_string().parse(), Ok(url), "as it is kept");
        }
        let long = format!("https://example.com/{}", "a".repeat(WebhookUrl::MAX_BYTES));
        let without_path =
            format!("https://example.com?{}", "a".repeat(WebhookUrl::MAX_BYTES - 20));
        assert_eq!(without_path.len(), WebhookUrl::MAX_BYTES);
        for text in [
            "",
            "example.com",
            "/hooks",
            "https://",
            "https:///hooks",
            "ftp://example.com",
            "https://user:secret@example.com",
            "https://a:secret@a:80/",
            "https://example.com/a b",
            "https://example.com:70000/",
            "https://example.com/#part",
            &long,
            &without_path,
        ] {
            assert_eq!(text.parse::<WebhookUrl>(), Err(InvalidWebhookUrl), "{text}");
        }
        assert!(!InvalidWebhookUrl.to_string().contains("secret"));
    }

    #[test]
    fn another_webhook_of_its_name_is_another_one() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let webhook = |name: &str, seconds| Webhook {
            tenant: TenantId::default(),
            name: name.parse().expect("a name"),
            url: "https://example.com".parse().expect("an address"),
            created: at(seconds),
            secret_created: at(seconds),
            secret: None,
            previous: None,
        };
        let shop = webhook("shop", 1);
        let unknown = NamedWebhook { created: None, ..shop.named() };
        for (other, is_it, is_unknown) in [
            (webhook("shop", 1), true, true),
            (webhook("shop", 2), false, true),
            (webhook("other", 1), false, false),
        ] {
            assert_eq!(
                (shop.named().is(&other), unknown.is(&other)),
                (is_it, is_unknown),
                "{other:?}"
            );
        }
    }

    #[test]
    fn states_have_a_word() {
        for state in DeliveryState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!("Failed".parse::<DeliveryState>().is_err());
    }
}
