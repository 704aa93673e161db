//! Requests over gRPC that versions share.

use std::collections::HashSet;

use tonic::metadata::MetadataValue;

use super::*;

#[tokio::test]
async fn versions_share_requests_over_grpc_too() {
    let (server, client) = start(&[]).await;
    crate::traffic::deploy_two_models(&server).await;
    let split = json!({
        "versions": [{"version": 1, "percent": 50}, {"version": 2, "percent": 50}],
        "sticky": {"header": "x-user"},
    });
    let set = server.put("/v1/models/digits-mlp/traffic", split.to_string()).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let versions = async |metadata: Option<(&'static str, &'static str)>, model_version: &str| {
        let mut seen = HashSet::new();
        for _ in 0..30 {
            let message = ModelInferRequest {
                model_version: model_version.into(),
                ..image("digits-mlp", 1.0, 1)
            };
            let mut request = tonic::Request::new(message);
            if let Some((name, value)) = metadata {
                request.metadata_mut().insert(name, MetadataValue::from_static(value));
            }
            let answer = client.send::<_, ModelInferResponse>("ModelInfer", request).await?;
            seen.insert(answer.into_inner().model_version);
        }
        Ok::<_, Status>(seen)
    };
    assert_eq!(versions(None, "").await.expect("answers").len(), 2);
    assert_eq!(versions(Some(("x-user", "ada")), "").await.expect("answers").len(), 1);
    let asked = versions(Some(("quern-version", "2")), "").await.expect("answers");
    assert_eq!(asked, HashSet::from(["2".to_owned()]));
    let mismatch = versions(Some(("quern-version", "2")), "1").await.expect_err("two versions");
    assert_eq!(mismatch.code(), Code::InvalidArgument);
    let unknown = versions(Some(("quern-version", "stable")), "").await.expect_err("no alias");
    assert_eq!(unknown.code(), Code::NotFound);
}
