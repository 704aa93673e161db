//! A server that asks for tokens: every endpoint with every wrong one, what each role may do, and
//! tenants that see nothing of each other.

use std::{
    process::{Command, Output},
    sync::Arc,
};

use reqwest::{Method, RequestBuilder, multipart};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    HANDLER, HELLO, IMPORTS,
    isolation::{Entry, Names},
    support::{Answer, Guest, Server, answer, digits_model},
};

/// A server that asks for tokens, and an admin's.
pub(crate) struct Guarded {
    pub(crate) server: Server,
    admin: String,
}

fn program(data: &TempDir, arguments: &[&str]) -> Output {
    let folder = data.path().join("data");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.args(arguments).arg("--data").arg(folder).env_remove("QUERN_TOKEN");
    command.output().expect("the program runs")
}

impl Guarded {
    pub(crate) fn start() -> Self {
        let data = Arc::new(TempDir::new().expect("a folder"));
        let made = program(
            &data,
            &["token", "create", "--init", "--role", "admin", "--note", "the first"],
        );
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let admin = String::from_utf8(made.stdout).expect("text").trim().to_owned();
        Self { server: Server::start_on(data, &["--authenticate"]), admin }
    }

    /// The same data folder with another server.
    pub(crate) fn restarted(self) -> Self {
        let data = self.server.stop();
        Self { server: Server::start_on(data, &["--authenticate"]), admin: self.admin }
    }

    /// The same with a configuration.
    pub(crate) fn restarted_with(self, configuration: &str) -> Self {
        let data = self.server.stop();
        let path = data.path().join("quern.toml");
        std::fs::write(&path, configuration).expect("written");
        let path = path.to_str().expect("text").to_owned();
        let server = Server::start_on(data, &["--authenticate", "--config", &path]);
        Self { server, admin: self.admin }
    }

    /// An admin's token.
    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    pub(crate) fn asked(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.server.request(method, path).bearer_auth(token)
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        answer(self.asked(token, Method::GET, path)).await
    }

    /// Makes a token; its secret.
    pub(crate) async fn token(&self, tenant: &str, role: &str) -> String {
        let made = self.create(&json!({"tenant": tenant, "role": role})).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["secret"].as_str().expect("a secret").to_owned()
    }

    async fn create(&self, asked: &Value) -> Answer {
        answer(self.asked(&self.admin, Method::POST, "/v1/tokens").body(asked.to_string())).await
    }

    /// Deploys a guest for the tenant of a token; asserts that it works.
    pub(crate) async fn deploy(&self, token: &str, guest: &Guest) {
        self.deploy_as(token, guest, guest.manifest()).await;
    }

    pub(crate) async fn deploy_as(&self, token: &str, guest: &Guest, manifest: String) {
        let form = multipart::Form::new()
            .text("manifest", manifest)
            .part("component", multipart::Part::bytes(guest.component()));
        let path = format!("/v1/functions/{}", guest.name);
        let deployed = answer(self.asked(token, Method::PUT, &path).multipart(form)).await;
        assert!(deployed.status.is_success(), "{}", deployed.text());
    }

    /// Runs the program as a client that has a token.
    pub(crate) fn run(&self, token: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
        command.args(["--url", self.server.url()]).args(arguments).env("QUERN_TOKEN", token);
        let output = command.output().expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    pub(crate) async fn deploy_hello(&self, token: &str) -> Answer {
        let form = multipart::Form::new()
            .text("manifest", HELLO.manifest())
            .part("component", multipart::Part::bytes(HELLO.component()));
        answer(self.asked(token, Method::PUT, "/v1/functions/hello").multipart(form)).await
    }
}

/// From the least to the one that may do anything.
pub(crate) const ROLES: [&str; 3] = ["invoker", "deployer", "admin"];

#[tokio::test]
async fn every_call_takes_a_token_and_the_role_for_it() {
    // So many wrong tokens come at once from nobody else.
    let guarded = Guarded::start().restarted_with("[tenants]\nrefused_burst = 100000\n");
    let revoked = guarded.token("acme", "admin").await;
    let id = revoked.split('_').nth(1).expect("an id");
    let path = format!("/v1/tokens/{id}");
    assert_eq!(answer(guarded.asked(&guarded.admin, Method::DELETE, &path)).await.status, 204);
    let expired = guarded.create(&json!({"role": "admin", "expires_in": "1ms"})).await.json();
    let expired = expired["secret"].as_str().expect("a secret");
    let unknown = format!("quern_{}_{}", "0".repeat(16), "0".repeat(64));
    let (name, _) = guarded.admin.rsplit_once('_').expect("a name and a secret");
    let forged = format!("{name}_{}", "0".repeat(64));
    let mut tokens = Vec::new();
    for role in ROLES {
        tokens.push(guarded.token("acme", role).await);
    }
    let rank = |role: &str| ROLES.iter().position(|other| *other == role).expect("a role");
    for entry in Entry::all() {
        let (method, path) = (&entry.method, &entry.path(&Names::ABSENT));
        let Some(least) = entry.least else { continue };
        let request = || guarded.server.request(method.clone(), path);
        let wrong = [
            ("none", request()),
            ("empty", request().header("authorization", "")),
            ("another's", request().basic_auth("user", Some("password"))),
            ("two", request().bearer_auth(&guarded.admin).bearer_auth(&guarded.admin)),
            ("unknown", request().bearer_auth(&unknown)),
            ("forged", request().bearer_auth(&forged)),
            ("revoked", request().bearer_auth(&revoked)),
            ("expired", request().bearer_auth(expired)),
        ];
        for (kind, request) in wrong {
            let refused = answer(request).await;
            let found = (refused.status.as_u16(), refused.code());
            assert_eq!(found, (401, "unauthenticated"), "{method} {path}, {kind}");
            assert!(refused.header("www-authenticate").starts_with("Bearer"), "{method} {path}");
        }
        for (role, token) in ROLES.iter().zip(&tokens) {
            let answered = answer(request().bearer_auth(token)).await;
            let is_forbidden = answered.code() == "forbidden";
            assert_eq!(is_forbidden, rank(role) < rank(least), "{method} {path} as {role}");
            assert_eq!(is_forbidden, answered.status == 403, "{method} {path} as {role}");
            assert_ne!(answered.status, 401, "{method} {path} as {role}");
        }
    }
    for entry in Entry::all().iter().filter(|entry| entry.least.is_none()) {
        let path = entry.path(&Names::ABSENT);
        assert_eq!(guarded.server.get(&path).await.status, 200, "{path} is for everybody");
    }
}

#[tokio::test]
async fn tenants_see_nothing_of_each_other() {
    let guarded = Guarded::start();
    let (mine, yours) =
        (guarded.token("mine", "deployer").await, guarded.token("yours", "deployer").await);
    assert_eq!(guarded.deploy_hello(&mine).await.status, 201);
    let model = guarded.asked(&mine, Method::PUT, "/v1/models/digits-mlp").body(digits_model());
    assert_eq!(answer(model).await.status, 201);
    assert_eq!(guarded.get(&mine, "/f/hello/").await.status, 200);
    assert_eq!(guarded.get(&mine, "/v2/models/digits-mlp").await.status, 200);

    for path in [
        "/f/hello/",
        "/v1/functions/hello",
        "/v1/functions/hello/versions",
        "/v1/functions/hello/logs",
        "/v1/models/digits-mlp",
        "/v2/models/digits-mlp",
        "/v2/models/digits-mlp/config",
        "/v2/models/digits-mlp/stats",
    ] {
        assert_eq!(guarded.get(&yours, path).await.status, 404, "{path}");
    }
    let body = json!({"inputs": []}).to_string();
    let path = "/v2/models/digits-mlp/infer";
    assert_eq!(answer(guarded.asked(&yours, Method::POST, path).body(body)).await.status, 404);
    for path in ["/v1/functions/hello", "/v1/models/digits-mlp"] {
        assert_eq!(answer(guarded.asked(&yours, Method::DELETE, path)).await.status, 404);
    }
    assert_eq!(guarded.get(&yours, "/v1/functions").await.json(), json!({"functions": []}));
    assert_eq!(guarded.get(&yours, "/v1/models").await.json(), json!({"models": []}));
    assert_eq!(guarded.get(&yours, "/v2/models/stats").await.json(), json!({"model_stats": []}));

    // The same name is another function.
    assert_eq!(guarded.deploy_hello(&yours).await.json()["version"], 1);
    assert_eq!(
        answer(guarded.asked(&yours, Method::DELETE, "/v1/functions/hello")).await.status,
        204
    );
    assert_eq!(guarded.get(&mine, "/f/hello/").await.status, 200);

    // An admin acts for whomever it says; nobody else does.
    let acting = |token: &str| {
        guarded.asked(token, Method::GET, "/v1/functions/hello").header("quern-tenant", "mine")
    };
    assert_eq!(answer(acting(&guarded.admin)).await.status, 200);
    assert_eq!(answer(acting(&mine)).await.status, 200, "its own");
    answer(acting(&yours)).await.assert_error(403, "forbidden", "only an admin's");
    let malformed =
        guarded.asked(&guarded.admin, Method::GET, "/v1/models").header("quern-tenant", "A");
    answer(malformed).await.assert_error(400, "invalid-request", "quern-tenant");
}

#[tokio::test]
async fn pairs_of_keys_and_values_are_a_tenants_own() {
    let guarded = Guarded::start();
    let tokens =
        [guarded.token("mine", "deployer").await, guarded.token("yours", "deployer").await];
    for token in &tokens {
        let form = multipart::Form::new()
            .text("manifest", IMPORTS.manifest())
            .part("component", multipart::Part::bytes(IMPORTS.component()));
        let path = format!("/v1/functions/{}", IMPORTS.name);
        let deployed = answer(guarded.asked(token, Method::PUT, &path).multipart(form)).await;
        assert_eq!(deployed.status, 201, "{}", deployed.text());
    }
    let path = |query: &str| format!("/f/{}/{query}", IMPORTS.name);
    let [mine, yours] = &tokens;
    let set = guarded.get(mine, &path("keyvalue/set?key=k&value=v&bucket=notes")).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let get = path("keyvalue/get?key=k&bucket=notes");
    assert_eq!(guarded.get(mine, &get).await.json(), json!({"ok": "v"}));
    assert_eq!(guarded.get(yours, &get).await.json(), json!({"ok": null}));
}

#[tokio::test]
async fn a_function_never_sees_its_callers_token() {
    let guarded = Guarded::start();
    let token = guarded.token("acme", "deployer").await;
    let form = multipart::Form::new()
        .text("manifest", HANDLER.manifest())
        .part("component", multipart::Part::bytes(HANDLER.component()));
    let path = format!("/v1/functions/{}", HANDLER.name);
    assert_eq!(answer(guarded.asked(&token, Method::PUT, &path).multipart(form)).await.status, 201);
    let answered = guarded.get(&token, &format!("/f/{}/request", HANDLER.name)).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert!(!answered.text().contains("quern_"), "{}", answered.text());
}

#[tokio::test]
async fn changes_are_told_with_who_made_them_and_secrets_never_are() {
    let guarded = Guarded::start();
    let token = guarded.token("acme", "deployer").await;
    let id = token.split('_').nth(1).expect("an id");
    guarded.deploy_hello(&token).await;
    let audit = guarded.get(&guarded.admin, "/v1/audit?tenant=acme").await.json();
    let [record] = &audit["records"].as_array().expect("a list")[..] else { panic!("{audit}") };
    assert_eq!(record["action"], "deploy");
    assert_eq!(record["subject"], "function hello");
    assert_eq!((&record["token"], &record["tenant"]), (&json!(id), &json!("acme")));
    let all = guarded.get(&guarded.admin, "/v1/audit").await;
    let listed = guarded.get(&guarded.admin, "/v1/tokens").await;
    for text in [all.text(), listed.text()] {
        for secret in [&token, &guarded.admin] {
            let secret = secret.rsplit('_').next().expect("a secret");
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert_eq!(listed.json()["tokens"].as_array().expect("a list").len(), 2);
    for (body, part) in [
        (r#"{"role": "king"}"#, "king"),
        (r#"{"role": "admin", "tenant": "A"}"#, "name \"A\""),
        (r#"{"role": "admin", "expires_in": "soon"}"#, "soon"),
        (r#"{"role": "admin", "for": "ever"}"#, "unknown field"),
        ("[]", "is not of the form"),
    ] {
        let path = "/v1/tokens";
        let refused = answer(guarded.asked(&guarded.admin, Method::POST, path).body(body)).await;
        refused.assert_error(400, "invalid-json", part);
    }
    for (asked, part) in [
        (json!({"role": "admin", "note": "x".repeat(201)}), "at most 200"),
        (json!({"role": "admin", "expires_in": "0s"}), "expires_in"),
        (json!({"role": "admin", "expires_in": "4000d"}), "expires_in"),
    ] {
        guarded.create(&asked).await.assert_error(400, "invalid-request", part);
    }
}

#[tokio::test]
async fn tokens_are_handled_on_the_command_line() {
    let guarded = Guarded::start();
    let run = |token: &str, arguments: &[&str]| guarded.run(token, arguments);
    let create =
        ["token", "create", "--role", "deployer", "--tenant", "acme", "--expires-in", "1d"];
    let (status, secret, said) = run(&guarded.admin, &create);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the role deployer for tenant \"acme\""), "{said}");
    let secret = secret.trim();
    assert_eq!(run(secret, &["list"]).0, Some(0));
    let (status, _, said) = run(secret, &["token", "list"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("this takes the role admin"), "{said}");

    let (_, listed, _) = run(&guarded.admin, &["token", "list"]);
    let id = secret.split('_').nth(1).expect("an id");
    assert!(listed.contains(id) && listed.contains("the first"), "{listed}");
    let (_, told, _) = run(&guarded.admin, &["audit"]);
    assert!(told.contains(&format!("token {id}")), "{told}");
    assert_eq!(run(&guarded.admin, &["token", "revoke", id]).0, Some(0));
    let (status, _, said) = run(secret, &["list"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("may have been revoked"), "{said}");
    let (status, _, said) = run(&secret[..20], &["list"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(!said.contains(&secret[..20]), "a part of a secret is one: {said}");
}

#[test]
fn the_first_token_is_json_for_programs() {
    let data = TempDir::new().expect("a folder");
    let create = ["--json", "token", "create", "--role", "admin", "--note", "first"];
    let refused = program(&data, &create);
    assert!(!refused.status.success() && refused.stdout.is_empty());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("is not a data folder") && said.contains("--init"), "{said}");
    assert!(!data.path().join("data").exists(), "nothing was made");
    let made = program(&data, &[&create[..], &["--init"]].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let (id, secret) = (made["id"].as_str(), made["secret"].as_str());
    let (id, secret) = (id.expect("an id"), secret.expect("a secret"));
    assert!(secret.starts_with(&format!("quern_{id}_")), "{id}");
    assert_eq!(
        (&made["tenant"], &made["role"], &made["note"]),
        (&json!("default"), &json!("admin"), &json!("first"))
    );
}

#[tokio::test]
async fn a_revoked_token_stays_so_whatever_happens_to_the_server() {
    let guarded = Guarded::start();
    let token = guarded.token("acme", "admin").await;
    let path = format!("/v1/tokens/{}", token.split('_').nth(1).expect("an id"));
    assert_eq!(answer(guarded.asked(&guarded.admin, Method::DELETE, &path)).await.status, 204);
    let data = guarded.server.kill();
    let server = Server::start_on(data, &["--authenticate"]);
    let tokens = |secret: &str| server.request(Method::GET, "/v1/tokens").bearer_auth(secret);
    answer(tokens(&token)).await.assert_error(401, "unauthenticated", "may have been revoked");
    assert_eq!(answer(tokens(&guarded.admin)).await.status, 200);
}

#[tokio::test]
async fn the_first_token_needs_a_folder_that_no_server_has() {
    let guarded = Guarded::start();
    let data = guarded.server.kill();
    let server = Server::start_on(data.clone(), &["--authenticate"]);
    let refused = program(&data, &["token", "create", "--role", "admin"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("in use by another server"), "{said}");
    let kept = server.request(Method::GET, "/v1/tokens").bearer_auth(&guarded.admin);
    assert_eq!(answer(kept).await.status, 200, "a token outlives its server");
}
