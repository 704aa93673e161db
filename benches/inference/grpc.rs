//! Load from `h2load`, which speaks HTTP/2 and knows nothing of gRPC. Never takes a status of gRPC
//! for an answer: all must be as long as the first one, which was looked at.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::{
    models::Request,
    support::{
        load::{Measured, quantile},
        process::peer,
    },
};

/// Calls of `ModelInfer`, each over a connection of its own.
#[derive(Debug, Clone)]
pub(crate) struct Grpc {
    pub(crate) name: String,
    pub(crate) origin: String,
    pub(crate) request: Request,
    /// Bytes of the answer, prefix included, once one has been seen; all must have as many.
    pub(crate) answer_bytes: Option<u64>,
}

impl Grpc {
    pub(crate) async fn load(&self, connections: u32, time: Duration) -> Result<Measured> {
        let log = NamedTempFile::new()?;
        let text = self
            .h2load(&[
                format!("--clients={connections}"),
                format!("--duration={}", time.as_secs()),
                format!("--log-file={}", log.path().display()),
            ])
            .await?;
        let per_second = self.checked(&text, connections)? as f64 / time.as_secs_f64();
        let mut latencies = latencies(log.path())?;
        let p50_us = quantile(&mut latencies, 0.5);
        Ok(Measured { per_second, p50_us, p99_us: quantile(&mut latencies, 0.99) })
    }

    /// Sends one request and gives the bytes of its answer.
    pub(crate) async fn answer_bytes(&self) -> Result<u64> {
        let text = self.h2load(&["--requests=1".to_owned()]).await?;
        ensure!(number(&text, "requests:", "succeeded")? == 1, "no answer:\n{text}");
        data_bytes(&text)
    }

    async fn h2load(&self, arguments: &[String]) -> Result<String> {
        let output = Command::new(peer("h2load"))
            .args(arguments)
            .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
            .arg("--data")
            .arg(&self.request.file)
            .arg(format!("{}/inference.GRPCInferenceService/ModelInfer", self.origin))
            .kill_on_drop(true)
            .output()
            .await
            .context("h2load can't be run: `make peers` installs it")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "h2load: {text}{errors}");
        Ok(text)
    }

    /// How many requests were answered. Fails unless all were answered as the first one was: h2load
    /// knows nothing of gRPC, where a failure is a success of HTTP with a short answer.
    fn checked(&self, text: &str, connections: u32) -> Result<u64> {
        let succeeded = number(text, "requests:", "succeeded")?;
        let failed = number(text, "requests:", "failed")? + number(text, "requests:", "errored")?;
        ensure!(failed == 0 && succeeded > 0, "{failed} requests failed:\n{text}");
        let each = self.answer_bytes.context("no answer has been seen yet")?;
        // What was under way at the end is in part there, too.
        let (bytes, most) = (data_bytes(text)?, u64::from(connections) * each);
        ensure!(
            (succeeded * each..=succeeded * each + most).contains(&bytes),
            "{succeeded} answers of {each} bytes have {bytes} bytes together"
        );
        Ok(succeeded)
    }
}

/// The number before a word, in the line of h2load that begins with another.
fn number(text: &str, line: &str, word: &str) -> Result<u64> {
    let line = text.lines().find_map(|found| found.strip_prefix(line));
    let line = line.with_context(|| format!("h2load printed nothing of requests:\n{text}"))?;
    let item = line.split(", ").find_map(|item| item.trim().strip_suffix(word));
    Ok(item.with_context(|| format!("no number of {word} in {line}"))?.trim().parse()?)
}

/// Bytes of all bodies: `traffic: … total, … headers (…), 12.3KB (12600) data`.
fn data_bytes(text: &str) -> Result<u64> {
    let line = text.lines().find(|line| line.starts_with("traffic:")).context("no traffic")?;
    let bytes = line.rsplit_once('(').and_then(|(_, rest)| rest.strip_suffix(") data"));
    Ok(bytes.with_context(|| format!("no bytes of data in {line}"))?.parse()?)
}

/// The latencies of successes, in a log whose lines are start, status and µs.
fn latencies(log: &Path) -> Result<Vec<f64>> {
    let text = fs::read_to_string(log)?;
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('\t').skip(1);
        if let (Some("200"), Some(us)) = (fields.next(), fields.next()) {
            found.push(us.parse()?);
        }
    }
    ensure!(!found.is_empty(), "h2load logged no answers");
    Ok(found)
}
