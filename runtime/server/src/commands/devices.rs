//! `quern devices`: what the server computes models on and in which process, and why an engine is
//! absent.

use anyhow::Result;

use super::Session;
use crate::{
    client::{ListedMeasure, ListedWorker},
    output::{self, Table},
};

/// Show the server's devices and engines
#[derive(Debug, clap::Args)]
pub(crate) struct Devices {}

pub(crate) async fn run(session: &Session, _: Devices) -> Result<()> {
    let answer = session.client.devices().await?;
    if session.json {
        output::json(&answer.json)?;
        return Ok(());
    }
    let mut devices = Table::new(&["DEVICE", "NAME", "LANES", "MODELS"]);
    let mut engines = Table::new(&["DEVICE", "ENGINE", "STATE"]);
    let mut processes = Table::new(&["DEVICE", "PROCESS", "CONFINEMENT"]);
    for device in answer.parsed.devices {
        let (lanes, models) = (device.lanes.to_string(), device.replicas.to_string());
        devices.row(vec![device.id.clone(), device.name, lanes, models]);
        for engine in device.engines {
            let state = match (engine.version, engine.absent) {
                (_, Some(reason)) => format!("absent: {reason}"),
                (Some(version), None) => version,
                (None, None) => "present".into(),
            };
            engines.row(vec![device.id.clone(), engine.engine, state]);
        }
        match device.worker {
            None => processes.row(vec![device.id, "the server's".into(), "none".into()]),
            Some(worker) => list_worker(&mut processes, &device.id, worker),
        }
    }
    output::line(format_args!("{devices}\n\n{engines}\n\n{processes}"))?;
    Ok(())
}

/// A row for each thing that a worker is or is not kept from.
fn list_worker(processes: &mut Table, device: &str, worker: ListedWorker) {
    let starts = match worker.starts {
        1 => String::new(),
        starts => format!(", started {starts} times"),
    };
    let process = match (worker.process_id, worker.down) {
        (Some(id), _) => format!("worker {id}{starts}"),
        (None, reason) => format!("down{starts}: {}", reason.unwrap_or_default()),
    };
    if worker.confinement.is_empty() {
        processes.row(vec![device.to_owned(), process.clone(), "unknown".into()]);
    }
    for ListedMeasure { measure, by, absent } in worker.confinement {
        let state = match (by, absent) {
            (Some(by), _) => format!("no {measure}: {by}"),
            (None, reason) => format!("NOT kept from {measure}: {}", reason.unwrap_or_default()),
        };
        processes.row(vec![device.to_owned(), process.clone(), state]);
    }
}
