//! NVIDIA's GPUs, as they are found in a process that ends then: the server itself never loads their
//! driver, whatever that does to its process.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use quern_cuda::{Absence, Found, probe};
use quern_types::{AbsenceCause, AbsentDevice};
use serde::{Deserialize, Serialize};

use crate::process::{Task, WorkerProgram, ask_once};

/// A GPU that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its number, from 0.
    pub ordinal: u16,
    /// What its maker calls it.
    pub name: String,
    /// All memory that it has.
    pub memory_bytes: u64,
}

/// What is said of GPUs that are not there.
const KIND: &str = "cuda";

/// The GPUs that there are, as a process finds out that is started for it; or why there are none.
pub async fn find_gpus(program: WorkerProgram) -> Result<Vec<Gpu>, AbsentDevice> {
    let looked = tokio::task::spawn_blocking(move || ask_once(&program, &Task::LookForGpus)).await;
    looked.unwrap_or_else(|error| Err(io::Error::other(error))).unwrap_or_else(|error| {
        Err(absent(AbsenceCause::DriverFailed, format!("looking for GPUs failed: {error}")))
    })
}

/// What such a process finds.
pub(crate) fn look_for_gpus() -> Result<Vec<Gpu>, AbsentDevice> {
    let found = catch_unwind(AssertUnwindSafe(probe)).unwrap_or_else(|_| {
        let (action, answer) = ("looking for devices", "nothing: the call panicked".to_owned());
        Err(Absence::Driver { action, answer })
    });
    let gpu = |found: Found| {
        let ordinal = u16::try_from(found.ordinal).ok()?;
        Some(Gpu { ordinal, name: found.name, memory_bytes: found.memory_bytes })
    };
    match found {
        Ok(found) => Ok(found.into_iter().filter_map(gpu).collect()),
        Err(absence) => Err(absent(cause(&absence), absence.to_string())),
    }
}

fn absent(cause: AbsenceCause, reason: String) -> AbsentDevice {
    AbsentDevice { device: KIND.to_owned(), cause, reason }
}

fn cause(absence: &Absence) -> AbsenceCause {
    match absence {
        Absence::NoLibrary => AbsenceCause::NoDriver,
        Absence::OldDriver { .. } => AbsenceCause::OldDriver,
        Absence::NoDevice | Absence::Ordinal { .. } => AbsenceCause::NoDevice,
        Absence::NotPermitted => AbsenceCause::NotPermitted,
        Absence::Unavailable => AbsenceCause::Unavailable,
        Absence::Mismatch => AbsenceCause::DriverMismatch,
        Absence::OldDevice { .. } | Absence::NoPools { .. } => AbsenceCause::Unsuitable,
        Absence::Driver { .. } => AbsenceCause::DriverFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_cause() {
        let name = || "mock".to_owned();
        let cases = [
            (Absence::NoLibrary, AbsenceCause::NoDriver),
            (Absence::OldDriver { found: 12_080, needed: 13_000 }, AbsenceCause::OldDriver),
            (Absence::NoDevice, AbsenceCause::NoDevice),
            (Absence::Ordinal { ordinal: 1, count: 1 }, AbsenceCause::NoDevice),
            (Absence::NotPermitted, AbsenceCause::NotPermitted),
            (Absence::Unavailable, AbsenceCause::Unavailable),
            (Absence::Mismatch, AbsenceCause::DriverMismatch),
            (Absence::OldDevice { name: name(), found: (7, 5) }, AbsenceCause::Unsuitable),
            (Absence::NoPools { name: name() }, AbsenceCause::Unsuitable),
            (Absence::Driver { action: "asking", answer: name() }, AbsenceCause::DriverFailed),
        ];
        for (absence, expected) in cases {
            assert_eq!(cause(&absence), expected, "{absence}");
        }
    }
}
