//! `quern model` as people and scripts use it: folders, labels, ranges and profiles.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::{answer, failure, text},
    onnx::{Data, adding, floats},
    support::{Server, root},
};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// Writes a file, and gives its path.
fn write(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("written");
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn digits() -> String {
    let path = root().join("functions/digits-mlp/digits-mlp.onnx");
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn a_folder_is_deployed_with_its_weights_and_labels() {
    let (server, folder) = (Server::start(), folder());
    let (url, here) = (server.url(), folder.path());
    let model = here.join("model");
    std::fs::create_dir(&model).expect("created");
    write(&model, "model.onnx", &adding(Data::File("w.bin", 0)));
    write(&model, "w.bin", &floats(&[1.0, 2.0]));
    write(&model, "tokenizer.json", b"{}");
    let labels = write(here, "labels.txt", b"left\nright\n");
    let labels = format!("y={labels}");
    let deploy =
        ["model", "deploy", "model", "--name", "m", "--engine", "tract", "--labels", &labels];
    let deployed = answer(url, here, &deploy);
    assert_eq!(deployed["labels"], json!({"y": ["left", "right"]}));
    let inferred = answer(url, here, &["infer", "m", "--input", "x=[10, 20]"]);
    assert_eq!(inferred["outputs"][0]["data"], json!([11.0, 22.0]));
    let shown = text(url, here, &deploy);
    assert!(shown.contains("quern infer m --input x=x.json"), "{shown}");

    std::fs::remove_file(model.join("w.bin")).expect("removed");
    let model = model.to_str().expect("a path in UTF-8");
    failure(url, &["model", "deploy", model, "--name", "m"], 1, &["w.bin"]);
    let empty = here.join("empty");
    std::fs::create_dir(&empty).expect("created");
    let empty = empty.to_str().expect("a path in UTF-8");
    failure(url, &["model", "deploy", empty, "--name", "m"], 1, &["has no .onnx file"]);
}

#[test]
fn learned_ranges_are_a_manifest_that_accepts_the_data_and_nothing_else() {
    let (server, folder) = (Server::start(), folder());
    let (url, here) = (server.url(), folder.path());
    let digits = digits();
    answer(url, here, &["model", "deploy", &digits, "--name", "digits"]);
    let image: Vec<u32> = (0..64).map(|pixel| pixel % 17).collect();
    let request = json!({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 64],
        "data": image}]})
    .to_string();
    let calls = write(here, "calls.jsonl", format!("{request}\n{request}\n").as_bytes());
    let of_name = text(url, here, &["model", "learn-ranges", "digits", &calls]);
    let of_file = text(NOWHERE, here, &["model", "learn-ranges", &digits, &calls]);
    assert_eq!(of_name, of_file);
    assert_eq!(of_name, "[[inputs]]\nname = \"image\"\nrange = [0.0, 16.0]  # 128 values\n");
    let wide = answer(url, here, &["model", "learn-ranges", "digits", &calls, "--margin", "0.5"]);
    assert_eq!(wide["inputs"][0]["range"], json!([-8.0, 24.0]));

    let manifest = write(here, "digits.toml", of_name.as_bytes());
    let deploy = ["model", "deploy", &digits, "--name", "digits", "--manifest", &manifest];
    assert_eq!(answer(url, here, &deploy)["version"], 2);
    answer(url, here, &["infer", "digits", "--data", &request]);
    let outside = request.replacen("[0,", "[17,", 1);
    failure(url, &["infer", "digits", "--data", &outside], 1, &["17", "outside the range"]);

    failure(url, &["model", "learn-ranges", "digits", "/nowhere.json"], 1, &["/nowhere.json"]);
    failure(url, &["model", "learn-ranges", "nobody", &calls], 1, &["(not-found)"]);
    failure(url, &["model", "learn-ranges", "No Name", &calls], 2, &["neither a file nor"]);
}

#[test]
fn a_profile_measures_each_engine_and_proposes_a_manifest() {
    let folder = folder();
    let here = folder.path();
    let digits = digits();
    let profile =
        ["model", "profile", &digits, "--engine", "tract", "--batch", "4,1", "--runs", "10"];
    let found = answer(NOWHERE, here, &profile);
    let measured = found["measured"].as_array().expect("a list");
    let sizes: Vec<_> = measured.iter().map(|one| (&one["engine"], &one["rows"])).collect();
    assert_eq!(sizes, [(&json!("tract"), &json!(1)), (&json!("tract"), &json!(4))]);
    let positive = |value: &Value| value.as_f64().is_some_and(|value| value > 0.0);
    for one in measured {
        assert!(positive(&one["p50_us"]) && positive(&one["rows_per_second"]), "{one}");
        assert!(one["p99_us"].as_f64() >= one["p50_us"].as_f64(), "{one}");
        assert_eq!(one["runs"], 10);
    }
    let chosen = found["choice"]["max_batch"].as_u64().expect("a number");
    assert!([1, 4].contains(&chosen), "{found}");

    let shown = text(NOWHERE, here, &profile);
    let (table, manifest) = shown.split_once("\n\n").expect("a table and a manifest");
    assert!(table.starts_with("ENGINE"), "{shown}");
    let manifest: Vec<_> = manifest.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(matches!(manifest[..], ["engine = \"tract\"", _]), "{shown}");

    let broken = write(here, "broken.onnx", b"no model");
    failure(NOWHERE, &["model", "profile", &broken], 1, &["this is not an ONNX file"]);
    failure(NOWHERE, &["model", "profile", "/nowhere.onnx"], 1, &["/nowhere.onnx"]);
    failure(NOWHERE, &["model", "profile", &digits, "--batch", "0"], 2, &["--batch"]);
}
