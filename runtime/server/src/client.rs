//! A typed client of the server's HTTP API. Never retries, and never prints.

use std::{error::Error, path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use http::{HeaderMap, Method};
use indicatif::ProgressBar;
use quern_types::{Class, Name, Period, QualifiedName, Role, TokenId, VersionNumber};
use reqwest::{Body, RequestBuilder, Response, Url, multipart};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

mod answer;
mod background;
mod backup;
mod batches;
mod error;
mod operations;
mod settings;
mod sharing;
mod traffic;
mod trust;
mod url;
mod webhooks;

pub(crate) use answer::{
    AcceptedCall, Answer, AuditLog, CallList, Deployment, DeviceList, Inference, Listed,
    ListedCall, ListedDevice, ListedMeasure, ListedTensors, ListedWorker, LogLine, MadeToken,
    Metadata, RolledBack, ScheduleList, ScheduleTimes, TensorMetadata, TokenList, VersionList,
};
pub(crate) use background::CallFilter;
pub(crate) use backup::BackupArchive;
pub(crate) use batches::{Batch, BatchUpload};
pub(crate) use error::{ClientError, Problem};
#[cfg(test)]
pub(crate) use operations::Requests;
pub(crate) use operations::{Bucket, FunctionStats, Histogram, ModelStats, Stats};
pub(crate) use settings::FunctionConfig;
pub(crate) use sharing::Grants;
pub(crate) use traffic::{CanaryAnswer, Counts, ShadowAnswer, ShadowExample, TrafficAnswer};
pub(crate) use trust::{Trust, TrustError};
pub(crate) use url::ServerUrl;
pub(crate) use webhooks::DeliveryFilter;

/// Time for a connection to be made; answers may take as long as they need.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest line of a log that is followed; the server's own limit is lower.
const MAX_LINE: usize = 1 << 20;
const UPLOAD_PART: usize = 64 << 10;

/// A function to be uploaded.
pub(crate) struct FunctionUpload<'a> {
    pub(crate) manifest: String,
    pub(crate) component: &'a Path,
    pub(crate) live: bool,
}

/// A model to be uploaded.
pub(crate) struct ModelUpload<'a> {
    pub(crate) manifest: Option<String>,
    pub(crate) content: &'a Path,
    pub(crate) media_type: &'static str,
    pub(crate) live: bool,
}

/// A connection pool to one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: ServerUrl,
}

impl Client {
    /// A client of a server that is trusted so.
    pub(crate) fn new(url: ServerUrl, trust: &Trust) -> Result<Self, TrustError> {
        // The server is meant to be near: a proxy for the outside world would be in the way.
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .default_headers(trust.headers())
            .tls_backend_preconfigured(trust.tls(url.is_encrypted())?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, url })
    }

    pub(crate) fn url(&self) -> &ServerUrl {
        &self.url
    }

    /// Uploads a component with its manifest.
    pub(crate) async fn deploy_function(
        &self,
        name: &Name,
        upload: FunctionUpload<'_>,
        progress: &ProgressBar,
    ) -> Result<Answer<Deployment>, ClientError> {
        let FunctionUpload { manifest, component, live } = upload;
        let form = multipart::Form::new()
            .text("manifest", manifest)
            .part("component", file_part(component, progress).await?);
        let url = self.url.to_deploy(Class::Function, name, live);
        self.answer(self.http.put(url).multipart(form)).await
    }

    /// Uploads a model, with a manifest if one is given.
    pub(crate) async fn deploy_model(
        &self,
        name: &Name,
        upload: ModelUpload<'_>,
        progress: &ProgressBar,
    ) -> Result<Answer<Deployment>, ClientError> {
        let ModelUpload { manifest, content, media_type, live } = upload;
        let url = self.url.to_deploy(Class::Model, name, live);
        let mut form = multipart::Form::new();
        if let Some(manifest) = manifest {
            form = form.text("manifest", manifest);
        }
        let part = file_part(content, progress).await?;
        let part = part.mime_str(media_type).map_err(|error| transport(&url, &error))?;
        let form = form.part("model", part);
        self.answer(self.http.put(url).multipart(form)).await
    }

    /// Everything of one class that is deployed.
    pub(crate) async fn list(&self, class: Class) -> Result<Answer<Vec<Listed>>, ClientError> {
        let url = self.url.at(&["v1", class.plural()]);
        let mut answer: Answer<Value> = self.answer(self.http.get(url.clone())).await?;
        let list = answer.json[class.plural()].take();
        let parsed = Vec::<Listed>::deserialize(&list).map_err(not_understood(&url))?;
        Ok(Answer { parsed, json: list })
    }

    /// Which class a name is of; functions and models may share one, so all are told.
    pub(crate) async fn classes(&self, name: &Name) -> Result<Vec<Class>, ClientError> {
        let mut found = Vec::new();
        for class in [Class::Function, Class::Model] {
            let url = self.url.at(&["v1", class.plural(), name.as_str()]);
            match self.answer::<Value>(self.http.get(url)).await {
                Ok(_) => found.push(class),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    pub(crate) async fn versions(
        &self,
        class: Class,
        name: &Name,
    ) -> Result<Answer<VersionList>, ClientError> {
        let url = self.url.at(&["v1", class.plural(), name.as_str(), "versions"]);
        self.answer(self.http.get(url)).await
    }

    pub(crate) async fn rollback(
        &self,
        class: Class,
        name: &Name,
        to: Option<VersionNumber>,
    ) -> Result<Answer<RolledBack>, ClientError> {
        let url = self.url.at(&["v1", class.plural(), name.as_str(), "rollback"]);
        let mut request = self.http.post(url);
        if let Some(version) = to {
            request = request.json(&json!({"version": version}));
        }
        self.answer(request).await
    }

    pub(crate) async fn delete(&self, class: Class, name: &Name) -> Result<(), ClientError> {
        let url = self.url.at(&["v1", class.plural(), name.as_str()]);
        self.send(self.http.delete(url)).await.map(drop)
    }

    pub(crate) async fn delete_version(
        &self,
        class: Class,
        name: &Name,
        version: VersionNumber,
    ) -> Result<(), ClientError> {
        let version = version.to_string();
        let url = self.url.at(&["v1", class.plural(), name.as_str(), "versions", &version]);
        self.send(self.http.delete(url)).await.map(drop)
    }

    /// Makes a token; its secret is in the answer.
    pub(crate) async fn create_token(
        &self,
        role: Role,
        tenant: Option<&Name>,
        note: &str,
        expires_in: Option<Period>,
    ) -> Result<Answer<MadeToken>, ClientError> {
        let mut asked = json!({"role": role, "note": note});
        if let Some(tenant) = tenant {
            asked["tenant"] = json!(tenant);
        }
        if let Some(time) = expires_in {
            asked["expires_in"] = json!(time.to_string());
        }
        self.answer(self.http.post(self.url.at(&["v1", "tokens"])).json(&asked)).await
    }

    pub(crate) async fn tokens(&self) -> Result<Answer<TokenList>, ClientError> {
        self.answer(self.http.get(self.url.at(&["v1", "tokens"]))).await
    }

    pub(crate) async fn revoke_token(&self, id: TokenId) -> Result<(), ClientError> {
        let url = self.url.at(&["v1", "tokens", &id.to_string()]);
        self.send(self.http.delete(url)).await.map(drop)
    }

    /// Who changed what: the newest `limit` before a place.
    pub(crate) async fn audit(
        &self,
        tenant: Option<&Name>,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Answer<AuditLog>, ClientError> {
        let mut url = self.url.at(&["v1", "audit"]);
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &limit.to_string());
        if let Some(tenant) = tenant {
            query.append_pair("tenant", tenant.as_str());
        }
        if let Some(before) = before {
            query.append_pair("before", &before.to_string());
        }
        drop(query);
        self.answer(self.http.get(url)).await
    }

    pub(crate) async fn devices(&self) -> Result<Answer<DeviceList>, ClientError> {
        self.answer(self.http.get(self.url.at(&["v1", "devices"]))).await
    }

    /// The signature of a model or an inference function.
    pub(crate) async fn metadata(
        &self,
        name: &QualifiedName,
        version: Option<VersionNumber>,
    ) -> Result<Answer<Metadata>, ClientError> {
        self.answer(self.http.get(self.inference_url(name, version, None))).await
    }

    /// Runs a model or an inference function; the body is a request of the Open Inference
    /// Protocol.
    pub(crate) async fn infer(
        &self,
        name: &QualifiedName,
        version: Option<VersionNumber>,
        body: Bytes,
    ) -> Result<Inference, ClientError> {
        let url = self.inference_url(name, version, Some("infer"));
        let request = self.http.post(url).header("content-type", "application/json").body(body);
        let response = self.send(request).await?;
        let headers = response.headers().clone();
        let Answer { json, .. } = read_json::<Value>(response).await?;
        Ok(Inference { headers, json })
    }

    /// Sends any request to an http function and gives its answer as it is, unless the server
    /// itself refuses or fails the call.
    pub(crate) async fn call(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Body,
    ) -> Result<Response, ClientError> {
        let response = self.dispatch(self.http.request(method, url).headers(headers).body(body));
        let response = response.await?;
        if response.headers().contains_key("quern-error") {
            refused(response).await
        } else {
            Ok(response)
        }
    }

    /// What a function printed, as the query of pairs says.
    pub(crate) async fn logs(
        &self,
        name: &Name,
        query: &[(&str, String)],
    ) -> Result<Lines, ClientError> {
        let mut url = self.url.at(&["v1", "functions", name.as_str(), "logs"]);
        url.query_pairs_mut().extend_pairs(query);
        // A plus is one to the server, and no space.
        let query = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(query.as_deref());
        let response = self.send(self.http.get(url)).await?;
        Ok(Lines { response: Some(response), unread: BytesMut::new() })
    }

    /// Prometheus text.
    pub(crate) async fn metrics(&self) -> Result<String, ClientError> {
        let response = self.send(self.http.get(self.url.at(&["metrics"]))).await?;
        let url = response.url().clone();
        response.text().await.map_err(|error| transport(&url, &error))
    }

    /// Succeeds if a server is there and takes requests.
    pub(crate) async fn ready(&self) -> Result<(), ClientError> {
        self.send(self.http.get(self.url.at(&["readyz"]))).await.map(drop)
    }

    fn inference_url(
        &self,
        name: &QualifiedName,
        version: Option<VersionNumber>,
        call: Option<&str>,
    ) -> Url {
        let name = name.to_string();
        let version = version.map(|version| version.to_string());
        let mut segments = vec!["v2", "models", &name];
        if let Some(version) = &version {
            segments.extend(["versions", version]);
        }
        segments.extend(call);
        self.url.at(&segments)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Answer<T>, ClientError> {
        read_json(self.send(request).await?).await
    }

    /// Sends a request; an answer that is no success becomes an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = self.dispatch(request).await?;
        if response.status().is_success() { Ok(response) } else { refused(response).await }
    }

    async fn dispatch(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request.send().await.map_err(|error| transport(&self.url.at(&[]), &error))
    }
}

/// Lines of an answer as they arrive.
#[derive(Debug)]
pub(crate) struct Lines {
    response: Option<Response>,
    unread: BytesMut,
}

impl Lines {
    /// The next line without its end; none once the server has sent all.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(line) = take_line(&mut self.unread) {
                return Ok(Some(line));
            }
            let Some(response) = &mut self.response else {
                let rest = self.unread.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            };
            let url = response.url().clone();
            match response.chunk().await.map_err(|error| transport(&url, &error))? {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                None => self.response = None,
            }
            if self.unread.len() > MAX_LINE && !self.unread.contains(&b'\n') {
                let reason = format!("a line is longer than {MAX_LINE} bytes");
                return Err(ClientError::NotUnderstood { url: url.to_string(), reason });
            }
        }
    }
}

fn take_line(unread: &mut BytesMut) -> Option<Bytes> {
    let end = unread.iter().position(|byte| *byte == b'\n')?;
    let line = unread.split_to(end + 1).freeze();
    Some(line.slice(..end))
}

async fn read_json<T: DeserializeOwned>(response: Response) -> Result<Answer<T>, ClientError> {
    let url = response.url().clone();
    let body = response.bytes().await.map_err(|error| transport(&url, &error))?;
    let json: Value = serde_json::from_slice(&body).map_err(not_understood(&url))?;
    let parsed = T::deserialize(&json).map_err(not_understood(&url))?;
    Ok(Answer { parsed, json })
}

async fn refused<T>(response: Response) -> Result<T, ClientError> {
    let (url, status) = (response.url().clone(), response.status());
    let code = response.headers().get("quern-error").and_then(|code| code.to_str().ok());
    let code = code.map(str::to_owned);
    let body = response.bytes().await.map_err(|error| transport(&url, &error))?;
    Err(ClientError::Refused(Problem::read(status, code.as_deref(), &body)))
}

fn not_understood(url: &Url) -> impl FnOnce(serde_json::Error) -> ClientError {
    let url = url.to_string();
    move |error| ClientError::NotUnderstood { url, reason: error.to_string() }
}

fn transport(url: &Url, error: &reqwest::Error) -> ClientError {
    let (url, reason) = (url.as_str().trim_end_matches('/').to_owned(), root_cause(error));
    if error.is_connect() {
        ClientError::Unreachable { url, reason }
    } else {
        ClientError::Broken { url, reason }
    }
}

fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A file as a part of a form, read while it is sent.
async fn file_part(path: &Path, progress: &ProgressBar) -> Result<multipart::Part, ClientError> {
    let unreadable = |error: std::io::Error| ClientError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let metadata = file.metadata().await.map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(std::io::Error::other("it is not a file")));
    }
    progress.set_length(metadata.len());
    let parts = futures::stream::try_unfold(file, |mut file| async move {
        let mut part = BytesMut::with_capacity(UPLOAD_PART);
        let read = file.read_buf(&mut part).await?;
        Ok::<_, std::io::Error>((read > 0).then(|| (part.freeze(), file)))
    });
    let progress = progress.clone();
    let counted = parts.inspect_ok(move |part: &Bytes| progress.inc(part.len() as u64));
    Ok(multipart::Part::stream_with_length(Body::wrap_stream(counted), metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_wherever_chunks_end() {
        let mut unread = BytesMut::from(&b"one\ntw"[..]);
        assert_eq!(take_line(&mut unread).as_deref(), Some(&b"one"[..]));
        assert_eq!(take_line(&mut unread), None);
        unread.extend_from_slice(b"o\n\n");
        assert_eq!(take_line(&mut unread).as_deref(), Some(&b"two"[..]));
        assert_eq!(take_line(&mut unread).as_deref(), Some(&b""[..]));
        assert_eq!(take_line(&mut unread), None);
    }
}
