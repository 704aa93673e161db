//! The client's side of sharing functions and models with other tenants.

use quern_types::{Class, Name};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Client, ClientError};

/// Who may call something besides its owner.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Grants {
    pub(crate) public: bool,
    pub(crate) tenants: Vec<String>,
}

/// A part of what others share.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SharedList {
    pub(crate) shared: Vec<Shared>,
    /// What to ask for the next part after.
    pub(crate) next: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) version: u32,
}

impl Client {
    pub(crate) async fn sharing(
        &self,
        class: Class,
        name: &Name,
    ) -> Result<Answer<Grants>, ClientError> {
        let url = self.url.at(&["v1", class.plural(), name.as_str(), "access"]);
        self.answer(self.http.get(url)).await
    }

    pub(crate) async fn share(
        &self,
        class: Class,
        name: &Name,
        public: bool,
        tenants: &[Name],
    ) -> Result<Answer<Grants>, ClientError> {
        let url = self.url.at(&["v1", class.plural(), name.as_str(), "access"]);
        let body = json!({"public": public, "tenants": tenants}).to_string();
        self.answer(self.http.put(url).header("content-type", "application/json").body(body)).await
    }

    /// What other tenants share with the caller's, after a place that another part has named.
    pub(crate) async fn shared(
        &self,
        after: Option<&str>,
    ) -> Result<Answer<SharedList>, ClientError> {
        let mut url = self.url.at(&["v1", "shared"]);
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        self.answer(self.http.get(url)).await
    }
}
