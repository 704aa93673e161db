//! Runs tests in processes that find the mock driver.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::building::{build, compiler, libraries};

/// Set in processes that find the mock driver.
const WITHIN: &str = "QUERN_MOCK_WITHIN";

/// Runs `body` in a process of its own that finds the mock driver; `name` is the path of the test
/// that calls this, `variables` tell the driver what to be like.
pub(crate) fn with_mock(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if env::var_os(WITHIN).is_some() {
        return body();
    }
    let outcome = again(name, &driver(&[]), variables).output().expect("the test runs again");
    check(&outcome);
}

/// The same where there is a mock of cuBLASLt, too.
pub(crate) fn with_cublaslt(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if env::var_os(WITHIN).is_some() {
        return body();
    }
    let folder = driver(&[]);
    let mut again = again(name, &folder, variables);
    again.env("LD_LIBRARY_PATH", libraries(&folder));
    check(&again.output().expect("the test runs again"));
}

/// The same with the driver and the kernels under the address sanitizer.
pub(crate) fn with_sanitized_mock(name: &str, body: impl FnOnce()) {
    if env::var_os(WITHIN).is_some() {
        return body();
    }
    let folder = driver(&["-fsanitize=address", "-fno-omit-frame-pointer"]);
    let runtime = Command::new(compiler()).arg("-print-file-name=libasan.so").output();
    let runtime = runtime.expect("the compiler says where its sanitizer is").stdout;
    let runtime = String::from_utf8(runtime).expect("a path");
    let outcome = again(name, &folder, &[])
        .env("LD_LIBRARY_PATH", libraries(&folder))
        .env("LD_PRELOAD", runtime.trim())
        // What the process has at its end is no concern of this test.
        .env("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1")
        .output()
        .expect("the test runs again");
    check(&outcome);
}

fn check(outcome: &Output) {
    let [out, err] = [&outcome.stdout, &outcome.stderr].map(|said| String::from_utf8_lossy(said));
    assert!(outcome.status.success(), "{}: {out}{err}", outcome.status);
}

fn again(name: &str, folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env::current_exe().expect("this test"));
    command.args(["--exact", name, "--nocapture"]).env(WITHIN, "1").envs(variables.iter().copied());
    command.env("LD_LIBRARY_PATH", folder);
    command
}

fn driver(flags: &[&str]) -> PathBuf {
    build(Path::new(env!("CARGO_MANIFEST_DIR")), flags)
}
