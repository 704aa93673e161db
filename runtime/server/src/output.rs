//! How results look on standard output: tables for people, JSON for programs. Never decides what
//! is shown.

use std::{
    fmt,
    io::{self, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// Writes a line to standard output. Unlike `println!`, a closed pipe is an error, not a panic.
pub(crate) fn line(text: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes bytes to standard output as they are, at once.
pub(crate) fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes a value as JSON on one line.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    line(value)
}

/// Left-aligned columns as wide as their widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row, which must have as many cells as there are headings.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let text = cells.collect::<Vec<_>>().join("  ");
            let end = if index + 1 < self.rows.len() { "\n" } else { "" };
            write!(f, "{}{end}", text.trim_end())?;
        }
        Ok(())
    }
}

/// The first 12 hex digits of a digest: enough to tell versions apart.
pub(crate) fn short_digest(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

/// A length of time in the unit that suits it.
pub(crate) fn duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{:.2} ms", micros as f64 / 1e3),
        100_000..10_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// A progress bar on standard error, counting bytes; invisible where that is no terminal.
pub(crate) fn byte_progress(total: u64, message: String) -> ProgressBar {
    progress(total, message, "{msg} [{bar:30}] {bytes}/{total_bytes}")
}

/// A progress bar on standard error, counting things; invisible where that is no terminal.
pub(crate) fn count_progress(total: u64, message: String) -> ProgressBar {
    progress(total, message, "{msg} [{bar:30}] {pos}/{len}")
}

fn progress(total: u64, message: String, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template)
        .expect("the templates are constants that a test parses")
        .progress_chars("=> ");
    ProgressBar::new(total).with_style(style).with_message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_have_no_trailing_blanks() {
        let mut table = Table::new(&["NAME", "KIND", "V"]);
        table.row(vec!["digit-reader".into(), "http".into(), "1".into()]);
        table.row(vec!["é".into(), "inference".into(), "".into()]);
        let expected = "NAME          KIND       V\n\
                        digit-reader  http       1\n\
                        é             inference";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn an_empty_table_is_its_headings() {
        assert_eq!(Table::new(&["NAME"]).to_string(), "NAME");
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        let cases = [
            (250, "250 µs"),
            (1_250, "1.25 ms"),
            (99_999, "100.00 ms"),
            (412_300, "412 ms"),
            (12_345_678, "12.3 s"),
        ];
        for (micros, expected) in cases {
            assert_eq!(duration(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn progress_templates_parse() {
        assert_eq!(byte_progress(3, "a".into()).length(), Some(3));
        assert_eq!(count_progress(3, "a".into()).message(), "a");
    }

    #[test]
    fn digests_are_shortened() {
        let digest = quern_types::Digest::of(b"abc").to_string();
        assert_eq!(short_digest(&digest), "ba7816bf8f01");
    }
}
