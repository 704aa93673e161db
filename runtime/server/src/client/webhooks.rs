//! Webhooks on the server, and messages to them. A secret is received once.

use quern_types::{DeliveryId, DeliveryState, Name, Period};
use serde_json::json;

use super::{
    Answer, Client, ClientError,
    answer::{DeliveryList, ListedDelivery, ListedWebhook, WebhookList},
};

/// Which messages to list.
#[derive(Debug)]
pub(crate) struct DeliveryFilter {
    pub(crate) webhook: Option<Name>,
    pub(crate) state: Option<DeliveryState>,
    pub(crate) before: Option<DeliveryId>,
    pub(crate) limit: u32,
}

impl Client {
    pub(crate) async fn webhooks(&self) -> Result<Answer<WebhookList>, ClientError> {
        self.answer(self.http.get(self.url.at(&["v1", "webhooks"]))).await
    }

    pub(crate) async fn put_webhook(
        &self,
        name: &Name,
        url: &str,
    ) -> Result<Answer<ListedWebhook>, ClientError> {
        self.answer(self.http.put(self.webhook_url(name)).json(&json!({ "url": url }))).await
    }

    pub(crate) async fn rotate_webhook(
        &self,
        name: &Name,
        keep_previous: Option<Period>,
    ) -> Result<Answer<ListedWebhook>, ClientError> {
        let url = self.url.at(&["v1", "webhooks", name.as_str(), "rotate"]);
        let body = match keep_previous {
            Some(keep) => json!({ "keep_previous": keep.to_string() }),
            None => json!({}),
        };
        self.answer(self.http.post(url).json(&body)).await
    }

    pub(crate) async fn delete_webhook(&self, name: &Name) -> Result<(), ClientError> {
        self.send(self.http.delete(self.webhook_url(name))).await.map(drop)
    }

    pub(crate) async fn deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<Answer<DeliveryList>, ClientError> {
        let mut url = self.url.at(&["v1", "deliveries"]);
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &filter.limit.to_string());
        let webhook = filter.webhook.as_ref().map(ToString::to_string);
        let state = filter.state.map(|state| state.to_string());
        let before = filter.before.map(|id| id.to_string());
        for (key, value) in [("webhook", webhook), ("state", state), ("before", before)] {
            if let Some(value) = value {
                query.append_pair(key, &value);
            }
        }
        drop(query);
        self.answer(self.http.get(url)).await
    }

    pub(crate) async fn retry_delivery(
        &self,
        id: DeliveryId,
    ) -> Result<Answer<ListedDelivery>, ClientError> {
        let url = self.url.at(&["v1", "deliveries", &id.to_string(), "retry"]);
        self.answer(self.http.post(url)).await
    }

    fn webhook_url(&self, name: &Name) -> reqwest::Url {
        self.url.at(&["v1", "webhooks", name.as_str()])
    }
}
