//! Asks every server once, and fails unless all answer the same numbers. Never measures.

use anyhow::{Context as _, Result, ensure};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message as _;
use quern_gateway::protocol::{ModelInferRequest, ModelInferResponse};
use reqwest::{Client, Response};
use serde_json::Value;
use tonic::{body::Body, client::Grpc as Calls};
use tonic_prost::ProstCodec;

use crate::{
    grpc::Grpc,
    models::Model,
    support::load::{self, Loaded as _, progress},
    target::{Target, Way},
};

/// Answers may differ by this much of the largest number, or of 1.
pub(crate) const TOLERANCE: f64 = 1e-4;
const HEADER: &str = "inference-header-content-length";

/// Compares all answers with the first target's, and remembers how long those of gRPC are.
pub(crate) async fn check(client: &Client, model: &Model, targets: &mut [Target]) -> Result<()> {
    let mut first: Option<Vec<f64>> = None;
    for target in targets {
        let _awake = target.awake();
        let numbers = match &mut target.way {
            Way::Http(target) => http(client, target).await?,
            Way::Grpc(target) => {
                let numbers = grpc(target).await?;
                target.answer_bytes = Some(target.answer_bytes().await?);
                numbers
            }
            Way::Engine(_) => continue,
        };
        let name = target.name();
        ensure!(numbers.len() == model.outputs(), "{name} answers {} numbers", numbers.len());
        let expected = first.get_or_insert_with(|| numbers.clone());
        let scale = expected.iter().fold(1.0_f64, |most, number| most.max(number.abs()));
        let most = expected.iter().zip(&numbers).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        progress(format!("{name} answers within {most:.0e} of the first"));
        ensure!(most <= TOLERANCE * scale, "{name} answers {numbers:?}, not {expected:?}");
    }
    Ok(())
}

/// Sends the request of a target once.
pub(crate) async fn send(client: &Client, target: &load::Target) -> Result<Response> {
    let url = &target.url;
    let body = target.body.as_ref().context("a body")?;
    let mut call = client.post(url).body(std::fs::read(body)?);
    for (name, value) in target.headers.iter().filter_map(|header| header.split_once(": ")) {
        call = call.header(name, value);
    }
    let response = call.send().await.with_context(|| format!("POST {url}"))?;
    let status = response.status();
    ensure!(status.is_success(), "POST {url}: {status} {}", response.text().await?);
    Ok(response)
}

async fn http(client: &Client, target: &load::Target) -> Result<Vec<f64>> {
    let response = send(client, target).await?;
    let Some(length) = response.headers().get(HEADER) else {
        let answer: Value = response.json().await?;
        let numbers = answer["outputs"][0]["data"].as_array().context("no outputs")?;
        return Ok(numbers.iter().filter_map(Value::as_f64).collect());
    };
    let length: usize = length.to_str()?.parse()?;
    let body = response.bytes().await?;
    floats(body.get(length..).context("a body shorter than its header says")?)
}

async fn grpc(target: &Grpc) -> Result<Vec<f64>> {
    let http2: Http<HttpConnector, Body> =
        Http::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut calls = Calls::with_origin(http2, target.origin.parse()?);
    // Behind the prefix of five bytes.
    let frame = std::fs::read(&target.request.file)?;
    let message = ModelInferRequest::decode(frame.get(5..).context("a frame")?)?;
    let path = "/inference.GRPCInferenceService/ModelInfer".parse()?;
    let codec = ProstCodec::<ModelInferRequest, ModelInferResponse>::default();
    let answer = calls.unary(tonic::Request::new(message), path, codec).await?.into_inner();
    match answer.raw_output_contents.first() {
        Some(raw) => floats(raw),
        None => {
            let contents = answer.outputs.first().and_then(|output| output.contents.as_ref());
            let contents = contents.context("no outputs")?;
            Ok(contents.fp32_contents.iter().map(|&number| f64::from(number)).collect())
        }
    }
}

fn floats(bytes: &[u8]) -> Result<Vec<f64>> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    ensure!(rest.is_empty(), "{} bytes are no floats", bytes.len());
    Ok(chunks.iter().map(|chunk| f64::from(f32::from_le_bytes(*chunk))).collect())
}
