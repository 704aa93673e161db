//! Results as Markdown: on standard output, and with `--write` in docs/benchmarks.md. Never hides
//! an aim that was missed.

use std::{fmt, fs, process::Command};

use anyhow::{Context as _, Result};

use super::process::root;

const PAGE: &str = "docs/benchmarks.md";
const HEAD: &str = "# Benchmarks\n\n\
    `make bench` measures the program beside its peers and writes this page. Servers and load \
    share one machine and are measured in turn, several rounds each; numbers are medians over the \
    rounds. What counts are the ratios: both sides of one were measured in the same run.\n";

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new<const COLUMNS: usize>(heads: [&str; COLUMNS]) -> Self {
        let mut table = Self { columns: COLUMNS, text: String::new() };
        table.row(heads.map(str::to_owned));
        table.row(std::array::from_fn::<_, COLUMNS, _>(|_| "---".to_owned()));
        table
    }

    /// Adds a row.
    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        assert_eq!(COLUMNS, self.columns, "a row as wide as the table");
        self.text += &format!("| {} |\n", cells.join(" | "));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An aim: what it is, and whether it was met.
pub(crate) fn aim(what: &str, met: bool) -> String {
    format!("{what}: {}", if met { "met" } else { "**missed**" })
}

/// Prints a section, and writes it into the page if the command line says so.
pub(crate) fn publish(section: &str, title: &str, text: &str) -> Result<()> {
    let text = format!("## {title}\n\n{}\n\n{text}", circumstances()?);
    println!("{text}");
    if !writes() {
        return Ok(());
    }
    let path = root().join(PAGE);
    let page = if path.exists() { fs::read_to_string(&path)? } else { HEAD.to_owned() };
    fs::write(&path, replaced(&page, section, &text)).with_context(|| format!("writing {PAGE}"))
}

/// Whether the command line says that results are to be written into the documentation.
pub(crate) fn writes() -> bool {
    std::env::args().any(|argument| argument == "--write")
}

/// The page with this section's text, in its old place or at the end.
fn replaced(page: &str, section: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- begin {section} -->\n"), format!("<!-- end {section} -->\n"));
    let (before, after) = match page.split_once(&begin) {
        Some((before, rest)) => (before.to_owned(), rest.split_once(&end).map_or("", |(_, a)| a)),
        None => (format!("{page}\n"), ""),
    };
    format!("{before}{begin}{}\n{end}{after}", text.trim_end())
}

/// When, on what, and of what this was measured.
fn circumstances() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("");
    let cores = std::thread::available_parallelism()?;
    Ok(format!(
        "{date}, commit {commit}. {cores} cores, {cpu}, Linux {kernel}; {rust}.",
        date = said_by("date", &["-u", "+%F"])?,
        commit = commit()?,
        cpu = cpu.trim_start_matches([' ', '\t', ':']),
        kernel = said_by("uname", &["-r"])?,
        rust = said_by("rustc", &["--version"])?,
    ))
}

/// What is measured. That sections before this one were written into the documentation does not
/// make it another program.
fn commit() -> Result<String> {
    let commit = said_by("git", &["describe", "--always"])?;
    let but_figures = [":/", ":(exclude,top)docs/benchmarks.md", ":(exclude,top)docs/benchmarks"];
    let changes = ["status", "--porcelain", "--untracked-files=no", "--"];
    let is_changed = !said_by("git", &[&changes[..], &but_figures].concat())?.is_empty();
    Ok(if is_changed { format!("{commit}-dirty") } else { commit })
}

/// What a command prints.
pub(crate) fn said_by(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Result<String> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .with_context(|| format!("{} can't be run", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
