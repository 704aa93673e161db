//! A disk that is full: what it has no room for is refused, what was acknowledged stays, calls go on,
//! and all is well again when there is room.

use std::{fs, path::Path, process::Stdio};

use super::{
    begin_batch, changes, concerns, enqueue, furnish, is_told, keep_pair, kept_pair, model, mounts,
    serves,
    simulator::{Disk, Simulator},
    uploads,
};
use crate::{
    HELLO,
    support::{Answer, Server, until},
};

fn assert_full(what: &str, answer: &Answer) {
    println!("{what}");
    answer.assert_error(507, "storage-full", "the server's disk is full");
    assert!(!answer.header("retry-after").is_empty(), "{what}");
    assert!(!answer.text().contains("/data"), "paths are the operator's: {}", answer.text());
}

/// The files of a folder, and of those in it.
fn files(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path.display().to_string()],
        })
        .collect()
}

#[tokio::test]
async fn what_there_is_no_room_for_is_refused_and_all_is_well_again_when_there_is() {
    let simulator = Simulator::new();
    let server = simulator.start(&[]);
    furnish(&server).await;
    assert_eq!(enqueue(&server, 1).await.status, 202);
    keep_pair(&server, "before").await;
    let batch = begin_batch(&server, 3).await;
    assert_eq!(batch.status, 201, "{}", batch.text());

    simulator.set_disk(Disk::Full);
    for (what, answer) in uploads(&server, 1).await.iter().chain(&changes(&server, 1).await) {
        assert_full(what, answer);
    }
    assert_full("call", &enqueue(&server, 2).await);
    let told = keep_pair(&server, "meanwhile").await;
    assert!(told["error"].as_str().is_some_and(|text| text.contains("full")), "{told}");
    assert_eq!(kept_pair(&server).await, "before");
    serves(&server).await;
    assert!(is_told(&server, "writes-failing", "because the disk is full").await);
    assert!(simulator.failures() > 0);
    let gone = server.delete("/v1/models/digits-mlp").await;
    assert_full("deletion", &gone);
    serves(&server).await;

    simulator.set_disk(Disk::Well);
    // Though nothing was written since, the server knows.
    assert!(!is_told(&server, "writes-failing", "").await, "{:?}", concerns(&server).await);
    let left = files(&simulator.folder().join("blobs/uploads"));
    assert!(left.is_empty(), "{left:?}");
    for (what, answer) in uploads(&server, 2).await.iter().chain(&changes(&server, 2).await) {
        assert!(answer.status.is_success(), "{what}: {}", answer.text());
    }
    assert_eq!(enqueue(&server, 2).await.json()["repeated"], false);
    assert_eq!(keep_pair(&server, "after").await.get("error"), None);

    drop(server);
    let server = simulator.start(&[]);
    serves(&server).await;
    assert_eq!(kept_pair(&server).await, "after");
    for number in [1, 2] {
        assert_eq!(enqueue(&server, number).await.json()["repeated"], true, "{number} was kept");
    }
    let versions = server.get("/v1/models/m/versions").await.json();
    assert_eq!(versions["versions"].as_array().map(Vec::len), Some(1), "{versions}");
    let aliases = server.get("/v1/functions/hello/traffic").await.json()["aliases"].clone();
    assert_eq!(aliases.as_array().map(Vec::len), Some(1), "{aliases}");
}

#[tokio::test]
async fn calls_and_batches_that_run_when_the_disk_fills_come_to_their_end_when_there_is_room() {
    let simulator = Simulator::new();
    let server = simulator.start(&[]);
    furnish(&server).await;
    let request = server.request(reqwest::Method::GET, "/f/misbehave/sleep?ms=500");
    let call = crate::support::answer(request.header("prefer", "respond-async")).await;
    let call = format!("/v1/invocations/{}", call.json()["id"].as_str().expect("an id"));
    until("it runs", async || server.get(&call).await.json()["state"] == "running").await;
    let batch = begin_batch(&server, 30_000).await.json();
    let batch = format!("/v1/batches/{}", batch["id"].as_str().expect("an id"));
    until("it runs", async || server.get(&batch).await.json()["state"] == "running").await;

    simulator.set_disk(Disk::Full);
    // Its answer has nowhere to go, and the batch waits.
    let failures = simulator.failures();
    until("the disk has refused something", async || simulator.failures() > failures + 2).await;
    serves(&server).await;
    for path in [&call, &batch] {
        let state = server.get(path).await.json()["state"].clone();
        assert!(state == "running" || state == "queued", "{path}: {state}");
    }

    simulator.set_disk(Disk::Well);
    until("the call ends", async || server.get(&call).await.json()["state"] == "succeeded").await;
    until("the batch ends", async || server.get(&batch).await.json()["state"] == "completed").await;
    let results = server.get(&format!("{batch}/results")).await.text();
    let rows: Vec<_> = results.lines().skip(1).map(|line| line.split(',').next()).collect();
    let expected: Vec<_> = (1..=30_000).map(|row: u32| row.to_string()).collect();
    assert!(rows.into_iter().eq(expected.iter().map(|row| Some(&**row))), "each row once");
}

#[tokio::test]
async fn a_start_on_a_full_disk_works_or_says_what_to_do() {
    let simulator = Simulator::new();
    let server = simulator.start(&[]);
    server.deploy(&HELLO).await;
    server.stop();
    simulator.set_disk(Disk::Full);
    let mut command = simulator.program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(simulator.folder());
    let started = command.stdin(Stdio::null()).output().expect("runs");
    assert!(!started.status.success());
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    let folder = simulator.folder().display().to_string();
    for part in ["can't open the data folder", &folder, "is full: make room for 4.0 MiB more"] {
        assert!(said.contains(part), "{part:?} should be in {said}");
    }
    simulator.set_disk(Disk::Well);
    let server = simulator.start(&[]);
    assert_eq!(server.get("/f/hello/").await.text().trim(), "hello");
}

#[tokio::test]
async fn a_log_that_can_not_be_written_ends_nothing() {
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_quern"));
    command.stderr(full).env("QUERN_LOG", "debug");
    let data = std::sync::Arc::new(tempfile::TempDir::new().expect("a folder"));
    let server = Server::start_program(command, data, &[]);
    server.deploy(&HELLO).await;
    assert_eq!(server.get("/f/hello/").await.status, 200);
    server.put("/v1/models/m", "no model").await.assert_error(422, "invalid-model", "");
    server.stop();
}

#[tokio::test]
async fn files_that_may_not_grow_are_a_full_disk() {
    let mut command = std::process::Command::new("sh");
    // Blocks of 512 bytes, or of 1,024 where the shell takes them for that.
    command.args(["-c", "ulimit -f 20000 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_quern")]);
    let data = std::sync::Arc::new(tempfile::TempDir::new().expect("a folder"));
    let server = Server::start_program(command, data, &[]);
    furnish(&server).await;
    assert_full("model", &server.put("/v1/models/large", model(1, 30_000_000)).await);
    for _ in 0..200 {
        let request = server.request(reqwest::Method::POST, "/f/misbehave/trap");
        let request = request.header("prefer", "respond-async").body(vec![0; 512 << 10]);
        let answered = crate::support::answer(request).await;
        if answered.status != 202 {
            assert_full("call", &answered);
            return serves(&server).await;
        }
    }
    panic!("files are larger than they may be");
}

#[tokio::test]
async fn a_real_disk_that_is_full_refuses_what_it_has_no_room_for_and_keeps_the_rest() {
    let Some(mount) = mounts::Mount::tmpfs("16m") else { return };
    let server = mount.start();
    mount.take(&server, 1 << 20);
    furnish(&server).await;
    assert_eq!(enqueue(&server, 1).await.status, 202);
    let mut kept = 0;
    let refused = loop {
        let answer = server.put(&format!("/v1/models/m{kept}"), model(kept, 400_000)).await;
        if answer.status != 201 {
            break answer;
        }
        kept += 1;
    };
    assert_full("model", &refused);
    assert!(kept > 8, "{kept}");
    // To the last byte.
    mount.take(&server, usize::MAX);
    assert_full("model", &server.put("/v1/models/more", model(99, 10)).await);
    serves(&server).await;
    assert!(is_told(&server, "disk-full", "make room").await, "{:?}", concerns(&server).await);
    let left = files(&mount.seen_by(&server).join("blobs/uploads"));
    assert!(left.is_empty(), "{left:?}");
    mount.make_room(&server);
    // And there is room again for as much as is deleted.
    for number in 0..6 {
        let deleted = server.delete(&format!("/v1/models/m{number}")).await;
        assert_eq!(deleted.status, 204, "{}", deleted.text());
    }
    for code in ["disk-full", "writes-failing"] {
        assert!(!is_told(&server, code, "").await, "{:?}", concerns(&server).await);
    }
    assert_eq!(server.put("/v1/models/again", model(99, 400_000)).await.status, 201);
    assert_eq!(enqueue(&server, 2).await.json()["repeated"], false);
    for number in 6..kept {
        let shown = server.get(&format!("/v1/models/m{number}")).await;
        assert_eq!(shown.status, 200, "{}", shown.text());
    }
}
