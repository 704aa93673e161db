//! Hostile calls in bursts, and what the server must be like after them: it serves others, no
//! instance is left, every permit is back, and its memory is what calls that do no harm leave.

use std::time::Duration;

use futures::{StreamExt, stream};

use crate::{
    long,
    neighbour::Neighbour,
    row::{CONCURRENCY, Row, component},
    support::Server,
};

/// Memory in KiB by which hostile calls may leave the server larger than calls that do no harm.
/// The pool keeps up to 2.6 MiB of each of the slots resident that a burst uses, where harmless
/// calls have touched less; the rest is what the allocator keeps of freed pages.
const ALLOWANCE_KIB: u64 = (CONCURRENCY as u64) * 2_700 + 24 * 1024;
/// How long the server may take to give back what a burst held.
const PATIENCE: Duration = Duration::from_secs(15);

/// Lets each guest of a table do its harm.
pub(crate) async fn besiege(rows: &[Row]) {
    let server = Server::start();
    let neighbour = Neighbour::start(&server).await;
    for row in rows {
        let (name, component) = (row.name(), component(row.guest));
        let deployed = server.upload(&name, row.manifest(), component).await;
        assert!(deployed.status.is_success(), "{}: {}", row.guest, deployed.text());
        let strike = async || row.strike(&server).await;
        let behave = async || behave(&server, &name).await;
        hold(&server, row.guest, strike, behave).await;
    }
    neighbour.end().await;
    server.stop();
}

/// Bursts of hostile calls, held against bursts of as many harmless ones.
pub(crate) async fn hold(
    server: &Server,
    guest: &str,
    strike: impl AsyncFn(),
    behave: impl AsyncFn(),
) {
    let (calls, bursts) = if long() { (40, 3) } else { (2, 1) };
    burst(calls, &behave).await;
    at_rest(server).await;
    let harmless = resident_kib(server);
    let mut levels = Vec::new();
    for _ in 0..bursts {
        burst(calls, &strike).await;
        at_rest(server).await;
        levels.push(resident_kib(server));
    }
    // All of its permits at the same time: none was lost.
    burst(CONCURRENCY, &behave).await;
    let limit = harmless + ALLOWANCE_KIB;
    let given_back = async {
        while resident_kib(server) > limit {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let freed = tokio::time::timeout(PATIENCE, given_back).await;
    eprintln!("{guest}: resident {harmless} KiB, after {bursts} bursts of {calls}: {levels:?} KiB");
    assert!(freed.is_ok(), "{guest}: {harmless} KiB became {} KiB", resident_kib(server));
}

/// This many calls, half as many at a time as the function may serve.
async fn burst(calls: usize, call: &impl AsyncFn()) {
    stream::iter(0..calls).for_each_concurrent(CONCURRENCY / 2, |_| call()).await;
}

async fn behave(server: &Server, function: &str) {
    let answer = server.get(&format!("/f/{function}/well")).await;
    assert_eq!((answer.status.as_u16(), &*answer.text()), (200, "well\n"), "{function}");
}

/// Waits until no instance is left; the neighbour has one only now and then.
pub(crate) async fn at_rest(server: &Server) {
    let rest = async {
        while server.metric("quern_sandbox_instances").await != 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, rest).await.expect("no instance is left");
}

/// The memory that the server holds.
pub(crate) fn resident_kib(server: &Server) -> u64 {
    let path = format!("/proc/{}/status", server.process_id());
    let status = std::fs::read_to_string(path).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
