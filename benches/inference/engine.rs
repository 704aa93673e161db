//! What an engine computes without a server, in a process of Python. Never sends a request.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail, ensure};
use tokio::process::Command;

use crate::support::{
    load::Measured,
    process::{peer, root},
};

/// ONNX Runtime in a loop, as many threads as the server has lanes, each with weights of its own.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) model: PathBuf,
    pub(crate) rows: u32,
    pub(crate) threads: u32,
}

impl Engine {
    pub(crate) async fn load(&self, time: Duration) -> Result<Measured> {
        let output = Command::new(peer("python"))
            .arg(root().join("benches/peers/engine.py"))
            .arg(&self.model)
            .args([self.threads, self.rows].map(|number| number.to_string()))
            .arg(time.as_secs().to_string())
            .kill_on_drop(true)
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "engine.py: {text}{errors}");
        let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        let [per_second, p50_us, p99_us] = numbers[..] else {
            bail!("engine.py printed {text}");
        };
        Ok(Measured { per_second, p50_us: p50_us.round(), p99_us: p99_us.round() })
    }
}
