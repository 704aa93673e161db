//! `quern top`: what functions and models are doing, looked at again and again.

mod rates;

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::Result;
use quern_types::Period;
use serde_json::json;

use self::rates::{Order, Row};
use super::Session;
use crate::{
    client::Stats,
    output::{self, Table},
};

/// Goes to the top left, and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show what functions and models are doing, and go on; Ctrl-C stops
///
/// Rates and times are those of the last interval. Those of models are of their calls, whoever made
/// them; those of functions are from a request's admission to the end of its guest.
#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    /// Time between two looks
    #[arg(short = 'i', long, default_value = "2s", value_name = "TIME")]
    interval: Period,

    /// Print one table, after one interval, and end
    #[arg(long)]
    once: bool,

    /// What comes first
    #[arg(short, long, value_enum, default_value = "requests")]
    sort: Order,
}

pub(crate) async fn run(session: &Session, command: Top) -> Result<()> {
    let Top { interval, once, sort } = command;
    let interval = interval.0.max(Duration::from_millis(100));
    // Pages of their own are for terminals; elsewhere one table follows the other.
    let clear = if !once && io::stdout().is_terminal() { CLEAR } else { "" };
    let (mut before, mut looked) = (session.client.stats().await?.parsed, Instant::now());
    loop {
        tokio::time::sleep(interval).await;
        let now = session.client.stats().await?.parsed;
        let passed = looked.elapsed();
        looked = Instant::now();
        let rows = rates::rows(&before, &now, passed, sort);
        if session.json {
            let of_all = json!({ "seconds": passed.as_secs_f64(), "rows": rows });
            output::json(&of_all)?;
        } else {
            output::line(format_args!("{clear}{}", show(&rows, &now)))?;
        }
        if once {
            return Ok(());
        }
        before = now;
    }
}

fn show(rows: &[Row], stats: &Stats) -> String {
    let mut table = Table::new(&[
        "NAME", "KIND", "REQ/S", "ERR/S", "P50", "P99", "RUNNING", "WAITING", "MEMORY", "BATCH",
    ]);
    for row in rows {
        table.row(vec![
            row.name.clone(),
            row.kind.to_owned(),
            rate(row.requests_per_second),
            rate(row.errors_per_second),
            time(row.p50_seconds),
            time(row.p99_seconds),
            running(row),
            row.waiting.map_or_else(dash, |waiting| waiting.to_string()),
            quern_types::ByteSize(row.memory_bytes).to_string(),
            row.batch_rows.map_or_else(dash, |rows| format!("{rows:.1}")),
        ]);
    }
    let more = if stats.truncated { "\n… and more, which are left out" } else { "" };
    match rows {
        [] => "nothing has been called since the server started".into(),
        _ => format!("{table}{more}"),
    }
}

fn running(row: &Row) -> String {
    match (row.running, row.concurrency) {
        (Some(running), Some(most)) => format!("{running}/{most}"),
        (Some(running), None) => running.to_string(),
        (None, _) => dash(),
    }
}

fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

fn time(seconds: Option<f64>) -> String {
    seconds.map_or_else(dash, |seconds| output::duration(Duration::from_secs_f64(seconds)))
}

fn dash() -> String {
    "-".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_readable() {
        let row = Row {
            name: "digits".into(),
            kind: "function",
            requests_per_second: 1_234.5,
            errors_per_second: 0.25,
            p50_seconds: Some(0.001_25),
            p99_seconds: None,
            running: Some(3),
            concurrency: Some(64),
            waiting: None,
            memory_bytes: 3 << 20,
            batch_rows: None,
        };
        let shown = show(&[row], &Stats::default());
        let cells = "digits  function  1234   0.2    1.25 ms  -    3/64     -        3.0 MiB  -";
        assert_eq!(shown.lines().nth(1), Some(cells), "{shown}");
        let nothing = show(&[], &Stats::default());
        assert_eq!(nothing, "nothing has been called since the server started");
    }
}
