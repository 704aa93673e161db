//! Batches over time: however often the server is killed, whatever is removed, replaced or full, and
//! however large the file.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tempfile::TempDir;

use super::{CSV, begin, counted, create, deploy_adding, ended, score, server_with_adding};
use crate::{
    onnx::{Data, adding},
    support::{Server, until},
};

#[tokio::test]
async fn a_batch_goes_on_after_each_kill_and_no_row_is_lost_or_doubled() {
    let rows = if std::env::var_os("QUERN_LONG_TESTS").is_some() { 2_000_000 } else { 100_000 };
    let mut random = fastrand::Rng::new();
    println!("seed {}", random.get_seed());
    let mut server = server_with_adding().await;
    let path = begin(&server, json!({"model": "add"}), CSV, counted(rows)).await;
    let (mut kills, mut before) = (0, 0);
    loop {
        let pause = Duration::from_millis(random.u64(100..700));
        tokio::time::sleep(pause).await;
        let batch = server.get(&path).await.json();
        let done = batch["rows"]["done"].as_u64().expect("a number");
        assert!(done >= before, "{done} after {before}: what was shown is gone");
        before = done;
        if batch["state"] == "completed" {
            break;
        }
        assert_ne!(batch["state"], "failed", "{batch}");
        // At times it is asked to stop, which is a kind of kill as well.
        let data = if kills % 3 == 2 { server.stop() } else { server.kill() };
        kills += 1;
        server = Server::start_on(data, &[]);
        if kills == 6 {
            ended(&server, &path).await;
        }
    }
    println!("{kills} kills");
    let results = server.get(&format!("{path}/results")).await.text();
    let mut found = results.lines().skip(1);
    for row in 0..rows {
        let expected = format!("{},{}.0,{}.0,", row + 1, row + 10, row % 7 + 20);
        assert_eq!(found.next(), Some(&*expected));
    }
    assert_eq!(found.next(), None);
    assert!(server.metric("quern_batch_scoring_rows_total").await <= f64::from(rows));
}

#[tokio::test]
async fn batches_are_removed_wherever_they_are_on_their_way() {
    let server = server_with_adding().await;
    let running = begin(&server, json!({"model": "add"}), CSV, counted(500_000)).await;
    until("it runs", async || server.get(&running).await.json()["state"] == "running").await;
    let results = server.get(&format!("{running}/results")).await;
    results.assert_error(409, "not-ended", "is running: its results are there when it has ended");
    let small = begin(&server, json!({"model": "add"}), CSV, counted(1)).await;
    ended(&server, &small).await;
    let events = server.get(&format!("{small}/events")).await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    assert!(events.text().starts_with("event: ended\ndata: {"), "{}", events.text());
    assert_eq!(server.metric("quern_batch_scoring_batches").await, 2.0);
    for path in [running, small] {
        assert_eq!(server.delete(&path).await.status, 204);
        for gone in [path.clone(), format!("{path}/results"), format!("{path}/events")] {
            server.get(&gone).await.assert_error(404, "not-found", "is not known");
        }
        server.delete(&path).await.assert_error(404, "not-found", "is not known");
    }
    assert_eq!(server.metric("quern_batch_scoring_batches").await, 0.0);
    server.get("/v1/batches/1").await.assert_error(400, "invalid-request", "is not valid");
    let data = server.stop();
    let left: Vec<_> =
        std::fs::read_dir(data.path().join("data/batches")).expect("is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn limits_hold_for_files_results_and_batches() {
    let data = Arc::new(TempDir::new().expect("a folder"));
    let config = data.path().join("quern.toml");
    let text =
        "[batches]\nmax_batches = 2\nmax_input = '1MiB'\nstorage = '100KiB'\nkeep = '1day'\n";
    std::fs::write(&config, text).expect("written");
    let config = config.to_str().expect("a path in UTF-8").to_owned();
    let server = Server::start_on(data, &["--config", &config]);
    deploy_adding(&server).await;
    let asked = json!({"model": "add"});
    let large = create(&server, &asked, CSV, vec![b'1'; 90 << 10]).await;
    large.assert_error(400, "invalid-request", "column \"x\" is missing");
    let large = create(&server, &asked, CSV, vec![b'1'; 101 << 10]).await;
    large.assert_error(507, "storage-full", "more than 100.0 KiB of files together");
    let large = create(&server, &asked, CSV, vec![b'1'; 2 << 20]).await;
    assert!(["storage-full", "upload-too-large"].contains(&large.code()), "{}", large.text());
    // The file fits, its results don't.
    let (batch, results) = score(&server, asked.clone(), CSV, counted(8_000)).await;
    assert_eq!(batch["state"], "failed");
    let detail = batch["error"]["detail"].as_str().expect("a reason");
    assert!(detail.contains("would take up more than"), "{detail}");
    let done = batch["rows"]["done"].as_u64().expect("a number");
    assert!(done > 0 && results.lines().count() as u64 == done + 1, "{done} rows");
    let path = format!("/v1/batches/{}", batch["id"].as_str().expect("an id"));
    create(&server, &asked, CSV, counted(1_500)).await.assert_error(507, "storage-full", "more");
    assert_eq!(server.delete(&path).await.status, 204);
    for _ in 0..2 {
        begin(&server, asked.clone(), CSV, counted(1)).await;
    }
    let third = create(&server, &asked, CSV, counted(1)).await;
    third.assert_error(409, "too-many-batches", "there are 2 batches already");
    assert_eq!(
        server.get("/v1/batches").await.json()["batches"].as_array().expect("a list").len(),
        2
    );
}

#[tokio::test]
async fn a_batch_keeps_to_its_version_and_fails_with_it() {
    let server = server_with_adding().await;
    let long = begin(&server, json!({"model": "add"}), CSV, counted(60_000)).await;
    let other = adding(Data::Inside(vec![-1.0, -1.0]));
    assert_eq!(server.put("/v1/models/add", other).await.json()["version"], 2);
    let batch = ended(&server, &long).await;
    assert_eq!((&batch["state"], &batch["version"]), (&json!("completed"), &json!(1)));
    let results = server.get(&format!("{long}/results")).await.text();
    assert_eq!(results.lines().last(), Some("60000,60009.0,22.0,"));
    let doomed = begin(&server, json!({"model": "add"}), CSV, counted(1_000_000)).await;
    until("it runs", async || server.get(&doomed).await.json()["state"] == "running").await;
    assert_eq!(server.delete("/v1/models/add").await.status, 204);
    let batch = ended(&server, &doomed).await;
    assert_eq!(batch["error"]["detail"], "model \"add\" is not deployed", "{batch}");
}

#[tokio::test]
async fn memory_is_bounded_whatever_the_size_of_the_file() {
    let server = server_with_adding().await;
    // Loads the model, and has every buffer made.
    score(&server, json!({"model": "add"}), CSV, counted(50_000)).await;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id()));
        let status = status.expect("is running");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let before = resident();
    let pad = "x".repeat(1_000);
    let rows = (0..30_000).map(|row| format!("{row},1,{pad}\n")).collect::<String>();
    let file = format!("x.0,x.1,pad\n{rows}");
    let megabytes = file.len() as u64 >> 20;
    let (batch, results) =
        score(&server, json!({"model": "add", "keep": ["pad"]}), CSV, file).await;
    assert_eq!(batch["rows"]["done"], 30_000);
    assert!(results.len() > 25 << 20);
    let grown = resident().saturating_sub(before) >> 10;
    println!("{megabytes} MiB of rows, {grown} MiB of memory");
    assert!(grown < megabytes * 3 / 4, "{grown} MiB for a file of {megabytes} MiB");
}
