//! What a manifest asks for before the first call, and how many lanes it lets a model have.

use std::{num::NonZeroU32, sync::Arc};

use quern_host_gpu::{sample, warm_up};
use quern_types::{
    Batch, BatchAxis, Device, DeviceError, Engine, ModelSource, ModelSpec, Replica, SampleInput,
    SampleValue, WarmUp,
};

use crate::{
    device::{LANES, cpu, engines, outline, rows, single},
    graphs::{Fixed, Graph, Named, Onnx, Open, doubling},
};

fn spec(onnx: &[u8], engine: Engine, batch: BatchAxis, asked: Option<WarmUp>) -> ModelSpec {
    ModelSpec { warm_up: asked, ..ModelSpec::new(outline(onnx).signature, engine, batch) }
}

fn made_up(runs: u32) -> Option<WarmUp> {
    Some(WarmUp { runs, inputs: vec![] })
}

async fn load(device: &dyn Device, onnx: &[u8], spec: &ModelSpec) -> Arc<dyn Replica> {
    let source = ModelSource { onnx: onnx.to_vec().into(), spec: Arc::new(spec.clone()) };
    device.load(source).await.expect("loads")
}

#[tokio::test]
async fn a_model_warms_up_with_inputs_that_are_made_up_or_given() {
    let device = cpu();
    let fixed = doubling(Onnx::Float).encode();
    let open = Graph::default()
        .input("x", Onnx::Int64, &[Open, Named("length")])
        .output("y", Onnx::Int64, &[Open, Named("length")])
        .node("Identity", &["x"], "y")
        .encode();
    let data = vec![SampleValue::Float(0.5); 3];
    let given = SampleInput { name: "x".into(), shape: vec![1, 3], data };
    let given = Some(WarmUp { runs: 2, inputs: vec![given] });
    for engine in engines() {
        let cases = [
            (&fixed, rows(8), None),
            (&fixed, rows(8), made_up(3)),
            (&fixed, rows(8), given.clone()),
            (&open, single(), made_up(1)),
        ];
        for (onnx, batch, asked) in cases {
            let spec = spec(onnx, engine, batch, asked);
            let replica = load(&device, onnx, &spec).await;
            assert_eq!(warm_up(&*replica, &spec).await, Ok(()), "{engine}: {:?}", spec.warm_up);
        }
    }
}

#[tokio::test]
async fn a_warm_up_that_fails_says_why() {
    let device = cpu();
    // A table without rows: whatever is looked up is not there.
    let lookup = Graph::default()
        .input("ids", Onnx::Int64, &[Named("batch"), Fixed(1)])
        .floats("table", &[0, 2], &[])
        .node("Gather", &["table", "ids"], "found")
        .node("Identity", &["found"], "y")
        .output("y", Onnx::Float, &[Named("batch"), Fixed(1), Fixed(2)])
        .encode();
    let huge = Graph::default()
        .input("x", Onnx::Float, &[Fixed(1), Fixed(1 << 40)])
        .output("y", Onnx::Float, &[Fixed(1), Fixed(1 << 40)])
        .node("Neg", &["x"], "y")
        .encode();
    for engine in engines() {
        for (onnx, part) in [(&lookup, ""), (&huge, "too large to be made up")] {
            let spec = spec(onnx, engine, single(), made_up(1));
            let replica = load(&device, onnx, &spec).await;
            match warm_up(&*replica, &spec).await {
                Err(DeviceError::Run { reason, .. }) => assert!(reason.contains(part), "{reason}"),
                other => panic!("{engine}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_model_has_no_more_lanes_than_its_manifest_allows() {
    let device = cpu();
    let onnx = doubling(Onnx::Float).encode();
    for engine in engines() {
        for (asked, expected) in [(None, LANES), (Some(1), 1), (Some(100), LANES)] {
            let lanes = asked.and_then(NonZeroU32::new);
            let spec = ModelSpec { lanes, ..spec(&onnx, engine, rows(8), None) };
            let replica = load(&device, &onnx, &spec).await;
            assert_eq!(replica.lanes(), expected, "{engine}");
            let call = sample(&spec.signature, 2).expect("numbers");
            for lane in 0..expected {
                let batch = Batch { calls: vec![call.clone()] };
                assert!(replica.run(lane, batch).await.is_ok(), "{engine}: lane {lane}");
            }
            let beyond = replica.run(expected, Batch { calls: vec![call] }).await;
            assert!(beyond.is_err(), "{engine}: there is no lane {expected}");
        }
    }
}
