//! `quern logs`: what a function printed, and why it failed.

use anyhow::{Context, Result};
use bytes::Bytes;
use quern_types::{LogLevel, Name, TraceId, VersionNumber};

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

    /// Only of this version
    #[arg(long, value_name = "NUMBER")]
    version: Option<VersionNumber>,

    /// Only from there: stdout, stderr, log (the function's own), or system (what the server says)
    #[arg(long, value_enum)]
    stream: Option<Stream>,

    /// Only as important as this at least: trace, debug, info, warn, error or critical; what is
    /// printed counts as info, what the server says as error
    #[arg(long)]
    level: Option<LogLevel>,

    /// Only since then: a time such as 2026-11-21T09:00:00Z, or how long ago, such as 15m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only before then
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    until: Option<String>,

    /// Only with this in their text
    #[arg(long)]
    text: Option<String>,

    /// Only of this request, by its id or the end of it
    #[arg(long, value_name = "ID")]
    invocation: Option<String>,

    /// Only of requests that are part of this trace
    #[arg(long, value_name = "ID")]
    trace: Option<TraceId>,
}

/// Where a line can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
    Log,
    System,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
            Self::System => "system",
        }
    }
}

impl Logs {
    /// The query for whatever is printed from now on.
    pub(crate) fn from_now_on() -> Vec<(&'static str, String)> {
        vec![("tail", "0".into()), ("follow", "true".into())]
    }

    fn query(self) -> Vec<(&'static str, String)> {
        let mut query = vec![("tail", self.tail.to_string()), ("follow", self.follow.to_string())];
        let filters = [
            ("version", self.version.map(|version| version.to_string())),
            ("stream", self.stream.map(|stream| stream.as_str().into())),
            ("level", self.level.map(|level| level.to_string())),
            ("since", self.since),
            ("until", self.until),
            ("text", self.text),
            ("invocation", self.invocation),
            ("trace", self.trace.map(|trace| trace.to_string())),
        ];
        query.extend(filters.into_iter().filter_map(|(key, value)| Some((key, value?))));
        query
    }
}

pub(crate) async fn run(session: &Session, command: Logs) -> Result<()> {
    let name = command.name.clone();
    print(session.client.logs(&name, &command.query()).await?, session.json).await
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
