//! What holds of every policy and load: nothing is decided that can't be carried out, nobody is
//! left without an answer, and the same events give the same decisions.

use proptest::prelude::*;
use quern_scheduler::{BatchProfile, DeviceIndex, ModelIndex, TenantIndex};
use quern_simulation::{
    DeviceKind, Fate, Model, Outage, Outcome, PolicyKind, Request, Setting, simulate,
};
use quern_types::Priority;

const POLICIES: [PolicyKind; 6] = [
    PolicyKind::Fifo,
    PolicyKind::Delay { delay_us: 300 },
    PolicyKind::Clockwork,
    PolicyKind::Symphony,
    PolicyKind::Replicated,
    PolicyKind::Quern,
];

fn models() -> impl Strategy<Value = Vec<Model>> {
    let model = (1_u64..4, 0_u64..5_000, 1_u32..17, 1_u64..500, 1_u64..200);
    let model = model.prop_map(|(bytes, load_us, max_rows, fixed_us, row_us)| Model {
        name: "m".into(),
        bytes,
        load_us,
        max_rows,
        profile: BatchProfile::linear(fixed_us, row_us, max_rows),
    });
    prop::collection::vec(model, 1..5)
}

/// Devices that have no more than fits, and each model somewhere, if `everywhere`.
fn setting() -> impl Strategy<Value = Setting> {
    (models(), prop::collection::vec((4_u64..9, 1_u16..4), 1..5)).prop_map(|(models, devices)| {
        let place = |(memory_bytes, lanes): (u64, u16)| {
            let mut left = memory_bytes;
            let mut resident = Vec::new();
            for (index, model) in (0..).zip(&models) {
                if model.bytes <= left {
                    left -= model.bytes;
                    resident.push(ModelIndex(index));
                }
            }
            DeviceKind { memory_bytes, lanes, resident }
        };
        Setting {
            devices: devices.into_iter().map(place).collect(),
            models,
            noise_milli: 0,
            weights: vec![],
            outages: vec![],
        }
    })
}

fn load(models: usize) -> impl Strategy<Value = Vec<Request>> {
    let request = (0_u64..20_000, 0..models as u32, 0_u32..3, 1_u32..9, 1_u64..4, 0_u64..20_000);
    let requests = prop::collection::vec(request, 0..120);
    requests.prop_map(|mut requests| {
        requests.sort_unstable();
        let request = |(at_us, model, tenant, rows, priority, slo_us)| Request {
            at_us,
            model: ModelIndex(model),
            tenant: TenantIndex(tenant),
            rows,
            priority: Priority::from_parameter(priority),
            slo_us,
        };
        requests.into_iter().map(request).collect()
    })
}

fn case() -> impl Strategy<Value = (Setting, Vec<Request>)> {
    setting().prop_flat_map(|setting| {
        let load = load(setting.models.len());
        (Just(setting), load).prop_map(|(setting, mut load)| {
            for request in &mut load {
                request.rows = request.rows.min(setting.model(request.model).max_rows);
            }
            (setting, load)
        })
    })
}

/// Devices that are lost at some moments, and may come back.
fn outages(devices: usize) -> impl Strategy<Value = Vec<Outage>> {
    let outage = (0..devices as u32, 0_u64..20_000, 0_u64..10_000);
    let outage = outage.prop_map(|(device, from_us, lasts_us)| Outage {
        device: DeviceIndex(device),
        from_us,
        until_us: from_us + lasts_us,
    });
    prop::collection::vec(outage, 0..6)
}

fn run(setting: &Setting, load: &[Request], policy: PolicyKind) -> Outcome {
    simulate(setting, load, &mut *policy.start(), 1)
        .unwrap_or_else(|violation| panic!("{policy:?}: {violation}"))
}

proptest! {
    #[test]
    fn every_decision_can_be_carried_out_and_every_run_repeated((setting, load) in case()) {
        for policy in POLICIES {
            let outcome = run(&setting, &load, policy);
            prop_assert_eq!(&outcome, &run(&setting, &load, policy), "{:?}", policy);
            let lanes: u64 = setting.devices.iter().map(|device| u64::from(device.lanes)).sum();
            prop_assert!(outcome.busy_us <= lanes * outcome.end_us, "{:?}", policy);
        }
    }

    #[test]
    fn nobody_is_lost_with_a_device(
        (case, outages) in case().prop_flat_map(|case| {
            let outages = outages(case.0.devices.len());
            (Just(case), outages)
        }),
    ) {
        let (setting, load) = (Setting { outages, ..case.0 }, case.1);
        let outcome = run(&setting, &load, PolicyKind::Quern);
        for call in &outcome.calls {
            prop_assert!(call.fate != Fate::Left, "{call:?}");
            prop_assert!(call.latency_us().is_none() || call.is_in_time(), "{call:?}");
        }
    }

    #[test]
    fn whoever_is_let_in_is_in_time_and_everybody_else_is_told((setting, load) in case()) {
        let outcome = run(&setting, &load, PolicyKind::Quern);
        for call in &outcome.calls {
            match call.fate {
                Fate::Served { .. } => prop_assert!(call.is_in_time(), "{call:?}"),
                Fate::Refused { .. } => {}
                Fate::Left => prop_assert!(false, "left: {call:?}"),
            }
        }
    }
}

/// One model on a device of two lanes, and calls of two tenants that are more than it can do.
fn backlogged(weights: Vec<(TenantIndex, u32)>) -> (Setting, Vec<Request>) {
    let model = Model {
        name: "m".into(),
        bytes: 1,
        load_us: 0,
        max_rows: 8,
        profile: BatchProfile::linear(1_000, 500, 8),
    };
    let device = DeviceKind { memory_bytes: 1, lanes: 2, resident: vec![ModelIndex(0)] };
    let request = |number: u64| Request {
        at_us: number * 50,
        model: ModelIndex(0),
        tenant: TenantIndex((number % 2) as u32),
        rows: 1,
        priority: Priority::default(),
        slo_us: 60_000_000,
    };
    let load = (0..200_000).map(request).collect();
    let devices = vec![device];
    (Setting { devices, models: vec![model], noise_milli: 0, weights, outages: vec![] }, load)
}

#[test]
fn backlogged_tenants_get_what_they_weigh_in_any_second() {
    for (weight, expected) in [(1_000, 0.5), (3_000, 0.75), (250, 0.2)] {
        let (setting, load) = backlogged(vec![(TenantIndex(1), weight)]);
        let outcome = run(&setting, &load, PolicyKind::Quern);
        for second in 1..9 {
            let (from_us, until_us) = (second * 1_000_000, (second + 1) * 1_000_000);
            let served = |tenant: u32| {
                let of = outcome.calls.iter().filter(|call| call.tenant == TenantIndex(tenant));
                let ends = of.filter_map(|call| Some(call.at_us + call.latency_us()?));
                ends.filter(|end_us| (from_us..until_us).contains(end_us)).count() as f64
            };
            let (all, one) = (served(0) + served(1), served(1));
            let batches = 2.0 * 8.0;
            let off = (one - expected * all).abs();
            assert!(off <= 0.02 * all + batches, "{one} of {all} for {weight} in second {second}");
        }
    }
}
