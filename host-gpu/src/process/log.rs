//! What a worker writes to its standard error, as lines of the server's log: cut to a length, and
//! to so many a second, whatever it writes.

use std::{
    io::{self, BufRead as _, BufReader, Read},
    process::ChildStderr,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const LONGEST_LINE: u64 = 1_024;
const LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);

/// Starts a thread that ends with the worker.
pub(super) fn relay(stderr: Option<ChildStderr>) -> io::Result<JoinHandle<()>> {
    let stderr = stderr.ok_or_else(|| io::Error::other("the worker has no standard error"))?;
    let log = |line: &str| tracing::warn!(target: "quern::device_worker", "{line}");
    thread::Builder::new()
        .name("device-worker-log".into())
        .spawn(move || each_line(stderr, Instant::now, log))
}

/// Calls `log` for each line that there is room for, and for how many there was none.
fn each_line(reader: impl Read, now: impl Fn() -> Instant, mut log: impl FnMut(&str)) {
    let mut reader = BufReader::new(reader);
    let mut window = Window { start: now(), lines: 0, dropped: 0 };
    let mut line = Vec::new();
    loop {
        line.clear();
        // A longer line becomes several.
        match reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let at = now();
        if at.saturating_duration_since(window.start) >= WINDOW {
            window.report(&mut log);
            window = Window { start: at, lines: 0, dropped: 0 };
        }
        let text = String::from_utf8_lossy(&line);
        match text.trim_end() {
            "" => {}
            _ if window.lines == LINES => window.dropped += 1,
            text => {
                window.lines += 1;
                // Debug's quoting leaves no control character to whoever reads the log.
                log(&text.escape_debug().to_string());
            }
        }
    }
    window.report(&mut log);
}

struct Window {
    start: Instant,
    lines: u32,
    dropped: u64,
}

impl Window {
    fn report(&self, log: &mut impl FnMut(&str)) {
        if self.dropped > 0 {
            log(&format!("{} more lines within a second were dropped", self.dropped));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn logged(text: &str, step: Duration) -> Vec<String> {
        let (start, calls) = (Instant::now(), Cell::new(0));
        let now = || {
            calls.set(calls.get() + 1);
            start + step * calls.get()
        };
        let mut lines = Vec::new();
        each_line(text.as_bytes(), now, |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_are_passed_on_without_control_characters() {
        let lines = logged("one\n\n two\u{1b}[31m\nlast", Duration::ZERO);
        assert_eq!(lines, ["one", " two\\u{1b}[31m", "last"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let lines = logged(&"x".repeat(2_500), Duration::ZERO);
        let lengths: Vec<_> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [1_024, 1_024, 452]);
    }

    #[test]
    fn a_flood_is_dropped_and_counted_and_ends_with_its_second() {
        let flood = "x\n".repeat(150);
        let lines = logged(&flood, Duration::ZERO);
        assert_eq!(lines.len(), 101);
        assert_eq!(lines[100], "50 more lines within a second were dropped");
        assert_eq!(logged(&flood, WINDOW).len(), 150);
    }
}
