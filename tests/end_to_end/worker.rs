//! A server whose models are computed by a process of its own: whatever becomes of that process,
//! the server answers, and answers nothing wrong.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    onnx::slow_model,
    support::{Answer, Server, digits_model},
};

/// Starts a server with a worker; `options` are those of `[models]`.
fn start(options: &str) -> Server {
    let data = Arc::new(TempDir::new().expect("a folder"));
    let config = data.path().join("quern-server.toml");
    fs::write(&config, format!("[models]\nprocess = \"worker\"\n{options}")).expect("writes");
    Server::start_on(data.clone(), &["--config", config.to_str().expect("text")])
}

async fn device(server: &Server) -> Value {
    server.get("/v1/devices").await.json()["devices"][0].take()
}

/// The worker's process, as soon as there is one.
async fn process(server: &Server) -> u32 {
    for _ in 0..1_000 {
        if let Some(process) = device(server).await["worker"]["process_id"].as_u64() {
            return u32::try_from(process).expect("a process");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no worker came up");
}

fn signal(process: u32, signal: Signal) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process");
    // It may just have ended.
    let _ = kill_process(pid, signal);
}

async fn infer(server: &Server, value: u32) -> Answer {
    let data = vec![f64::from(value); 64];
    let image = json!([{ "name": "image", "shape": [1, 64], "datatype": "FP32", "data": data }]);
    server.infer("digits-mlp", image).await
}

/// Asks until a lost worker has come back.
async fn answered(server: &Server, value: u32) -> Value {
    for _ in 0..1_000 {
        let answer = infer(server, value).await;
        if answer.status == 200 {
            return answer.json()["outputs"].take();
        }
        assert_lost(&answer);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the model does not answer any more");
}

fn assert_lost(answer: &Answer) {
    answer.assert_error(503, "device-lost", "try again");
    assert_eq!(answer.header("retry-after"), "1");
}

/// A batch of several calls adds up in another order than a call alone.
fn assert_alike(found: &Value, expected: &Value) {
    let data = |outputs: &Value| {
        let data = outputs[0]["data"].as_array().expect("numbers").clone();
        data.iter().filter_map(Value::as_f64).collect::<Vec<_>>()
    };
    let (found, expected) = (data(found), data(expected));
    assert_eq!((found.len(), expected.len()), (10, 10));
    let alike =
        found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-5);
    assert!(alike, "{found:?} instead of {expected:?}");
}

/// Files that a process has open, but for connections to others.
fn open_files(process: u32) -> Vec<String> {
    let connections: HashSet<String> = ["tcp", "tcp6"]
        .iter()
        .flat_map(|kind| {
            let table = fs::read_to_string(format!("/proc/net/{kind}")).unwrap_or_default();
            let inode = |line: &str| line.split_whitespace().nth(9).map(str::to_owned);
            table.lines().filter_map(inode).collect::<Vec<_>>()
        })
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let files = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let targets = targets.map(|target| target.to_string_lossy().into_owned());
    targets.filter(|target| !connections.contains(target)).collect()
}

/// Bytes of shared memory that a process has mapped.
fn shared_bytes(process: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("it runs");
    let shared = maps.lines().filter(|line| line.contains("memfd:quern"));
    let bytes = shared.filter_map(|line| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).ok();
        Some(address(end)? - address(start)?)
    });
    bytes.sum()
}

#[tokio::test]
async fn a_worker_answers_as_the_server_itself_does() {
    let (within, outside) = (Server::start(), start(""));
    for server in [&within, &outside] {
        server.deploy_digits_model().await;
    }
    assert_eq!(device(&within).await["worker"], Value::Null);
    let worker = device(&outside).await["worker"].take();
    assert_eq!((&worker["starts"], &worker["down"]), (&json!(1), &Value::Null));
    for value in 0..16 {
        assert_eq!(answered(&outside, value).await, answered(&within, value).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_at_any_instant_costs_nothing_but_calls_to_be_tried_again() {
    let cycles = if std::env::var_os("QUERN_LONG_TESTS").is_some() { 200 } else { 20 };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut random = fastrand::Rng::with_seed(now.subsec_nanos().into());
    println!("seed {}", random.get_seed());
    let server = Arc::new(start(""));
    server.deploy_digits_model().await;
    let mut expected = Vec::new();
    for value in 0..8 {
        expected.push(answered(&server, value).await);
    }
    let expected = Arc::new(expected);
    let files = open_files(server.process_id());

    let stop = Arc::new(AtomicBool::new(false));
    let callers = (0..4).map(|caller| {
        let (server, stop, expected) = (server.clone(), stop.clone(), expected.clone());
        tokio::spawn(async move {
            let (mut answers, mut lost) = (0u64, 0u64);
            for round in caller.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let value = round % 8;
                let answer = infer(&server, value).await;
                if answer.status == 200 {
                    answers += 1;
                    assert_alike(&answer.json()["outputs"], &expected[value as usize]);
                } else {
                    lost += 1;
                    assert_lost(&answer);
                }
            }
            (answers, lost)
        })
    });
    let callers: Vec<_> = callers.collect();
    for _ in 0..cycles {
        let worker = process(&server).await;
        tokio::time::sleep(Duration::from_millis(random.u64(0..250))).await;
        signal(worker, Signal::KILL);
    }
    stop.store(true, Ordering::Relaxed);
    let (mut answers, mut lost) = (0, 0);
    for caller in callers {
        let (answered, refused) = caller.await.expect("nothing wrong was answered");
        (answers, lost) = (answers + answered, lost + refused);
    }
    println!("{answers} answers, {lost} calls to be tried again");
    assert!(answers > 0);
    assert_alike(&answered(&server, 3).await, &expected[3]);
    assert_eq!(open_files(server.process_id()).len(), files.len(), "{files:?} before");
    // Each lane keeps memory for its next run, and that is all.
    let lanes = device(&server).await["lanes"].as_u64().expect("a number");
    let bytes = shared_bytes(server.process_id());
    assert!(bytes <= lanes * (256 << 10), "{bytes} bytes for {lanes} lanes");
    let starts = device(&server).await["worker"]["starts"].as_u64().expect("a number");
    assert!((2..=cycles + 1).contains(&starts), "{starts} starts");
    assert_eq!(server.metric("quern_device_worker_starts_total").await, starts as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_hangs_is_ended_at_its_limit_and_the_server_goes_on() {
    let server = start("worker_run_timeout = \"300ms\"");
    server.deploy_digits_model().await;
    let before = answered(&server, 5).await;
    let deployed = server.put("/v1/models/hung", slow_model()).await;
    assert!(deployed.status.is_success(), "{}", deployed.text());
    let input = json!([{ "name": "x", "shape": [1], "datatype": "FP32", "data": [0.0] }]);
    let hung = server.infer("hung", input);
    let healthy = async {
        let answer = server.get("/healthz").await;
        assert_eq!(answer.status, 200, "the server serves meanwhile");
    };
    let (hung, ()) = futures::future::join(hung, healthy).await;
    assert_lost(&hung);
    assert_eq!(answered(&server, 5).await, before);
    assert_eq!(device(&server).await["worker"]["starts"], 2);
}

#[tokio::test]
async fn a_corrupt_model_harms_its_own_deployment_alone() {
    let server = start("");
    server.deploy_digits_model().await;
    let before = answered(&server, 1).await;
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..12 {
        let mut model = digits_model();
        for _ in 0..1 << (round % 5) {
            let at = random.usize(..model.len());
            model[at] = random.u8(..);
        }
        let answer = server.put("/v1/models/corrupt", model).await;
        // Damaged weights may still be a model.
        assert_ne!(answer.status, 500, "{}", answer.text());
    }
    assert_eq!(answered(&server, 1).await, before);
}

#[tokio::test]
async fn a_worker_is_confined_and_the_server_says_how() {
    let server = start("worker_memory = \"1GiB\"");
    let worker = process(&server).await;
    let read = |file: &str| fs::read_to_string(format!("/proc/{worker}/{file}")).expect("it runs");
    let confinement = device(&server).await["worker"]["confinement"].take();
    let confinement = confinement.as_array().expect("a list");
    let measures: Vec<_> = confinement.iter().filter_map(|one| one["measure"].as_str()).collect();
    assert_eq!(measures, ["files", "network", "programs", "core dumps", "more memory"]);
    let filtered = confinement[2]["by"].is_string();
    let status = read("status");
    let line = |text: &str| status.lines().any(|line| line.replace('\t', "") == text);
    assert_eq!(line("Seccomp:2"), filtered, "{confinement:?}");
    assert_eq!(line("NoNewPrivs:1"), filtered, "{confinement:?}");
    for one in confinement {
        assert_ne!(one["by"].is_string(), one["absent"].is_string(), "{one}");
    }
    let limits = read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("a limit");
        line.split_whitespace().next().expect("a value").to_owned()
    };
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max data size"), (1u64 << 30).to_string());
    // What is open: the ways to the server, and nothing of what the server has.
    let odd: Vec<_> = open_files(worker)
        .into_iter()
        .filter(|file| {
            !["socket:", "pipe:", "/dev/null", "/memfd:"].iter().any(|p| file.starts_with(p))
        })
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    let environment = read("environ");
    assert!(!environment.contains("HOME="), "{environment}");
}

#[tokio::test]
async fn a_worker_ends_with_its_server_however_that_ends() {
    let gone = |process: u32| {
        let start = Instant::now();
        while Path::new(&format!("/proc/{process}")).exists() && !is_zombie(process) {
            assert!(start.elapsed() < Duration::from_secs(60), "the worker outlives its server");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let server = start("");
    let worker = process(&server).await;
    server.kill();
    gone(worker);
    let server = start("");
    let worker = process(&server).await;
    // As a terminal or a service manager does it: the signal is for all processes.
    signal(worker, Signal::TERM);
    signal(worker, Signal::INT);
    server.deploy_digits_model().await;
    answered(&server, 1).await;
    assert_eq!(device(&server).await["worker"]["starts"], 1);
    server.stop();
    assert!(!PathBuf::from(format!("/proc/{worker}")).exists(), "the server waits for its end");
}

/// Whether a process has ended, and whoever adopted it has not looked yet.
fn is_zombie(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:\tZ"))
}
