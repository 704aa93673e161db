//! What an operator decides in a file: read strictly, overridden by flags, and kept to.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures::future::join_all;
use reqwest::Method;
use tempfile::TempDir;

use crate::{
    DIGIT_READER, HELLO, MISBEHAVE,
    support::{Guest, Server},
};

/// A configuration file in a folder of its own.
struct File {
    _folder: TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("quern-server.toml");
        std::fs::write(&path, text).expect("written");
        Self { _folder: folder, path }
    }

    fn flag(&self) -> [&str; 2] {
        ["--config", self.path.to_str().expect("text")]
    }
}

/// Runs a command to its end; gives whether it ended well, what it printed, and what it said.
fn quern(arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    for variable in ["QUERN_CONFIG", "QUERN_LISTEN", "QUERN_DATA", "ORT_DYLIB_PATH"] {
        command.env_remove(variable);
    }
    let output = command.args(arguments).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn with_limits(guest: &Guest, limits: &str) -> String {
    format!("name = \"{}\"\nkind = \"http\"\n[limits]\n{limits}\n", guest.name)
}

#[tokio::test]
async fn an_operator_decides_on_limits() {
    let file = File::new(
        "[limits.defaults]\nmemory = '24MiB'\n[limits.ceilings]\nmemory = '40MiB'\ncpu = '900ms'",
    );
    let server = Server::start_with(&file.flag());
    let too_much = with_limits(&MISBEHAVE, "memory = '41MiB'");
    let refused = server.upload("misbehave", too_much, MISBEHAVE.component()).await;
    let ceiling = "limits.memory is above this server's ceiling of 40.0 MiB";
    refused.assert_error(400, "invalid-manifest", ceiling);
    let most = with_limits(&MISBEHAVE, "memory = '40MiB'");
    let deployed = server.upload("misbehave", most, MISBEHAVE.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    server.get("/f/misbehave/grow").await.assert_error(
        507,
        "out-of-memory",
        "limits.memory of 40.0 MiB",
    );

    server.deploy(&HELLO).await;
    let limits = &server.get("/v1/functions/hello").await.json()["limits"];
    assert_eq!(limits["memory"], format!("{}B", 24 << 20), "the default: {limits}");
    assert_eq!(limits["cpu"], "900ms", "the built-in default, lowered to the ceiling: {limits}");
}

#[tokio::test]
async fn a_lowered_ceiling_binds_what_was_deployed_before() {
    let server = Server::start();
    server.deploy(&MISBEHAVE).await;
    let data = server.stop();
    let file = File::new(
        "[limits.ceilings]\nmemory = '16MiB'\ncpu = '50ms'\ntimeout = '2s'\nconcurrency = 2",
    );
    let server = Server::start_on(data, &file.flag());
    let limits = &server.get("/v1/functions/misbehave").await.json()["limits"];
    assert_eq!(limits["memory"], format!("{}B", 16 << 20), "what it runs within: {limits}");
    for (path, status, code, part) in [
        ("/grow", 507, "out-of-memory", "limits.memory of 16.0 MiB"),
        ("/loop", 504, "cpu-time-exceeded", "limits.cpu of 50ms"),
        ("/sleep?ms=60000", 504, "timeout", "limits.timeout of 2s"),
    ] {
        server.get(&format!("/f/misbehave{path}")).await.assert_error(status, code, part);
    }
    let answers = join_all((0..4).map(|_| server.get("/f/misbehave/sleep?ms=400"))).await;
    let (slept, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((slept.len(), refused.len()), (2, 2));
    refused[0].assert_error(429, "busy", "2 requests");
}

#[tokio::test]
async fn no_function_takes_all_memory_that_instances_have() {
    let file = File::new("[sandbox]\nmemory = '8MiB'");
    let server = Server::start_with(&file.flag());
    let own = with_limits(&MISBEHAVE, "memory = '40MiB'\ntimeout = '30s'");
    let deployed = server.upload("misbehave", own, MISBEHAVE.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    server.deploy(&HELLO).await;
    let limits = &server.get("/v1/functions/misbehave").await.json()["limits"];
    assert_eq!(limits["memory"], format!("{}B", 4 << 20), "half of it: {limits}");
    // What can never fit is not to be tried again.
    let refused = server.get("/f/misbehave/grow").await;
    refused.assert_error(507, "out-of-memory", "limits.memory of 4.0 MiB");

    // Each of these fits, but not all of them together.
    let answers = join_all((0..16).map(|_| server.get("/f/misbehave/sleep?ms=2000"))).await;
    let (slept, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    assert!(!slept.is_empty() && !refused.is_empty());
    for refused in refused {
        refused.assert_error(429, "busy", "4.0 MiB of memory together, the limit of the function");
        assert_eq!(refused.headers["retry-after"], "1");
    }
    assert_eq!(server.get("/f/hello").await.status, 200);
    let all_gone = async {
        while server.metric("quern_sandbox_instances").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_gone).await.expect("all instances go");
    assert_eq!(server.metric("quern_sandbox_instances_memory_bytes").await, 0.0);
}

#[test]
fn what_is_wrong_with_a_file_is_named_before_anything_starts() {
    let cases = [
        ("[server]\nlisten = '127.0.0.1:0'\n[htpp]", "quern-server.toml, line 3, htpp: unknown"),
        ("[http]\nmax_conections = 1", "quern-server.toml, line 2, http.max_conections: unknown"),
        ("[http]\nhead_timeout = 'soon'", "line 2, http.head_timeout: \"soon\" is not a time"),
        (
            "[limits.defaults]\nmemory = '2MiB'\n[limits.ceilings]\nmemory = '1MiB'",
            "line 2, limits.defaults.memory: \"2MiB\" is above its ceiling of \"1MiB\"",
        ),
    ];
    for (text, expected) in cases {
        let file = File::new(text);
        let [flag, path] = file.flag();
        for command in ["serve", "config"] {
            let (ended_well, printed, said) = quern(&[command, flag, path]);
            assert!(!ended_well && printed.is_empty(), "{command}: {printed}");
            assert!(said.contains(expected), "{command}: {said:?} should contain {expected:?}");
        }
    }
    let (ended_well, _, said) = quern(&["serve", "--config", "/no/such/file.toml"]);
    assert!(!ended_well && said.contains("/no/such/file.toml"), "{said}");
}

#[tokio::test]
async fn flags_override_the_file() {
    let file = File::new("[deploy]\nmax_upload = '1KiB'\n[server]\ndrain_timeout = '7s'");
    let [flag, path] = file.flag();
    let server = Server::start_with(&[flag, path]);
    let refused = server.upload("hello", HELLO.manifest(), HELLO.component()).await;
    refused.assert_error(413, "upload-too-large", "1.0 KiB");
    let server = Server::start_with(&[flag, path, "--max-upload", "4MiB"]);
    server.deploy(&HELLO).await;

    let (ended_well, printed, said) = quern(&["config", flag, path, "--max-upload", "4MiB"]);
    assert!(ended_well, "{said}");
    for line in ["max_upload = \"4MiB\"", "drain_timeout = \"7s\"", "keep_versions = 10"] {
        assert!(printed.lines().any(|found| found == line), "{line} is missing in {printed}");
    }
    let again = File::new(&printed);
    let [flag, path] = again.flag();
    assert_eq!(quern(&["config", flag, path]), (true, printed, String::new()));
}

/// Sends the beginning of a request and nothing more; gives all that is answered until the end.
fn begin_request(server: &Server, path: &str) -> String {
    let address = server.url().strip_prefix("http://").expect("an address");
    let mut socket = TcpStream::connect(address).expect("connects");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf");
    socket.write_all(head.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_body_that_stalls_does_not_last_as_long_as_the_functions_time() {
    let file = File::new("[http]\nbody_stall = '300ms'");
    let server = Server::start_with(&file.flag());
    server.deploy_digits_model().await;
    server.deploy(&DIGIT_READER).await;
    let manifest = MISBEHAVE.manifest().replace("2s", "60s");
    server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    // This one reads before it answers, whatever it makes of the error.
    let answer = begin_request(&server, "/f/digit-reader/");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("quern-error: request-timeout\r\n"), "{answer}");
    assert!(answer.contains("request body stalled: nothing came for 300ms"), "{answer}");
    // And this one has begun its answer: what it sends never looks whole.
    let answer = begin_request(&server, "/f/misbehave/echo");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("half") && !answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_second_signal_ends_a_server_that_still_drains() {
    let mut server = Server::start_with(&["--drain-timeout", "10m"]);
    let manifest = MISBEHAVE.manifest().replace("2s", "60s");
    server.upload("misbehave", manifest, MISBEHAVE.component()).await;
    let request = server.request(Method::GET, "/f/misbehave/stream?chunks=100&ms=1000");
    let response = request.send().await.expect("a head");
    server.terminate();
    // It drains: the request goes on, and nobody else is let in.
    let refused = async { while server.request(Method::GET, "/healthz").send().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), refused).await.expect("it stops listening");
    server.terminate();
    assert_eq!(server.wait_for_exit().code(), Some(1));
    assert!(response.bytes().await.is_err());
}

#[tokio::test]
async fn a_flood_of_output_is_kept_within_its_bytes() {
    let file = File::new("[logs]\nkeep_bytes = '64KiB'");
    let server = Server::start_with(&file.flag());
    server.deploy(&MISBEHAVE).await;
    let mut last = String::new();
    for _ in 0..10 {
        let printed = server.get("/f/misbehave/print?lines=30&width=1000").await;
        assert_eq!(printed.status, 200, "{}", printed.text());
        last = printed.header("quern-invocation").to_owned();
    }
    let whole = async {
        loop {
            let log = server.get("/v1/functions/misbehave/logs?tail=1000").await.text();
            if log.lines().any(|line| line.contains(&last) && line.contains("last words")) {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let log = tokio::time::timeout(Duration::from_secs(30), whole).await.expect("is logged");
    assert!(log.len() < 80 << 10, "{} bytes are kept of 300 KB", log.len());
}

#[test]
fn the_documentation_names_the_command_that_prints_the_reference() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (ended_well, printed, said) = quern(&["config"]);
    assert!(ended_well, "{said}");
    assert!(page.contains(&printed), "docs/configuration.md differs from `quern config`");
}
