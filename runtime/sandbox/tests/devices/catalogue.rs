//! Every operator of the contract is the catalogue's of that name.

use serde_json::{Value, json};

use crate::function::Guest;

/// The guest's inputs.
pub(crate) const X: [f64; 6] = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0];
const SMALL: [f64; 3] = [0.75, 2.5, 4.0];
/// The standard normal distribution and the error function there, to ten digits.
const NORMAL: [f64; 3] = [0.773_372_647_6, 0.993_790_334_7, 0.999_968_328_8];
const ERF: [f64; 3] = [0.711_155_633_7, 0.999_593_048_0, 0.999_999_984_6];

fn of_x(function: impl Fn(f64) -> f64) -> Value {
    fp32(&[2, 3], &X.map(function))
}

fn of_small(function: impl Fn(f64) -> f64) -> Value {
    fp32(&[3], &SMALL.map(function))
}

pub(crate) fn fp32(shape: &[u64], values: &[f64]) -> Value {
    json!({ "dtype": "FP32", "shape": shape, "values": values })
}

pub(crate) fn truths(shape: &[u64], values: &[u8]) -> Value {
    let values: Vec<_> = values.iter().map(|value| *value == 1).collect();
    json!({ "dtype": "BOOL", "shape": shape, "values": values })
}

pub(crate) fn int64(shape: &[u64], values: &[i64]) -> Value {
    json!({ "dtype": "INT64", "shape": shape, "values": values })
}

/// The rows of X less their means, by their spread, times `[2, 3, 3]`, and what is added.
fn normed(centred: bool, bias: [f64; 3]) -> Value {
    let mut values = Vec::new();
    for row in X.chunks(3) {
        let mean = if centred { row.iter().sum::<f64>() / 3.0 } else { 0.0 };
        let spread = (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
        let scaled = row.iter().zip([2.0, 3.0, 3.0]).map(|(x, scale)| (x - mean) / spread * scale);
        values.extend(scaled.zip(bias).map(|(x, bias)| x + bias));
    }
    fp32(&[2, 3], &values)
}

fn views() -> Vec<(&'static str, Value)> {
    let turned = fp32(&[3, 2], &[1.0, -4.0, -2.0, 5.0, 3.0, -6.0]);
    vec![
        ("permute", turned.clone()),
        ("transpose", turned),
        ("reshape", fp32(&[3, 2], &X)),
        ("broadcast", fp32(&[2, 3], &[2.0, 3.0, 3.0, 2.0, 3.0, 3.0])),
        ("slice", fp32(&[1, 2], &[-4.0, -6.0])),
        ("narrow", fp32(&[2, 2], &[-2.0, 3.0, 5.0, -6.0])),
    ]
}

fn unary() -> Vec<(&'static str, Value)> {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let by = |factors: [f64; 3]| [0, 1, 2].map(|at| SMALL[at] * factors[at]);
    let root = (2.0 / std::f64::consts::PI).sqrt();
    vec![
        ("neg", of_x(|x| -x)),
        ("abs", of_x(f64::abs)),
        ("sign", of_x(f64::signum)),
        ("square", of_x(|x| x * x)),
        ("relu", of_x(|x| x.max(0.0))),
        ("exp", of_small(f64::exp)),
        ("log", of_small(f64::ln)),
        ("sqrt", of_small(f64::sqrt)),
        ("rsqrt", of_small(|x| 1.0 / x.sqrt())),
        ("reciprocal", of_small(|x| 1.0 / x)),
        ("sin", of_small(f64::sin)),
        ("cos", of_small(f64::cos)),
        ("tanh", of_small(f64::tanh)),
        ("erf", fp32(&[3], &ERF)),
        ("sigmoid", of_small(sigmoid)),
        ("silu", of_small(|x| x * sigmoid(x))),
        ("gelu", fp32(&[3], &by(NORMAL))),
        ("gelu-tanh", of_small(|x| 0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh()))),
        ("floor", fp32(&[3], &[0.0, 2.0, 4.0])),
        ("ceil", fp32(&[3], &[1.0, 3.0, 4.0])),
        ("round", fp32(&[3], &[1.0, 2.0, 4.0])),
        ("not", truths(&[3], &[0, 1, 0])),
    ]
}

fn pairs() -> Vec<(&'static str, Value)> {
    vec![
        ("add", fp32(&[2, 3], &[3.0, 1.0, 6.0, -2.0, 8.0, -3.0])),
        ("sub", fp32(&[2, 3], &[-1.0, -5.0, 0.0, -6.0, 2.0, -9.0])),
        ("mul", fp32(&[2, 3], &[2.0, -6.0, 9.0, -8.0, 15.0, -18.0])),
        ("div", fp32(&[2, 3], &[0.5, -2.0 / 3.0, 1.0, -2.0, 5.0 / 3.0, -2.0])),
        ("pow", fp32(&[2, 3], &[1.0, -8.0, 27.0, 16.0, 125.0, -216.0])),
        ("min", fp32(&[2, 3], &[1.0, -2.0, 3.0, -4.0, 3.0, -6.0])),
        ("max", fp32(&[2, 3], &[2.0, 3.0, 3.0, 2.0, 5.0, 3.0])),
        ("eq", truths(&[2, 3], &[0, 0, 1, 0, 0, 0])),
        ("ne", truths(&[2, 3], &[1, 1, 0, 1, 1, 1])),
        ("lt", truths(&[2, 3], &[1, 1, 0, 1, 0, 1])),
        ("le", truths(&[2, 3], &[1, 1, 1, 1, 0, 1])),
        ("gt", truths(&[2, 3], &[0, 0, 0, 0, 1, 0])),
        ("ge", truths(&[2, 3], &[0, 0, 1, 0, 1, 0])),
        ("and", truths(&[3], &[1, 0, 0])),
        ("or", truths(&[3], &[1, 1, 1])),
        ("xor", truths(&[3], &[0, 1, 1])),
    ]
}

fn reductions() -> Vec<(&'static str, Value)> {
    vec![
        ("sum", fp32(&[2], &[2.0, -5.0])),
        ("sum-kept", fp32(&[2, 1], &[2.0, -5.0])),
        ("sum-all", fp32(&[], &[-3.0])),
        ("mean", fp32(&[2], &[2.0 / 3.0, -5.0 / 3.0])),
        ("mean-all", fp32(&[], &[-0.5])),
        ("product", fp32(&[3], &[-4.0, -10.0, -18.0])),
        ("max-along", fp32(&[3], &[1.0, 5.0, 3.0])),
        ("min-along", fp32(&[3], &[-4.0, -2.0, -6.0])),
        ("any", truths(&[], &[1])),
        ("all", truths(&[], &[0])),
        ("arg-max", int64(&[2], &[2, 1])),
        ("arg-min", int64(&[2], &[1, 2])),
    ]
}

fn others() -> Vec<(&'static str, Value)> {
    let exponentials = [2.0f64, 3.0, 3.0].map(f64::exp);
    let shares = exponentials.map(|exponential| exponential / exponentials.iter().sum::<f64>());
    vec![
        ("fill", int64(&[2], &[7, 7])),
        ("fill-bf16", json!({ "dtype": "BF16", "shape": [2], "values": [0, 63, 0, 63] })),
        ("constant", of_x(|x| x / 2.0)),
        ("copy", of_x(|x| x)),
        ("cast", json!({ "dtype": "INT32", "shape": [3], "values": [0, 2, 4] })),
        ("select", fp32(&[3], &[2.0, 2.5, 3.0])),
        ("clamp", of_x(|x| x.clamp(-2.0, 3.0))),
        ("matmul", fp32(&[2, 2], &[14.0, -32.0, -32.0, 77.0])),
        ("softmax", fp32(&[3], &shares)),
        ("log-softmax", fp32(&[3], &shares.map(f64::ln))),
        ("layer-norm", normed(true, SMALL)),
        ("rms-norm", normed(false, [0.0; 3])),
        ("concat", fp32(&[6], &[2.0, 3.0, 3.0, 0.75, 2.5, 4.0])),
        ("gather", fp32(&[2, 3], &[-4.0, 5.0, -6.0, 1.0, -2.0, 3.0])),
        ("scatter-add", fp32(&[2, 3], &[-3.0, 3.0, -3.0, -3.0, 3.0, -3.0])),
    ]
}

/// Whether both are the same, numbers to within what FP32 rounds.
fn agree(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Array(actual), Value::Array(expected)) => {
            actual.len() == expected.len()
                && actual.iter().zip(expected).all(|(actual, expected)| agree(actual, expected))
        }
        (Value::Number(actual), Value::Number(expected)) => {
            let (actual, expected) = (actual.as_f64(), expected.as_f64());
            let (actual, expected) = (actual.expect("a number"), expected.expect("a number"));
            (actual - expected).abs() <= 1e-5 * expected.abs().max(1.0)
        }
        _ => actual == expected,
    }
}

/// Has the guest compute each, and compares.
pub(crate) async fn assert_computed(cases: &[(&str, Value)]) {
    let guest = Guest::new();
    for (name, expected) in cases {
        let actual = guest.ok(&format!("operator/{name}")).await;
        for part in ["dtype", "shape", "values"] {
            assert!(agree(&actual[part], &expected[part]), "{name}: {actual}, not {expected}");
        }
    }
    assert_eq!(guest.kernels.held_bytes(), 0);
}

#[tokio::test]
async fn every_operator_is_that_of_its_name() {
    assert_computed(&[views(), unary(), pairs(), reductions(), others()].concat()).await;
}

#[tokio::test]
async fn a_layer_of_a_network_is_computed() {
    let guest = Guest::new();
    let expected = json!({ "shape": [2, 2], "values": [0.0, 2.5, 1.0, 3.25] });
    assert_eq!(guest.ok("layer").await, expected);
    assert_eq!(guest.ok("device").await, "cpu:0");
}
