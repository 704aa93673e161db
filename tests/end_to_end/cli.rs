//! The command line as people and scripts use it, against a running server: exit codes, JSON, and
//! what errors say. Never looks into the server.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    HELLO,
    support::{Guest, Server, root},
};

/// How long a build or an answer may take.
const PATIENCE: Duration = Duration::from_secs(300);

const SHOUT: Guest = Guest::test("shout");

/// The program, about to talk to a server from a folder. Projects share a target folder, so that
/// the guest library is compiled once.
fn quern(url: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("QUERN_URL", url)
        .env("CARGO_TARGET_DIR", root().join("target/scaffold"))
        .stdin(Stdio::null());
    command
}

/// Runs a command that must succeed, and returns what it prints.
pub(crate) fn text(url: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = quern(url, folder, arguments).output().expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command that must succeed, and returns the JSON that it prints.
pub(crate) fn answer(url: &str, folder: &Path, arguments: &[&str]) -> Value {
    let text = text(url, folder, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}"))
}

/// Runs a command that must end with this exit code and say this.
pub(crate) fn failure(url: &str, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = quern(url, root(), arguments).output().expect("the program runs");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: {said:?} should contain {part:?}");
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// An empty folder for projects, the same in every run, so that builds replace each other. Only
/// one run has it at a time.
struct Workshop {
    folder: PathBuf,
    _lock: File,
}

impl Workshop {
    fn open(name: &str) -> Self {
        let workshops = root().join("target/scaffold/projects");
        std::fs::create_dir_all(&workshops).expect("created");
        let lock = File::create(workshops.join(format!("{name}.lock"))).expect("created");
        lock.lock().expect("locked");
        let folder = workshops.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).expect("removed");
        }
        std::fs::create_dir(&folder).expect("created");
        Self { folder, _lock: lock }
    }

    fn path(&self) -> &Path {
        &self.folder
    }
}

/// A component in a file, as `quern deploy FILE.wasm` takes it.
fn component_file(folder: &TempDir, guest: &Guest) -> String {
    let path = folder.path().join(format!("{}.wasm", guest.name));
    std::fs::write(&path, guest.component()).expect("written");
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A command that runs until the test ends it, with its lines as they come.
struct Running {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let stdout = child.stdout.take().expect("is piped");
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        Self { child, lines }
    }

    /// Waits for a line with this part.
    fn line(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no line has {part:?}: {error}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    fn interrupt(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().expect("kill is there");
        assert!(sent.success());
        self.child.wait().expect("is a child").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_new_http_function_builds_deploys_and_answers() {
    let (server, folder) = (Server::start(), Workshop::open("http"));
    let url = server.url();
    text(url, folder.path(), &["new", "my-numbers"]);
    let deployed = answer(url, folder.path(), &["deploy", "my-numbers"]);
    assert_eq!(
        (&deployed["name"], &deployed["version"], &deployed["kind"], &deployed["created"]),
        (&json!("my-numbers"), &json!(1), &json!("http"), &json!(true))
    );
    let said = text(url, folder.path(), &["call", "my-numbers", "-d", "3 1 4 1 5"]);
    let summary: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(summary, json!({"count": 5, "mean": 2.8, "max": 5.0}));

    failure(url, &["call", "my-numbers", "-d", "x"], 1, &["quern logs my-numbers"]);

    let follow = ["logs", "my-numbers", "-f", "--json"];
    let followed = Running::start(quern(url, folder.path(), &follow));
    let line: Value = serde_json::from_str(&followed.line("summarising 5")).expect("JSON");
    assert_eq!((&line["stream"], &line["version"]), (&json!("stdout"), &json!(1)));
    text(url, folder.path(), &["call", "my-numbers", "-d", "7 8"]);
    followed.line("summarising 2");
}

#[test]
fn a_new_inference_function_builds_deploys_and_answers() {
    let (server, folder) = (Server::start(), Workshop::open("inference"));
    let url = server.url();
    text(url, folder.path(), &["new", "my-values", "--kind", "inference"]);
    text(url, folder.path(), &["deploy", "my-values"]);
    let inferred = answer(url, folder.path(), &["infer", "my-values", "--input", "values=[1, 3]"]);
    assert_eq!(inferred["outputs"][0]["name"], "standardised");
    assert_eq!(inferred["outputs"][0]["data"], json!([-1.0, 1.0]));
    let logs = text(url, folder.path(), &["logs", "my-values"]);
    assert!(logs.contains("stdout: 2 values, mean 2"), "{logs}");
}

#[test]
fn a_project_is_deployed_on_every_change() {
    let (server, folder) = (Server::start(), Workshop::open("changes"));
    let url = server.url();
    text(url, folder.path(), &["new", "my-changes"]);
    let dev = Running::start(quern(url, folder.path(), &["dev", "my-changes"]));
    dev.line("deployed: my-changes version 1");
    text(url, folder.path(), &["call", "my-changes", "-d", "1 2 3"]);
    dev.line("summarising 3 numbers");

    let source = folder.path().join("my-changes/src/lib.rs");
    let original = std::fs::read_to_string(&source).expect("the source");
    std::fs::write(&source, "broken").expect("written");
    std::thread::sleep(Duration::from_secs(1));
    let changed = original.replace("summarising", "adding up");
    std::fs::write(&source, changed).expect("written");
    dev.line("deployed: my-changes version 2");
    text(url, folder.path(), &["call", "my-changes", "-d", "1 2"]);
    dev.line("adding up 2 numbers");
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn a_function_goes_through_its_life() {
    let (server, folder) = (Server::start(), folder());
    let (url, here) = (server.url(), folder.path());
    let (hello, shout) = (component_file(&folder, &HELLO), component_file(&folder, &SHOUT));

    let first = answer(url, here, &["deploy", &hello, "--name", "greeter"]);
    assert_eq!((&first["version"], &first["url"]), (&json!(1), &json!("/f/greeter/")));
    assert_eq!(text(url, here, &["call", "greeter"]), "hello\n");
    let again = answer(url, here, &["deploy", &hello, "--name", "greeter"]);
    assert_eq!((&again["version"], &again["created"]), (&json!(1), &json!(false)));
    answer(url, here, &["deploy", &shout, "--name", "greeter", "--kind", "http"]);

    let listed = answer(url, here, &["list"]);
    assert_eq!(listed["functions"][0]["name"], "greeter");
    assert_eq!(listed["functions"][0]["version"], 2);
    assert_eq!(listed["models"], json!([]));
    let versions = answer(url, here, &["versions", "greeter"]);
    assert_eq!(versions["versions"][0]["version"], 2);
    assert_eq!(versions["versions"][0]["live"], true);
    assert_eq!(versions["versions"][1]["digest"], first["digest"]);

    assert_eq!(answer(url, here, &["rollback", "greeter"])["version"], 1);
    assert_eq!(text(url, here, &["call", "greeter"]), "hello\n");
    failure(url, &["rollback", "greeter"], 1, &["(no-previous-version)", "quern versions"]);
    assert_eq!(answer(url, here, &["rollback", "greeter", "--to", "2"])["version"], 2);
    failure(url, &["rollback", "greeter", "--to", "9"], 1, &["9"]);

    assert_eq!(answer(url, here, &["delete", "greeter"])["deleted"], true);
    assert_eq!(answer(url, here, &["list"])["functions"], json!([]));
    failure(url, &["call", "greeter"], 1, &["(not-found)", "quern list"]);
    failure(url, &["logs", "greeter"], 1, &["(not-found)"]);
}

#[test]
fn calls_carry_method_headers_and_body_and_show_status_and_headers() {
    let (server, folder) = (Server::start(), folder());
    let url = server.url();
    let hello = component_file(&folder, &HELLO);
    text(url, folder.path(), &["deploy", &hello, "--name", "hello"]);
    let call = ["call", "hello", "a/b?c=d", "-X", "PUT", "-H", "x-test: 1", "-d", "body"];
    let shown = answer(url, folder.path(), &call);
    assert_eq!((&shown["status"], &shown["body"]), (&json!(200), &json!("hello\n")));
    assert_eq!(shown["headers"]["quern-version"], "1");
    failure(url, &["call", "hello", "-H", "nonsense"], 2, &["NAME: VALUE"]);
}

#[test]
fn a_model_is_deployed_inferred_and_told_from_a_function_of_its_name() {
    let (server, folder) = (Server::start(), folder());
    let (url, here) = (server.url(), folder.path());
    let onnx = root().join("functions/digits-mlp/digits-mlp.onnx");
    let onnx = onnx.to_str().expect("a path in UTF-8");
    let deployed =
        answer(url, here, &["model", "deploy", onnx, "--name", "digits-mlp", "--engine", "tract"]);
    assert_eq!((&deployed["kind"], &deployed["engine"]), (&json!("model"), &json!("tract")));
    assert!(deployed["batch"]["rows"]["max"].as_u64().is_some(), "{deployed}");

    let values = format!("image={}", json!(vec![8; 128]));
    let flat = answer(url, here, &["infer", "digits-mlp", "--input", &values]);
    assert_eq!(flat["outputs"][0]["shape"], json!([2, 10]));
    let nested = here.join("image.json");
    std::fs::write(&nested, json!([[8; 64], [8; 64]].map(Vec::from)).to_string()).expect("written");
    let nested = format!("image={}", nested.display());
    let nested = answer(url, here, &["infer", "digits-mlp", "--version", "1", "--input", &nested]);
    assert_eq!(nested["outputs"], flat["outputs"]);

    let request = json!({"inputs": [{"name": "image", "datatype": "FP32", "shape": [2, 64],
        "data": vec![8; 128]}]})
    .to_string();
    let mut piped = quern(url, here, &["infer", "digits-mlp", "--data", "-", "--json"]);
    let piped = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut piped = piped.expect("the program runs");
    let mut stdin = piped.stdin.take().expect("is piped");
    stdin.write_all(request.as_bytes()).expect("written");
    drop(stdin);
    let piped = piped.wait_with_output().expect("ends");
    let piped: Value = serde_json::from_slice(&piped.stdout).expect("JSON");
    assert_eq!(piped["outputs"], flat["outputs"]);
    let shown = text(url, here, &["infer", "digits-mlp", "--data", &request]);
    assert!(shown.contains("engine tract, device cpu:0"), "{shown}");

    let hello = component_file(&folder, &HELLO);
    text(url, here, &["deploy", &hello, "--name", "digits-mlp"]);
    failure(url, &["versions", "digits-mlp"], 2, &["--function or --model"]);
    answer(url, here, &["delete", "digits-mlp", "--function"]);
    assert_eq!(answer(url, here, &["versions", "digits-mlp"])["versions"][0]["version"], 1);

    let devices = answer(url, here, &["devices"]);
    assert_eq!(devices["devices"][0]["id"], "cpu:0");
    assert_eq!(devices["devices"][0]["replicas"], 1);
}

#[test]
fn tables_are_for_people() {
    let (server, folder) = (Server::start(), folder());
    let (url, here) = (server.url(), folder.path());
    assert!(text(url, here, &["list"]).contains("quern new"));
    let hello = component_file(&folder, &HELLO);
    let deployed = text(url, here, &["deploy", &hello, "--name", "hello"]);
    assert!(deployed.contains(&format!("{url}/f/hello/")), "{deployed}");
    let listed = text(url, here, &["list"]);
    let rows: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "KIND", "VERSION", "DIGEST", "CREATED"]);
    assert_eq!(rows[1][..3], ["hello", "http", "1"]);
    assert!(text(url, here, &["versions", "hello"]).contains("live"));
    let devices = text(url, here, &["devices"]);
    assert!(["tract", "ready", "TENSORS"].iter().all(|shown| devices.contains(shown)), "{devices}");
}

#[test]
fn errors_say_what_to_do_next() {
    let server = Server::start();
    let (url, nowhere) = (server.url(), "http://127.0.0.1:9");
    let folder = folder();
    let empty = folder.path().to_str().expect("a path in UTF-8");
    let core = folder.path().join("core.wasm");
    std::fs::write(&core, b"\0asm\x01\0\0\0").expect("written");
    let core = core.to_str().expect("a path in UTF-8");
    let cases: [(&str, &[&str], i32, &[&str]); 12] = [
        (nowhere, &["list"], 1, &["no server answers at http://127.0.0.1:9", "quern serve"]),
        (nowhere, &["dev", empty], 1, &["quern serve"]),
        (url, &["versions", "nobody"], 1, &["no function or model \"nobody\"", "quern list"]),
        (url, &["deploy", empty], 1, &["has no quern.toml", "quern new"]),
        (url, &["deploy", core], 2, &["--name NAME"]),
        (url, &["deploy", core, "--name", "a"], 1, &["(not-a-component)", "wasm32-wasip2"]),
        (url, &["deploy", "gone.wasm", "--name", "a"], 1, &["gone.wasm"]),
        (url, &["infer", "nobody", "--data", "{}"], 1, &["(not-found)"]),
        (url, &["infer", "nobody"], 2, &["--data"]),
        (url, &["new", "Not A Name"], 2, &["is not valid"]),
        (url, &["list", "--url", "ftp://a"], 2, &["http(s)://HOST:PORT"]),
        (nowhere, &["serve", "--listen", "0.0.0.0:0"], 2, &["--authenticate", "--insecure"]),
    ];
    for (url, arguments, code, parts) in cases {
        failure(url, arguments, code, parts);
    }
}

#[test]
fn errors_are_json_where_answers_are() {
    let server = Server::start();
    let mut command = quern(server.url(), root(), &["logs", "nobody", "--json"]);
    let output = command.output().expect("the program runs");
    let error: Value = serde_json::from_str(&stderr(&output)).expect("JSON");
    assert_eq!((&error["code"], output.status.code()), (&json!("not-found"), Some(1)));
    assert!(error["hint"].is_string() && error["detail"].is_string(), "{error}");
}

#[test]
fn new_projects_never_overwrite() {
    let folder = folder();
    let file = folder.path().join("mine");
    std::fs::create_dir(&file).expect("created");
    std::fs::write(file.join("notes.txt"), "mine").expect("written");
    let mut command = quern("http://127.0.0.1:9", folder.path(), &["new", "mine"]);
    let output = command.output().expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not empty"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(&file).expect("a folder").count(), 1);
}

#[test]
fn the_demo_succeeds_and_leaves_nothing() {
    let temporary = folder();
    let functions = root().join("functions");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    let output = command
        .args(["demo", "--json", "--functions"])
        .arg(functions)
        .env("TMPDIR", temporary.path())
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(findings["images"], 360);
    assert!(findings["accuracy"].as_f64().expect("a number") >= 0.96, "{findings}");
    assert!(findings["mean_batch_rows"].as_f64().expect("a number") >= 1.0, "{findings}");
    let left = std::fs::read_dir(temporary.path()).expect("a folder");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
