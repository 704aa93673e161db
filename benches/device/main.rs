//! Operators on device tensors: the CPU device beside PyTorch's, in turn and in one run; `--only
//! NAME` measures a part. Never judges: it prints whether each aim was met, and what limits what is
//! behind.

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

use cases::{Case, PARTS, Part};
use quern::Quern;
use support::report::{self, Table};
use torch::Torch;

/// How often both are measured, in turn.
const ROUNDS: usize = 3;

/// For how long each time.
const PERIOD: Duration = Duration::from_millis(100);

/// What `--only` calls small operators, which have no peer.
const SMALL: &str = "small";

/// Of PyTorch's speed, what is aimed at.
const AIM: f64 = 0.9;

fn main() -> Result<()> {
    let only = only()?;
    let is_wanted = |name| only.as_deref().is_none_or(|only| only == name);
    if is_wanted(SMALL) {
        report::publish("device-small", "Device tensors on the CPU: small operators", &small()?)?;
    }
    let mut torch = Torch::start()?;
    for part in PARTS.iter().filter(|part| is_wanted(part.name)) {
        eprintln!("== {}", part.name);
        let table = measure(&mut torch, part)?;
        let text = format!(
            "Peer: PyTorch {}, eager, in inference mode, from PyPI; of its C library's memory \
             nothing is given back to the system, as our device keeps what was freed, too. Each \
             operator runs again and again for {} ms, ours and theirs in turn, {ROUNDS} rounds; \
             times are medians of the calls, and of the rounds. Answers are compared by the sum of \
             their sizes. The aim is {AIM} × its speed; where that is missed, what seems to limit \
             it is said.\n\n{table}",
            torch.version(),
            PERIOD.as_millis(),
        );
        let title = format!("Device tensors on the CPU: {}", part.title);
        report::publish(&format!("device-{}", part.name), &title, text.trim_end())?;
    }
    Ok(())
}

/// The part that the command line names with `--only`, if any.
fn only() -> Result<Option<String>> {
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    if let Some(name) = &only {
        let mut names = PARTS.iter().map(|part| part.name).chain([SMALL]);
        let all: Vec<_> = names.clone().collect();
        ensure!(names.any(|part| part == name), "--only takes one of {all:?}");
    }
    Ok(only)
}

/// What operators take that callers compute themselves, on one thread.
fn small() -> Result<String> {
    let mut table = Table::new(["operator", "of", "work", "time", "work in a µs"]);
    let mut quern = Quern::open(NonZeroUsize::MIN)?;
    for case in cases::small() {
        quern.prepare(&case)?;
        let (work, seconds) = (case.work()?, quern.measure(PERIOD)?);
        quern.release()?;
        table.row([
            case.operator.to_owned(),
            case.shape(),
            work.to_string(),
            shown(seconds),
            format!("{:.0}", work as f64 / (seconds * 1e6)),
        ]);
    }
    Ok(format!(
        "Operators as small as those that a caller computes itself where the lane is idle, on one \
         thread; work is what plans count.\n\n{table}"
    ))
}

fn measure(torch: &mut Torch, part: &Part) -> Result<Table> {
    let mut table = Table::new(["operator", "of", "threads", "time", "PyTorch", "ratio", "aim"]);
    for threads in [1, 2] {
        let threads = NonZeroUsize::new(threads).context("a thread or two")?;
        let mut quern = Quern::open(threads)?;
        for case in (part.cases)() {
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
                threads.to_string(),
                shown(ours),
                shown(theirs),
                format!("**{ratio:.2}**"),
                report::aim(&format!("≥ {AIM} ×"), ratio >= AIM) + &limit,
            ]);
        }
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
