//! Tensors in shared memory, registered and named over gRPC.

use quern_gateway::protocol::{
    infer_parameter::ParameterChoice, system_shared_memory_status_response::RegionStatus, *,
};
use tonic::{Code, Status};

use super::{Client, assert_status, floats, image, parameter, start, tensor, wanted};
use crate::objects::{Object, PREFIX};

async fn register(
    client: &Client,
    name: &str,
    key: &str,
    offset: u64,
    byte_size: u64,
) -> Result<SystemSharedMemoryRegisterResponse, Status> {
    let (name, key) = (name.into(), key.into());
    let request = SystemSharedMemoryRegisterRequest { name, key, offset, byte_size };
    client.call("SystemSharedMemoryRegister", request).await
}

async fn status(client: &Client, name: &str) -> Result<SystemSharedMemoryStatusResponse, Status> {
    let request = SystemSharedMemoryStatusRequest { name: name.into() };
    client.call("SystemSharedMemoryStatus", request).await
}

fn place(region: &str, offset: i64, bytes: i64) -> [(String, InferParameter); 3] {
    [
        parameter("shared_memory_region", ParameterChoice::StringParam(region.into())),
        parameter("shared_memory_offset", ParameterChoice::Int64Param(offset)),
        parameter("shared_memory_byte_size", ParameterChoice::Int64Param(bytes)),
    ]
}

/// A request for an image in a region.
fn image_at(region: &str, offset: i64, bytes: i64) -> ModelInferRequest {
    let mut input = tensor("image", "FP32", &[1, 64]);
    input.parameters = place(region, offset, bytes).into();
    ModelInferRequest {
        model_name: "digits-mlp".into(),
        inputs: vec![input],
        ..ModelInferRequest::default()
    }
}

#[tokio::test]
async fn tensors_pass_through_shared_memory() {
    let (server, client) = start(&["--allow-shared-memory", PREFIX]).await;
    server.deploy_digits_model().await;
    let object = Object::new("grpc", 4_096);
    object.write(100, &floats(&[3.0; 64]));
    register(&client, "r", object.key(), 96, 4_000).await.expect("is allowed");
    let region =
        RegionStatus { name: "r".into(), key: object.key().into(), offset: 96, byte_size: 4_000 };
    let expected = SystemSharedMemoryStatusResponse { regions: [("r".to_owned(), region)].into() };
    assert_eq!(status(&client, "").await.expect("an answer"), expected);
    assert_eq!(status(&client, "r").await.expect("an answer"), expected);

    let sent = client.infer(image("digits-mlp", 3.0, 1)).await.expect("an answer");
    let read = client.infer(image_at("r", 4, 256)).await.expect("an answer");
    assert_eq!(sent.raw_output_contents, read.raw_output_contents);
    let mut request = image_at("r", 4, 256);
    request.outputs.push(wanted("probabilities"));
    request.outputs[0].parameters = place("r", 1_000, 100).into();
    let written = client.infer(request.clone()).await.expect("an answer");
    assert_eq!(written.raw_output_contents, [bytes::Bytes::new()]);
    assert_eq!(written.outputs[0].parameters, place("r", 1_000, 40).into());
    assert_eq!(object.read(1_096, 40), sent.raw_output_contents[0]);

    object.write(1_096, &[0; 40]);
    let requests = futures::stream::iter([request]);
    let mut answers = client.stream(requests).await.expect("opens");
    let answer = answers.message().await.expect("goes on").expect("an answer");
    assert_eq!(answer.error_message, "");
    assert_eq!(object.read(1_096, 40), sent.raw_output_contents[0]);

    let request = SystemSharedMemoryUnregisterRequest { name: "r".into() };
    let SystemSharedMemoryUnregisterResponse {} =
        client.call("SystemSharedMemoryUnregister", request).await.expect("an answer");
    let gone = status(&client, "r").await.expect_err("is gone");
    assert_status(&gone, Code::NotFound, "not-found", "\"r\" is not registered");
}

#[tokio::test]
async fn places_that_are_none_are_refused_by_name() {
    let (server, client) = start(&["--allow-shared-memory", PREFIX]).await;
    server.deploy_digits_model().await;
    let object = Object::new("grpc-bad", 1_024);
    register(&client, "r", object.key(), 0, 1_024).await.expect("is allowed");
    let again = register(&client, "r", object.key(), 0, 1).await.expect_err("is there already");
    assert_status(&again, Code::AlreadyExists, "name-taken", "unregister it first");
    for (name, key, offset, byte_size, code, word) in [
        ("s", "/other", 0, 1, Code::Unimplemented, "unsupported"),
        ("s", "other", 0, 1, Code::InvalidArgument, "invalid-request"),
        ("", object.key(), 0, 1, Code::InvalidArgument, "invalid-request"),
        ("s", object.key(), u64::MAX, 1, Code::InvalidArgument, "invalid-request"),
    ] {
        let refused = register(&client, name, key, offset, byte_size).await.expect_err(key);
        assert_status(&refused, code, word, "");
    }
    let field = "inputs[0].parameters.shared_memory_region";
    for (request, code, word, part) in [
        (image_at("s", 0, 256), Code::NotFound, "not-found", field),
        (image_at("r", 0, 255), Code::InvalidArgument, "invalid-request", "needs 256 bytes"),
        (image_at("r", 1_000, 256), Code::InvalidArgument, "invalid-request", field),
        (
            image_at("r", i64::MAX, 256),
            Code::InvalidArgument,
            "invalid-request",
            "reach beyond shared memory region \"r\"",
        ),
        (
            image_at("r", -1, 256),
            Code::InvalidArgument,
            "invalid-request",
            "inputs[0].parameters.shared_memory_offset",
        ),
    ] {
        let refused = client.infer(request).await.expect_err(part);
        assert_status(&refused, code, word, part);
    }
    let mut request = image_at("r", 0, 256);
    request.outputs.push(wanted("probabilities"));
    request.outputs[0].parameters = place("r", 0, 39).into();
    let refused = client.infer(request).await.expect_err("too small");
    assert_status(&refused, Code::InvalidArgument, "invalid-request", "has 40 bytes");
    let request = CudaSharedMemoryRegisterRequest { name: "c".into(), ..Default::default() };
    let refused = client
        .call::<_, CudaSharedMemoryRegisterResponse>("CudaSharedMemoryRegister", request)
        .await
        .expect_err("not allowed");
    assert_status(&refused, Code::Unimplemented, "unsupported", "cuda shared memory");
    client.infer(image("digits-mlp", 1.0, 1)).await.expect("others are served");
}
