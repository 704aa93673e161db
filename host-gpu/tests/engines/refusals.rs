//! No engine is given a model that it would compute wrongly, or has no types for.

use quern_host_gpu::trial;
use quern_types::{DeviceError, Engine};
use tract_onnx::pb::{AttributeProto, NodeProto};

use crate::{
    device::{cpu, engines, outline},
    graphs::{Dim, Fixed, Graph, Named, Onnx, Open, doubling, tensor},
};

fn refused_by(onnx: &[u8]) -> Vec<Engine> {
    outline(onnx).refusals.into_iter().map(|refusal| refusal.engine).collect()
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { name: name.into(), s: value.into(), ..Default::default() }
}

/// Scores come out of it as well if `scores` has a name.
fn attention(scores: &str, stage: i64, softcap: f32, is_causal: i64) -> Vec<u8> {
    let side: &[Dim] = &[Fixed(1), Fixed(2), Fixed(4), Fixed(8)];
    let graph = ["q", "k", "v"]
        .into_iter()
        .fold(Graph::default(), |graph, name| graph.input(name, Onnx::Float, side))
        .node("Attention", &["q", "k", "v"], "y")
        .with("qk_matmul_output_mode", stage)
        .with("is_causal", is_causal)
        .altered(|node| {
            node.output.extend(["", "", scores].map(str::to_owned));
            let name = "softcap".into();
            node.attribute.push(AttributeProto { name, f: softcap, ..Default::default() });
        });
    graph.output("y", Onnx::Float, side).encode()
}

#[test]
fn scores_of_attention_at_another_stage_are_refused() {
    let cases = [
        (("qk", 0, 0.0, 0), false),
        (("qk", 0, 2.0, 0), true),
        (("qk", 1, 2.0, 1), false),
        (("qk", 2, 0.0, 0), false),
        (("qk", 2, 0.0, 1), true),
        (("qk", 3, 2.0, 1), false),
        (("", 0, 2.0, 1), false),
    ];
    for (case, refused) in cases {
        let (scores, stage, softcap, is_causal) = case;
        let onnx = attention(scores, stage, softcap, is_causal);
        let expected = if refused { vec![Engine::OnnxRuntime] } else { vec![] };
        assert_eq!(refused_by(&onnx), expected, "{case:?}");
    }
}

/// Makes 4 columns, and rows as many as there are, so much longer.
fn resized(columns: Dim, alter: impl FnOnce(Graph) -> Graph) -> Vec<u8> {
    let picture: &[Dim] = &[Fixed(1), Fixed(1), Named("rows"), columns];
    let graph = Graph::default()
        .input("x", Onnx::Float, picture)
        .node("Resize", &["x", "", "scales"], "y")
        .altered(|node| node.attribute.push(text("mode", "linear")));
    alter(graph).output("y", Onnx::Float, &[Fixed(1), Fixed(1), Open, Open]).encode()
}

fn aligned(node: &mut NodeProto) {
    node.attribute.push(text("coordinate_transformation_mode", "align_corners"));
}

#[test]
fn corners_aligned_by_lengths_with_a_fraction_are_refused() {
    let scaled = |columns, scale: f32| {
        let scales = [1., 1., scale, scale];
        resized(columns, |graph| graph.altered(aligned).floats("scales", &[4], &scales))
    };
    let given =
        resized(Fixed(4), |graph| graph.altered(aligned).input("scales", Onnx::Float, &[Fixed(4)]));
    let constant = resized(Fixed(5), |graph| {
        let scales = [1f32, 1., 1., 0.5].iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let value = tensor("", Onnx::Float, &[4], scales);
        graph.altered(aligned).node("Constant", &[], "scales").altered(|node| {
            let name = "value".into();
            node.attribute.push(AttributeProto { name, t: Some(value), ..Default::default() });
        })
    });
    let half_pixel = resized(Fixed(5), |graph| graph.floats("scales", &[4], &[1., 1., 1., 0.5]));
    let cases = [
        ("half of an even length", scaled(Fixed(4), 0.5), false),
        ("half of an odd length", scaled(Fixed(5), 0.5), true),
        ("twice", scaled(Fixed(5), 2.0), false),
        ("of a length that is not known", scaled(Open, 0.6), false),
        ("by the caller", given, true),
        ("by a constant", constant, true),
        ("no corners", half_pixel, false),
    ];
    for (name, onnx, refused) in cases {
        let expected = if refused { vec![Engine::OnnxRuntime] } else { vec![] };
        assert_eq!(refused_by(&onnx), expected, "{name}");
    }
}

fn unpooling(inputs: &[&str]) -> Graph {
    let quarter: &[Dim] = &[Fixed(1), Fixed(1), Fixed(2), Fixed(2)];
    Graph::default()
        .input("x", Onnx::Float, quarter)
        .input("places", Onnx::Int64, quarter)
        .integers("shape", &[4], &[1, 1, 5, 5])
        .node("MaxUnpool", inputs, "y")
        .output("y", Onnx::Float, &[Fixed(1), Fixed(1), Open, Open])
}

#[test]
fn a_node_is_found_wherever_it_is() {
    let shaped = || unpooling(&["x", "places", "shape"]);
    assert_eq!(refused_by(&unpooling(&["x", "places"]).encode()), []);
    assert_eq!(refused_by(&shaped().encode()), [Engine::OnnxRuntime]);
    let foreign = shaped().altered(|node| node.domain = "com.example".into());
    assert_eq!(refused_by(&foreign.encode()), [], "another's operator of the same name");
    let branch = AttributeProto { g: Some(shaped().0), ..Default::default() };
    let inside = Graph::default()
        .input("is", Onnx::Bool, &[Fixed(1)])
        .node("If", &["is"], "y")
        .altered(|node| node.attribute.push(branch))
        .output("y", Onnx::Float, &[Open]);
    assert_eq!(refused_by(&inside.encode()), [Engine::OnnxRuntime]);
}

#[tokio::test]
async fn what_is_refused_is_not_deployed_and_the_reason_is_told() {
    let device = cpu();
    let unpooling = unpooling(&["x", "places", "shape"]).encode();
    let halves = doubling(Onnx::Bfloat16).encode();
    let rounded = Graph::default()
        .input("x", Onnx::Float, &[Named("batch")])
        .output("y", Onnx::Bfloat16, &[Named("batch")])
        .node("Cast", &["x"], "y")
        .with("to", Onnx::Bfloat16 as i64)
        .encode();
    let cases = [
        (Engine::OnnxRuntime, &unpooling, "a MaxUnpool has an output_shape"),
        (Engine::Tract, &halves, "input \"x\" is BF16, which it has not: use engine"),
        (Engine::Tract, &rounded, "output \"y\" is BF16, which it has not: use engine"),
    ];
    for (engine, onnx, expected) in cases {
        let tried = trial(&device, onnx.clone().into(), &outline(onnx), engine, 8).await;
        let Err(DeviceError::Load { reason, .. }) = tried else { panic!("{engine}: {tried:?}") };
        assert!(reason.contains(expected), "{engine}: {reason}");
    }
    if engines().contains(&Engine::OnnxRuntime) {
        let (onnx, outline) = (rounded.clone().into(), outline(&rounded));
        let tried = trial(&device, onnx, &outline, Engine::OnnxRuntime, 8).await;
        tried.expect("it has these types");
    }
}
