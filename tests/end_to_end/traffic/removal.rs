//! Single versions are removed, unless requests go to them.

use super::*;

#[tokio::test]
async fn a_version_that_gets_no_requests_can_be_removed_and_no_other() {
    let server = Server::start();
    for log_kib in [10, 20, 30] {
        deploy(&server, &HELLO, log_kib).await;
    }
    let delete =
        async |version: u64| server.delete(&format!("/v1/functions/f/versions/{version}")).await;
    let refused = async |version: u64, reason: &str| {
        delete(version).await.assert_error(409, "traffic-conflict", reason);
    };
    refused(1, "version 1 of function \"f\" is live").await;
    set(&server, &shares(&[(1, 50), (2, 50)])).await;
    refused(2, "has 50 % of the requests").await;
    let canary = json!({"version": 3, "steps": "10% 1h, 100%"}).to_string();
    set(&server, &shares(&[(1, 100)])).await;
    assert_eq!(server.post("/v1/functions/f/canary", canary).await.status, 201);
    refused(3, "takes part in a canary that runs").await;
    assert_eq!(server.delete("/v1/functions/f/canary").await.status, 200);
    server.put("/v1/functions/f/aliases/next", "{\"version\": 3}").await;
    refused(3, "has the alias \"next\"").await;
    server.delete("/v1/functions/f/aliases/next").await;
    let shadow = json!({"versions": [{"version": 1, "percent": 100}],
                        "shadow": {"version": 2, "percent": 10}});
    set(&server, &shadow).await;
    refused(2, "is the shadow").await;
    set(&server, &shares(&[(1, 100)])).await;

    let gone = delete(2).await;
    assert_eq!((gone.status.as_u16(), gone.text().as_str()), (204, ""));
    delete(2).await.assert_error(404, "not-found", "no version 2");
    server.delete("/v1/functions/g/versions/1").await.assert_error(404, "not-found", "g");
    server.delete("/v1/functions/f/versions/0").await.assert_error(400, "invalid-request", "0");
    let asked = server.request(Method::GET, "/f/f/").header("quern-version", "2");
    answer(asked).await.assert_error(404, "not-found", "2");
    assert_eq!(versions(&server, None, 5).await.keys().collect::<Vec<_>>(), ["1"]);
    let kept = server.get("/v1/functions/f/versions").await.json();
    let numbers: Vec<_> = kept["versions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|version| version["version"].as_u64().expect("a number"))
        .collect();
    assert_eq!(numbers, [3, 1]);
    let audit = server.get("/v1/audit?limit=1").await.json();
    assert_eq!(audit["records"][0]["action"], "version.delete");
    assert_eq!(audit["records"][0]["detail"], json!({"version": 2}));
}

#[tokio::test]
async fn the_command_line_removes_a_version_of_a_model() {
    let server = Server::start();
    deploy_two_models(&server).await;
    let folder = tempfile::tempdir().expect("a folder");
    let delete = ["delete", "digits-mlp", "--version"];
    let said = text(server.url(), folder.path(), &[&delete[..], &["2"]].concat());
    assert_eq!(said, "version 2 of model digits-mlp is deleted\n");
    crate::cli::failure(server.url(), &[&delete[..], &["1"]].concat(), 1, &["is live"]);
    let image =
        json!([{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0.0; 64]}]);
    assert_eq!(server.infer("digits-mlp", image.clone()).await.status, 200);
    assert_eq!(server.infer("digits-mlp/versions/2", image).await.status, 404);
}
