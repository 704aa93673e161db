//! What a machine with a GPU is asked for, from one program that is carried there: whether the
//! device answers as every device must, whether kernels keep to their memory, and how fast they
//! are. Whatever it prints says on which device it was; over the mock driver it says so.

mod bench;
mod check;
mod machine;
mod report;
mod sanitize;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use quern_kernels::suite::{Selection, families};

/// Checks and measures Quern's kernels on an NVIDIA GPU
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The number of the device
    #[arg(long, global = true, default_value_t = 0)]
    device: usize,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hold the device to the suite that every device is held to
    Check(Cases),
    /// Do so under NVIDIA's compute-sanitizer, on small cases
    Sanitize(sanitize::Sanitize),
    /// Measure, and write Markdown and JSON
    Bench(bench::Bench),
}

/// Which cases of the suite are tried.
#[derive(Debug, Clone, Args)]
struct Cases {
    /// Only this family of cases; may be given several times
    #[arg(long = "family", value_name = "NAME", value_parser = known_family)]
    families: Vec<String>,
    /// Only operators whose inputs have at most so many elements together
    #[arg(long, value_name = "NUMBER", default_value_t = u64::MAX, hide_default_value = true)]
    elements: u64,
}

impl Cases {
    fn selection(&self) -> Selection {
        Selection { families: self.families.clone(), elements: self.elements }
    }
}

fn known_family(name: &str) -> Result<String, String> {
    if families().any(|family| family == name) {
        return Ok(name.to_owned());
    }
    Err(format!("the families are {}", families().collect::<Vec<_>>().join(", ")))
}

fn main() -> ExitCode {
    let Arguments { command, device } = Arguments::parse();
    let outcome = match command {
        Command::Check(cases) => check::check(device, &cases.selection()),
        Command::Sanitize(sanitize) => sanitize.run(device),
        Command::Bench(bench) => bench.run(device),
    };
    match outcome {
        Ok(passed) if passed => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("gpu-suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}
