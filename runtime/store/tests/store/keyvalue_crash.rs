//! Kills the process while it writes pairs: every acknowledged write is there, and a write of
//! several keys is there as a whole or not at all.

use std::{
    env,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use quern_types::{BucketId, Change};

use crate::common::{name, open, tenant};

const CHILD: &str = "QUERN_STORE_KEYVALUE_CRASH_FOLDER";
const CYCLES: usize = 8;
const WORKERS: usize = 4;

fn bucket() -> BucketId {
    BucketId { tenant: tenant(), name: name("b") }
}

#[test]
fn an_acknowledged_write_survives_a_kill() {
    if let Some(folder) = env::var_os(CHILD) {
        return runtime().block_on(work(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = [0_u64; WORKERS];
    for cycle in 0..CYCLES {
        // Killed in the midst of its work, after more writes each time.
        for (worker, count) in run_and_kill(folder.path(), 10 + 20 * cycle) {
            acknowledged[worker] = acknowledged[worker].max(count);
        }
        runtime().block_on(check(folder.path(), &mut acknowledged));
    }
    assert!(acknowledged.iter().sum::<u64>() > 100, "{acknowledged:?}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

/// Kills a child after so many acknowledgements; gives all of them.
fn run_and_kill(folder: &Path, acknowledgements: usize) -> Vec<(usize, u64)> {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["keyvalue_crash::an_acknowledged_write_survives_a_kill", "--exact", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut seen = Vec::new();
    for line in lines.map_while(Result::ok) {
        // The harness prints the name of the test before the first line.
        let Some(start) = line.find("ack ") else { continue };
        let numbers: Vec<u64> =
            line[start..].split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
        // The last line may have been cut off by the kill.
        if let [worker, count, 0] = numbers[..] {
            seen.push((worker as usize, count));
        }
        if seen.len() == acknowledgements {
            child.kill().expect("killed");
        }
    }
    child.wait().expect("ended");
    seen
}

/// The child: each worker counts up, and writes two more keys with the number each time.
async fn work(folder: &Path) {
    let store = open(folder, 2).await;
    let pairs = store.key_value();
    let workers = (0..WORKERS).map(|worker| {
        let pairs = pairs.clone();
        async move {
            loop {
                let key = format!("count {worker}");
                let count = pairs.increment(bucket(), key, 1).await.expect("incremented");
                say(&format!("ack {worker} {count} 0\n"));
                let value = Bytes::from(vec![count as u8; 3_000]);
                let set = |side| Change::Set(format!("{side} {worker}"), value.clone());
                let changes = vec![set("left"), set("right")];
                pairs.write(bucket(), changes).await.expect("written");
            }
        }
    });
    futures::future::join_all(workers).await;
}

/// One write, so that a line is whole or missing.
fn say(line: &str) {
    std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
}

async fn check(folder: &Path, acknowledged: &mut [u64; WORKERS]) {
    let store = open(folder, 2).await;
    for (worker, acknowledged) in acknowledged.iter_mut().enumerate() {
        let keys = ["count", "left", "right"].map(|side| format!("{side} {worker}")).to_vec();
        let values = store.key_value().get(bucket(), keys).await.expect("read");
        let count = values[0].as_deref().unwrap_or(b"0");
        let count: u64 = String::from_utf8_lossy(count).parse().expect("a number");
        // One more may have been committed and not acknowledged, and be counted on from there.
        assert!(count >= *acknowledged, "{count} of {acknowledged} are there");
        assert!(count <= *acknowledged + 1, "{count} after {acknowledged}");
        assert_eq!(values[1], values[2], "both or none");
        *acknowledged = count;
    }
    store.close().await;
}
