//! Guests that wear out what the host does for them.

use std::time::Duration;

use serde_json::Value;

use crate::{
    row::{Ends, Row, component, http_manifest, patient},
    siege,
    support::Server,
};

const CPU: Ends = Ends::Error { status: 504, code: "cpu-time-exceeded", limit: Some("cpu") };
const TRAP: Ends = Ends::Error { status: 500, code: "trap", limit: None };

#[tokio::test]
async fn whoever_wears_out_the_host_is_stopped() {
    siege::besiege(&[
        Row::new("log_flood", "prints forever", CPU),
        Row::new("random_in_a_loop", "asks for random bytes forever", CPU),
        Row::new("random_at_once", "asks for 16 EiB of random bytes", TRAP),
        Row {
            path: "67108864",
            ..Row::new("random_at_once", "asks for 64 MiB of random bytes", TRAP)
        },
        Row::new(
            "socket_flood",
            "opens sockets and keeps them",
            Ends::Report(&[
                "tcp ErrorCode { code: 1, name: \"access-denied\"",
                "udp Err(",
                "lookup Err(",
            ]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_off_for_each_request() {
    let server = Server::start();
    let manifest = patient(&http_manifest("log-flood", ""));
    server.upload("log-flood", manifest, component("log_flood")).await;
    let flooded = server.get("/f/log-flood/").await;
    flooded.assert_error(504, "cpu-time-exceeded", "limits.cpu");
    crate::row::logged(&server, "log-flood", "limits.cpu").await.expect("its end is logged");
    let log = server.get("/v1/functions/log-flood/logs?tail=10000").await.text();
    let record = |line| serde_json::from_str::<Value>(line).expect("a record");
    let text = |record: Value| record["text"].as_str().map_or(0, str::len);
    let printed: usize = log.lines().map(record).map(text).sum();
    // What is kept of one request, and a few words of the server's own.
    assert!((60 << 10..66 << 10).contains(&printed), "{printed} bytes were kept");
}

#[tokio::test]
async fn a_bucket_is_filled_to_its_quota_and_not_beyond() {
    let server = Server::start();
    let neighbour = crate::neighbour::Neighbour::start(&server).await;
    let limits = "[grants]\nkeyvalue = [\"sand\"]\n";
    let manifest = http_manifest("keyvalue-flood", limits)
        .replace("cpu = \"100ms\"", "cpu = \"1min\"")
        .replace("timeout = \"1s\"", "timeout = \"2min\"");
    let deployed = server.upload("keyvalue-flood", manifest, component("keyvalue_flood")).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let other = server.get("/f/keyvalue-flood/other").await.text();
    assert!(other.contains("not opened: Error::AccessDenied"), "{other}");
    let flood = server.get("/f/keyvalue-flood/sand");
    let filled = tokio::time::timeout(Duration::from_secs(120), flood).await.expect("no hang");
    assert!(filled.text().contains("would be larger"), "{}", filled.text());
    let again = server.get("/f/keyvalue-flood/sand").await.text();
    assert!(again.contains("refused after"), "what is full stays within its quota: {again}");
    neighbour.end().await;
    siege::at_rest(&server).await;
}
