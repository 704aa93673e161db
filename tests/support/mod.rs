//! A real server for a test: started on a free port with a data folder of its own, stopped when
//! the test ends, however it ends.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode, multipart};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a server may take to start, to stop, or to do what is awaited of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    child: Child,
    url: String,
    grpc_url: Option<String>,
    data: Arc<TempDir>,
    client: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The code of an error, which the header and a problem's body must agree on.
    pub(crate) fn code(&self) -> &str {
        let code = self.header("quern-error");
        if let Some(body) = self.text().starts_with('{').then(|| self.json())
            && let Some(in_body) = body.get("code")
        {
            assert_eq!(in_body, code, "header and body disagree");
        }
        code
    }

    /// The codes of what a server says in `/readyz` is wrong with it.
    pub(crate) fn concerns(&self) -> Vec<String> {
        let health = self.json();
        let reasons = health["reasons"].as_array().expect("a list");
        let code = |reason: &Value| reason["code"].as_str().expect("a code").to_owned();
        reasons.iter().map(code).collect()
    }

    /// Asserts that this is an error of this status and code whose text has this part.
    pub(crate) fn assert_error(&self, status: u16, code: &str, part: &str) {
        let found = (self.status.as_u16(), self.code());
        assert_eq!(found, (status, code), "{}", self.text());
        let text = self.text().replace("\\\"", "\"");
        assert!(text.contains(part), "{text:?} should contain {part:?}");
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_on(Arc::new(TempDir::new().expect("a folder")), arguments)
    }

    /// Starts a server on an existing data folder.
    pub(crate) fn start_on(data: Arc<TempDir>, arguments: &[&str]) -> Self {
        Self::start_program(Command::new(env!("CARGO_BIN_EXE_quern")), data, arguments)
    }

    /// Starts the program in an environment that the caller has prepared.
    pub(crate) fn start_program(
        mut command: Command,
        data: Arc<TempDir>,
        arguments: &[&str],
    ) -> Self {
        command.arg("serve");
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
            .arg("--data")
            .arg(data.path().join("data"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stdin(Stdio::null());
        let mut child = command.spawn().expect("the server starts");
        let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
        let mut addresses = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        // The one for everything comes last.
        let first = addresses.next().expect("the server says where it listens");
        let (url, grpc_url) = match first.strip_prefix("grpc") {
            None => (first, None),
            Some(rest) => {
                let grpc_url = format!("http{rest}");
                (addresses.next().expect("the server says where it listens"), Some(grpc_url))
            }
        };
        Self { child, url, grpc_url, data, client: client() }
    }

    /// Where gRPC has an address of its own.
    pub(crate) fn grpc_url(&self) -> &str {
        self.grpc_url.as_deref().expect("was asked for")
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The folder that it has open.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server as a power cut would, and returns its data folder.
    pub(crate) fn kill(mut self) -> Arc<TempDir> {
        self.child.kill().expect("is running");
        self.child.wait().expect("is a child");
        self.data.clone()
    }

    /// Asks the server to stop, and waits until it has; asserts that it ends well.
    pub(crate) fn stop(mut self) -> Arc<TempDir> {
        self.terminate();
        let status = self.wait_for_exit();
        assert!(status.success(), "the server ended with {status}");
        self.data.clone()
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Everything that the server has logged until its end, if its standard error is piped.
    pub(crate) fn log(&mut self) -> String {
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().expect("is piped");
        stderr.read_to_string(&mut log).expect("text");
        log
    }

    pub(crate) fn wait_for_exit(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("is a child") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.request(Method::POST, path).body(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.request(Method::PUT, path).body(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    /// Uploads a function.
    pub(crate) async fn upload(&self, name: &str, manifest: String, component: Vec<u8>) -> Answer {
        let form = multipart::Form::new()
            .text("manifest", manifest)
            .part("component", multipart::Part::bytes(component));
        answer(self.request(Method::PUT, &format!("/v1/functions/{name}")).multipart(form)).await
    }

    /// Deploys a guest under its own name and manifest; asserts that it works.
    pub(crate) async fn deploy(&self, guest: &Guest) -> Answer {
        let answer = self.upload(guest.name, guest.manifest(), guest.component()).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        answer
    }

    /// Deploys the digits model; asserts that it works.
    pub(crate) async fn deploy_digits_model(&self) -> Answer {
        let answer = self.put("/v1/models/digits-mlp", digits_model()).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        answer
    }

    /// Calls for inference with inputs of the protocol.
    pub(crate) async fn infer(&self, target: &str, inputs: Value) -> Answer {
        let body = json!({ "inputs": inputs }).to_string();
        self.post(&format!("/v2/models/{target}/infer"), body).await
    }

    /// The sum over all labels of a metric's samples, such as `quern_batch_rows_count`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let of_name =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let value =
            |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        text.lines().filter(of_name).filter_map(value).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what comes to be in the background. Panics if it does not within a time that is long
/// beyond reason, so that no test depends on how fast anything is.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "not after {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client without TLS.
pub(crate) fn client() -> reqwest::Client {
    // Clients that don't say by what TLS is computed, as even this one wants to know, take it here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).build().expect("a client without certificates")
}

/// Sends a request and reads the answer to its end.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.expect("a whole body").to_vec();
    Answer { status, headers, body }
}

/// A function that is built before the tests run.
pub(crate) struct Guest {
    pub(crate) name: &'static str,
    folder: &'static str,
    target: &'static str,
}

impl Guest {
    /// A function of `functions/`.
    pub(crate) const fn function(name: &'static str) -> Self {
        Self { name, folder: "functions", target: "functions" }
    }

    /// A guest of `tests/guests/`.
    pub(crate) const fn test(name: &'static str) -> Self {
        Self { name, folder: "tests/guests", target: "guests" }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        root().join(self.folder).join(self.name)
    }

    pub(crate) fn manifest(&self) -> String {
        let path = self.folder().join("quern.toml");
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn component(&self) -> Vec<u8> {
        let file = format!("{}.wasm", self.name.replace('-', "_"));
        let folder = root().join("target").join(self.target);
        let path = folder.join("wasm32-wasip2/release").join(file);
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}: run `make guests`", path.display()))
    }
}

pub(crate) fn digits_model() -> Vec<u8> {
    std::fs::read(root().join("functions/digits-mlp/digits-mlp.onnx")).expect("is committed")
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
