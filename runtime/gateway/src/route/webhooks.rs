//! The paths of webhooks and of the messages to them, who may ask for them, and what they are counted
//! as.

use quern_types::{DeliveryId, Name};

use super::{Route, RouteError, methods::Methods, paths::parse_name, shorten};
use crate::{access::Needs, metrics::Traffic};

/// An operation on webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WebhookRoute {
    /// `GET /v1/webhooks`
    List,
    /// `GET /v1/webhooks/{name}`
    Show(Name),
    /// `PUT /v1/webhooks/{name}`
    Put(Name),
    /// `DELETE /v1/webhooks/{name}`
    Delete(Name),
    /// `POST /v1/webhooks/{name}/rotate`
    Rotate(Name),
    /// `GET /v1/deliveries`
    Deliveries,
    /// `GET /v1/deliveries/{id}`
    ShowDelivery(DeliveryId),
    /// `POST /v1/deliveries/{id}/retry`
    Retry(DeliveryId),
}

/// What there is below `/v1/webhooks` and `/v1/deliveries`.
pub(super) fn find(area: &str, rest: &[&str], path: &str) -> Result<Option<Methods>, RouteError> {
    use WebhookRoute as To;
    let route = Route::Webhooks;
    Ok(match (area, rest) {
        ("webhooks", []) => Some(Methods::get(route(To::List))),
        ("webhooks", [name]) => {
            let name = parse_name(name, path)?;
            let methods = Methods::get(route(To::Show(name.clone())));
            let methods = methods.and_put(route(To::Put(name.clone())));
            Some(methods.and_delete(route(To::Delete(name))))
        }
        ("webhooks", [name, "rotate"]) => {
            Some(Methods::post(route(To::Rotate(parse_name(name, path)?))))
        }
        ("deliveries", []) => Some(Methods::get(route(To::Deliveries))),
        ("deliveries", [id]) => Some(Methods::get(route(To::ShowDelivery(parse_id(id)?)))),
        ("deliveries", [id, "retry"]) => Some(Methods::post(route(To::Retry(parse_id(id)?)))),
        _ => None,
    })
}

fn parse_id(text: &str) -> Result<DeliveryId, RouteError> {
    text.parse().map_err(|_| RouteError::Delivery { id: shorten(text) })
}

impl WebhookRoute {
    /// Who may ask for it: an address may have a secret in it.
    pub(super) fn needs() -> Needs {
        Needs::DEPLOYER
    }

    /// Its path with its names left out.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::List => "/v1/webhooks",
            Self::Show(_) | Self::Put(_) | Self::Delete(_) => "/v1/webhooks/{name}",
            Self::Rotate(_) => "/v1/webhooks/{name}/rotate",
            Self::Deliveries => "/v1/deliveries",
            Self::ShowDelivery(_) => "/v1/deliveries/{id}",
            Self::Retry(_) => "/v1/deliveries/{id}/retry",
        }
    }

    /// Its name in the OpenAPI document.
    pub(super) fn operation(&self) -> &'static str {
        match self {
            Self::List => "listWebhooks",
            Self::Show(_) => "showWebhook",
            Self::Put(_) => "putWebhook",
            Self::Delete(_) => "deleteWebhook",
            Self::Rotate(_) => "rotateWebhook",
            Self::Deliveries => "listDeliveries",
            Self::ShowDelivery(_) => "showDelivery",
            Self::Retry(_) => "retryDelivery",
        }
    }

    /// What it is counted as.
    pub(super) fn traffic(&self) -> Traffic {
        match self {
            Self::List | Self::Show(_) | Self::Deliveries | Self::ShowDelivery(_) => {
                Traffic::Inspect
            }
            Self::Put(_) | Self::Delete(_) | Self::Rotate(_) | Self::Retry(_) => Traffic::Change,
        }
    }
}
