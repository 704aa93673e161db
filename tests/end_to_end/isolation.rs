//! Tenants that try every route at another's things: whatever they show and whoever they are, the
//! answer is that to what isn't there. A test of the gateway holds `routes.txt` against its routes.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::{
    HELLO,
    access::Guarded,
    support::{Answer, answer, digits_model, until},
};

/// A route, with the least role that may ask for it; none: it is for everybody.
pub(crate) struct Entry {
    pub(crate) least: Option<&'static str>,
    pub(crate) method: Method,
    path: &'static str,
}

impl Entry {
    /// Every route of the API.
    pub(crate) fn all() -> Vec<Self> {
        let lines = include_str!("routes.txt").lines();
        let parse = |line: &'static str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_else(|| panic!("three words: {line}"));
            let least = Some(word()).filter(|least| *least != "nobody");
            Self { least, method: word().parse().expect("a method"), path: word() }
        };
        lines.map(parse).collect()
    }

    /// Its path, with these names where there are any.
    pub(crate) fn path(&self, names: &Names<'_>) -> String {
        let path = self.path.replace("{function}", names.function);
        path.replace("{model}", names.model).replace("{invocation}", names.invocation)
    }
}

/// What paths name.
pub(crate) struct Names<'a> {
    function: &'a str,
    model: &'a str,
    invocation: &'a str,
}

impl Names<'static> {
    /// What nobody has.
    pub(crate) const ABSENT: Self =
        Self { function: "xx-function", model: "xx-model", invocation: ABSENT };
}

const ABSENT: &str = "01936a5e-0000-7000-8000-0123456789ab";
/// Names of what another tenant has, which occur nowhere else.
const FUNCTION: &str = "zq-function";
const MODEL: &str = "zq-model";
const TENANT: &str = "zq-tenant";

/// An answer without what differs from one request to the next.
fn comparable(answer: &Answer, invocation: &str) -> (u16, String) {
    let mut text = answer.text();
    for (key, length) in [("\"invocation\":\"", 36), ("\"time\":\"", 24)] {
        if let Some(at) = text.find(key) {
            text.replace_range(at..at + key.len() + length, "");
        }
    }
    let text = text.replace("xx-function", FUNCTION).replace("xx-model", MODEL);
    (answer.status.as_u16(), text.replace(ABSENT, invocation))
}

/// A tenant that has everything there is to have, with the name of an asynchronous call.
async fn owner(guarded: &Guarded) -> (String, String) {
    let owner = guarded.token(TENANT, "deployer").await;
    let manifest = HELLO.manifest().replace("\"hello\"", &format!("{FUNCTION:?}"));
    let form = reqwest::multipart::Form::new()
        .text("manifest", manifest)
        .part("component", reqwest::multipart::Part::bytes(HELLO.component()));
    let path = format!("/v1/functions/{FUNCTION}");
    let deployed = answer(guarded.asked(&owner, Method::PUT, &path).multipart(form)).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    let model = guarded.asked(&owner, Method::PUT, &format!("/v1/models/{MODEL}"));
    assert_eq!(answer(model.body(digits_model())).await.status, 201);
    // So that there are logs, statistics and loaded code.
    assert_eq!(guarded.get(&owner, &format!("/f/{FUNCTION}/")).await.status, 200);
    let image = json!({"inputs": [
        {"name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0.0; 64]}]});
    let infer = guarded.asked(&owner, Method::POST, &format!("/v2/models/{MODEL}/infer"));
    assert_eq!(answer(infer.body(image.to_string())).await.status, 200);
    let share = json!({"public": false, "tenants": ["a-friend"]}).to_string();
    for path in [format!("/v1/functions/{FUNCTION}/access"), format!("/v1/models/{MODEL}/access")] {
        let shared = guarded.asked(&owner, Method::PUT, &path).body(share.clone());
        assert_eq!(answer(shared).await.status, 200);
    }
    let later = guarded.asked(&owner, Method::GET, &format!("/f/{FUNCTION}/"));
    let later = answer(later.header("prefer", "respond-async")).await;
    assert_eq!(later.status, 202, "{}", later.text());
    let invocation = later.json()["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/invocations/{invocation}");
    until("it is carried out", async || {
        guarded.get(&owner, &path).await.json()["state"] == "succeeded"
    })
    .await;
    (owner, invocation)
}

/// Everything that the owner can see of its own.
async fn seen(guarded: &Guarded, owner: &str, invocation: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for path in [
        "/v1/functions".to_owned(),
        "/v1/models".to_owned(),
        format!("/v1/functions/{FUNCTION}/versions"),
        format!("/v1/functions/{FUNCTION}/logs"),
        format!("/v1/functions/{FUNCTION}/access"),
        format!("/v1/models/{MODEL}/access"),
        format!("/v2/models/{MODEL}/ready"),
        "/v2/models/stats".to_owned(),
        "/v1/invocations".to_owned(),
        format!("/v1/invocations/{invocation}/result"),
    ] {
        let answered = guarded.get(owner, &path).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.text());
        seen.push(answered.text());
    }
    seen
}

#[tokio::test]
async fn what_another_tenant_has_is_as_if_it_were_not_there() {
    let guarded = Guarded::start();
    let (owner, invocation) = owner(&guarded).await;
    let before = seen(&guarded, &owner, &invocation).await;
    let comparable = |answer: &Answer| comparable(answer, &invocation);
    let named = Names { function: FUNCTION, model: MODEL, invocation: &invocation };
    let function = format!("{FUNCTION}@{TENANT}");
    let model = format!("{MODEL}@{TENANT}");
    let qualified = Names { function: &function, model: &model, invocation: &invocation };
    let (function, model) = (format!("xx-function@{TENANT}"), format!("xx-model@{TENANT}"));
    let nowhere = Names { function: &function, model: &model, invocation: ABSENT };
    let mut strangers = Vec::new();
    for role in crate::access::ROLES {
        strangers.push((role, guarded.token("stranger", role).await));
    }
    for entry in Entry::all() {
        let request = |token: &str, path: &str| -> RequestBuilder {
            guarded.asked(token, entry.method.clone(), path)
        };
        let (there, absent) = (entry.path(&named), entry.path(&Names::ABSENT));
        for (role, token) in &strangers {
            // Whoever runs the server sees what all tenants have there.
            if entry.least == Some("admin") && *role == "admin" {
                continue;
            }
            let found = answer(request(token, &there)).await;
            let missing = answer(request(token, &absent)).await;
            let what = format!("{} {there} as {role}", entry.method);
            assert_eq!(comparable(&found), comparable(&missing), "{what}");
            if there == absent {
                let text = found.text();
                assert!(!text.contains("zq-"), "{what}: {text}");
            }
            if *role != "admin" && entry.least.is_some() {
                let as_owner = request(token, &there).header("quern-tenant", TENANT);
                let as_owner = answer(as_owner).await;
                assert_eq!(as_owner.status, 403, "{what}, for another tenant: {}", as_owner.text());
            }
            // Named as somebody else's, it isn't shared either.
            let (foreign, nowhere) = (entry.path(&qualified), entry.path(&nowhere));
            let found = answer(request(token, &foreign)).await;
            let missing = answer(request(token, &nowhere)).await;
            assert_eq!(comparable(&found), comparable(&missing), "{what}, qualified");
            assert!(foreign == there || found.status.is_client_error(), "{what}: {}", found.status);
        }
        let nobody = guarded.server.request(entry.method.clone(), &there);
        let answered = answer(nobody.header("quern-tenant", TENANT)).await;
        assert_eq!(answered.status == 401, entry.least.is_some(), "{} {there}", entry.method);
    }
    assert_eq!(
        seen(&guarded, &owner, &invocation).await,
        before,
        "nothing has changed for the owner"
    );
}
