//! Backups of a server that serves, what is restored of them, and what a server says of a folder that
//! is damaged.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    HELLO, IMPORTS, MISBEHAVE,
    support::{Server, answer, until},
};

/// The program, about to run in no environment of a developer's.
fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.args(arguments).env_remove("QUERN_TOKEN").stdin(Stdio::null());
    command
}

/// Runs a command that must succeed; what it prints.
fn run(arguments: &[&str]) -> String {
    let output = program(arguments).output().expect("runs");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command that must fail; what it says.
fn fail(arguments: &[&str]) -> String {
    let output = program(arguments).output().expect("runs");
    assert!(!output.status.success(), "{arguments:?} succeeds");
    said(&output)
}

/// Starts a server that must not start; what it says.
fn refused(folder: &Path) -> String {
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", text(folder)];
    let mut server =
        program(&serve).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut line = String::new();
    let stdout = server.stdout.take().expect("is piped");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    if !line.is_empty() {
        server.kill().expect("is running");
    }
    let output = server.wait_with_output().expect("ends");
    assert!(line.is_empty() && !output.status.success(), "it serves: {line}");
    said(&output)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn folder() -> Arc<TempDir> {
    Arc::new(TempDir::new().expect("a folder"))
}

/// A manifest that makes another version of the same component.
fn manifest(number: u32) -> String {
    format!("{}\n[config]\nnumber = \"{number}\"\n", HELLO.manifest())
}

async fn call_later(server: &Server, path: &str, body: Vec<u8>) -> String {
    let request = server.request(Method::POST, path).header("prefer", "respond-async");
    let accepted = answer(request.body(body)).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    accepted.json()["id"].as_str().expect("an id").to_owned()
}

async fn live(server: &Server) -> u64 {
    server.get("/v1/functions/hello").await.json()["version"].as_u64().expect("a version")
}

/// Deploys and calls until it is told to stop.
async fn work(server: Arc<Server>, stop: Arc<AtomicBool>) {
    for number in 1.. {
        let answer = server.upload("hello", manifest(number), HELLO.component()).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        call_later(&server, "/f/hello/", Vec::new()).await;
        let body = json!({ "config": { "mode": number.to_string() } }).to_string();
        let request = server.request(Method::PATCH, "/v1/functions/imports/config").body(body);
        assert_eq!(self::answer(request).await.status, 200);
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_restored_of_a_backup_under_load_serves_as_the_server_did() {
    let (data, place) = (folder(), folder());
    let key = data.path().join("key");
    run(&["secrets", "new-key", "--out", text(&key)]);
    let arguments = ["--secrets-key-file", text(&key)];
    let server = Arc::new(Server::start_on(data.clone(), &arguments));
    server.deploy(&IMPORTS).await;
    let secret = server.request(Method::PUT, "/v1/functions/imports/secrets/token");
    let set = answer(secret.body(json!({ "value": "hunter2-and-more" }).to_string())).await;
    assert_eq!(set.status, 201, "{}", set.text());
    let kept = server.get("/f/imports/keyvalue/set?key=k&value=v&bucket=notes").await;
    assert_eq!(kept.status, 200, "{}", kept.text());
    server.upload("hello", manifest(0), HELLO.component()).await;

    let stop = Arc::new(AtomicBool::new(false));
    let working = tokio::spawn(work(server.clone(), stop.clone()));
    until("the load is on", async || live(&server).await > 3).await;
    let (before, mut calls) = (live(&server).await, Vec::new());
    for _ in 0..5 {
        calls.push(call_later(&server, "/f/hello/", Vec::new()).await);
    }
    let (file, url) = (place.path().join("quern.tar"), server.url().to_owned());
    let saving = {
        let (file, url) = (file.clone(), url.clone());
        move || run(&["--url", &url, "backup", "--output", text(&file)])
    };
    let told = tokio::task::spawn_blocking(saving).await.expect("no panic");
    stop.store(true, Ordering::Relaxed);
    working.await.expect("no panic");
    assert!(told.contains("checked") && told.contains("the key that opens them is not"), "{told}");
    let bytes = std::fs::read(&file).expect("a file");
    assert!(!bytes.windows(16).any(|window| window == b"hunter2-and-more"));
    let sealed_with = std::fs::read_to_string(&key).expect("a key");
    assert!(!bytes.windows(32).any(|window| window == &sealed_with.as_bytes()[..32]));
    let audit = server.get("/v1/audit").await.json();
    let records = audit["records"].as_array().expect("records");
    assert!(records.iter().any(|record| record["action"] == "backup"), "{audit}");

    let checked = run(&["restore", text(&file), "--verify"]);
    assert!(checked.contains("each is what was put in"), "{checked}");
    let restored = place.path().join("data");
    let told = run(&["restore", text(&file), "--data", text(&restored)]);
    assert!(told.contains("has 2 functions and models"), "{told}");
    assert!(told.contains("its secrets are sealed with key"), "{told}");
    let again = fail(&["restore", text(&file), "--data", text(&restored)]);
    assert!(again.contains("is not empty"), "{again}");

    let copy = Server::start_on(place, &arguments);
    assert!(live(&copy).await >= before, "was {before} before the backup");
    assert_eq!(copy.get("/f/hello/").await.status, 200);
    let read = copy.get("/f/imports/config?key=token").await.json();
    assert_eq!(read["ok"]["one"], "hunter2-and-more");
    let read = copy.get("/f/imports/keyvalue/get?key=k&bucket=notes").await.json();
    assert_eq!(read["ok"], "v");
    for id in calls {
        let path = format!("/v1/invocations/{id}");
        let state = async || copy.get(&path).await.json()["state"].clone();
        until("the call is carried out", async || state().await == "succeeded").await;
    }
}

/// A server with more to save than fits between it and a client that reads nothing.
async fn with_much_to_save() -> Server {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "[async]\nconcurrency = 1\n").expect("written");
    let server = Server::start_with(&["--config", text(file.path())]);
    server.deploy(&HELLO).await;
    let patient = MISBEHAVE.manifest().replace("timeout = \"2s\"", "timeout = \"60s\"");
    let deployed = server.upload("misbehave", patient, MISBEHAVE.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    // The others wait for this one, with what they carry.
    call_later(&server, "/f/misbehave/sleep?ms=59000", Vec::new()).await;
    for _ in 0..12 {
        call_later(&server, "/f/hello/", vec![7; 4 << 20]).await;
    }
    server
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_behind_and_none_is_in_the_way() {
    let server = with_much_to_save().await;
    let held = server.request(Method::POST, "/v1/backup").send().await.expect("an answer");
    assert_eq!(held.status(), 200);
    let second = server.post("/v1/backup", "").await;
    second.assert_error(429, "busy", "a backup is being made already");
    assert_eq!(second.header("retry-after"), "10");
    let told = fail(&["--url", server.url(), "backup", "-o", "-"]);
    assert!(told.contains("a backup is being made already"), "{told}");
    assert_eq!(server.get("/f/hello/").await.status, 200);
    let deployed = server.upload("hello", manifest(1), HELLO.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let kept = server.data().join("backups");
    assert_eq!(std::fs::read_dir(&kept).expect("a folder").count(), 1, "copies are there");

    drop(held);
    let ended = "quern_store_backups_total{outcome=\"broken-off\"} 1";
    let is_told = async || server.get("/metrics").await.text().contains(ended);
    until("the backup is broken off", is_told).await;
    assert_eq!(std::fs::read_dir(&kept).expect("a folder").count(), 0, "the copies are gone");
    let whole = server.post("/v1/backup", "{\"logs\": true}").await;
    assert_eq!((whole.status.as_u16(), whole.header("content-type")), (200, "application/x-tar"));
    assert_eq!(whole.header("quern-backup-bytes"), whole.body.len().to_string());
    let is_told = async || server.metric("quern_store_last_backup_timestamp_seconds").await > 1.7e9;
    until("the backup is counted", is_told).await;
}

#[tokio::test]
async fn a_client_that_can_not_write_says_so_and_keeps_nothing() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    let place = folder();
    let file = place.path().join("taken.tar");
    std::fs::write(&file, "something").expect("written");
    let taken = fail(&["--url", server.url(), "backup", "--output", text(&file)]);
    assert!(taken.contains("exists: choose another name"), "{taken}");
    let nowhere = place.path().join("nowhere/x.tar");
    let nowhere = fail(&["--url", server.url(), "backup", "--output", text(&nowhere)]);
    assert!(nowhere.contains("can't write"), "{nowhere}");
    let mut full = program(&["--url", server.url(), "backup", "--output", "-"]);
    let full = full.stdout(File::options().write(true).open("/dev/full").expect("there"));
    let full = full.stderr(Stdio::piped()).output().expect("runs");
    assert!(!full.status.success() && said(&full).contains("can't be written"), "{}", said(&full));
    let left: Vec<_> = std::fs::read_dir(place.path()).expect("a folder").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let refused = server.post("/v1/backup", "{\"log\": true}").await;
    refused.assert_error(400, "invalid-json", "unknown field `log`");
}

/// The program, of whose end and words something is to be known.
fn begin(arguments: &[&str]) -> Child {
    let mut command = program(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")
}

/// Asks a command to end, and waits for that.
async fn interrupt(mut command: Child, by: Signal) -> Output {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_child(&command), by);
    until("it ends", async || command.try_wait().expect("can be asked").is_some()).await;
    command.wait_with_output().expect("has ended")
}

/// Waits until a command writes to a pipe that has no more room.
async fn until_full(pipe: &ChildStdout) {
    let waiting = || rustix::io::ioctl_fionread(pipe).expect("is a pipe");
    until("the pipe is full", async || waiting() > 60_000).await;
}

/// Asserts what is said of a backup that was interrupted, and that what the pipe has of it is refused.
fn assert_incomplete(ended: &Output, mut pipe: ChildStdout) {
    let told = said(ended);
    assert!(!ended.status.success() && told.contains("was interrupted"), "{told}");
    assert!(told.contains("incomplete, and quern restore --verify refuses it"), "{told}");
    let place = folder();
    let file = place.path().join("part.tar");
    let mut part = File::create(&file).expect("a file");
    assert!(std::io::copy(&mut pipe, &mut part).expect("written") > 0);
    let refused = fail(&["restore", text(&file), "--verify"]);
    assert!(refused.contains("is not good"), "{refused}");
}

#[tokio::test]
async fn a_backup_that_nobody_takes_ends_with_an_interrupt() {
    let server = with_much_to_save().await;
    let mut saving = begin(&["--url", server.url(), "backup", "-o", "-"]);
    let pipe = saving.stdout.take().expect("is piped");
    until_full(&pipe).await;
    let ended = interrupt(saving, Signal::INT).await;
    assert_incomplete(&ended, pipe);
    let kept = server.data().join("backups");
    let is_gone = async || std::fs::read_dir(&kept).expect("a folder").count() == 0;
    until("the server has nothing left of it", is_gone).await;

    let data = server.kill();
    let folder = data.path().join("data");
    let mut saving = begin(&["backup", "-o", "-", "--data", text(&folder)]);
    let pipe = saving.stdout.take().expect("is piped");
    until_full(&pipe).await;
    assert_eq!(std::fs::read_dir(folder.join("backups")).expect("a folder").count(), 1);
    let ended = interrupt(saving, Signal::TERM).await;
    assert_incomplete(&ended, pipe);
    assert!(!folder.join("backups").exists(), "the copies are gone");
}

#[tokio::test]
async fn a_backup_that_is_interrupted_while_it_is_checked_leaves_nothing() {
    let (server, place) = (with_much_to_save().await, folder());
    let file = place.path().join("quern.tar");
    let lengths = || {
        let entries = std::fs::read_dir(place.path()).expect("a folder");
        let lengths = entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
        lengths.collect::<Vec<_>>()
    };
    // It may be through before it is asked to end.
    for _ in 0..20 {
        let saving = begin(&["--url", server.url(), "backup", "--output", text(&file)]);
        let is_written = async || lengths().iter().any(|length| *length > 12 * (4 << 20));
        until("all is written that the calls carry", is_written).await;
        let ended = interrupt(saving, Signal::INT).await;
        if !ended.status.success() {
            assert!(said(&ended).contains("was interrupted"), "{}", said(&ended));
            assert!(lengths().is_empty(), "nothing is left of it");
            return;
        }
        std::fs::remove_file(&file).expect("is there");
    }
    panic!("it can't be interrupted");
}

#[tokio::test]
async fn a_backup_that_is_cut_off_or_changed_is_not_restored() {
    let place = folder();
    let server = Server::start();
    server.deploy(&HELLO).await;
    let archive = server.post("/v1/backup", "").await.body;
    let (file, data) = (place.path().join("backup"), place.path().join("data"));
    let mut changed = archive.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for damaged in [&archive[..middle], &changed, b"", b"no archive"] {
        std::fs::write(&file, damaged).expect("written");
        let told = fail(&["restore", text(&file), "--data", text(&data)]);
        assert!(told.contains("can't restore"), "{told}");
        assert!(!data.exists());
        let told = fail(&["restore", text(&file), "--verify"]);
        assert!(told.contains("is not good"), "{told}");
    }
    let usage = fail(&["restore", text(&file)]);
    assert!(usage.contains("--data"), "{usage}");
}

#[tokio::test]
async fn a_stopped_folder_is_saved_and_restored_through_pipes() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    let in_use = fail(&["backup", "-o", "-", "--data", text(&server.data())]);
    assert!(in_use.contains("in use by another server"), "{in_use}");
    let data = server.stop();
    let place = folder();
    let saving = program(&["backup", "-o", "-", "--data", text(&data.path().join("data"))])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let restored = place.path().join("data");
    let restoring = ["--json", "restore", "-", "--data", text(&restored)];
    let mut saving = saving;
    let piped = saving.stdout.take().expect("is piped");
    let output = program(&restoring).stdin(piped).output().expect("runs");
    let saved = saving.wait_with_output().expect("ends");
    assert!(
        saved.status.success() && output.status.success(),
        "{} {}",
        said(&saved),
        said(&output)
    );
    assert!(said(&saved).contains("the key that opens them is not"), "{}", said(&saved));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["deployed"], &told["versions"]), (&json!(1), &json!(1)), "{told}");
    let copy = Server::start_on(place, &[]);
    assert_eq!(copy.get("/f/hello/").await.status, 200);
}

#[tokio::test]
async fn a_server_on_a_damaged_folder_does_not_start_and_says_what_to_do() {
    let server = Server::start();
    server.deploy(&HELLO).await;
    for _ in 0..20 {
        call_later(&server, "/f/hello/", vec![7; 1000]).await;
    }
    let data = server.stop();
    let folder: PathBuf = data.path().join("data");
    for name in ["catalog.sqlite", "queue.sqlite"] {
        let path = folder.join(name);
        let sound = std::fs::read(&path).expect("a file");
        let mut header = sound.clone();
        header[..16].fill(0xa5);
        // The beginnings of all pages but the first, as any one may be of no use.
        let mut pages = sound.clone();
        pages.chunks_mut(4096).skip(1).for_each(|page| page[..64].fill(0xa5));
        for content in [header, pages] {
            std::fs::write(&path, content).expect("damaged");
            let told = refused(&folder);
            assert!(told.contains(&format!("{name} is damaged")), "{told}");
            assert!(told.contains("quern restore") && !told.contains("panicked"), "{told}");
        }
        std::fs::write(&path, sound).expect("mended");
    }
    let server = Server::start_on(data, &[]);
    assert_eq!(server.get("/f/hello/").await.status, 200);
}
