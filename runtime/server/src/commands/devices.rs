//! `quern devices`: what the server computes models on, and why an engine is absent.

use anyhow::Result;

use super::Session;
use crate::output::{self, Table};

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
    }
    output::line(format_args!("{devices}\n\n{engines}"))?;
    Ok(())
}
