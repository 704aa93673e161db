//! A trial finds rows that depend on each other, whatever the graph's shapes promise.

use quern_host_gpu::trial;
use quern_types::{BatchAxis, DeviceError, Engine};

use crate::{
    device::{cpu, engines, outline, rows},
    graphs::{Fixed, Graph, Named, Onnx, Open, doubling, two_by_two},
};

async fn tried(onnx: &[u8], engine: Engine, max: u32) -> Result<BatchAxis, DeviceError> {
    let device = cpu();
    trial(&device, onnx.to_vec().into(), &outline(onnx), engine, max).await
}

/// Why a model is not batched.
async fn reason(onnx: &[u8], engine: Engine, max: u32) -> String {
    match tried(onnx, engine, max).await {
        Ok(BatchAxis::None { reason }) => reason,
        other => panic!("expected a model without a batch axis, got {other:?}"),
    }
}

/// Looks rows of `table` up.
fn lookup(table: i64) -> Graph {
    let values: Vec<f32> = (0..table * 2).map(|value| value as f32).collect();
    Graph::default()
        .input("ids", Onnx::Int64, &[Named("batch"), Fixed(3)])
        .floats("table", &[table, 2], &values)
        .node("Gather", &["table", "ids"], "found")
        .node("Identity", &["found"], "y")
        .output("y", Onnx::Float, &[Named("batch"), Fixed(3), Fixed(2)])
}

#[tokio::test]
async fn independent_rows_are_batched() {
    let models = [
        ("floats", doubling(Onnx::Float)),
        ("integers", doubling(Onnx::Int64)),
        ("two inputs and outputs", two_by_two()),
        ("large integers allowed", lookup(9)),
        ("zero and one allowed", lookup(2)),
    ];
    for engine in engines() {
        for (name, model) in &models {
            let axis = tried(&model.clone().encode(), engine, 16).await;
            assert_eq!(axis, Ok(rows(16)), "{engine}: {name}");
        }
    }
}

#[tokio::test]
async fn rows_that_depend_on_each_other_are_not_batched() {
    let across = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .output("y", Onnx::Float, &[Named("batch"), Fixed(3)])
        .node("Softmax", &["x"], "y")
        .with("axis", 0);
    let summed = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .output("y", Onnx::Float, &[Open, Fixed(3)])
        .integers("axes", &[1], &[0])
        .node("ReduceSum", &["x", "axes"], "y");
    for engine in engines() {
        assert_eq!(
            reason(&across.clone().encode(), engine, 16).await,
            "rows of output \"y\" depend on other rows of the inputs",
            "{engine}"
        );
        assert_eq!(
            reason(&summed.clone().encode(), engine, 16).await,
            "output \"y\" has not one row for each row of the inputs",
            "{engine}"
        );
    }
}

#[tokio::test]
async fn a_model_that_does_not_run_on_random_inputs_is_not_batched() {
    for engine in engines() {
        let reason = reason(&lookup(0).encode(), engine, 16).await;
        assert!(reason.starts_with("it does not run on random inputs: "), "{engine}: {reason}");
    }
}

#[tokio::test]
async fn what_the_file_rules_out_is_not_tried() {
    let wide = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(1 << 40)])
        .output("y", Onnx::Float, &[Named("batch"), Fixed(1 << 40)])
        .node("Neg", &["x"], "y");
    let fixed = Graph::default()
        .input("x", Onnx::Float, &[Fixed(1), Fixed(3)])
        .output("y", Onnx::Float, &[Fixed(1), Fixed(3)])
        .node("Neg", &["x"], "y");
    let cases = [
        (doubling(Onnx::Float), 1, "it may run one row at a time only"),
        (wide, 16, "its rows are too large to be tried"),
        (fixed, 16, "the first dimension of input \"x\" is always 1"),
    ];
    for engine in engines() {
        for (model, max, expected) in &cases {
            assert_eq!(&reason(&model.clone().encode(), engine, *max).await, expected);
        }
    }
}

#[tokio::test]
async fn a_model_that_the_engine_refuses_is_an_error() {
    let unknown = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(3)])
        .output("y", Onnx::Float, &[Named("batch"), Fixed(3)])
        .node("Frobnicate", &["x"], "y")
        .encode();
    for engine in engines() {
        match tried(&unknown, engine, 16).await {
            Err(DeviceError::Load { engine: refused, reason }) => {
                assert_eq!(refused, engine);
                assert!(reason.contains("Frobnicate"), "{reason}");
            }
            other => panic!("{engine}: {other:?}"),
        }
    }
}
