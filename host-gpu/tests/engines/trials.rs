//! A trial finds rows that depend on each other, whatever the graph's shapes promise.

use quern_host_gpu::trial;
use quern_types::{BatchAxis, DeviceError, Engine};

use crate::{
    device::{cpu, engines, floats, load, outline, rows, run, values},
    graphs::{Dim, Fixed, Graph, Named, Onnx, Open, doubling, two_by_two},
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

#[tokio::test]
async fn rows_that_only_look_others_up_are_not_batched() {
    // Whole numbers below two: rows of another call are often the same.
    let pair: &[Dim] = &[Named("batch"), Fixed(2)];
    let onnx = Graph::default()
        .input("data", Onnx::Int32, pair)
        .input("indices", Onnx::Int64, pair)
        .output("y", Onnx::Int32, &[Named("batch")])
        .node("GatherND", &["data", "indices"], "y")
        .encode();
    for engine in engines() {
        reason(&onnx, engine, 16).await;
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
async fn rows_of_texts_are_batched_where_an_engine_has_them() {
    let dims: &[Dim] = &[Named("batch"), Fixed(2)];
    let parsing = Graph::default()
        .input("texts", Onnx::String, dims)
        .node("Cast", &["texts"], "numbers")
        .with("to", Onnx::Float as i64)
        .output("numbers", Onnx::Float, dims);
    for engine in engines().into_iter().filter(|engine| *engine == Engine::OnnxRuntime) {
        let axis = tried(&parsing.clone().encode(), engine, 16).await;
        assert_eq!(axis, Ok(rows(16)));
    }
}

#[tokio::test]
async fn rows_whose_other_dimensions_vary_are_batched() {
    let ids: &[Dim] = &[Named("batch"), Named("length")];
    let embedding = Graph::default()
        .input("ids", Onnx::Int64, ids)
        .input("mask", Onnx::Int64, ids)
        .floats("table", &[9, 2], &[0.5; 18])
        .node("Gather", &["table", "ids"], "found")
        .node("Identity", &["found"], "y")
        .node("Mul", &["ids", "mask"], "masked")
        .output("y", Onnx::Float, &[Named("batch"), Named("length"), Fixed(2)])
        .output("masked", Onnx::Int64, ids);
    let within = Graph::default()
        .input("x", Onnx::Float, ids)
        .output("y", Onnx::Float, ids)
        .node("Softmax", &["x"], "y")
        .with("axis", 1);
    // A kernel of 16 fits into none of the short rows.
    let wide = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Fixed(1), Named("length")])
        .floats("kernel", &[1, 1, 16], &[0.25; 16])
        .node("Conv", &["x", "kernel"], "y")
        .output("y", Onnx::Float, &[Named("batch"), Fixed(1), Open]);
    for engine in engines() {
        for (name, model) in [("embedding", &embedding), ("within", &within), ("wide", &wide)] {
            let axis = tried(&model.clone().encode(), engine, 16).await;
            assert_eq!(axis, Ok(rows(16)), "{engine}: {name}");
        }
    }
}

#[tokio::test]
async fn calls_of_equal_shapes_share_a_run_whatever_those_are() {
    let ids: &[Dim] = &[Named("batch"), Named("length")];
    let softmax = Graph::default()
        .input("x", Onnx::Float, ids)
        .output("y", Onnx::Float, ids)
        .node("Softmax", &["x"], "y")
        .with("axis", 1)
        .encode();
    let device = cpu();
    for engine in engines() {
        let replica = load(&device, &softmax, engine, rows(16)).await.expect("loads");
        for length in [1, 3, 17] {
            let call = |count: u64, seed: u64| {
                let value = |index| ((index * 7 + seed) % 5) as f32;
                let numbers: Vec<f32> = (0..count * length).map(value).collect();
                vec![floats("x", &[count, length], &numbers)]
            };
            let calls = [call(1, 1), call(3, 2), call(2, 3)];
            let together = run(&*replica, calls.to_vec()).await.expect("runs");
            for (call, reply) in calls.into_iter().zip(together) {
                let alone = run(&*replica, vec![call]).await.expect("runs");
                assert_eq!(reply[0].shape(), alone[0][0].shape());
                for (left, right) in values(&reply[0]).iter().zip(values(&alone[0][0])) {
                    assert!((left - right).abs() < 1e-6, "{engine}: {left} and {right}");
                }
            }
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
    let any_length = Graph::default()
        .input("x", Onnx::Float, &[Named("batch"), Named("length")])
        .output("y", Onnx::Float, &[Named("batch"), Named("length")])
        .node("Softmax", &["x"], "y")
        .with("axis", 0);
    for engine in engines() {
        assert_eq!(
            reason(&any_length.clone().encode(), engine, 16).await,
            "rows of output \"y\" depend on other rows of the inputs",
            "{engine}"
        );
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
