//! Asynchronous calls and dead letters on the server.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use quern_types::{InvocationId, Name};
use reqwest::{Response, Url};

use super::{AcceptedCall, Answer, CallList, Client, ClientError, ListedCall, read_json, refused};

/// Which calls to list.
#[derive(Debug, Default)]
pub(crate) struct CallFilter {
    pub(crate) state: Option<String>,
    pub(crate) target: Option<Name>,
    pub(crate) before: Option<InvocationId>,
    pub(crate) limit: u32,
}

impl Client {
    /// Has a request carried out later.
    pub(crate) async fn call_later(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer<AcceptedCall>, ClientError> {
        headers.append("prefer", HeaderValue::from_static("respond-async"));
        let request = self.http.request(method, url).headers(headers).body(body);
        read_json(self.send(request).await?).await
    }

    pub(crate) async fn invocations(
        &self,
        filter: &CallFilter,
    ) -> Result<Answer<CallList>, ClientError> {
        self.calls("invocations", filter).await
    }

    pub(crate) async fn dead_letters(
        &self,
        filter: &CallFilter,
    ) -> Result<Answer<CallList>, ClientError> {
        self.calls("dead-letters", filter).await
    }

    pub(crate) async fn invocation(
        &self,
        id: InvocationId,
    ) -> Result<Answer<ListedCall>, ClientError> {
        self.answer(self.http.get(self.invocation_url(id, None))).await
    }

    /// The answer to an asynchronous call, whatever it says.
    pub(crate) async fn result(&self, id: InvocationId) -> Result<Response, ClientError> {
        let url = self.invocation_url(id, Some("result"));
        let response = self.dispatch(self.http.get(url)).await?;
        match response.headers().contains_key("quern-state") {
            true => Ok(response),
            false => refused(response).await,
        }
    }

    pub(crate) async fn cancel(&self, id: InvocationId) -> Result<(), ClientError> {
        self.send(self.http.delete(self.invocation_url(id, None))).await.map(drop)
    }

    pub(crate) async fn replay(&self, id: InvocationId) -> Result<Answer<ListedCall>, ClientError> {
        let url = self.url.at(&["v1", "dead-letters", &id.to_string(), "replay"]);
        self.answer(self.http.post(url)).await
    }

    pub(crate) async fn drop_dead_letter(&self, id: InvocationId) -> Result<(), ClientError> {
        let url = self.url.at(&["v1", "dead-letters", &id.to_string()]);
        self.send(self.http.delete(url)).await.map(drop)
    }

    async fn calls(
        &self,
        area: &str,
        filter: &CallFilter,
    ) -> Result<Answer<CallList>, ClientError> {
        let mut url = self.url.at(&["v1", area]);
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &filter.limit.to_string());
        let before = filter.before.map(|id| id.to_string());
        let target = filter.target.as_ref().map(ToString::to_string);
        for (key, value) in [("state", &filter.state), ("target", &target), ("before", &before)] {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        drop(query);
        self.answer(self.http.get(url)).await
    }

    fn invocation_url(&self, id: InvocationId, part: Option<&str>) -> Url {
        let id = id.to_string();
        let segments: Vec<&str> = ["v1", "invocations", &id].into_iter().chain(part).collect();
        self.url.at(&segments)
    }
}
