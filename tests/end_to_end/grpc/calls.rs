//! Every call of the service that is no inference, and the address that gRPC may have.

use quern_gateway::protocol::{model_config::SchedulingChoice, *};
use serde_json::json;
use tonic::{Code, Status};

use super::{Client, assert_status, image, start};
use crate::DIGITS;

#[tokio::test]
async fn every_question_is_answered() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    server.deploy(&DIGITS).await;
    let live: ServerLiveResponse =
        client.call("ServerLive", ServerLiveRequest {}).await.expect("an answer");
    let ready: ServerReadyResponse =
        client.call("ServerReady", ServerReadyRequest {}).await.expect("an answer");
    assert!(live.live && ready.ready);
    let about: ServerMetadataResponse =
        client.call("ServerMetadata", ServerMetadataRequest {}).await.expect("an answer");
    let over_http = server.get("/v2").await.json();
    assert_eq!(
        (json!(about.name), json!(about.version)),
        (json!("quern"), over_http["version"].clone())
    );
    assert_eq!(json!(about.extensions), over_http["extensions"]);

    for (name, version, expected) in
        [("digits-mlp", "", true), ("digits", "1", true), ("digits", "2", false), ("no", "", false)]
    {
        let request = ModelReadyRequest { name: name.into(), version: version.into() };
        let answer: ModelReadyResponse = client.call("ModelReady", request).await.expect(name);
        assert_eq!(answer.ready, expected, "{name} {version}");
    }
    let request = ModelMetadataRequest { name: "digits-mlp".into(), version: String::new() };
    let answer: ModelMetadataResponse =
        client.call("ModelMetadata", request).await.expect("an answer");
    let over_http = server.get("/v2/models/digits-mlp").await.json();
    assert_eq!(json!(answer.versions), over_http["versions"]);
    assert_eq!(json!(answer.platform), over_http["platform"]);
    let input = &answer.inputs[0];
    let input = json!({"name": input.name, "datatype": input.datatype, "shape": input.shape});
    assert_eq!(json!([input]), over_http["inputs"]);

    let request = ModelConfigRequest { name: "digits-mlp".into(), version: "1".into() };
    let answer: ModelConfigResponse = client.call("ModelConfig", request).await.expect("an answer");
    let config = answer.config.expect("a configuration");
    let over_http = server.get("/v2/models/digits-mlp/config").await.json();
    assert_eq!(json!(config.max_batch_size), over_http["max_batch_size"]);
    assert_eq!(
        (json!(config.backend), config.name),
        (over_http["backend"].clone(), "digits-mlp".into())
    );
    assert_eq!(config.input[0].data_type(), DataType::TypeFp32);
    assert_eq!(config.input[0].dims, [64]);
    assert!(matches!(config.scheduling_choice, Some(SchedulingChoice::DynamicBatching(_))));
    assert_eq!(config.instance_group[0].kind(), model_instance_group::Kind::Cpu);
}

#[tokio::test]
async fn calls_are_counted_and_models_loaded_and_unloaded() {
    let (server, client) = start(&[]).await;
    server.deploy_digits_model().await;
    client.infer(image("digits-mlp", 1.0, 3)).await.expect("an answer");
    for name in ["digits-mlp", ""] {
        let request = ModelStatisticsRequest { name: name.into(), version: String::new() };
        let answer: ModelStatisticsResponse =
            client.call("ModelStatistics", request).await.expect("an answer");
        let model = &answer.model_stats[0];
        assert_eq!((&*model.name, &*model.version), ("digits-mlp", "1"));
        assert_eq!((model.inference_count, model.execution_count), (3, 1));
        let success = model.inference_stats.as_ref().and_then(|counted| counted.success.as_ref());
        assert_eq!(success.expect("counted").count, 1);
    }

    let index = async |ready| {
        let request = RepositoryIndexRequest { ready, ..Default::default() };
        let answer: RepositoryIndexResponse =
            client.call("RepositoryIndex", request).await.expect("an answer");
        answer.models.into_iter().map(|model| model.state).collect::<Vec<_>>()
    };
    assert_eq!(index(true).await, ["READY"]);
    let unload = |model_name: &str| RepositoryModelUnloadRequest {
        model_name: model_name.into(),
        ..RepositoryModelUnloadRequest::default()
    };
    let unloaded = client.call("RepositoryModelUnload", unload("digits-mlp")).await;
    let RepositoryModelUnloadResponse {} = unloaded.expect("an answer");
    assert_eq!((index(true).await.len(), index(false).await), (0, vec!["UNAVAILABLE".to_owned()]));
    let refused = client.infer(image("digits-mlp", 1.0, 1)).await.expect_err("is unloaded");
    assert!(refused.message().contains("is unloaded"), "{}", refused.message());
    let load = |model_name: &str| RepositoryModelLoadRequest {
        model_name: model_name.into(),
        ..RepositoryModelLoadRequest::default()
    };
    let loaded = client.call("RepositoryModelLoad", load("digits-mlp")).await;
    let RepositoryModelLoadResponse {} = loaded.expect("an answer");
    client.infer(image("digits-mlp", 1.0, 1)).await.expect("an answer");

    let refused = |status: Result<RepositoryModelLoadResponse, Status>| status.expect_err("no");
    let status = refused(client.call("RepositoryModelLoad", load("absent")).await);
    assert_status(&status, Code::NotFound, "not-found", "absent");
    let config = ModelRepositoryParameter {
        parameter_choice: Some(model_repository_parameter::ParameterChoice::StringParam(
            "{}".into(),
        )),
    };
    let request = RepositoryModelLoadRequest {
        parameters: [("config".to_owned(), config)].into(),
        ..load("digits-mlp")
    };
    let status = refused(client.call("RepositoryModelLoad", request).await);
    assert_status(&status, Code::Unimplemented, "unsupported", "deploy it");
    let request =
        RepositoryModelLoadRequest { repository_name: "other".into(), ..load("digits-mlp") };
    let status = refused(client.call("RepositoryModelLoad", request).await);
    assert_status(&status, Code::Unimplemented, "unsupported", "repository_name");
}

#[tokio::test]
async fn settings_can_be_read_and_shared_memory_is_refused() {
    let (_server, client) = start(&[]).await;
    let settings: LogSettingsResponse =
        client.call("LogSettings", LogSettingsRequest::default()).await.expect("an answer");
    let info = settings.settings["log_info"].parameter_choice.clone();
    use log_settings_response::setting_value::ParameterChoice as Is;
    assert_eq!(info, Some(Is::BoolParam(true)));
    use log_settings_request::{SettingValue, setting_value::ParameterChoice as Asked};
    let off = SettingValue { parameter_choice: Some(Asked::BoolParam(false)) };
    let request = LogSettingsRequest { settings: [("log_info".to_owned(), off)].into() };
    let status = client.call::<_, LogSettingsResponse>("LogSettings", request).await;
    let status = status.expect_err("can't be changed");
    assert_status(&status, Code::Unimplemented, "unsupported", "log_info");
    let traces: TraceSettingResponse =
        client.call("TraceSetting", TraceSettingRequest::default()).await.expect("an answer");
    assert_eq!(traces.settings["trace_level"].value, ["OFF"]);

    let status: SystemSharedMemoryStatusResponse = client
        .call("SystemSharedMemoryStatus", SystemSharedMemoryStatusRequest::default())
        .await
        .expect("an answer");
    assert!(status.regions.is_empty());
    let status: CudaSharedMemoryStatusResponse = client
        .call("CudaSharedMemoryStatus", CudaSharedMemoryStatusRequest::default())
        .await
        .expect("an answer");
    assert!(status.regions.is_empty());
    let request = SystemSharedMemoryRegisterRequest { name: "a".into(), ..Default::default() };
    let status = client
        .call::<_, SystemSharedMemoryRegisterResponse>("SystemSharedMemoryRegister", request)
        .await
        .expect_err("not allowed");
    assert_status(&status, Code::Unimplemented, "unsupported", "shared memory is not allowed");
    let request = CudaSharedMemoryRegisterRequest { name: "a".into(), ..Default::default() };
    let status = client
        .call::<_, CudaSharedMemoryRegisterResponse>("CudaSharedMemoryRegister", request)
        .await
        .expect_err("not allowed");
    assert_status(&status, Code::Unimplemented, "unsupported", "shared memory is not allowed");
    for call in ["SystemSharedMemoryUnregister", "CudaSharedMemoryUnregister"] {
        let request = SystemSharedMemoryUnregisterRequest::default();
        let SystemSharedMemoryUnregisterResponse {} =
            client.call(call, request).await.expect("nothing is registered");
    }
}

#[tokio::test]
async fn grpc_has_an_address_of_its_own_if_it_is_asked_for() {
    let (server, everything) = start(&["--grpc-listen", "127.0.0.1:0"]).await;
    server.deploy_digits_model().await;
    for client in [Client::new(server.grpc_url()), everything] {
        client.infer(image("digits-mlp", 1.0, 1)).await.expect("an answer");
    }
    let url = format!("{}/v1/models", server.grpc_url());
    let refused = reqwest::get(url).await.expect("an answer");
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["quern-error"]),
        (404, &"not-found".try_into().expect("text"))
    );
    assert!(refused.text().await.expect("text").contains("only gRPC"));
    server.stop();
}
