//! Builds the mock driver, once for all tests of a target folder.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

/// The path of libraries that leads to the mock driver and to cuBLASLt.
pub(crate) fn libraries(folder: &Path) -> OsString {
    env::join_paths([folder, &folder.join("cublaslt")]).expect("no colon in it")
}

/// What compiles it.
pub(crate) fn compiler() -> String {
    env::var("CXX").unwrap_or_else(|_| "g++".to_owned())
}

/// The folder of the driver, which is built unless one of these very sources is there; `root` is
/// the folder of quern-cuda.
pub(crate) fn build(root: &Path, flags: &[&str]) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(compiler());
    flags.iter().for_each(|flag| hash.update(flag));
    for folder in ["kernels", "mock", "mock/cublaslt"] {
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
