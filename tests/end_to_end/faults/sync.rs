//! A disk that takes what is written and then says that it can't keep it: nothing of that counts, also
//! not when it is tried again.

use super::{
    changes, enqueue, furnish, model,
    simulator::{Disk, Simulator},
};

/// Linux forgets what it could not write: a second sync of the same file succeeds, and means nothing.
/// What is tried again must be written again.
#[tokio::test]
async fn what_could_not_be_synced_is_refused_each_time_and_kept_once_it_can() {
    let simulator = Simulator::new();
    let server = simulator.start(&[]);
    furnish(&server).await;
    simulator.set_disk(Disk::Forgetful);
    for _ in 0..3 {
        let deployed = server.put("/v1/models/m", model(1, 10)).await;
        deployed.assert_error(500, "internal", "the server failed");
        enqueue(&server, 1).await.assert_error(500, "internal", "the server failed");
        for (what, answer) in &changes(&server, 1).await {
            println!("{what}");
            answer.assert_error(500, "internal", "the server failed");
        }
    }
    server.get("/v1/models/m").await.assert_error(404, "not-found", "m");
    let left = std::fs::read_dir(simulator.folder().join("blobs/uploads")).expect("a folder");
    assert_eq!(left.count(), 0, "nothing is left of uploads");
    let calls = server.get("/v1/invocations").await.json();
    assert_eq!(calls["invocations"].as_array().map(Vec::len), Some(0), "{calls}");

    simulator.set_disk(Disk::Well);
    assert_eq!(server.put("/v1/models/m", model(1, 10)).await.status, 201);
    assert_eq!(enqueue(&server, 1).await.json()["repeated"], false);
    for (what, answer) in &changes(&server, 1).await {
        assert!(answer.status.is_success(), "{what}: {}", answer.text());
    }
    drop(server);
    let server = simulator.start(&[]);
    assert_eq!(server.get("/v1/models/m").await.status, 200);
    assert_eq!(enqueue(&server, 1).await.json()["repeated"], true);
    let traffic = server.get("/v1/functions/hello/traffic").await.json();
    assert_eq!(traffic["aliases"][0]["alias"], "a1", "{traffic}");
}
