//! The peer: PyTorch in a process of its own, which is told what to measure line by line.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    num::NonZeroUsize,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use quern_operators::Dtype;
use serde_json::{Value, json};

use super::{cases::Case, support::process::root};

/// More than any output: below it, glibc keeps what is freed.
const KEPT_BYTES: &str = "4294967296";

/// A running PyTorch.
pub(crate) struct Torch {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    version: String,
}

impl Torch {
    pub(crate) fn start() -> Result<Self> {
        let program = root().join(".quern/peers/bin/torch-python");
        let mut process = Command::new(&program)
            .arg(root().join("benches/peers/torch_operators.py"))
            .env("MALLOC_MMAP_THRESHOLD_", KEPT_BYTES)
            .env("MALLOC_TRIM_THRESHOLD_", KEPT_BYTES)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: `make bench-device` installs it", program.display()))?;
        let input = process.stdin.take().context("its input is a pipe")?;
        let output = BufReader::new(process.stdout.take().context("its output is a pipe")?);
        let mut torch = Self { process, input, output, version: String::new() };
        let version = torch.read()?;
        torch.version = version["version"].as_str().context("it says its version")?.to_owned();
        Ok(torch)
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Has it make the inputs of a case.
    pub(crate) fn prepare(&mut self, case: &Case, threads: NonZeroUsize) -> Result<()> {
        let dtype = match case.dtype {
            Dtype::Fp16 => "float16",
            Dtype::Bf16 => "bfloat16",
            _ => "float32",
        };
        self.ask(&json!({
            "prepare": case.operator,
            "dtype": dtype,
            "inputs": case.inputs,
            "indices": case.indices,
            "threads": threads,
        }))?;
        Ok(())
    }

    /// What the sizes of the result's elements add up to.
    pub(crate) fn size(&mut self) -> Result<f64> {
        self.ask(&json!({"size": true}))?["size"].as_f64().context("a number")
    }

    /// Seconds that a call takes, the median of those in a period.
    pub(crate) fn measure(&mut self, period: Duration) -> Result<f64> {
        let answer = self.ask(&json!({"measure": period.as_secs_f64()}))?;
        answer["seconds"].as_f64().context("a number")
    }

    fn ask(&mut self, question: &Value) -> Result<Value> {
        writeln!(self.input, "{question}")?;
        self.input.flush()?;
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "PyTorch ended; see its message above");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
