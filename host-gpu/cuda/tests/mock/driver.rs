//! Builds the mock driver, once for all tests, and runs tests in processes that find it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sha2::{Digest, Sha256};

/// Set in processes that find the mock driver.
const WITHIN: &str = "QUERN_MOCK_WITHIN";

/// Runs `body` in a process of its own that finds the mock driver; `name` is the path of the test
/// that calls this, `variables` tell the driver what to be like.
pub(crate) fn with_mock(name: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if env::var_os(WITHIN).is_some() {
        return body();
    }
    let outcome = again(name, &build(&[]), variables).output().expect("the test runs again");
    check(&outcome);
}

/// The same with the driver and the kernels under the address sanitizer.
pub(crate) fn with_sanitized_mock(name: &str, body: impl FnOnce()) {
    if env::var_os(WITHIN).is_some() {
        return body();
    }
    let folder = build(&["-fsanitize=address", "-fno-omit-frame-pointer"]);
    let runtime = Command::new(compiler()).arg("-print-file-name=libasan.so").output();
    let runtime = runtime.expect("the compiler says where its sanitizer is").stdout;
    let runtime = String::from_utf8(runtime).expect("a path");
    let outcome = again(name, &folder, &[])
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

fn compiler() -> String {
    env::var("CXX").unwrap_or_else(|_| "g++".to_owned())
}

/// The folder of the driver, which is built unless one of these very sources is there.
fn build(flags: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut hash = Sha256::new();
    hash.update(compiler());
    flags.iter().for_each(|flag| hash.update(flag));
    for folder in ["kernels", "mock"] {
        let files = fs::read_dir(root.join(folder)).expect("a folder of sources");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            hash.update(fs::read(file).expect("a source"));
        }
    }
    let digest: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mock-driver-{digest}"));
    fs::create_dir_all(&folder).expect("a folder for the driver");
    // Tests run at the same time, in one process or several.
    let lock = fs::File::create(folder.join("lock")).expect("a file to lock");
    lock.lock().expect("locked");
    if !folder.join("libcuda.so").exists() {
        let built = Command::new(root.join("mock/build.sh")).arg(&folder).args(flags).output();
        let built = built.expect("mock/build.sh runs");
        let said = String::from_utf8_lossy(&built.stderr).into_owned();
        assert!(built.status.success(), "the mock driver needs a C++ compiler: {said}");
    }
    folder
}
