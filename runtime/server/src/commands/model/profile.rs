//! `quern model profile`: measures a model on this machine's engines, without any server. Changes
//! nothing; what it proposes is for people to decide.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use indicatif::ProgressBar;
use prometheus::Registry;
use quern_host_gpu::{Cpu, CpuConfig, ModelOutline};
use quern_types::{
    Batch, BatchAxis, Device as _, Engine, EngineStatus, ModelSource, ModelSpec, Replica,
};
use serde::Serialize;
use serde_json::json;

use super::{choice, pack};
use crate::{
    failure::{Failure, UsageError},
    ort,
    output::{self, Table},
};

/// Runs before the first one that counts.
const WARM_UPS: usize = 3;
/// Longest time for the runs of one size; there are always a few.
const MOST_TIME: Duration = Duration::from_secs(10);
/// Runs that are measured however long they take.
const FEWEST_RUNS: usize = 5;

/// Measure a model on this machine, and propose an engine and a batch size
///
/// Computes on one core, as each lane of a server does, with inputs that are made up. The times are
/// the engine's own: a server adds what a request costs.
#[derive(Debug, clap::Args)]
pub(crate) struct Profile {
    /// The ONNX file, or the model's folder
    file: PathBuf,

    /// An engine to measure: onnxruntime or tract; may be given several times [default: all that
    /// are here]
    #[arg(long, value_parser = parse_engine)]
    engine: Vec<Engine>,

    /// Rows in one run, such as 1,8,64
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,16,32,64", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Vec<u32>,

    /// Runs of each size; fewer where they take longer than 10 s
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,

    /// ONNX Runtime's shared library [default: the one in .quern/ort]
    #[arg(long, value_name = "FILE")]
    ort_library: Option<PathBuf>,
}

/// How long runs of one size took on one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measured {
    pub(crate) engine: Engine,
    pub(crate) rows: u32,
    pub(crate) runs: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) rows_per_second: f64,
}

/// An engine that was not measured.
#[derive(Debug, Serialize)]
struct Unmeasured {
    engine: Engine,
    reason: String,
}

/// Everything that was found out.
#[derive(Debug, Default)]
struct Findings {
    measured: Vec<Measured>,
    unmeasured: Vec<Unmeasured>,
    /// Why larger batches were not measured.
    alone: Option<String>,
}

/// What is measured.
struct Subject {
    device: Cpu,
    onnx: Bytes,
    outline: ModelOutline,
    batch: Vec<u32>,
    runs: usize,
}

pub(crate) async fn run(command: Profile, json: bool) -> Result<()> {
    let Profile { file, engine, mut batch, runs, ort_library } = command;
    batch.sort_unstable();
    batch.dedup();
    let path = file.clone();
    let onnx = tokio::task::spawn_blocking(move || pack::read(&path)).await??;
    let outline = quern_host_gpu::inspect(&onnx).with_context(|| file.display().to_string())?;
    let ort_library = ort_library.or_else(ort::find_library);
    let device = Cpu::new(CpuConfig { lanes: 1, ort_library }, &Registry::new())?;
    let engines = chosen(&device.describe().engines, &engine)?;
    let runs = usize::try_from(runs)?;
    let subject = Subject { device, onnx: onnx.into(), outline, batch, runs };
    let findings = subject.measure_all(engines).await;
    if json {
        output::json(&findings.json())?;
    } else {
        output::line(findings.text())?;
    }
    if findings.measured.is_empty() {
        return Err(Failure {
            message: "no engine here computes this model".into(),
            hint: "the reasons stand above; `make ort` fetches ONNX Runtime".into(),
        }
        .into());
    }
    Ok(())
}

/// The engines to measure: those that were asked for, which must be present, or else all.
fn chosen(present: &[EngineStatus], asked: &[Engine]) -> Result<Vec<EngineStatus>, UsageError> {
    let wanted = present.iter().filter(|status| asked.is_empty() || asked.contains(&status.engine));
    let wanted: Vec<_> = wanted.cloned().collect();
    match wanted.iter().find(|status| !asked.is_empty() && status.version.is_none()) {
        Some(EngineStatus { engine, absent, .. }) => {
            let reason = absent.as_deref().unwrap_or("it is absent");
            Err(UsageError(format!("{engine} can't be measured: {reason}")))
        }
        None => Ok(wanted),
    }
}

impl Subject {
    async fn measure_all(&self, engines: Vec<EngineStatus>) -> Findings {
        let cells = (engines.len() * self.batch.len()) as u64;
        let progress = output::count_progress(cells, "measuring".into());
        let mut findings = Findings::default();
        for EngineStatus { engine, absent, .. } in engines {
            let measured = match absent {
                Some(reason) => Err(reason),
                None => {
                    progress.set_message(format!("measuring {engine}"));
                    self.measure(engine, &progress, &mut findings).await
                }
            };
            if let Err(reason) = measured {
                findings.unmeasured.push(Unmeasured { engine, reason });
            }
        }
        progress.finish_and_clear();
        findings
    }

    async fn measure(
        &self,
        engine: Engine,
        progress: &ProgressBar,
        findings: &mut Findings,
    ) -> Result<(), String> {
        let most = self.batch.last().copied().unwrap_or(1);
        let Self { device, onnx, outline, .. } = self;
        let axis = quern_host_gpu::trial(device, onnx.clone(), outline, engine, most).await;
        let axis = axis.map_err(|error| error.to_string())?;
        let sizes: &[u32] = match &axis {
            BatchAxis::Rows { .. } => &self.batch[..],
            // One row that was asked for tells nothing of this: there was no other to try.
            BatchAxis::None { .. } if most == 1 => &[1],
            BatchAxis::None { reason } => {
                findings.alone = Some(reason.clone());
                &[1]
            }
        };
        let spec = ModelSpec::new(outline.signature.clone(), engine, axis.clone());
        let source = ModelSource { onnx: onnx.clone(), spec: Arc::new(spec) };
        let replica = device.load(source).await.map_err(|error| error.to_string())?;
        for &rows in sizes {
            findings.measured.push(self.measure_size(&*replica, engine, rows).await?);
            progress.inc(1);
        }
        Ok(())
    }

    async fn measure_size(
        &self,
        replica: &dyn Replica,
        engine: Engine,
        rows: u32,
    ) -> Result<Measured, String> {
        let inputs = quern_host_gpu::sample(&self.outline.signature, u64::from(rows))?;
        let run = async || {
            let result = replica.run(0, Batch { calls: vec![inputs.clone()] }).await;
            result.map(|result| result.compute).map_err(|error| error.to_string())
        };
        for _ in 0..WARM_UPS {
            run().await?;
        }
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < self.runs && (times.len() < FEWEST_RUNS || start.elapsed() < MOST_TIME)
        {
            times.push(run().await?);
        }
        Ok(summary(engine, rows, times))
    }
}

/// What the times of several runs amount to; there is at least one.
fn summary(engine: Engine, rows: u32, mut times: Vec<Duration>) -> Measured {
    times.sort_unstable();
    let runs = times.len();
    // The smallest time that so many of a hundred runs don't exceed.
    let percentile = |percent: usize| {
        let rank = (runs * percent).div_ceil(100).max(1) - 1;
        times[rank].as_secs_f64() * 1e6
    };
    let total = times.iter().sum::<Duration>().as_secs_f64();
    let rows_per_second = f64::from(rows) * runs as f64 / total.max(1e-9);
    Measured { engine, rows, runs, p50_us: percentile(50), p99_us: percentile(99), rows_per_second }
}

impl Findings {
    fn json(&self) -> serde_json::Value {
        json!({
            "measured": self.measured,
            "unmeasured": self.unmeasured,
            "alone": self.alone,
            "choice": choice::choose(&self.measured),
        })
    }

    /// A table, and the choice as lines of a manifest with the reasons as remarks.
    fn text(&self) -> String {
        let mut table = Table::new(&["ENGINE", "ROWS", "P50 µs", "P99 µs", "ROWS/S", "RUNS"]);
        for measured in &self.measured {
            table.row(vec![
                measured.engine.to_string(),
                measured.rows.to_string(),
                format!("{:.1}", measured.p50_us),
                format!("{:.1}", measured.p99_us),
                format!("{:.0}", measured.rows_per_second),
                measured.runs.to_string(),
            ]);
        }
        let mut text = table.to_string();
        for Unmeasured { engine, reason } in &self.unmeasured {
            text += &format!("\n{engine} was not measured: {reason}");
        }
        if let Some(reason) = &self.alone {
            text += &format!("\ncalls can't share a run: {reason}");
        }
        if let Some(choice) = choice::choose(&self.measured) {
            text += "\n";
            for reason in &choice.reasons {
                text += &format!("\n# {reason}");
            }
            text += &format!("\nengine = \"{}\"", choice.engine);
            text += &format!("\nmax_batch = {}", choice.max_batch);
        }
        text
    }
}

fn parse_engine(text: &str) -> Result<Engine, String> {
    let engines = [Engine::OnnxRuntime, Engine::Tract];
    let found = engines.into_iter().find(|engine| engine.as_str() == text);
    found.ok_or_else(|| "write onnxruntime or tract".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = (1..=100).rev().map(Duration::from_micros).collect();
        let measured = summary(Engine::Tract, 4, times);
        assert_eq!((measured.p50_us, measured.p99_us, measured.runs), (50.0, 99.0, 100));
        assert!((measured.rows_per_second - 400.0 / 5050e-6).abs() < 1e-3, "{measured:?}");
        let one = summary(Engine::Tract, 1, vec![Duration::from_micros(7)]);
        assert_eq!((one.p50_us, one.p99_us), (7.0, 7.0));
    }

    #[test]
    fn an_engine_that_is_asked_for_must_be_there() {
        let status = |engine, version: Option<&str>| EngineStatus {
            engine,
            version: version.map(str::to_owned),
            absent: version.is_none().then(|| "no library".to_owned()),
        };
        let present = [status(Engine::OnnxRuntime, None), status(Engine::Tract, Some("1"))];
        let names = |asked: &[Engine]| {
            let chosen = chosen(&present, asked).map_err(|error| error.to_string());
            chosen.map(|chosen| chosen.iter().map(|status| status.engine).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]), Ok(vec![Engine::OnnxRuntime, Engine::Tract]));
        assert_eq!(names(&[Engine::Tract]), Ok(vec![Engine::Tract]));
        let refused = names(&[Engine::OnnxRuntime]).expect_err("absent");
        assert_eq!(refused, "onnxruntime can't be measured: no library");
        assert_eq!(parse_engine("tract"), Ok(Engine::Tract));
        assert!(parse_engine("torch").is_err());
    }

    #[test]
    fn findings_are_shown_with_what_follows_from_them() {
        let times = vec![Duration::from_micros(10)];
        let findings = Findings {
            measured: vec![summary(Engine::Tract, 1, times)],
            unmeasured: vec![Unmeasured {
                engine: Engine::OnnxRuntime,
                reason: "no library".into(),
            }],
            alone: Some("it has no inputs".into()),
        };
        let text = findings.text();
        for part in [
            "tract   1     10.0    10.0    100000  1",
            "onnxruntime was not measured: no library",
            "calls can't share a run: it has no inputs",
            "\nengine = \"tract\"\nmax_batch = 1",
        ] {
            assert!(text.contains(part), "{text} should contain {part}");
        }
        assert_eq!(findings.json()["choice"]["engine"], "tract");
        assert_eq!(Findings::default().json()["choice"], serde_json::Value::Null);
    }
}
