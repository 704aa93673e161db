//! Which model should get another device, which one, and what has to go there for it.

use super::{
    devices::{Device, Devices},
    fleet::Model,
};
use crate::{DeviceIndex, ModelIndex};
use std::collections::BTreeMap;

/// Loads a model onto a device in the place of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) device: DeviceIndex,
    pub(super) evicted: Vec<ModelIndex>,
}

/// What it is worth to have a model on a device, where it is on so many: the time that loading it
/// again would take for each byte that it keeps from others.
fn value(model: &Model, replicas: u64, now_us: u64) -> u128 {
    let demand = u128::from(model.demand.at(now_us));
    demand * u128::from(model.load_us.max(1)) * 1_000
        / (u128::from(model.bytes.max(1)) * u128::from(replicas.max(1)))
}

/// Where to load a model: where what has to go for it is worth least, and less than it is; then
/// where most lanes are idle. None where it is on its way already, or nothing may go.
pub(super) fn place(
    index: ModelIndex,
    models: &BTreeMap<ModelIndex, Model>,
    devices: &Devices,
    now_us: u64,
) -> Option<Move> {
    let model = models.get(&index)?;
    let replicas = |model: ModelIndex| devices.places(model).count() as u64;
    let own = value(model, replicas(index) + 1, now_us);
    let mut best: Option<((u128, u16, DeviceIndex), Move)> = None;
    for (device_index, device) in devices.all() {
        if device.resident.contains(&index) || device.loading.is_some() {
            continue;
        }
        let value = |model: ModelIndex| {
            models.get(&model).map_or(0, |known| value(known, replicas(model), now_us))
        };
        let Some((evicted, cost)) = room(model.bytes, device, models, value) else { continue };
        if cost > 0 && cost >= own && replicas(index) > 0 {
            continue;
        }
        let busy = device.lanes - device.idle.len() as u16;
        let rank = (cost, busy, device_index);
        if best.as_ref().is_none_or(|(other, _)| rank < *other) {
            best = Some((rank, Move { device: device_index, evicted }));
        }
    }
    best.map(|(_, to)| to)
}

/// What has to go from a device for so many bytes, and what that was worth together.
fn room(
    bytes: u64,
    device: &Device,
    models: &BTreeMap<ModelIndex, Model>,
    value: impl Fn(ModelIndex) -> u128,
) -> Option<(Vec<ModelIndex>, u128)> {
    let mut left_bytes = device.left_bytes;
    let mut evicted = Vec::new();
    let mut cost = 0;
    let mut others: Vec<_> = device
        .resident
        .iter()
        .filter(|model| !device.runs(**model))
        .map(|model| (value(*model), *model))
        .collect();
    others.sort_unstable();
    let mut others = others.into_iter();
    while left_bytes < bytes {
        let (worth, model) = others.next()?;
        left_bytes += models.get(&model)?.bytes;
        cost += worth;
        evicted.push(model);
    }
    Some((evicted, cost))
}
