//! Batches as people use them: tenants that see nothing of each other, and the command line.

use std::{collections::BTreeMap, path::Path};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::{CSV, counted, ended, form, lines, server_with_adding};
use crate::{
    access::Guarded,
    cli,
    onnx::{Data, adding},
    support::answer,
};

#[tokio::test]
async fn tenants_see_nothing_of_each_others_batches() {
    let guarded = Guarded::start();
    let (acme, other) =
        (guarded.token("acme", "deployer").await, guarded.token("other", "invoker").await);
    let invoker = guarded.token("acme", "invoker").await;
    let server = &guarded.server;
    let model = adding(Data::Inside(vec![10.0, 20.0]));
    let deployed =
        answer(server.request(Method::PUT, "/v1/models/add").bearer_auth(&acme).body(model)).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let asked = json!({"model": "add"});
    let post = |token: &str| {
        let form = form(&asked, CSV, counted(3));
        answer(server.request(Method::POST, "/v1/batches").bearer_auth(token).multipart(form))
    };
    post(&other).await.assert_error(404, "not-found", "model \"add\" is not deployed");
    let made = post(&invoker).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("/v1/batches/{}", made.json()["id"].as_str().expect("an id"));
    for (method, end) in [
        (Method::GET, ""),
        (Method::GET, "/results"),
        (Method::GET, "/events"),
        (Method::DELETE, ""),
    ] {
        let asked = server.request(method, &format!("{path}{end}")).bearer_auth(&other);
        answer(asked).await.assert_error(404, "not-found", "is not known");
    }
    let list = |token: &str| answer(server.request(Method::GET, "/v1/batches").bearer_auth(token));
    assert_eq!(list(&other).await.json(), json!({"batches": []}));
    assert_eq!(list(&acme).await.json()["batches"].as_array().expect("a list").len(), 1);
    answer(server.request(Method::GET, "/v1/batches")).await.assert_error(
        401,
        "unauthenticated",
        "token",
    );
}

#[tokio::test]
async fn the_command_line_scores_a_file() {
    let server = server_with_adding().await;
    let folder = TempDir::new().expect("a folder");
    let file =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    file("rows.csv", "id,x.0,x.1\na,1,2\nb,3,x\n");
    file("good.csv", "id,x.0,x.1\na,1,2\nb,3,4\n");
    let (url, path) = (server.url(), folder.path());
    let printed = cli::text(url, path, &["batch", "run", "add", "good.csv"]);
    assert_eq!(printed, "row,y.0,y.1,error\r\n1,11.0,22.0,\r\n2,13.0,24.0,\r\n");
    cli::text(url, path, &["batch", "run", "add", "good.csv", "-o", "out.ndjson", "--keep", "id"]);
    let results = std::fs::read_to_string(path.join("out.ndjson")).expect("was written");
    assert_eq!(lines(&results)[1], json!({"row": 2, "id": "b", "y": [13.0, 24.0]}));
    let rows = path.join("rows.csv");
    let rows = rows.to_str().expect("a path in UTF-8");
    cli::failure(
        url,
        &["batch", "run", "add", rows],
        1,
        &["row 2 (line 3), column \"x.1\"", "quern batch results"],
    );
    let out = path.join("out.csv");
    let out = out.to_str().expect("a path in UTF-8");
    let record = ["batch", "run", "add", rows, "--on-error", "record", "-o", out];
    cli::failure(url, &record, 1, &["1 of 2 rows could not be scored"]);
    assert!(Path::new(out).exists());
    let detached = cli::text(url, path, &["batch", "run", "add", "good.csv", "--detach"]);
    let id = detached.trim();
    ended(&server, &format!("/v1/batches/{id}")).await;
    assert!(cli::text(url, path, &["batch", "show", id]).contains("completed, 100 % of its file"));
    assert_eq!(cli::text(url, path, &["batch", "results", id]), printed);
    let states: BTreeMap<String, usize> = {
        let list = cli::answer(url, path, &["batch", "list"]);
        let list = list["batches"].as_array().expect("a list").clone();
        list.iter().fold(BTreeMap::new(), |mut states, batch| {
            *states.entry(batch["state"].as_str().expect("a state").to_owned()).or_default() += 1;
            states
        })
    };
    assert_eq!(states, BTreeMap::from([("completed".into(), 4), ("failed".into(), 1)]));
    cli::text(url, path, &["batch", "remove", id]);
    cli::failure(url, &["batch", "show", id], 1, &["is not known"]);
    cli::failure(url, &["batch", "run", "add", "/nowhere.csv"], 1, &["can't read /nowhere.csv"]);
    cli::failure(url, &["batch", "run", "add", "rows.txt"], 2, &["pass --format"]);
}
