//! Functions and models of other tenants: whom they are shared with, what those can do with them,
//! and what they never see.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    HELLO, MISBEHAVE, MODEL_CALLS,
    access::Guarded,
    support::{Answer, answer, digits_model, until},
};

/// A server where tenant `acme` has deployed a function and a model.
struct Shop {
    guarded: Guarded,
    owner: String,
    friend: String,
    stranger: String,
}

impl Shop {
    async fn open() -> Self {
        let guarded = Guarded::start();
        let owner = guarded.token("acme", "deployer").await;
        guarded.deploy(&owner, &HELLO).await;
        let model = guarded.asked(&owner, Method::PUT, "/v1/models/digits-mlp");
        assert_eq!(answer(model.body(digits_model())).await.status, 201);
        let friend = guarded.token("friend", "deployer").await;
        let stranger = guarded.token("stranger", "deployer").await;
        Self { guarded, owner, friend, stranger }
    }

    async fn share(&self, path: &str, grants: Value) -> Answer {
        let path = format!("/v1/{path}/access");
        answer(self.guarded.asked(&self.owner, Method::PUT, &path).body(grants.to_string())).await
    }

    /// Asserts that something is shared as asked.
    async fn shared(&self, path: &str, grants: Value) {
        let answered = self.share(path, grants.clone()).await;
        assert_eq!((answered.status.as_u16(), answered.json()), (200, grants));
    }

    async fn infer(&self, token: Option<&str>, model: &str) -> Answer {
        let request =
            self.guarded.server.request(Method::POST, &format!("/v2/models/{model}/infer"));
        let image =
            json!([{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0.0; 64]}]);
        let request = request.body(json!({ "inputs": image }).to_string());
        answer(token.into_iter().fold(request, |request, token| request.bearer_auth(token))).await
    }

    async fn anonymous(&self, path: &str) -> Answer {
        self.guarded.server.get(path).await
    }
}

#[tokio::test]
async fn what_is_shared_is_called_by_those_it_is_shared_with_and_nobody_else() {
    let shop = Shop::open().await;
    let Shop { guarded, owner, friend, stranger } = &shop;
    let refused = async |token: &str, path: &str| {
        let answered = guarded.get(token, path).await;
        assert_eq!((answered.status.as_u16(), answered.code()), (404, "not-found"), "{path}");
        answered.json()["detail"].as_str().expect("a detail").replace("hello", "nothing")
    };
    // What isn't shared is answered as what isn't there.
    let unshared = refused(friend, "/f/hello@acme/").await;
    assert_eq!(unshared, refused(friend, "/f/nothing@acme/").await);
    assert_eq!(unshared.replace("acme", "nobody"), refused(friend, "/f/nothing@nobody/").await);

    shop.shared("functions/hello", json!({"public": false, "tenants": ["friend"]})).await;
    for path in ["/f/hello@acme/", "/f/hello%40acme/", "/f/hello@acme"] {
        assert_eq!(guarded.get(friend, path).await.status, 200, "{path}");
    }
    assert_eq!(guarded.get(owner, "/f/hello@acme/").await.status, 200, "its own");
    refused(stranger, "/f/hello@acme/").await;
    refused(friend, "/f/hello/").await;
    assert_eq!(shop.anonymous("/f/hello@acme/").await.status, 401);
    assert_eq!(shop.infer(Some(friend), "digits-mlp@acme").await.status, 404, "the model is not");

    shop.shared("models/digits-mlp", json!({"public": false, "tenants": ["friend", "other"]}))
        .await;
    let inferred = shop.infer(Some(friend), "digits-mlp@acme").await;
    assert_eq!(inferred.status, 200, "{}", inferred.text());
    assert_eq!(inferred.json()["model_name"], "digits-mlp@acme");
    for path in ["", "/ready", "/config", "/versions/1"] {
        let path = format!("/v2/models/digits-mlp@acme{path}");
        assert_eq!(guarded.get(friend, &path).await.status, 200, "{path}");
        assert_eq!(guarded.get(stranger, &path).await.status, 404, "{path}");
    }
    let listed = guarded.get(friend, "/v1/shared").await.json();
    let names: Vec<_> =
        listed["shared"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["digits-mlp@acme", "hello@acme"]);
    let first = guarded.get(friend, "/v1/shared?limit=1").await.json();
    assert_eq!(first["next"], "models/digits-mlp@acme");
    let rest = guarded.get(friend, "/v1/shared?after=models/digits-mlp@acme").await.json();
    assert_eq!(rest["shared"][0]["name"], "hello@acme");
    assert_eq!(
        guarded.get(stranger, "/v1/shared").await.json(),
        json!({"shared": [], "next": null})
    );

    let index = async |token: &str| {
        let request = guarded.asked(token, Method::POST, "/v2/repository/index");
        let entries = answer(request).await.json();
        let entries = entries.as_array().expect("a list").iter();
        let of = |entry: &Value| (entry["name"].clone(), entry["version"].clone());
        entries.map(of).collect::<Vec<_>>()
    };
    let model = |name: &str| vec![(json!(name), json!("1"))];
    assert_eq!(index(friend).await, model("digits-mlp@acme"), "what is called for inference");
    assert_eq!(index(owner).await, model("digits-mlp"));
    assert_eq!(index(stranger).await, []);

    // What was shared once is refused from the next request on.
    shop.shared("functions/hello", json!({"public": false, "tenants": ["other"]})).await;
    refused(friend, "/f/hello@acme/").await;
}

#[tokio::test]
async fn what_is_public_needs_no_token_and_refuses_wrong_ones() {
    let shop = Shop::open().await;
    assert_eq!(shop.anonymous("/f/hello@acme/").await.status, 401);
    shop.shared("functions/hello", json!({"public": true, "tenants": []})).await;
    assert_eq!(shop.anonymous("/f/hello@acme/").await.status, 200);
    assert_eq!(shop.guarded.get(&shop.stranger, "/f/hello@acme/").await.status, 200);
    let wrong = format!("quern_{}_{}", "0".repeat(16), "0".repeat(64));
    assert_eq!(shop.guarded.get(&wrong, "/f/hello@acme/").await.status, 401);
    let garbled =
        shop.guarded.server.request(Method::GET, "/f/hello@acme/").basic_auth("a", Some("b"));
    assert_eq!(answer(garbled).await.status, 401);
    for path in [
        "/f/hello/",
        "/f/nothing@acme/",
        "/v1/functions",
        "/v1/shared",
        "/v1/functions/hello/access",
    ] {
        assert_eq!(shop.anonymous(path).await.status, 401, "{path}");
    }
    assert_eq!(shop.infer(None, "digits-mlp@acme").await.status, 401);
    shop.shared("models/digits-mlp", json!({"public": true, "tenants": []})).await;
    assert_eq!(shop.infer(None, "digits-mlp@acme").await.status, 200);
    assert_eq!(shop.anonymous("/v2/models/digits-mlp@acme").await.status, 200);
    // It is in nobody's list: its owner tells whom it concerns.
    let listed = shop.guarded.get(&shop.friend, "/v1/shared").await.json();
    assert_eq!(listed["shared"], json!([]));
    let index = shop.guarded.asked(&shop.friend, Method::POST, "/v2/repository/index");
    assert_eq!(answer(index).await.json(), json!([]));
    shop.shared("functions/hello", json!({"public": false, "tenants": []})).await;
    assert_eq!(shop.anonymous("/f/hello@acme/").await.status, 401);
}

#[tokio::test]
async fn sharing_outlives_versions_and_servers_but_not_its_name() {
    let shop = Shop::open().await;
    shop.shared("functions/hello", json!({"public": false, "tenants": ["friend"]})).await;
    let Shop { guarded, owner, friend, .. } = shop;
    let changed = HELLO.manifest() + "\n[config]\nx = \"y\"\n";
    let form = reqwest::multipart::Form::new()
        .text("manifest", changed)
        .part("component", reqwest::multipart::Part::bytes(HELLO.component()));
    let path = "/v1/functions/hello";
    assert_eq!(
        answer(guarded.asked(&owner, Method::PUT, path).multipart(form)).await.json()["version"],
        2
    );
    assert_eq!(guarded.get(&friend, "/f/hello@acme/").await.status, 200, "another version");

    let guarded = guarded.restarted();
    assert_eq!(guarded.get(&friend, "/f/hello@acme/").await.status, 200, "after a restart");
    let told = guarded.get(guarded.admin(), "/v1/audit?tenant=acme").await.json();
    let told = told["records"].as_array().expect("a list");
    let share = told.iter().find(|record| record["action"] == "share").expect("is recorded");
    assert_eq!(share["subject"], "function hello");
    assert_eq!(share["detail"], json!({"public": false, "tenants": ["friend"]}));

    assert_eq!(answer(guarded.asked(&owner, Method::DELETE, path)).await.status, 204);
    guarded.deploy(&owner, &HELLO).await;
    assert_eq!(guarded.get(&friend, "/f/hello@acme/").await.status, 404, "another function");
    let access = guarded.get(&owner, "/v1/functions/hello/access").await;
    assert_eq!(access.json(), json!({"public": false, "tenants": []}));
    let guarded = guarded.restarted();
    assert_eq!(guarded.get(&friend, "/f/hello@acme/").await.status, 404, "after a restart");
}

#[tokio::test]
async fn a_function_calls_a_model_of_another_tenant_while_it_is_shared_with_its_own() {
    let shop = Shop::open().await;
    let manifest = MODEL_CALLS.manifest().replace("\"absent\"", "\"digits-mlp@acme\"");
    shop.guarded.deploy_as(&shop.friend, &MODEL_CALLS, manifest).await;
    let ask = async || {
        let path = "/f/model-calls/infer?model=digits-mlp@acme";
        shop.guarded.get(&shop.friend, path).await.json()
    };
    let refused = ask().await;
    assert_eq!(refused["error"]["kind"], "NotFound", "{refused}");
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(message.contains("not shared with this tenant"), "{message}");
    shop.shared("models/digits-mlp", json!({"public": false, "tenants": ["friend"]})).await;
    assert_eq!(ask().await, json!({"shape": [1, 10]}));
    let own = shop.guarded.get(&shop.friend, "/f/model-calls/infer?model=digits-mlp").await.json();
    assert_eq!(own["error"]["kind"], "NotFound", "its own tenant has no such model: {own}");
    shop.shared("models/digits-mlp", json!({"public": false, "tenants": []})).await;
    assert_eq!(ask().await["error"]["kind"], "NotFound");
}

#[tokio::test]
async fn a_guest_sees_the_answers_of_what_is_shared_and_nothing_of_its_inside() {
    let shop = Shop::open().await;
    let Shop { guarded, owner, friend, .. } = &shop;
    guarded.deploy(owner, &MISBEHAVE).await;
    shop.shared("functions/misbehave", json!({"public": false, "tenants": ["friend"]})).await;
    let path = |name: &str| format!("/f/{name}/trap");
    let own = guarded.get(owner, &path("misbehave")).await;
    assert_eq!(own.code(), "trap", "{}", own.text());
    assert!(own.json()["trace"].is_array(), "its owner sees where: {}", own.text());
    let other = guarded.get(friend, &path("misbehave@acme")).await;
    assert_eq!(other.code(), "trap", "{}", other.text());
    assert_eq!(other.json()["trace"], Value::Null, "{}", other.text());

    for path in [
        "/v1/functions/misbehave@acme/logs",
        "/v1/functions/misbehave@acme",
        "/v2/models/digits-mlp@acme/stats",
    ] {
        let refused = guarded.get(friend, path).await;
        assert!(refused.status.is_client_error(), "{path}: {}", refused.text());
    }
    assert_eq!(guarded.get(friend, "/v1/functions/misbehave/logs").await.status, 404);
    // It ran as its owner's: the owner has the record of it.
    until("both are in its log", async || {
        let logs = guarded.get(owner, "/v1/functions/misbehave/logs").await.text();
        logs.matches("panicked").count() == 2
    })
    .await;
}

#[tokio::test]
async fn sharing_takes_the_owners_deployer_and_a_body_that_makes_sense() {
    let shop = Shop::open().await;
    let Shop { guarded, owner, friend, .. } = &shop;
    let invoker = guarded.token("acme", "invoker").await;
    for method in [Method::GET, Method::PUT] {
        let asked = |token: &str, path: &str| {
            let body = json!({"public": true, "tenants": []}).to_string();
            guarded.asked(token, method.clone(), path).body(body)
        };
        let path = "/v1/functions/hello/access";
        answer(asked(&invoker, path)).await.assert_error(403, "forbidden", "role deployer");
        answer(asked(friend, path)).await.assert_error(404, "not-found", "not deployed");
        answer(asked(owner, "/v1/models/hello/access")).await.assert_error(
            404,
            "not-found",
            "model",
        );
    }
    let many: Vec<_> = (0..101).map(|number| format!("t{number}")).collect();
    for (grants, code, part) in [
        (json!({"public": true, "tenants": many}), "invalid-request", "100 are allowed"),
        (json!({"public": false, "tenants": ["A"]}), "invalid-json", "name \"A\""),
        (json!({"public": false, "tenants": ["@anonymous"]}), "invalid-json", "is not valid"),
        (json!({"everybody": true}), "invalid-json", "unknown field"),
        (json!([]), "invalid-json", "is not of the form"),
    ] {
        shop.share("functions/hello", grants).await.assert_error(400, code, part);
    }
    for query in ["limit=0", "after=x", "from=x"] {
        let answered = guarded.get(friend, &format!("/v1/shared?{query}")).await;
        answered.assert_error(400, "invalid-request", "query");
    }
}

#[tokio::test]
async fn sharing_is_handled_on_the_command_line() {
    let shop = Shop::open().await;
    let Shop { guarded, owner, friend, .. } = &shop;
    for (arguments, said) in [
        (&["share", "hello"][..], "function hello may be called by its owner alone\n"),
        (
            &["share", "hello", "--with", "friend", "--with", "other"],
            "function hello may be called by its owner and friend, other\n",
        ),
        (
            &["share", "hello", "--public"],
            "function hello may be called by anybody, without a token\n",
        ),
        (
            &["share", "digits-mlp", "--with", "friend"],
            "model digits-mlp may be called by its owner and friend\n",
        ),
    ] {
        assert_eq!(guarded.run(owner, arguments), (Some(0), said.to_owned(), String::new()));
    }
    let (status, listed, _) = guarded.run(friend, &["share"]);
    assert!(status == Some(0) && listed.contains("digits-mlp@acme"), "{listed}");
    let (status, _, said) = guarded.run(friend, &["call", "hello@acme"]);
    assert_eq!(status, Some(0), "{said}");
    let (status, ..) = guarded.run(owner, &["share", "hello", "--nobody"]);
    assert_eq!(status, Some(0));
    let (status, _, said) = guarded.run(friend, &["call", "hello@acme"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("not shared with tenant"), "{said}");
}
