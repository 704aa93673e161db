//! A disk that takes no writes: what is there is served, changes are refused with the reason, and no
//! server starts on it.

use std::process::{Command, Stdio};

use super::{
    changes, concerns, enqueue, furnish, is_told, keep_pair, kept_pair,
    mounts::Mount,
    serves,
    simulator::{Disk, Simulator},
    uploads,
};
use crate::{
    HELLO,
    support::{Answer, Server, until},
};

fn assert_read_only(what: &str, answer: &Answer) {
    println!("{what}");
    answer.assert_error(503, "storage-read-only", "the server's disk takes no writes");
    assert!(!answer.header("retry-after").is_empty(), "{what}");
}

/// What a server says that can't start.
fn refusal(mut command: Command, folder: &std::path::Path) -> String {
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder);
    let started = command.stdin(Stdio::null()).output().expect("runs");
    assert!(!started.status.success());
    String::from_utf8_lossy(&started.stderr).into_owned()
}

/// Files that are open stay so, as they do on a disk that is mounted anew.
#[tokio::test]
async fn files_that_can_not_be_made_are_refused_and_what_is_there_is_served() {
    let simulator = Simulator::new();
    let server = simulator.start(&[]);
    furnish(&server).await;
    simulator.set_disk(Disk::ReadOnly);
    for (what, answer) in &uploads(&server, 1).await {
        assert_read_only(what, answer);
    }
    serves(&server).await;
    let accepted = enqueue(&server, 1).await;
    assert_eq!(accepted.status, 202, "its database is open: {}", accepted.text());
    simulator.set_disk(Disk::Well);
    for (what, answer) in &uploads(&server, 2).await {
        assert!(answer.status.is_success(), "{what}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_server_does_not_start_where_it_can_write_nothing_and_says_what_to_do() {
    let simulator = Simulator::new();
    let server = simulator.start(&[]);
    server.deploy(&HELLO).await;
    server.stop();
    simulator.set_disk(Disk::ReadOnly);
    let said = refusal(simulator.program(), &simulator.folder());
    let folder = simulator.folder().display().to_string();
    for part in ["can't open the data folder", &folder, "takes no writes: mount it so that it does"]
    {
        assert!(said.contains(part), "{part:?} should be in {said}");
    }
    simulator.set_disk(Disk::Well);
    let server = simulator.start(&[]);
    assert_eq!(server.get("/f/hello/").await.text().trim(), "hello");
}

/// Changes are refused with the reason, which is told, and what is there is served.
async fn refuses_changes(server: &Server) {
    for (what, answer) in uploads(server, 1).await.iter().chain(&changes(server, 1).await) {
        assert_read_only(what, answer);
    }
    assert_read_only("call", &enqueue(server, 1).await);
    assert!(keep_pair(server, "after").await["error"].is_string());
    assert_eq!(kept_pair(server).await, "before");
    serves(server).await;
    let told = is_told(server, "writes-failing", "because the disk takes no writes").await;
    assert!(told, "{:?}", concerns(server).await);
}

#[tokio::test]
async fn a_disk_that_takes_no_writes_refuses_changes_until_it_does() {
    let simulator = Simulator::new();
    let server = simulator.start(&[]);
    furnish(&server).await;
    assert_eq!(keep_pair(&server, "before").await.get("error"), None);
    simulator.set_disk(Disk::Broken);
    refuses_changes(&server).await;
    simulator.set_disk(Disk::Well);
    for (what, answer) in uploads(&server, 2).await.iter().chain(&changes(&server, 2).await) {
        assert!(answer.status.is_success(), "{what}: {}", answer.text());
    }
    assert_eq!(keep_pair(&server, "after").await.get("error"), None);
    assert!(!is_told(&server, "writes-failing", "").await, "{:?}", concerns(&server).await);
}

#[tokio::test]
async fn a_real_disk_that_breaks_down_is_told_and_what_is_there_is_served() {
    let Some(mount) = Mount::ext4() else { return };
    let server = mount.start();
    furnish(&server).await;
    assert_eq!(keep_pair(&server, "before").await.get("error"), None);
    if mount.break_down(&server) {
        refuses_changes(&server).await;
        until("it is told", async || is_told(&server, "disk-read-only", "takes no writes").await)
            .await;
    }
}

#[tokio::test]
async fn a_real_disk_that_is_mounted_read_only_is_told_at_the_start() {
    let Some(mount) = Mount::tmpfs_read_only() else { return };
    let said = refusal(mount.server(), &mount.folder());
    for part in ["takes no writes: mount it so that it does", "Read-only file system"] {
        assert!(said.contains(part), "{part:?} should be in {said}");
    }
}
