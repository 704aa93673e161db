//! A function that trains a network on the server's device, and the network that it gives: a model
//! like any other.

use reqwest::{Method, multipart};
use serde_json::{Value, json};

use crate::{
    TRAIN_DIGITS,
    models::engines,
    support::{Answer, Server, answer, root},
};

/// The pixels and the labels of the images that are not trained on.
fn held_out() -> (Vec<u8>, Vec<usize>) {
    let csv = std::fs::read_to_string(root().join("functions/digits-mlp/digits.csv"));
    let csv = csv.expect("is committed");
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for line in csv.lines().filter_map(|line| line.strip_suffix(",test")) {
        let mut cells: Vec<u8> =
            line.split(',').map(|cell| cell.parse().expect("a number")).collect();
        labels.push(usize::from(cells.pop().expect("a label")));
        pixels.extend(cells);
    }
    (pixels, labels)
}

/// The share of them that a model reads right.
async fn accuracy(server: &Server, model: &str) -> f64 {
    let (pixels, labels) = held_out();
    let shape = [labels.len(), 64];
    let images = json!([{ "name": "image", "shape": shape, "datatype": "FP32", "data": pixels }]);
    let answer = server.infer(model, images).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let probabilities = answer.json()["outputs"][0]["data"].as_array().expect("a list").clone();
    let probabilities: Vec<f64> = probabilities.iter().filter_map(Value::as_f64).collect();
    assert_eq!(probabilities.len(), labels.len() * 10);
    let best = |row: &[f64]| (0..10).max_by(|a, b| row[*a].total_cmp(&row[*b])).expect("ten");
    let right = probabilities.chunks(10).zip(&labels).filter(|(row, label)| best(row) == **label);
    right.count() as f64 / labels.len() as f64
}

async fn deploy(server: &Server, engine: &str, model: Vec<u8>) -> Answer {
    let form = multipart::Form::new()
        .text("manifest", format!("engine = '{engine}'"))
        .part("model", multipart::Part::bytes(model));
    answer(server.request(Method::PUT, &format!("/v1/models/digits-{engine}")).multipart(form))
        .await
}

#[tokio::test]
async fn a_network_that_a_function_trained_reads_digits_as_a_model() {
    let server = Server::start();
    server.deploy(&TRAIN_DIGITS).await;
    let trained = server.post("/f/train-digits/?epochs=8", "").await;
    assert_eq!(trained.status, 200, "{}", trained.text());
    let said: f64 = trained.header("digits-accuracy").parse().expect("a number");
    assert!(said >= 0.97, "{said}");
    for engine in engines(&server).await {
        let deployed = deploy(&server, &engine, trained.body.clone()).await;
        assert_eq!(deployed.status, 201, "{}", deployed.text());
        let found = accuracy(&server, &format!("digits-{engine}")).await;
        assert!((found - said).abs() < 1e-4, "{engine}: {found}, not {said}");
    }
    let logs = server.get("/v1/functions/train-digits/logs?tail=100").await.text();
    assert!(logs.contains("epoch 8: loss"), "{logs}");
}
