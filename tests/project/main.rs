//! Holds the repository against its own rules: who imports whom, licences, tidiness, links. Never
//! runs the program: what it does is tested beside this.

mod architecture;
mod documentation;
mod licences;
mod tidiness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `cargo metadata` says of the workspace in a folder; never reaches for the network.
fn metadata(folder: &str, options: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--offline"])
        .args(options)
        .current_dir(root().join(folder))
        .output()
        .expect("cargo can be run");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata in {folder:?}: {problem}");
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

/// All files of the repository with this extension and their text, in order; not what is built,
/// fetched or hidden.
fn files(extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let entry = entry.expect("a readable entry");
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().expect("a kind of file");
            if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).expect("text in UTF-8");
                let path = path.strip_prefix(root()).expect("below the root").to_path_buf();
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// Fails with everything that was found, not just the first.
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}
