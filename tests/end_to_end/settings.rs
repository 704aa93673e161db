//! What is set for functions beside their versions: read at the next request by every version, and,
//! where it is a secret, found nowhere but in its function.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    IMPORTS,
    access::Guarded,
    support::{Answer, Server, answer, until},
};

const CONFIG: &str = "/v1/functions/imports/config";
const SECRETS: &str = "/v1/functions/imports/secrets";
/// Distinct enough to be looked for anywhere.
const VALUE: &str = "correct-horse-battery-staple-4711";

/// All that the server and what carries its requests have to say, but not what the compiler has.
const LOG_FILTER: &str = "info,quern=trace,hyper=trace,h2=trace,wasmtime_wasi=trace";

/// A data folder with a key for secrets beside it.
struct Folder {
    data: Arc<TempDir>,
    key: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let data = Arc::new(TempDir::new().expect("a folder"));
        let key = data.path().join("key");
        new_key(&key);
        Self { data, key }
    }

    fn start(&self) -> Server {
        Server::start_on(self.data.clone(), &["--secrets-key-file", text(&self.key)])
    }

    fn path(&self) -> PathBuf {
        self.data.path().join("data")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Runs a command to its end with something on its standard input; gives whether it ended well,
/// what it printed, and what it said.
fn quern(arguments: &[&str], input: &str) -> (bool, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_quern"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("is piped");
    // It may have ended without reading it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn new_key(path: &Path) {
    let (made, _, said) = quern(&["secrets", "new-key", "--out", text(path)], "");
    assert!(made, "{said}");
}

async fn send(server: &Server, method: Method, path: &str, body: Value) -> Answer {
    answer(server.request(method, path).body(body.to_string())).await
}

async fn configure(server: &Server, config: Value) -> Answer {
    let answer = send(server, Method::PATCH, CONFIG, json!({ "config": config })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

async fn set_secret(server: &Server, key: &str, value: &str) -> Answer {
    send(server, Method::PUT, &format!("{SECRETS}/{key}"), json!({ "value": value })).await
}

/// What the function reads: everything, and one key.
async fn read(server: &Server, key: &str) -> (Value, Value) {
    let answer = server.get(&format!("/f/imports/config?key={key}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut answer = answer.json();
    (answer["ok"]["all"].take(), answer["ok"]["one"].take())
}

#[tokio::test]
async fn what_is_set_is_read_at_the_next_request_and_by_every_version() {
    let folder = Folder::new();
    let server = folder.start();
    server.deploy(&IMPORTS).await;
    let shown = server.get(CONFIG).await.json();
    let defaults = json!({ "greeting": "hello", "retry.limit": "3" });
    let nothing = json!({ "name": "imports", "config": {}, "changed": null, "defaults": defaults });
    assert_eq!(shown, nothing);
    let shown = configure(&server, json!({ "greeting": "welcome", "mode": "fast" })).await.json();
    assert_eq!(shown["config"], json!({ "greeting": "welcome", "mode": "fast" }));
    let created = set_secret(&server, "API_KEY", VALUE).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(
        (&created.json()["key"], &created.json()["locked"]),
        (&json!("API_KEY"), &json!(false))
    );
    let expected = json!([
        ["API_KEY", VALUE],
        ["greeting", "welcome"],
        ["mode", "fast"],
        ["retry.limit", "3"]
    ]);
    assert_eq!(read(&server, "API_KEY").await, (expected.clone(), json!(VALUE)));

    let manifest = IMPORTS.manifest().replace("\"hello\"", "\"salute\"");
    let second = server.upload("imports", manifest, IMPORTS.component()).await;
    assert_eq!(second.json()["version"], 2, "{}", second.text());
    assert_eq!(read(&server, "greeting").await, (expected.clone(), json!("welcome")), "version 2");
    let rolled_back = server.post("/v1/functions/imports/rollback", "").await;
    assert_eq!(rolled_back.status, 200, "{}", rolled_back.text());
    assert_eq!(read(&server, "mode").await, (expected.clone(), json!("fast")), "version 1");
    let data = server.kill();
    assert_eq!(text(data.path()), text(folder.data.path()));
    let server = folder.start();
    assert_eq!(read(&server, "absent").await, (expected, Value::Null), "after a kill");

    configure(&server, json!({ "greeting": null })).await;
    assert_eq!(read(&server, "greeting").await.1, "hello", "what the manifest says");
    assert_eq!(set_secret(&server, "API_KEY", "another").await.status, 200);
    assert_eq!(read(&server, "API_KEY").await.1, "another");
    let replaced = send(&server, Method::PUT, CONFIG, json!({ "config": { "a": "b" } })).await;
    assert_eq!(replaced.json()["config"], json!({ "a": "b" }), "{}", replaced.text());
    assert_eq!(server.delete(&format!("{SECRETS}/API_KEY")).await.status, 204);
    assert_eq!(read(&server, "API_KEY").await.1, Value::Null);

    server.delete("/v1/functions/imports").await;
    server.deploy(&IMPORTS).await;
    assert_eq!(server.get(CONFIG).await.json(), nothing, "another function of the same name");
}

#[tokio::test]
async fn an_instance_that_is_reused_never_has_what_was_set_before() {
    let folder = Folder::new();
    let server = folder.start();
    let reuse = "reuse = { requests = 1000, idle = \"60s\" }\n".to_owned();
    server.upload("imports", reuse + &IMPORTS.manifest(), IMPORTS.component()).await;
    let remembered =
        async || server.get("/f/imports/remembered?key=token").await.json()["ok"].clone();
    assert_eq!(remembered().await, "", "nothing is set");
    let mut reused = 0.0;
    for value in ["first-value", "second-value", "third-value"] {
        set_secret(&server, "token", value).await;
        for _ in 0..5 {
            assert_eq!(remembered().await, value);
        }
        until("an instance is reused again", async || {
            assert_eq!(remembered().await, value);
            server.metric("quern_sandbox_reused_requests_total").await > reused
        })
        .await;
        reused = server.metric("quern_sandbox_reused_requests_total").await;
    }
    server.delete(&format!("{SECRETS}/token")).await;
    assert_eq!(remembered().await, "");
}

#[tokio::test]
async fn a_secret_is_nowhere_but_in_its_function() {
    let folder = Folder::new();
    let log = folder.data.path().join("server.log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.stderr(File::create(&log).expect("made")).env("QUERN_LOG", LOG_FILTER);
    let arguments = ["--secrets-key-file", text(&folder.key)];
    let server = Server::start_program(command, folder.data.clone(), &arguments);
    server.deploy(&IMPORTS).await;
    let mut told = vec![set_secret(&server, "password", VALUE).await];
    assert_eq!(read(&server, "password").await.1, VALUE, "the function has it");
    told.push(server.get("/f/imports/tell?key=password").await);
    let trap = server.get("/f/imports/panic?key=password").await;
    trap.assert_error(500, "trap", "unreachable");
    told.push(trap);
    // Refusals are told without what was refused.
    let refused = json!({ "value": VALUE, "vault": VALUE });
    told.push(send(&server, Method::PUT, &format!("{SECRETS}/password"), refused).await);
    told.push(send(&server, Method::PUT, &format!("{SECRETS}/password"), json!([VALUE])).await);
    for body in [VALUE, &format!("{{\"value\": {VALUE}}}")] {
        let request = server.request(Method::PUT, &format!("{SECRETS}/password"));
        told.push(answer(request.body(body.to_owned())).await);
    }
    let logs = "/v1/functions/imports/logs?tail=1000";
    until("the log is written", async || server.get(logs).await.text().contains("panicked")).await;
    for path in [
        logs,
        CONFIG,
        SECRETS,
        "/v1/audit",
        "/v1/functions",
        "/v1/functions/imports",
        "/v1/functions/imports/versions",
        "/v2/models/stats",
        "/metrics",
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        told.push(answer);
    }
    for answer in &told {
        assert!(!answer.text().contains(VALUE), "{}", answer.text());
        assert!(!format!("{:?}", answer.headers).contains(VALUE));
    }
    let printed = server.get(logs).await.text();
    assert_eq!(printed.matches("[secret password]").count(), 6, "{printed}");
    let audit = server.get("/v1/audit").await.json();
    assert_eq!(audit["records"][0]["action"], "secret.set", "{audit}");
    assert_eq!(audit["records"][0]["detail"], json!({ "key": "password" }));

    assert_eq!(holders(&folder.path(), VALUE), Vec::<PathBuf>::new(), "while the server runs");
    drop(server);
    assert_eq!(holders(&folder.path(), VALUE), Vec::<PathBuf>::new(), "after it was killed");
    let logged = std::fs::read_to_string(&log).expect("text");
    assert!(logged.contains("secret set"), "{logged}");
    let line = logged.lines().find(|line| line.contains(VALUE));
    assert_eq!(line, None);
}

/// The files below a folder that have a text somewhere.
fn holders(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(holders(&path, text));
        } else if let Ok(content) = std::fs::read(&path)
            && content.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn bad_settings_are_refused_by_name() {
    let folder = Folder::new();
    let server = folder.start();
    server.deploy(&IMPORTS).await;
    set_secret(&server, "token", VALUE).await;
    configure(&server, json!({ "mode": "fast" })).await;
    let several = |count: usize| {
        let keys = (0..count).map(|number| (format!("k{number}"), json!("")));
        json!({ "config": serde_json::Map::from_iter(keys) })
    };
    let config = [
        (json!({ "config": {}, "mode": 1 }), "invalid-json", "unknown field `mode`"),
        (json!({}), "invalid-json", "missing field `config`"),
        (json!({ "config": { "a b": "" } }), "invalid-json", "key \"a b\" is not valid"),
        (json!({ "config": { "a": 1 } }), "invalid-json", "field \"config.a\": invalid type"),
        (several(257), "too-many-settings", "257 keys: at most 256"),
        (json!({ "config": { "k": "v".repeat(1 << 16) } }), "too-many-settings", "65537 bytes"),
    ];
    for (body, code, part) in config {
        let refused = send(&server, Method::PUT, CONFIG, body).await;
        refused.assert_error(400, code, part);
    }
    let clash = send(&server, Method::PATCH, CONFIG, json!({ "config": { "token": "" } })).await;
    clash.assert_error(409, "setting-taken", "key \"token\" of function \"imports\" is a secret");
    let huge = json!({ "config": { "k": "v".repeat(1 << 20) } });
    let refused = send(&server, Method::PUT, CONFIG, huge).await;
    refused.assert_error(413, "request-too-large", "512.0 KiB");
    assert_eq!(server.get(CONFIG).await.json()["config"], json!({ "mode": "fast" }), "as it was");

    let large = "x".repeat((16 << 10) + 1);
    let secrets = [
        ("key", json!({ "value": large }), 400, "invalid-request", "16385 bytes"),
        ("key", json!({ "value": "" }), 400, "invalid-request", "value is empty"),
        ("key", json!({ "valeu": "x" }), 400, "invalid-json", "unknown field `valeu`"),
        ("key", json!({ "value": "x".repeat(1 << 18) }), 413, "request-too-large", "128.0 KiB"),
        ("a%20b", json!({ "value": "x" }), 400, "invalid-name", "key \"a%20b\" is not valid"),
        ("mode", json!({ "value": "x" }), 409, "setting-taken", "a part of its configuration"),
    ];
    for (key, body, status, code, part) in secrets {
        let refused = send(&server, Method::PUT, &format!("{SECRETS}/{key}"), body).await;
        refused.assert_error(status, code, part);
    }
    for number in 1..64 {
        assert_eq!(set_secret(&server, &format!("s{number}"), "v").await.status, 201);
    }
    set_secret(&server, "more", "v").await.assert_error(400, "too-many-settings", "64 secrets");
    let absent = server.delete(&format!("{SECRETS}/absent")).await;
    absent.assert_error(404, "not-found", "has no secret \"absent\"");
    for path in ["/v1/functions/absent/config", "/v1/functions/absent/secrets"] {
        server.get(path).await.assert_error(404, "not-found", "\"absent\" is not deployed");
    }
}

#[tokio::test]
async fn without_its_key_a_secret_is_never_left_out() {
    let folder = Folder::new();
    let server = folder.start();
    server.deploy(&IMPORTS).await;
    set_secret(&server, "token", VALUE).await;
    drop(server.stop());

    let wrong = folder.data.path().join("wrong");
    new_key(&wrong);
    let data = folder.path();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", text(&data)];
    let refused = |arguments: &[&str]| {
        let (ended_well, _, said) = quern(&[&serve[..], arguments].concat(), "");
        assert!(!ended_well);
        said
    };
    let said = refused(&["--secrets-key-file", text(&wrong)]);
    assert!(said.contains("are sealed with key") && said.contains("give the other one"), "{said}");
    let said = refused(&["--secrets-key-file", "/nowhere"]);
    assert!(said.contains("the key for secrets in /nowhere"), "{said}");
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&wrong, readable).expect("changed");
    let said = refused(&["--secrets-key-file", text(&wrong)]);
    assert!(said.contains("can be read by everybody"), "{said}");

    let server = Server::start_on(folder.data.clone(), &[]);
    let locked = server.get("/f/imports/config?key=token").await;
    locked.assert_error(503, "secrets-locked", "has a secret that this server can't open");
    assert_eq!(server.get(SECRETS).await.json()["secrets"][0]["locked"], true);
    let refused = set_secret(&server, "other", "v").await;
    refused.assert_error(503, "secrets-locked", "quern secrets new-key");
    drop(server.stop());
    let server = folder.start();
    assert_eq!(read(&server, "token").await.1, VALUE, "with its key it is there");
    drop(server.stop());
    let server = Server::start_on(folder.data.clone(), &[]);
    assert_eq!(server.delete(&format!("{SECRETS}/token")).await.status, 204);
    assert_eq!(read(&server, "token").await.1, Value::Null, "without the secret it runs");
}

#[tokio::test]
async fn settings_are_a_tenants_own() {
    let guarded = Guarded::start();
    let (mine, yours) =
        (guarded.token("mine", "deployer").await, guarded.token("yours", "deployer").await);
    let server = &guarded.server;
    let form = reqwest::multipart::Form::new()
        .text("manifest", IMPORTS.manifest())
        .part("component", reqwest::multipart::Part::bytes(IMPORTS.component()));
    let deploy = server.request(Method::PUT, "/v1/functions/imports").bearer_auth(&mine);
    assert_eq!(answer(deploy.multipart(form)).await.status, 201);
    let change = |token: &str| {
        let body = json!({ "config": { "greeting": token[..10] } }).to_string();
        server.request(Method::PATCH, CONFIG).bearer_auth(token).body(body)
    };
    assert_eq!(answer(change(&mine)).await.status, 200);
    answer(change(&yours)).await.assert_error(404, "not-found", "is not deployed");
    let show = server.request(Method::GET, CONFIG).bearer_auth(&yours);
    assert_eq!(answer(show).await.status, 404);
}

#[tokio::test]
async fn settings_and_secrets_are_handled_on_the_command_line() {
    let folder = Folder::new();
    let server = folder.start();
    server.deploy(&IMPORTS).await;
    let run = |arguments: &[&str], input: &str| {
        let (ended_well, printed, said) =
            quern(&[&["--url", server.url()], arguments].concat(), input);
        assert!(ended_well, "{arguments:?}: {said}");
        printed
    };
    run(&["settings", "set", "imports", "greeting=welcome", "a=b=c"], "");
    let shown = run(&["settings", "get", "imports"], "");
    for line in ["a            b=c      settings", "retry.limit  3        manifest"] {
        assert!(shown.contains(line), "{shown}");
    }
    run(&["settings", "unset", "imports", "greeting"], "");
    assert_eq!(read(&server, "greeting").await.1, "hello");

    run(&["secrets", "set", "imports", "piped"], &format!("{VALUE}\n"));
    let file = folder.data.path().join("value");
    std::fs::write(&file, "line\n").expect("written");
    run(&["secrets", "set", "imports", "filed", "--from-file", text(&file)], "");
    assert_eq!(read(&server, "piped").await.1, VALUE);
    assert_eq!(read(&server, "filed").await.1, "line\n");
    let listed = run(&["secrets", "list", "imports"], "");
    assert!(listed.contains("piped") && !listed.contains(VALUE), "{listed}");
    run(&["secrets", "unset", "imports", "filed"], "");
    let (ended_well, _, said) =
        quern(&["--url", server.url(), "secrets", "set", "imports", "x"], "");
    assert!(!ended_well && said.contains("value is empty"), "{said}");
    drop(server.stop());

    let (new, data) = (folder.data.path().join("new"), folder.path());
    new_key(&new);
    let rotate = [
        "secrets",
        "rotate",
        "--data",
        text(&data),
        "--secrets-key-file",
        text(&folder.key),
        "--new-key-file",
        text(&new),
    ];
    let (ended_well, printed, said) = quern(&rotate, "");
    assert!(ended_well && printed.starts_with("1 secrets are sealed with key"), "{printed}{said}");
    let rotated = Folder { key: new, data: folder.data.clone() };
    assert_eq!(read(&rotated.start(), "piped").await.1, VALUE);
}
