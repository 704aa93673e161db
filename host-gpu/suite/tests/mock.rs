//! The program over the mock driver: that it runs, and never passes for a GPU's.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

#[path = "../../cuda/tests/mock/building.rs"]
mod building;

/// Runs the program where it finds the mock driver, and a mock of cuBLASLt.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cuda");
    let folder = building::build(&root, &[]);
    Command::new(env!("CARGO_BIN_EXE_gpu-suite"))
        .args(arguments)
        .env("LD_LIBRARY_PATH", building::libraries(&folder))
        .envs(variables.iter().copied())
        .output()
        .expect("the program runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn check_names_every_case_and_says_that_it_ran_over_the_mock() {
    let output = run(&["check", "--family", "rows", "--family", "matmul"], &[]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("MOCK DRIVER, no GPU"), "{text}");
    assert!(text.contains("products of matrices: cublasLt 13.0.2"), "{text}");
    assert!(text.contains("products of matrices: own kernels (as asked for)"), "{text}");
    assert!(text.contains("mock ok    rows: Softmax of"), "{text}");
    assert!(text.contains("images loaded: matmul.sm_90, movement.sm_90"), "{text}");
    assert!(text.contains(" cases, 0 wrong"), "{text}");
    let unlabelled = |line: &&str| line.starts_with("ok") || line.starts_with("WRONG");
    assert_eq!(text.lines().find(unlabelled), None);
}

#[test]
fn check_fails_where_a_case_does() {
    let arguments = ["check", "--family", "scan", "--elements", "200"];
    let output = run(&arguments, &[("QUERN_MOCK_FAULT", "launch@7")]);
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("mock WRONG scan: CumulativeSum"), "{text}");
    assert!(text.contains(", 1 wrong"), "{text}");
}

#[test]
fn benches_write_what_is_labelled_as_the_mocks() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gpu-suite-bench");
    let _ = fs::remove_dir_all(&folder);
    let out = folder.to_str().expect("a path of text");
    let output = run(&["bench", "--tiny", "--out", out], &[]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("mock limited by memory: add of FP32 8×8, 8×8: "), "{text}");
    let files: Vec<_> = fs::read_dir(&folder).expect("written").flatten().collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        assert!(name.starts_with("mock-"), "{name}");
        let text = fs::read_to_string(file.path()).expect("text");
        let label = if name.ends_with("json") { "\"mock\": true" } else { "over the MOCK driver" };
        assert!(text.contains(label), "{text}");
        for measured in ["softmax", "matmul by own kernels", "upload", "products of four tenants"] {
            assert!(text.contains(measured), "{measured}: {text}");
        }
    }
}

#[test]
fn without_a_device_it_says_why_and_fails() {
    let output = run(&["check"], &[("QUERN_MOCK_DEVICES", "0")]);
    assert!(!output.status.success());
    assert!(said(&output).contains("the driver finds no device"), "{}", said(&output));
}

#[test]
fn families_that_are_not_there_are_refused_with_those_that_are() {
    let output = run(&["check", "--family", "colours"], &[]);
    assert!(!output.status.success());
    assert!(said(&output).contains("the families are elementwise, "), "{}", said(&output));
}

#[test]
fn the_sanitizer_that_is_not_there_is_told() {
    let output = run(&["sanitize", "--tool", "memcheck"], &[("PATH", "/nowhere")]);
    let text = said(&output);
    // A machine with a toolkit has one.
    if !Path::new("/usr/local/cuda").exists() {
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("compute-sanitizer is neither in PATH nor in"), "{text}");
    }
}
