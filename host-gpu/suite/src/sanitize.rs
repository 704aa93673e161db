//! The suite under NVIDIA's compute-sanitizer, which sees what kernels do to memory.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::Cases;

/// Most elements of a case: the sanitizer takes long for each access.
const SMALL: u64 = 20_000;

const PROGRAM: &str = "compute-sanitizer";

/// Where else than on the path it commonly is; `*` is any version.
const FOLDERS: [&str; 4] = [
    "/usr/local/cuda/bin",
    "/usr/local/cuda/compute-sanitizer",
    "/usr/local/cuda-*/bin",
    "/usr/local/cuda-*/compute-sanitizer",
];

/// What is run under the sanitizer.
#[derive(Debug, Args)]
pub(crate) struct Sanitize {
    /// Only this tool
    #[arg(long, value_enum)]
    tool: Option<Tool>,
    #[command(flatten)]
    cases: Cases,
}

/// A tool of the sanitizer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// Accesses out of bounds or not aligned, and leaks
    Memcheck,
    /// Races between threads of a block for its shared memory
    Racecheck,
    /// Device memory that is read before it was written
    Initcheck,
    /// Barriers that not all threads reach
    Synccheck,
}

impl Tool {
    const ALL: [Self; 4] = [Self::Memcheck, Self::Racecheck, Self::Initcheck, Self::Synccheck];

    fn name(self) -> &'static str {
        match self {
            Self::Memcheck => "memcheck",
            Self::Racecheck => "racecheck",
            Self::Initcheck => "initcheck",
            Self::Synccheck => "synccheck",
        }
    }
}

impl Sanitize {
    /// Whether no tool finds anything.
    pub(crate) fn run(&self, device: usize) -> Result<bool> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(FOLDERS.iter().flat_map(|f| matching(f)));
        let Some(sanitizer) = folders.map(|folder| folder.join(PROGRAM)).find(|p| p.is_file())
        else {
            bail!(
                "{PROGRAM} is neither in PATH nor in {}: it comes with the CUDA toolkit",
                FOLDERS.join(", ")
            )
        };
        let mut clean = true;
        for tool in self.tool.map_or(Tool::ALL.to_vec(), |tool| vec![tool]) {
            println!("== {} --tool {}", sanitizer.display(), tool.name());
            clean &= self.run_tool(&sanitizer, tool, device)?;
        }
        println!("{}", if clean { "no tool found anything" } else { "something was found" });
        Ok(clean)
    }

    fn run_tool(&self, sanitizer: &Path, tool: Tool, device: usize) -> Result<bool> {
        let mut command = Command::new(sanitizer);
        command.args(["--tool", tool.name(), "--error-exitcode", "99"]);
        if tool == Tool::Memcheck {
            // Modules and streams that are kept until the end are no leaks of a lane.
            command.args(["--leak-check", "no"]);
        }
        command.arg(env::current_exe().context("where this program is")?);
        command.args(["check", "--device", &device.to_string()]);
        command.args(["--elements", &self.cases.elements.min(SMALL).to_string()]);
        for family in &self.cases.families {
            command.args(["--family", family]);
        }
        let status = command.status().with_context(|| sanitizer.display().to_string())?;
        if !status.success() {
            println!("{}: {status}", tool.name());
        }
        Ok(status.success())
    }
}

/// The folders that a pattern names: at most one part of it has a `*`, at its end.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return vec![PathBuf::from(pattern)];
    };
    let (folder, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(prefix))
    });
    named.map(|path| path.join(after.trim_start_matches('/'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_folders_of_any_version() {
        let root = tempfile::tempdir().expect("a folder");
        for name in ["cuda-12.9/bin", "cuda-13.0/bin", "other"] {
            fs::create_dir_all(root.path().join(name)).expect("a folder");
        }
        let mut found = matching(&format!("{}/cuda-*/bin", root.path().display()));
        found.sort();
        let expected = ["cuda-12.9/bin", "cuda-13.0/bin"].map(|name| root.path().join(name));
        assert_eq!(found, expected);
        assert_eq!(matching("/a/b"), [PathBuf::from("/a/b")]);
        assert!(matching("/no/such/place-*/bin").is_empty());
    }
}
