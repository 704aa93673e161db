//! `quern logs`: what a function printed, and why it failed.

use anyhow::{Context, Result};
use bytes::Bytes;
use quern_types::Name;

use super::Session;
use crate::{
    client::{Lines, LogLine},
    output,
};

/// Show what a function printed, and why it failed
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// The function
    name: Name,

    /// Go on as more is printed; Ctrl-C stops
    #[arg(short, long)]
    follow: bool,

    /// How many of the newest lines to begin with, up to 10000
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES",
        value_parser = clap::value_parser!(u32).range(..=10_000))]
    tail: u32,
}

pub(crate) async fn run(session: &Session, command: Logs) -> Result<()> {
    let Logs { name, follow, tail } = command;
    print(session.client.logs(&name, tail, follow).await?, session.json).await
}

/// Prints log lines until the server has sent all that was asked for.
pub(crate) async fn print(mut lines: Lines, json: bool) -> Result<()> {
    while let Some(line) = lines.next().await? {
        if json {
            output::raw(&[&line[..], b"\n"].concat())?;
        } else {
            output::line(describe(&line)?)?;
        }
    }
    Ok(())
}

fn describe(line: &Bytes) -> Result<String> {
    let line: LogLine = serde_json::from_slice(line).context("log line is not understood")?;
    let LogLine { time, version, invocation, stream, level, context, text } = line;
    // A message's level says where it comes from.
    let source = match (level, context.filter(|context| !context.is_empty())) {
        (None, _) => stream,
        (Some(level), None) => level,
        (Some(level), Some(context)) => format!("{level} {context}"),
    };
    // The end of an invocation's id is its random part: enough to tell neighbours apart.
    let start = invocation.len().saturating_sub(8);
    let short = invocation.get(start..).unwrap_or(&invocation);
    Ok(format!("{time} v{version} {short} {source}: {}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_readable() {
        let line = br#"{"sequence":1,"time":"2026-11-02T09:00:00.000Z","version":3,
            "invocation":"01936a5e-0000-7000-8000-0123456789ab","stream":"stderr","text":"hi\n"}"#;
        let shown = describe(&Bytes::from_static(line)).expect("a log line");
        assert_eq!(shown, "2026-11-02T09:00:00.000Z v3 456789ab stderr: hi");
        let source = |context: &str| {
            let line = format!(
                "{{\"time\":\"t\",\"version\":1,\"invocation\":\"i\",\"stream\":\"log\",\
                 \"level\":\"warn\",\"context\":\"{context}\",\"text\":\"hi\"}}"
            );
            describe(&Bytes::from(line)).expect("a log line")
        };
        assert_eq!(source("disk"), "t v1 i warn disk: hi");
        assert_eq!(source(""), "t v1 i warn: hi");
        assert!(describe(&Bytes::from_static(b"{}")).is_err());
    }
}
