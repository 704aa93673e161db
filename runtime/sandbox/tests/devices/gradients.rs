//! What the guest library computes of gradients (`tests/guests/gradients`), on real kernels.

use serde_json::{Map, Value, json};

use crate::function::Guest;

/// Of FP64, by differences of both sides: what is left is their own error.
const TOLERANCE: f64 = 1e-7;

async fn answer(path: &str) -> Map<String, Value> {
    let guest = Guest::built("guests/wasm32-wasip2/release/gradients.wasm");
    match guest.call(path).await.0 {
        Ok(Value::Object(answer)) => answer,
        other => panic!("{path}: {other:?}"),
    }
}

/// How many numbers there are, and those that are larger than a limit, or none.
fn beyond(limit: f64, distances: &Map<String, Value>) -> (usize, Vec<(&String, &Value)>) {
    let near = |value: &Value| value.as_f64().is_some_and(|distance| distance <= limit);
    (distances.len(), distances.iter().filter(|(_, value)| !near(value)).collect())
}

#[tokio::test]
async fn gradients_are_what_differences_say() {
    let distances = answer("differences").await;
    assert_eq!(beyond(TOLERANCE, &distances), (55, vec![]));
}

#[tokio::test]
async fn rows_are_normed_in_fp32_on_the_way_back_too() {
    // Of FP16, which rounds to one in two thousand.
    assert_eq!(beyond(4e-3, &answer("halves").await), (2, vec![]));
}

#[tokio::test]
async fn optimizers_go_as_their_formulas_do() {
    let distances = answer("optimizers").await;
    assert_eq!(beyond(1e-12, &distances), (4, vec![]));
}

#[tokio::test]
async fn only_what_the_way_back_needs_is_kept_and_only_as_long() {
    // Of a chain of 5,000 sums only the end is needed, of 1,000 sines each number that went in.
    let expected = json!({
        "of-constants": 1, "of-sums": 1, "of-sines": 1_000, "right-gradients": 1, "after": 0,
    });
    assert_eq!(Value::from(answer("graphs").await), expected);
}

#[tokio::test]
async fn the_gradient_by_weights_takes_no_memory_for_each_matrix_of_a_batch() {
    let expected = json!({ "least": 512.0, "most": 512.0 });
    assert_eq!(Value::from(answer("weights").await), expected);
}

#[tokio::test]
async fn what_has_no_gradient_is_refused_in_words() {
    let expected = json!({
        "constant": "Invalid: backward: FP32 scalar was computed of no leaf",
        "gradient-of-another-shape": "Invalid: backward: FP32 scalar is no gradient by FP32 2",
        "name-given-twice": "Invalid: there is a parameter \"weight\" already",
        "no-axis": "Invalid: flatten: FP32 2 has no axis 2",
        "product-of-another-shape": "Invalid: backward: FP32 scalar is no gradient by FP32 2",
        "several-elements":
            "Invalid: backward: FP32 2 has not one element: take a sum or mean",
        "value-of-another-shape": "Invalid: parameter \"weight\" is FP32 2, not FP32 scalar",
    });
    assert_eq!(Value::from(answer("faults").await), expected);
}
