//! Restarts without downtime: clients notice no more than that connections end in an orderly way,
//! and a successor that fails leaves the server as it was.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{self, Server, answer, digits_model, until};

/// A server that hands over to others, whose processes are known by its log.
struct Line {
    url: String,
    folder: TempDir,
    first: Option<Server>,
    /// Outlives the first.
    _data: Arc<TempDir>,
}

impl Line {
    fn start(configuration: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("quern-server.toml"), configuration).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
        command.env_remove("QUERN_LOG");
        command.stderr(File::create(folder.path().join("log")).expect("made"));
        let config = folder.path().join("quern-server.toml");
        let data = Arc::new(TempDir::new_in(folder.path()).expect("a folder"));
        let flags = ["--config", config.to_str().expect("text")];
        let first = Server::start_program(command, data.clone(), &flags);
        Self { url: first.url().to_owned(), folder, first: Some(first), _data: data }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// The processes that have served, in order.
    fn processes(&self) -> Vec<u32> {
        let log = self.log();
        let ids = log.lines().filter(|line| line.contains("listening")).filter_map(|line| {
            line.split_once("process=")?.1.split_whitespace().next()?.parse().ok()
        });
        ids.collect()
    }

    fn signal(&self, name: &str) {
        let id = self.processes().pop().expect("one serves").to_string();
        let sent = Command::new("kill").args([name, &id]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Has the server hand over, and waits until its successor serves and it has ended.
    async fn restart(&mut self) {
        let before = self.processes();
        self.signal("-USR2");
        let served = async || self.processes().len() > before.len();
        until("the successor serves", served).await;
        let handed_over = async || self.log().matches("handed over").count() >= before.len();
        until("the predecessor has handed over", handed_over).await;
        if let Some(mut first) = self.first.take() {
            assert!(first.wait_for_exit().success());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.first.is_none()
            && let Some(id) = self.processes().pop()
        {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
    }
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answers: AtomicU64,
}

/// A client of a usual kind: it keeps its connections, and sends a request again on another one
/// only if the first was closed before any of the request was written.
fn client(http2: bool) -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

/// Whether the server has said of a request over HTTP/2 that it has not taken it, and that nothing
/// is wrong: then it is to be sent again (RFC 9113, section 6.8). Whatever else goes wrong is a
/// request that is lost.
fn was_not_taken(error: &hyper_util::client::legacy::Error) -> bool {
    format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)")
}

/// Calls for inference until it is told to stop; panics if a call is not answered well.
async fn call(url: String, http2: bool, keeps_connections: bool, seen: Arc<Seen>) {
    let inputs = json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32",
        "data": vec![1.0; 64] }]);
    let body = Bytes::from(json!({ "inputs": inputs }).to_string());
    let mut own = client(http2);
    while !seen.stop.load(Ordering::Relaxed) {
        if !keeps_connections {
            own = client(http2);
        }
        let request = http::Request::post(format!("{url}/v2/models/digits-mlp/infer"));
        let request = request.body(Full::new(body.clone())).expect("a request");
        let response = match own.request(request).await {
            Err(error) if was_not_taken(&error) => continue,
            response => response.unwrap_or_else(|error| panic!("{error:?}")),
        };
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        assert!(body.starts_with(b"{"), "{body:?}");
        seen.answers.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_a_server_is_restarted() {
    let restarts = if std::env::var_os("QUERN_LONG_TESTS").is_some() { 10 } else { 2 };
    let mut line = Line::start("");
    let model = support::client().put(format!("{}/v1/models/digits-mlp", line.url));
    assert_eq!(answer(model.body(digits_model())).await.status, 201);
    let seen = Arc::new(Seen::default());
    let kinds = [(false, true), (false, true), (true, true), (false, false)];
    let calls = kinds.map(|(http2, keeps_connections)| {
        tokio::spawn(call(line.url.clone(), http2, keeps_connections, seen.clone()))
    });
    for _ in 0..restarts {
        let before = seen.answers.load(Ordering::Relaxed);
        let more = async || seen.answers.load(Ordering::Relaxed) > before + 20;
        until("calls are answered", more).await;
        line.restart().await;
    }
    let before = seen.answers.load(Ordering::Relaxed);
    until("calls are answered", async || seen.answers.load(Ordering::Relaxed) > before + 20).await;
    seen.stop.store(true, Ordering::Relaxed);
    for call in calls {
        call.await.expect("no call is lost");
    }
    let mut processes = line.processes();
    processes.dedup();
    assert_eq!(processes.len(), restarts + 1, "each is another one: {}", line.log());
}

#[tokio::test]
async fn a_successor_that_fails_leaves_the_server_as_it_was() {
    let line = Line::start("");
    let client = support::client();
    let concerns = async || {
        let health = answer(client.get(format!("{}/readyz", line.url))).await;
        assert_eq!(health.status, 200, "it serves all the same");
        health.concerns()
    };
    let is_told = async || concerns().await.contains(&"restart".to_owned());
    assert!(!is_told().await);
    let config = line.folder.path().join("quern-server.toml");
    std::fs::write(&config, "[server]\nlisten_to = 'me'").expect("written");
    line.signal("-USR2");
    until("it is told", is_told).await;
    let log = line.log();
    assert!(
        log.contains("line 2, server.listen_to: unknown field"),
        "the successor says why: {log}"
    );
    assert!(log.contains("no successor: this server goes on"), "{log}");
    assert_eq!(line.processes().len(), 1);
}

#[tokio::test]
async fn a_successor_that_fails_while_its_predecessor_drains_is_replaced_by_it() {
    let line = Line::start("");
    let client = support::client();
    // A request that is not complete keeps the server from handing over.
    let address = line.url.strip_prefix("http://").expect("an address");
    let mut halting = TcpStream::connect(address).expect("connects");
    let head =
        "POST /v1/models/digits-mlp/rollback HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    let deployed = client.put(format!("{}/v1/models/digits-mlp", line.url)).body(digits_model());
    assert_eq!(answer(deployed).await.status, 201);
    halting.write_all(head.as_bytes()).expect("sent");
    // It has begun once a later one on another connection is answered.
    assert_eq!(answer(client.get(format!("{}/readyz", line.url))).await.status, 200);
    line.signal("-USR2");
    let drains = async || line.log().contains("no more requests are taken");
    until("the successor is prepared", drains).await;
    let server = line.processes()[0].to_string();
    let children = Command::new("pgrep").args(["-P", &server]).output().expect("pgrep is there");
    let children = String::from_utf8(children.stdout).expect("text");
    let killed = Command::new("kill").arg("-KILL").args(children.split_whitespace()).status();
    assert!(killed.expect("kill is there").success(), "{children:?}");
    halting.write_all(b"}").expect("sent");
    let failed = "the successor failed: this server serves again";
    until("the server serves again", async || line.log().contains(failed)).await;
    // Whoever connects waits until it does.
    let client = support::client();
    let ready = answer(client.get(format!("{}/v2/models/digits-mlp/ready", line.url))).await;
    assert_eq!(ready.status, 200);
    let health = answer(client.get(format!("{}/readyz", line.url))).await;
    assert!(health.concerns().contains(&"restart".to_owned()), "{}", health.text());
    let mut processes = line.processes();
    processes.dedup();
    assert_eq!(processes.len(), 1, "{}", line.log());
}

/// A process that is ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn systemd_passes_sockets_and_is_told_how_the_server_fares() {
    let folder = TempDir::new().expect("a folder");
    let told = folder.path().join("notify");
    let notify = UnixDatagram::bind(&told).expect("bound");
    notify.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    // The shell makes of its standard input what systemd passes: socket 3, for this very process.
    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" serve --data \"$1\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_quern")])
        .arg(folder.path().join("data"))
        .env("LISTEN_FDS", "1")
        .env("NOTIFY_SOCKET", &told)
        .env("WATCHDOG_USEC", "200000")
        .stdin(OwnedFd::from(socket))
        .stdout(Stdio::piped());
    let mut process = Process(command.spawn().expect("starts"));
    let stdout = process.0.stdout.take().expect("is piped");
    let first = BufReader::new(stdout).lines().next().expect("a line").expect("text");
    assert_eq!(first, format!("listening on http://{address}"));
    let ready = support::client().get(format!("http://{address}/readyz"));
    assert_eq!(answer(ready).await.status, 200);
    let hear = |expected: &str| {
        let mut message = [0; 256];
        loop {
            let length = notify.recv(&mut message).expect("something is told");
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text.lines().any(|line| line == expected) {
                return;
            }
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    let signal = |name: &str| {
        let id = process.0.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().expect("kill").success());
    };
    signal("-HUP");
    hear("RELOADING=1");
    hear("READY=1");
    signal("-TERM");
    hear("STOPPING=1");
}
