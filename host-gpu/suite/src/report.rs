//! What was measured, as tables that people read and as JSON that programs read.

use std::{fmt, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::machine::Machine;

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// The table that it belongs to.
    pub(crate) part: &'static str,
    /// What was measured; other programs measure the same by this name.
    pub(crate) operator: &'static str,
    pub(crate) dtype: String,
    pub(crate) inputs: Vec<Vec<u64>>,
    /// What one run took, or the value that `unit` names.
    pub(crate) value: f64,
    pub(crate) unit: Unit,
    /// What came of it by the second, where that says more.
    pub(crate) rate: Option<Rate>,
    /// How it compares, and with what.
    pub(crate) ratio: Option<Ratio>,
}

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    Seconds,
    PerSecond,
    Share,
}

/// How much by the second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rate {
    BytesPerSecond(f64),
    OperationsPerSecond(f64),
}

/// A comparison: more is better.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) to: &'static str,
    pub(crate) value: f64,
    pub(crate) aim: Option<f64>,
}

impl Row {
    /// Types and shapes, as tables show them.
    fn of(&self) -> String {
        let shape = |dims: &Vec<u64>| {
            let dims: Vec<_> = dims.iter().map(u64::to_string).collect();
            dims.join("×")
        };
        let shapes: Vec<_> = self.inputs.iter().map(shape).collect();
        format!("{} {}", self.dtype, shapes.join(", ")).trim().to_owned()
    }

    fn shown(&self) -> String {
        match self.unit {
            Unit::PerSecond => format!("{:.0} /s", self.value),
            Unit::Share => format!("{:.3}", self.value),
            Unit::Seconds if self.value < 1e-3 => format!("{:.1} µs", self.value * 1e6),
            Unit::Seconds => format!("{:.2} ms", self.value * 1e3),
        }
    }
}

/// As one line.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.operator, self.of(), self.shown())?;
        self.rate.iter().try_for_each(|rate| write!(f, ", {rate}"))?;
        self.ratio.iter().try_for_each(|ratio| write!(f, ", {ratio}"))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BytesPerSecond(rate) => write!(f, "{:.1} GB/s", rate / 1e9),
            Self::OperationsPerSecond(rate) => write!(f, "{:.2} TFLOP/s", rate / 1e12),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "**{:.2}** × {}", self.value, self.to)?;
        match self.aim {
            Some(aim) if self.value >= aim => write!(f, " (aim ≥ {aim}: met)"),
            Some(aim) => write!(f, " (aim ≥ {aim}: missed)"),
            None => Ok(()),
        }
    }
}

impl Report {
    /// As Markdown.
    pub(crate) fn markdown(&self) -> String {
        let label = if self.machine.mock { " over the MOCK driver: no GPU's figures" } else { "" };
        let mut text = format!("# Kernels on a device{label}\n\n{}\n", self.machine);
        let mut part = "";
        for row in &self.rows {
            if row.part != part {
                part = row.part;
                let _ = write!(
                    text,
                    "\n## {part}\n\n| what | of | measured | rate | compared |\n|---|---|---|---|---|\n"
                );
            }
            let rate = row.rate.map(|rate| rate.to_string()).unwrap_or_default();
            let ratio = row.ratio.map(|ratio| ratio.to_string()).unwrap_or_default();
            let (of, shown) = (row.of(), row.shown());
            let _ = writeln!(text, "| {} | {of} | {shown} | {rate} | {ratio} |", row.operator);
        }
        text
    }

    /// Writes both into a folder, which is made if it is not there.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let kind = if self.machine.mock { "mock" } else { "gpu" };
        let day = self.machine.date.split('T').next().unwrap_or_default();
        for (ending, text) in
            [("md", self.markdown()), ("json", serde_json::to_string_pretty(self)? + "\n")]
        {
            let path = folder.join(format!("{kind}-{day}.{ending}"));
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            println!("written: {}", path.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(mock: bool) -> Report {
        let machine = Machine {
            date: "2026-01-02T03:04:05Z".to_owned(),
            mock,
            device: "some device".to_owned(),
            capability: "9.0".to_owned(),
            memory_bytes: 1 << 30,
            cuda: "13.0".to_owned(),
            driver: None,
            gemm: "own kernels".to_owned(),
        };
        let row = Row {
            part: "products",
            operator: "matmul",
            dtype: "FP32".to_owned(),
            inputs: vec![vec![2, 3], vec![3, 4]],
            value: 2e-6,
            unit: Unit::Seconds,
            rate: Some(Rate::OperationsPerSecond(3e12)),
            ratio: Some(Ratio { to: "a peer", value: 0.5, aim: Some(0.9) }),
        };
        Report { machine, rows: vec![row] }
    }

    #[test]
    fn tables_say_what_was_measured_and_whether_aims_were_met() {
        let text = report(false).markdown();
        let row = "| matmul | FP32 2×3, 3×4 | 2.0 µs | 3.00 TFLOP/s | **0.50** × a peer (aim ≥ 0.9: missed) |";
        assert!(text.contains(row), "{text}");
        assert!(!text.to_lowercase().contains("mock"), "{text}");
    }

    #[test]
    fn what_the_mock_measured_is_never_taken_for_a_gpu() {
        let report = report(true);
        let text = report.markdown();
        assert!(text.starts_with("# Kernels on a device over the MOCK driver"), "{text}");
        let folder = tempfile::tempdir().expect("a folder");
        report.write(folder.path()).expect("written");
        assert!(folder.path().join("mock-2026-01-02.json").exists());
        assert!(folder.path().join("mock-2026-01-02.md").exists());
    }
}
