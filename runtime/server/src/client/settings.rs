//! What is set for functions, asked of the server. The value of a secret is sent and never received.

use std::collections::BTreeMap;

use quern_types::{Name, SecretValue, SettingKey};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Client, ClientError};

/// The configuration of a function.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FunctionConfig {
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) defaults: BTreeMap<String, String>,
}

/// A secret of a list.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ListedSecret {
    pub(crate) key: String,
    pub(crate) changed: String,
    pub(crate) locked: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SecretList {
    pub(crate) secrets: Vec<ListedSecret>,
}

impl Client {
    pub(crate) async fn config(
        &self,
        function: &Name,
    ) -> Result<Answer<FunctionConfig>, ClientError> {
        let url = self.url.at(&["v1", "functions", function.as_str(), "config"]);
        self.answer(self.http.get(url)).await
    }

    /// Gives keys values, or removes them where there is none.
    pub(crate) async fn change_config(
        &self,
        function: &Name,
        changes: &BTreeMap<SettingKey, Option<String>>,
    ) -> Result<Answer<FunctionConfig>, ClientError> {
        let url = self.url.at(&["v1", "functions", function.as_str(), "config"]);
        self.answer(self.http.patch(url).json(&json!({ "config": changes }))).await
    }

    pub(crate) async fn secrets(&self, function: &Name) -> Result<Answer<SecretList>, ClientError> {
        let url = self.url.at(&["v1", "functions", function.as_str(), "secrets"]);
        self.answer(self.http.get(url)).await
    }

    pub(crate) async fn set_secret(
        &self,
        function: &Name,
        key: &SettingKey,
        value: &SecretValue,
    ) -> Result<Answer<ListedSecret>, ClientError> {
        let url = self.secret_url(function, key);
        self.answer(self.http.put(url).json(&json!({ "value": value.expose() }))).await
    }

    pub(crate) async fn unset_secret(
        &self,
        function: &Name,
        key: &SettingKey,
    ) -> Result<(), ClientError> {
        self.send(self.http.delete(self.secret_url(function, key))).await.map(drop)
    }

    fn secret_url(&self, function: &Name, key: &SettingKey) -> reqwest::Url {
        self.url.at(&["v1", "functions", function.as_str(), "secrets", key.as_str()])
    }
}
