//! What is refused: with an error for the guest, which goes on, and never with a trap.

use quern_types::{FunctionKind, FunctionSpec};
use serde_json::json;

use crate::function::Guest;

#[tokio::test]
async fn what_does_not_fit_is_an_error_that_names_it() {
    let cases = [
        ("shapes", "Invalid", "matmul: 2x3 and 2x3: the inner sizes differ"),
        ("mixed", "Invalid", "add: FP32 and INT64 differ: cast one of them"),
        ("dtype", "Invalid", "not: FP32 is not taken here, but BOOL"),
        ("inputs", "Invalid", "matmul: takes 2 inputs, got 1"),
        ("rank", "Invalid", "reshape: 9 dimensions are more than 8"),
        ("overflow", "Invalid", "broadcast: dimensions"),
        ("fill-rank", "Invalid", "fill: 9 dimensions are more than 8"),
        ("length", "Invalid", "FP32 2x3 needs 24 bytes, got 23"),
        ("bool", "Invalid", "element 2 of BOOL is 2"),
        ("scalar", "Invalid", "Int(256) is no value of UINT8"),
        ("axis", "Invalid", "sum: 2x3: there is no axis 2"),
        ("negative-axis", "Invalid", "FP32 2x3 has no axis -3"),
        ("range", "Invalid", "slice: 2x3: the ranges"),
        ("part", "Invalid", "slice: 2x3: the ranges"),
        ("empty", "Invalid", "concat: there must be at least one tensor"),
        ("elements", "Invalid", "a tensor of FP32 is read as INT32"),
        ("foreign", "Unknown", "belongs to another session"),
        ("wide", "Exhausted", "bytes exceed the budget"),
        ("memory", "Exhausted", "bytes exceed the budget"),
        ("granted", "Exhausted", "of grants.gpu.memory are left"),
        ("index", "Index", "gather: index 2 is out of a dimension of 2"),
        ("after-index", "Index", "gather: index 2 is out of a dimension of 2"),
    ];
    let guest = Guest::new();
    for (fault, kind, message) in cases {
        let (actual, text) = guest.refused(&format!("fault/{fault}")).await;
        assert_eq!(actual, kind, "{fault}: {text}");
        assert!(text.contains(message), "{fault}: {text:?} should contain {message:?}");
    }
    assert_eq!(guest.kernels.held_bytes(), 0);
}

#[tokio::test]
async fn without_a_grant_it_is_not_deployed() {
    let guest = Guest::new();
    let nothing = FunctionSpec::new(FunctionKind::Http);
    let refused = guest.sandbox.validate(&guest.component, &nothing).expect_err("refused");
    assert_eq!(
        refused.to_string(),
        "the component imports quern:ml/gpu@0.1.0: grant it in the manifest with [grants] gpu = { \
         memory = \"…\" }"
    );
}

#[tokio::test]
async fn a_view_outlives_what_it_was_made_of() {
    assert_eq!(Guest::new().ok("fault/released").await, 24);
}

#[tokio::test]
async fn tensors_of_a_session_that_has_ended_lead_nowhere() {
    let answers = Guest::new().ok("fault/ended").await;
    let ended = "Error::Unknown(\"the session of this tensor has ended\")";
    let foreign = "Error::Unknown(\"an input belongs to another session\")";
    assert_eq!(answers, json!([ended, ended, foreign]));
}

#[tokio::test]
async fn sessions_and_handles_are_limited() {
    let guest = Guest::new();
    assert_eq!(guest.ok("fault/sessions?count=8").await, 8);
    let (kind, text) = guest.refused("fault/sessions?count=9").await;
    assert_eq!(
        (&kind[..], &text[..]),
        ("Exhausted", "there are 8 sessions already: end one first")
    );
    assert_eq!(guest.ok("fault/tensors?count=1000").await, 1_000);
    let (kind, text) = guest.refused("fault/tensors?count=3000").await;
    assert_eq!(kind, "Exhausted");
    assert!(text.contains("limits.handles"), "{text}");
    assert_eq!(guest.kernels.held_bytes(), 0);
}
