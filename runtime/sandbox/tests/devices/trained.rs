//! The example that trains a network (`functions/train-digits`), on real kernels.

use bytes::Bytes;
use http::Response;

use crate::function::Guest;

fn trainer() -> Guest {
    Guest::built("functions/wasm32-wasip2/release/train_digits.wasm")
}

fn number(answer: &Response<Bytes>, header: &str) -> f64 {
    let value = answer.headers().get(header).expect(header).to_str().expect("text");
    value.parse().expect("a number")
}

#[tokio::test]
async fn a_network_learns_to_read_digits_that_it_has_not_seen() {
    let trained = trainer().post("?epochs=8").await;
    assert_eq!(trained.status(), 200);
    let accuracy = number(&trained, "digits-accuracy");
    assert!(accuracy >= 0.97, "{accuracy}");
    assert!(number(&trained, "digits-loss") < 0.1);
}

#[tokio::test]
async fn the_same_seed_trains_the_same_network() {
    let trainer = trainer();
    let [first, again] = [trainer.post("?epochs=1").await, trainer.post("?epochs=1").await];
    assert_eq!(first.status(), 200);
    assert!(first.body() == again.body());
    let other = trainer.post("?epochs=1&seed=2").await;
    assert_eq!(other.body().len(), first.body().len());
    assert!(first.body() != other.body());
}

#[tokio::test]
async fn what_can_not_be_trained_is_refused() {
    let trainer = trainer();
    let cases = [
        ("?epochs=0", "epochs: \\\"0\\\" is no number from 1 to 100"),
        ("?epochs=101", "epochs: \\\"101\\\" is no number from 1 to 100"),
        ("?batch=no", "batch: \\\"no\\\" is no number from 1 to 1000"),
        ("?rate=NaN", "rate: \\\"NaN\\\" is no number from 0.000001 to 1"),
    ];
    for (query, expected) in cases {
        let answer = trainer.post(query).await;
        assert_eq!(answer.status(), 400, "{query}");
        let text = String::from_utf8_lossy(answer.body());
        assert!(text.contains(expected), "{text}");
    }
}
