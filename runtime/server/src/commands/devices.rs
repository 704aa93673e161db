//! `quern devices`: what the server computes on and in which process, what is in use of it, and why
//! an engine is absent.

use anyhow::Result;
use quern_types::ByteSize;

use super::Session;
use crate::{
    client::{DeviceList, ListedDevice, ListedMeasure, ListedTensors, ListedWorker},
    output::{self, Table},
};

/// Show the server's devices: their memory, lanes, sessions, models, engines and health
#[derive(Debug, clap::Args)]
pub(crate) struct Devices {}

pub(crate) async fn run(session: &Session, _: Devices) -> Result<()> {
    let answer = session.client.devices().await?;
    if session.json {
        output::json(&answer.json)?;
        return Ok(());
    }
    let mut devices = Table::new(&["DEVICE", "NAME", "LANES", "MODELS", "STATE"]);
    let mut tensors = Table::new(&["DEVICE", "TENSORS", "LEASED", "HELD", "SESSIONS", "WAITING"]);
    let mut engines = Table::new(&["DEVICE", "ENGINE", "STATE"]);
    let mut processes = Table::new(&["DEVICE", "PROCESS", "CONFINEMENT"]);
    let mut residents = Table::new(&["DEVICE", "TENANT", "MODEL", "VERSION"]);
    let mut any_resident = false;
    let DeviceList { devices: listed, absent: missing } = answer.parsed;
    for device in listed {
        let state = device.down.as_ref().map_or("ready".into(), |reason| format!("down: {reason}"));
        let (lanes, models) = (device.lanes.to_string(), device.replicas.to_string());
        devices.row(vec![device.id.clone(), device.name.clone(), lanes, models, state]);
        if let Some(listed) = &device.tensors {
            list_tensors(&mut tensors, &device.id, listed);
        }
        any_resident |= list_residents(&mut residents, &device);
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
    output::line(format_args!("{devices}\n\n{tensors}\n\n{engines}\n\n{processes}"))?;
    if any_resident {
        output::line(format_args!("\n{residents}"))?;
    }
    if !missing.is_empty() {
        let mut absent = Table::new(&["ABSENT", "REASON"]);
        missing.into_iter().for_each(|missing| absent.row(vec![missing.device, missing.reason]));
        output::line(format_args!("\n{absent}"))?;
    }
    Ok(())
}

/// A row of what there is for the tensors of functions, and of what is in use.
fn list_tensors(tensors: &mut Table, device: &str, listed: &ListedTensors) {
    let size = |bytes| ByteSize(bytes).to_string();
    let memory = match listed.tenant_memory_bytes < listed.memory_bytes {
        true => {
            let (all, tenant) = (size(listed.memory_bytes), size(listed.tenant_memory_bytes));
            format!("{all}, {tenant} a tenant")
        }
        false => size(listed.memory_bytes),
    };
    tensors.row(vec![
        device.to_owned(),
        memory,
        size(listed.leased_bytes),
        size(listed.held_bytes),
        format!("{} of {}, on {} lanes", listed.sessions, listed.max_sessions, listed.lanes),
        listed.waiting.to_string(),
    ]);
}

/// A row for each model on a device; says whether there are any.
fn list_residents(residents: &mut Table, device: &ListedDevice) -> bool {
    for resident in &device.residents {
        let (tenant, model) = (resident.tenant.clone(), resident.model.clone());
        residents.row(vec![device.id.clone(), tenant, model, resident.version.to_string()]);
    }
    !device.residents.is_empty()
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
