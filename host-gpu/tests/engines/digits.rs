//! The digits model keeps what its training promised, on every engine.

use std::{fs, path::PathBuf};

use quern_host_gpu::trial;
use quern_types::Tensor;

use crate::device::{floats, load, outline, rows, run, targets, values};

fn file(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../functions/digits-mlp");
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The images and labels that the model was not trained on.
fn held_out() -> Vec<(Vec<f32>, usize)> {
    let text = String::from_utf8(file("digits.csv")).expect("text");
    let rows = text.lines().filter_map(|line| line.strip_suffix(",test"));
    rows.map(|row| {
        let mut numbers: Vec<usize> =
            row.split(',').map(|number| number.parse().expect("a number")).collect();
        let label = numbers.pop().expect("a label");
        (numbers.into_iter().map(|pixel| pixel as f32).collect(), label)
    })
    .collect()
}

fn most_probable(probabilities: &[f32]) -> usize {
    let indexed = probabilities.iter().enumerate();
    indexed.max_by(|a, b| a.1.total_cmp(b.1)).expect("ten digits").0
}

#[tokio::test]
async fn held_out_accuracy_is_what_training_recorded() {
    let recorded: serde_json::Value = serde_json::from_slice(&file("accuracy.json")).expect("JSON");
    let images = held_out();
    assert_eq!(images.len(), 360);
    let onnx = file("digits-mlp.onnx");
    for (device, engine) in targets().await {
        let replica = load(&*device, &onnx, engine, rows(64)).await.expect("loads");
        let mut correct = 0;
        for images in images.chunks(40) {
            let call = |(pixels, _): &(Vec<f32>, usize)| -> Vec<Tensor> {
                vec![floats("image", &[1, 64], pixels)]
            };
            let calls = images.iter().map(call).collect();
            let replies = run(&*replica, calls).await.expect("runs");
            for ((_, label), reply) in images.iter().zip(&replies) {
                let probabilities = values(&reply[0]);
                let sum: f32 = probabilities.iter().sum();
                assert!((sum - 1.).abs() < 1e-5, "{engine}: probabilities sum to {sum}");
                correct += usize::from(most_probable(&probabilities) == *label);
            }
        }
        assert_eq!(recorded["correct"], correct, "{engine}");
        assert!(correct as f64 / 360. >= 0.96, "{engine}: {correct} of 360");
    }
}

#[tokio::test]
async fn the_model_is_what_its_readme_says_and_its_rows_are_independent() {
    let onnx = file("digits-mlp.onnx");
    let outline = outline(&onnx);
    let signature = serde_json::to_value(&outline.signature).expect("JSON");
    let expected = serde_json::json!({
        "inputs": [{"name": "image", "dtype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "probabilities", "dtype": "FP32", "shape": [-1, 10]}],
    });
    assert_eq!(signature, expected);
    for (device, engine) in targets().await {
        let axis = trial(&*device, onnx.clone().into(), &outline, engine, 64).await;
        assert_eq!(axis, Ok(rows(64)), "{engine}");
    }
}
