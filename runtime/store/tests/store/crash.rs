//! Kills the process at random moments: what was acknowledged is there, what was not is there as a
//! whole or not at all. A kill proves the order of writes, not the syncs that power loss needs.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use quern_store::Store;
use quern_types::{Class, Digest, Name};

use crate::common::{blob_files, caller, deploy, name, number, open, tenant, upload_files};

const CHILD: &str = "QUERN_STORE_CRASH_FOLDER";
const SEED: &str = "QUERN_STORE_CRASH_SEED";
const CYCLES: u64 = 15;
const WORKERS: u64 = 4;
const KEEP: u32 = 3;

/// What one function should look like: its live version and what each kept number contains.
#[derive(Debug, Clone, Default, PartialEq)]
struct Expected {
    live: u32,
    kept: BTreeMap<u32, Digest>,
}

/// Splitmix64: a seed is enough to run the same again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let Some(folder) = env::var_os(CHILD) {
        let seed = env::var(SEED).expect("set by the parent").parse().expect("a number");
        return work(Path::new(&folder), seed);
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = match env::var(SEED) {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => clock.as_nanos() as u64,
    };
    println!("{SEED}={seed}");
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random(seed);
    let mut states: BTreeMap<String, Vec<Expected>> = BTreeMap::new();
    let mut highest: BTreeMap<String, u32> = BTreeMap::new();
    let mut acknowledged = 0;
    for _ in 0..CYCLES {
        let lines = run_and_kill(folder.path(), &mut random);
        acknowledged += lines.iter().filter(|line| line.starts_with("ack")).count();
        for line in &lines {
            follow(&mut states, &mut highest, line);
        }
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(check(folder.path(), &mut states, &mut highest));
    }
    println!("{acknowledged} operations were acknowledged");
    assert!(acknowledged > 0, "the child never got to work");
}

/// Lets a child work for a random time, kills it, and gives the whole lines that it printed.
fn run_and_kill(folder: &Path, random: &mut Random) -> Vec<String> {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["crash::what_was_acknowledged_survives_a_kill", "--exact", "--nocapture"])
        .env(CHILD, folder)
        .env(SEED, random.below(u64::MAX).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let lines = std::thread::spawn(move || {
        let (mut lines, mut line) = (Vec::new(), String::new());
        while output.read_line(&mut line).expect("readable") > 0 {
            if line.ends_with('\n') {
                lines.push(line.trim_end().to_owned());
            }
            line.clear();
        }
        lines
    });
    std::thread::sleep(Duration::from_millis(40 + random.below(400)));
    child.kill().expect("killed");
    child.wait().expect("ended");
    lines.join().expect("read")
}

/// The child: workers that deploy, roll back and delete, each its own function, all sharing some
/// contents. Every operation is announced before it starts and acknowledged after it ends.
fn work(folder: &Path, seed: u64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = open(folder, KEEP).await;
        let workers = (0..WORKERS).map(|worker| toil(&store, worker, Random(seed ^ worker)));
        futures::future::join_all(workers).await;
    });
}

async fn toil(store: &Store, worker: u64, mut random: Random) {
    let text = format!("f{worker}");
    let function = name(&text);
    loop {
        match random.below(8) {
            0 => {
                say(&format!("try delete {text}"));
                if store
                    .catalog()
                    .delete(&caller(&tenant()), Class::Function, &function)
                    .await
                    .is_ok()
                {
                    say(&format!("ack delete {text}"));
                } else {
                    say(&format!("ack nothing {text}"));
                }
            }
            1 => {
                say(&format!("try rollback {text}"));
                let key = &function;
                match store.catalog().rollback(&caller(&tenant()), Class::Function, key, None).await
                {
                    Ok(version) => say(&format!("ack rollback {text} {version}")),
                    Err(_) => say(&format!("ack nothing {text}")),
                }
            }
            choice => {
                let content = content(choice, &mut random);
                let digest = Digest::of(&content);
                say(&format!("try deploy {text} {digest}"));
                let version = deploy(store, &text, &content).await.expect("committed").version;
                say(&format!("ack deploy {text} {digest} {version}"));
            }
        }
    }
}

/// Shared between the workers now and then, of any size below 64 KiB otherwise.
fn content(choice: u64, random: &mut Random) -> Vec<u8> {
    if choice < 4 {
        return vec![choice as u8; 5_000];
    }
    (0..random.below(64 << 10)).map(|_| random.below(256) as u8).collect()
}

/// One write, so that a line is whole or missing.
fn say(line: &str) {
    let mut whole = String::with_capacity(line.len() + 1);
    writeln!(whole, "{line}").expect("text can be written to a string");
    std::io::stdout().write_all(whole.as_bytes()).expect("the parent reads");
}

/// Follows a line of the child: a try leaves two possible states, an acknowledgement one.
fn follow(
    states: &mut BTreeMap<String, Vec<Expected>>,
    highest: &mut BTreeMap<String, u32>,
    line: &str,
) {
    // The harness prints the name of the test on the line of the first announcement.
    let line = line.rfind("try ").map_or(line, |start| &line[start..]);
    let words: Vec<&str> = line.split(' ').collect();
    let (Some(action @ ("try" | "ack")), Some(operation), Some(function)) =
        (words.first().copied(), words.get(1).copied(), words.get(2).copied())
    else {
        return;
    };
    let possible = states.entry(function.into()).or_insert_with(|| vec![Expected::default()]);
    let highest = highest.entry(function.into()).or_default();
    if action == "try" {
        let mut after: Vec<_> = possible
            .iter()
            .filter_map(|state| apply(state, operation, words.get(3).copied(), *highest))
            .collect();
        possible.append(&mut after);
        return;
    }
    let version: Option<u32> = words.last().and_then(|word| word.parse().ok());
    match operation {
        "nothing" => possible.truncate(1),
        "delete" => *possible = vec![Expected::default()],
        _ => {
            let version = version.expect("acknowledged with a number");
            *highest = (*highest).max(version);
            let done = possible.iter().rev().find(|state| state.live == version).cloned();
            *possible = vec![done.unwrap_or_else(|| panic!("{line} from {possible:?}"))];
        }
    }
}

/// The state after an operation, if it would change anything.
fn apply(
    state: &Expected,
    operation: &str,
    content: Option<&str>,
    highest: u32,
) -> Option<Expected> {
    let mut after = state.clone();
    match operation {
        "delete" => after = Expected::default(),
        "rollback" => after.live = *state.kept.range(..state.live).next_back()?.0,
        _ => {
            let digest = content?.parse().expect("a digest");
            let known = state.kept.iter().find(|(_, kept)| **kept == digest);
            after.live = known.map_or(highest + 1, |(number, _)| *number);
            after.kept.insert(after.live, digest);
            let newest: Vec<u32> = after.kept.keys().rev().take(KEEP as usize).copied().collect();
            let live = after.live;
            after.kept.retain(|kept, _| newest.contains(kept) || *kept == live);
        }
    }
    Some(after)
}

/// Opens the folder and compares; what is found is what the next cycle starts from.
async fn check(
    folder: &Path,
    states: &mut BTreeMap<String, Vec<Expected>>,
    highest: &mut BTreeMap<String, u32>,
) {
    let store = open(folder, KEEP).await;
    let routes = store.catalog().routes();
    let mut referenced = std::collections::BTreeSet::new();
    for (function, possible) in states {
        let found = found(&routes, &name(function));
        assert!(possible.contains(&found), "{function}: {found:?} is none of {possible:?}");
        for digest in found.kept.values() {
            store.blobs().read(digest).await.expect("every visible version can be read");
            referenced.insert(digest.hex());
        }
        let newest = found.kept.keys().next_back().copied().unwrap_or_default();
        let highest = highest.entry(function.clone()).or_default();
        *highest = newest.max(*highest);
        *possible = vec![found];
    }
    assert_eq!(blob_files(folder), referenced);
    assert!(upload_files(folder).is_empty());
    store.close().await;
}

fn found(routes: &quern_types::Routes, function: &Name) -> Expected {
    let Some(deployed) = routes.function(&tenant(), function) else {
        return Expected::default();
    };
    let live = deployed.live().number.get();
    assert!(deployed.version(Some(number(live))).is_ok());
    let kept = deployed.versions().map(|version| (version.number.get(), version.content));
    Expected { live, kept: kept.collect() }
}
