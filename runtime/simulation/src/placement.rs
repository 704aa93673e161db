//! Where replicas go before a simulation begins: greedily, one at a time, to where calls of a
//! trial run were lost.
//!
//! After the placement of AlpaServe (OSDI 2023), algorithm 1, in its quick form: the model with
//! the most lost calls is put onto the device with the least to do.

use quern_scheduler::ModelIndex;

use crate::{Policy, Request, Setting, Violation, simulate};

/// Adds replicas to the devices of a setting until none has room, or every call of the trial load
/// is answered in time.
///
/// # Errors
///
/// If the policy decides what can't be carried out.
pub fn replicate(
    setting: &mut Setting,
    trial: &[Request],
    policy: impl Fn() -> Box<dyn Policy>,
) -> Result<(), Violation> {
    let demand = demand_us(setting, trial);
    loop {
        let outcome = simulate(setting, trial, &mut *policy(), 0)?;
        let mut lost = vec![0_u64; setting.models.len()];
        for call in outcome.calls.iter().filter(|call| !call.is_in_time()) {
            lost[call.model.0 as usize] += 1;
        }
        let mut models: Vec<_> = (0..).zip(lost).filter(|(_, lost)| *lost > 0).collect();
        models.sort_by_key(|(model, lost)| (u64::MAX - lost, *model));
        let place = |(model, _): &(u32, u64)| {
            let model = ModelIndex(*model);
            Some((model, least_busy(setting, &demand, model)?))
        };
        let Some((model, device)) = models.iter().find_map(place) else { return Ok(()) };
        setting.devices[device].resident.push(model);
    }
}

/// What all calls of each model take if each runs alone, in µs.
fn demand_us(setting: &Setting, load: &[Request]) -> Vec<u64> {
    let mut demand = vec![0; setting.models.len()];
    for request in load {
        let profile = &setting.model(request.model).profile;
        demand[request.model.0 as usize] += profile.latency_us(request.rows);
    }
    demand
}

/// The device with the least to do of those that have room for the model and don't have it, if
/// each model's calls are shared evenly by its replicas.
fn least_busy(setting: &Setting, demand: &[u64], model: ModelIndex) -> Option<usize> {
    let mut replicas = vec![0_u64; setting.models.len()];
    for model in setting.devices.iter().flat_map(|device| &device.resident) {
        replicas[model.0 as usize] += 1;
    }
    let share = |model: &ModelIndex| {
        let place = model.0 as usize;
        demand[place] / replicas[place].max(1)
    };
    let has_room = |device: &&crate::DeviceKind| {
        let bytes = device.resident.iter().map(|other| setting.model(*other).bytes);
        let used = bytes.fold(0, u64::saturating_add);
        !device.resident.contains(&model)
            && used.saturating_add(setting.model(model).bytes) <= device.memory_bytes
    };
    let devices = setting.devices.iter().enumerate().filter(|(_, device)| has_room(device));
    let busy = |device: &crate::DeviceKind| device.resident.iter().map(share).sum::<u64>();
    devices.min_by_key(|(place, device)| (busy(device), *place)).map(|(place, _)| place)
}
