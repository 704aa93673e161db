//! Measures kernels on a device, each beside what it is to be compared with, in the same run.

mod copies;
mod kernels;
mod lanes;
mod products;
mod work;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use quern_cuda::Gemm;

use crate::{
    machine::{Machine, open},
    report::{Report, Row},
};
use work::Pace;

/// What is measured, and where it goes.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Only this part; may be given several times
    #[arg(long = "part", value_enum)]
    parts: Vec<Part>,
    /// Small shapes and short times: whether it runs, not how fast
    #[arg(long)]
    tiny: bool,
    /// The folder for gpu-DATE.md and gpu-DATE.json
    #[arg(long, default_value = ".")]
    out: PathBuf,
}

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Kernels beside copies on the device
    Kernels,
    /// Products of matrices beside cuBLASLt
    Products,
    /// Elements in and out beside plain copies
    Copies,
    /// Four tenants on one device, and tiny operators
    Lanes,
}

impl Bench {
    /// Always passes, unless something fails: what is slow is in the tables.
    pub(crate) fn run(&self, ordinal: usize) -> Result<bool> {
        let device = open(ordinal, Gemm::Library)?;
        let machine = Machine::of(&device);
        println!("{machine}\n");
        let mut report = Report { machine, rows: Vec::new() };
        let label = if report.machine.mock { "mock " } else { "" };
        let pace = Pace { tiny: self.tiny };
        for part in Part::value_variants() {
            if !self.parts.is_empty() && !self.parts.contains(part) {
                continue;
            }
            let rows = &mut report.rows;
            let mut keep = |row: Row| {
                println!("{label}{}: {row}", row.part);
                rows.push(row);
            };
            match part {
                Part::Kernels => kernels::measure(&device, pace, &mut keep)?,
                Part::Products => products::measure(&device, ordinal, pace, &mut keep)?,
                Part::Copies => copies::measure(&device, pace, &mut keep)?,
                Part::Lanes => lanes::measure(&device, pace, &mut keep)?,
            }
        }
        println!("\n{}", report.markdown());
        report.write(&self.out)?;
        Ok(true)
    }
}
