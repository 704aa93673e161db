//! `quern sim`: the examples run, repeat themselves, and errors say what to do.

use std::fs;

use serde_json::Value;

use crate::{
    cli::{answer, failure, text},
    support::root,
};

/// No server is asked, so that it does not matter whether there is one.
const NOWHERE: &str = "http://127.0.0.1:9";
const STEADY: &str = "examples/simulation/steady.toml";
const REPLICAS: &str = "examples/simulation/replicas.toml";

/// The part of the calls that was in time under the policy at a place of the answer.
fn in_time(answer: &Value, place: usize) -> f64 {
    answer["policies"][place]["in_time"]["mean"].as_f64().expect("a number")
}

#[test]
fn an_example_is_simulated_under_every_policy() {
    let table = text(NOWHERE, root(), &["sim", STEADY, "--seeds", "1"]);
    for policy in ["quern", "fifo", "delay:5ms", "clockwork", "symphony", "replicated"] {
        assert!(table.lines().any(|line| line.starts_with(policy)), "{policy}: {table}");
    }
}

#[test]
fn a_seed_gives_the_same_figures_again() {
    let arguments =
        ["sim", REPLICAS, "--policy", "quern", "--policy", "replicated", "--seeds", "1"];
    let first = answer(NOWHERE, root(), &arguments);
    assert_eq!(first, answer(NOWHERE, root(), &arguments));
    assert!(in_time(&first, 0) > in_time(&first, 1), "models move to where calls are: {first}");
    let other = answer(NOWHERE, root(), &[arguments.as_slice(), &["--seed", "2"]].concat());
    assert_ne!(first, other);
}

#[test]
fn what_can_not_be_simulated_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scenario.toml");
    let example = fs::read_to_string(root().join(REPLICAS)).expect("is committed");
    fs::write(&path, example.replace("rate = 40.0", "rate = -1.0")).expect("is written");
    let scenario = path.to_str().expect("text");
    failure(NOWHERE, &["sim", scenario], 1, &["rate of translator is -1", "more than 0"]);
    failure(NOWHERE, &["sim", "nothing.toml"], 1, &["reading nothing.toml"]);
    failure(NOWHERE, &["sim", STEADY, "--policy", "lifo"], 2, &["is no policy: there are quern"]);
    failure(NOWHERE, &["sim", STEADY, "--seeds", "0"], 2, &["1..=1000"]);
}
