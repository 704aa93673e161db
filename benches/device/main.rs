//! Operators on device tensors: the CPU device beside PyTorch's, in turn and in one run. Never
//! judges: it prints whether each aim was met, and what limits what is behind.

use std::{num::NonZeroUsize, time::Duration};

use anyhow::{Context as _, Result, ensure};
use quern_operators::Dtype;

mod cases;
mod quern;
mod torch;

#[path = "../support"]
mod support {
    pub(crate) mod report;

    /// What reports are told of where they are.
    pub(crate) mod process {
        use std::path::PathBuf;

        /// The repository.
        pub(crate) fn root() -> PathBuf {
            concat!(env!("CARGO_MANIFEST_DIR"), "/../..").into()
        }
    }
}

use cases::Case;
use quern::Quern;
use support::report::{self, Table};
use torch::Torch;

/// How often both are measured, in turn.
const ROUNDS: usize = 3;

/// For how long each time.
const PERIOD: Duration = Duration::from_millis(100);

/// Of PyTorch's speed, what is aimed at.
const AIM: f64 = 0.9;

fn main() -> Result<()> {
    let mut torch = Torch::start()?;
    let mut text = format!(
        "Peer: PyTorch {}, eager, in inference mode, from PyPI; of its C library's memory nothing is \
         given back to the system, as our device keeps what was freed, too. Each operator runs again \
         and again for {} ms, ours and theirs in turn, {ROUNDS} rounds; times are medians of the \
         calls, and of the rounds. Answers are compared by the sum of their sizes. The aim is \
         {AIM} × its speed; where that is missed, what seems to limit it is said.\n\n",
        torch.version(),
        PERIOD.as_millis(),
    );
    for threads in [1, 2] {
        let threads = NonZeroUsize::new(threads).context("a thread or two")?;
        eprintln!("== {threads} threads");
        text += &format!(
            "With {threads} {}:\n\n",
            if threads.get() == 1 { "thread" } else { "threads" }
        );
        text += &measure(&mut torch, threads)?.to_string();
        text += "\n";
    }
    report::publish("device", "Device tensors: the CPU", text.trim_end())
}

fn measure(torch: &mut Torch, threads: NonZeroUsize) -> Result<Table> {
    let mut quern = Quern::open(threads)?;
    let mut table = Table::new(["operator", "of", "time", "PyTorch", "ratio", "aim"]);
    for case in cases::all() {
        quern.prepare(&case)?;
        torch.prepare(&case, threads)?;
        agree(&case, quern.size()?, torch.size()?)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(quern.measure(PERIOD)?);
            theirs.push(torch.measure(PERIOD)?);
        }
        let (ours, theirs) = (median(&mut ours), median(&mut theirs));
        quern.release()?;
        let ratio = theirs / ours;
        let limit = if ratio < AIM { format!("; {}", case.limit) } else { String::new() };
        table.row([
            case.operator.to_owned(),
            case.shape(),
            shown(ours),
            shown(theirs),
            format!("**{ratio:.2}**"),
            report::aim(&format!("≥ {AIM} ×"), ratio >= AIM) + &limit,
        ]);
    }
    Ok(table)
}

/// Whether both computed the same, as far as the sum of sizes tells.
fn agree(case: &Case, ours: f64, theirs: f64) -> Result<()> {
    let within = if matches!(case.dtype, Dtype::Fp16 | Dtype::Bf16) { 1e-2 } else { 1e-3 };
    let same = (ours - theirs).abs() <= within * theirs.abs();
    ensure!(same, "{} of {}: {ours} is not {theirs}", case.operator, case.shape());
    Ok(())
}

pub(crate) fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn shown(seconds: f64) -> String {
    match seconds * 1e6 {
        micros if micros < 1e3 => format!("{micros:.1} µs"),
        micros => format!("{:.2} ms", micros / 1e3),
    }
}
