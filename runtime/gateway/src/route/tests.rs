//! Every call of the API, and what is none.

use quern_types::{DeliveryId, InvocationId, TenantId};

use super::*;
use crate::access::Needs;

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn qualified(text: &str) -> QualifiedName {
    text.parse().expect("a name")
}

fn token(text: &str) -> TokenId {
    text.parse().expect("a token's id")
}

fn batch() -> quern_scoring::BatchId {
    "01936a5e-0000-7000-8000-0123456789ab".parse().expect("a batch's id")
}

const CALL: &str = "GET /v1/invocations/01936a5e-0000-7000-8000-0123456789ab";

fn call() -> InvocationId {
    CALL.rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id")
}

fn delivery() -> DeliveryId {
    DeliveryId::from_uuid(call().uuid())
}

fn version(number: u32) -> VersionNumber {
    VersionNumber::new(number).expect("not zero")
}

fn target(text: &str, version: Option<u32>) -> Target {
    Target { name: qualified(text), version: version.and_then(VersionNumber::new) }
}

/// Every call of the API, as method and path, and what it means.
pub(crate) fn calls() -> Vec<(&'static str, Route)> {
    let (function, model) = (Class::Function, Class::Model);
    let traffic = |class, route| Route::Traffic(class, name("f"), route);
    let mut calls = vec![
        ("GET /f/hello", Route::Call(qualified("hello"))),
        ("GET /f/hello/", Route::Call(qualified("hello"))),
        ("PATCH /f/hello/a/b%2f/../c", Route::Call(qualified("hello"))),
        ("GET /f/hello@acme/a", Route::Call(qualified("hello@acme"))),
        ("GET /f/hello%40acme", Route::Call(qualified("hello@acme"))),
        ("POST /v2/models/m@b/infer", Route::Infer(target("m@b", None))),
        ("GET /v2/models/m%40b/versions/3", Route::ModelMetadata(target("m@b", Some(3)))),
        ("GET /v1/shared", Route::Sharing(SharingRoute::Received)),
        ("GET /v1/models/m/access", Route::Sharing(SharingRoute::Show(model, name("m")))),
        ("PUT /v1/functions/f/access", Route::Sharing(SharingRoute::Change(function, name("f")))),
        ("GET /v1/functions/f/access", Route::Sharing(SharingRoute::Show(function, name("f")))),
        ("PUT /v1/models/m/access", Route::Sharing(SharingRoute::Change(model, name("m")))),
        ("GET /v1/tenants/a/limits", Route::Tenant(TenantRoute::Limits(TenantId::new("a")))),
        ("PUT /v1/tenants/a/limits", Route::Tenant(TenantRoute::ChangeLimits(TenantId::new("a")))),
        ("POST /v2/models/m/infer", Route::Infer(target("m", None))),
        ("POST /v2/models/m/versions/3/infer", Route::Infer(target("m", Some(3)))),
        ("POST /v2/models/infer/infer", Route::Infer(target("infer", None))),
        ("GET /v2/models/m", Route::ModelMetadata(target("m", None))),
        ("GET /v2/models/m/versions/1", Route::ModelMetadata(target("m", Some(1)))),
        ("GET /v2/models/m/ready", Route::ModelReady(target("m", None))),
        ("GET /v2/models/m/versions/1/ready", Route::ModelReady(target("m", Some(1)))),
        ("GET /v2", Route::ServerMetadata),
        ("GET /v2/models/m/config", Route::ModelConfig(target("m", None))),
        ("GET /v2/models/m/versions/2/config", Route::ModelConfig(target("m", Some(2)))),
        ("GET /v2/models/stats", Route::Statistics(None)),
        ("GET /v2/models/m/stats", Route::Statistics(Some(target("m", None)))),
        ("GET /v2/models/stats/stats", Route::Statistics(Some(target("stats", None)))),
        ("GET /v2/models/m/versions/2/stats", Route::Statistics(Some(target("m", Some(2))))),
        ("POST /v2/repository/index", Route::RepositoryIndex),
        ("POST /v2/repository/models/m/load", Route::LoadModel(name("m"))),
        ("POST /v2/repository/models/m/unload", Route::UnloadModel(name("m"))),
        ("GET /v2/trace/setting", Route::Settings(Subject::Trace(None))),
        ("POST /v2/models/m/trace/setting", Route::ChangeSettings(Subject::Trace(Some(name("m"))))),
        ("HEAD /v2/logging", Route::Settings(Subject::Log)),
        ("POST /v2/logging", Route::ChangeSettings(Subject::Log)),
        ("GET /v2/systemsharedmemory/status", Route::Regions(Memory::System, None)),
        (
            "GET /v2/cudasharedmemory/region/a%20%2fb/status",
            Route::Regions(Memory::Cuda, Some("a /b".into())),
        ),
        (
            "POST /v2/systemsharedmemory/region/%C3%A9/register",
            Route::RegisterRegion(Memory::System, "é".into()),
        ),
        ("POST /v2/cudasharedmemory/unregister", Route::UnregisterRegions(Memory::Cuda, None)),
        (
            "POST /v2/systemsharedmemory/region/a/unregister",
            Route::UnregisterRegions(Memory::System, Some("a".into())),
        ),
        ("HEAD /v2/health/live", Route::Live),
        ("GET /v2/health/ready", Route::Ready),
        ("PUT /v1/functions/f", Route::Deploy(function, name("f"))),
        ("PUT /v1/models/m", Route::Deploy(model, name("m"))),
        ("GET /v1/functions", Route::List(function)),
        ("HEAD /v1/models", Route::List(model)),
        ("GET /v1/functions/f", Route::Show(function, name("f"))),
        ("GET /v1/models/m", Route::Show(model, name("m"))),
        ("DELETE /v1/models/m", Route::Delete(model, name("m"))),
        ("DELETE /v1/functions/f", Route::Delete(function, name("f"))),
        ("GET /v1/models/m/versions", Route::Versions(model, name("m"))),
        ("GET /v1/functions/f/versions", Route::Versions(function, name("f"))),
        ("DELETE /v1/models/m/versions/3", Route::DeleteVersion(model, name("m"), version(3))),
        (
            "DELETE /v1/functions/f/versions/1",
            Route::DeleteVersion(function, name("f"), version(1)),
        ),
        ("POST /v1/functions/f/rollback", Route::Rollback(function, name("f"))),
        ("POST /v1/models/m/rollback", Route::Rollback(model, name("m"))),
        ("GET /v1/functions/f/traffic", traffic(function, TrafficRoute::Show)),
        ("PUT /v1/functions/f/traffic", traffic(function, TrafficRoute::Set)),
        ("PUT /v1/functions/f/aliases/a", traffic(function, TrafficRoute::SetAlias(name("a")))),
        (
            "DELETE /v1/functions/f/aliases/a",
            traffic(function, TrafficRoute::RemoveAlias(name("a"))),
        ),
        ("GET /v1/functions/f/canary", traffic(function, TrafficRoute::Canary)),
        ("POST /v1/functions/f/canary", traffic(function, TrafficRoute::StartCanary)),
        ("DELETE /v1/functions/f/canary", traffic(function, TrafficRoute::AbortCanary)),
        ("POST /v1/functions/f/canary/promote", traffic(function, TrafficRoute::PromoteCanary)),
        ("GET /v1/models/f/traffic", traffic(model, TrafficRoute::Show)),
        ("PUT /v1/models/f/traffic", traffic(model, TrafficRoute::Set)),
        ("PUT /v1/models/f/aliases/a", traffic(model, TrafficRoute::SetAlias(name("a")))),
        ("DELETE /v1/models/f/aliases/a", traffic(model, TrafficRoute::RemoveAlias(name("a")))),
        ("GET /v1/models/f/canary", traffic(model, TrafficRoute::Canary)),
        ("POST /v1/models/f/canary", traffic(model, TrafficRoute::StartCanary)),
        ("DELETE /v1/models/f/canary", traffic(model, TrafficRoute::AbortCanary)),
        ("POST /v1/models/f/canary/promote", traffic(model, TrafficRoute::PromoteCanary)),
        ("GET /v1/functions/f/logs", Route::Logs(name("f"))),
        ("GET /v1/functions/logs", Route::Show(function, name("logs"))),
        ("GET /v1/stats", Route::Stats),
        ("GET /v1/devices", Route::Devices),
        ("GET /v1/tokens", Route::Tokens),
        ("POST /v1/tokens", Route::CreateToken),
        ("DELETE /v1/tokens/0123456789abcdef", Route::RevokeToken(token("0123456789abcdef"))),
        ("GET /v1/audit", Route::Audit),
        ("POST /v1/backup", Route::Backup),
        ("GET /v1/batches", Route::Batches(BatchRoute::List)),
        ("POST /v1/batches", Route::Batches(BatchRoute::Create)),
        (
            "GET /v1/batches/01936a5e-0000-7000-8000-0123456789ab",
            Route::Batches(BatchRoute::Show(batch())),
        ),
        (
            "DELETE /v1/batches/01936a5e-0000-7000-8000-0123456789ab",
            Route::Batches(BatchRoute::Remove(batch())),
        ),
        (
            "GET /v1/batches/01936a5e-0000-7000-8000-0123456789ab/events",
            Route::Batches(BatchRoute::Events(batch())),
        ),
        (
            "HEAD /v1/batches/01936a5e-0000-7000-8000-0123456789ab/results",
            Route::Batches(BatchRoute::Results(batch())),
        ),
        ("GET /v1/invocations", Route::Background(BackgroundRoute::List)),
        (CALL, Route::Background(BackgroundRoute::Show(call()))),
        (
            "DELETE /v1/invocations/01936a5e-0000-7000-8000-0123456789ab",
            Route::Background(BackgroundRoute::Cancel(call())),
        ),
        (
            "HEAD /v1/invocations/01936a5e-0000-7000-8000-0123456789ab/result",
            Route::Background(BackgroundRoute::Result(call())),
        ),
        ("GET /v1/dead-letters", Route::Background(BackgroundRoute::DeadLetters)),
        ("GET /v1/webhooks", Route::Webhooks(WebhookRoute::List)),
        ("GET /v1/webhooks/w", Route::Webhooks(WebhookRoute::Show(name("w")))),
        ("PUT /v1/webhooks/w", Route::Webhooks(WebhookRoute::Put(name("w")))),
        ("DELETE /v1/webhooks/w", Route::Webhooks(WebhookRoute::Delete(name("w")))),
        ("POST /v1/webhooks/w/rotate", Route::Webhooks(WebhookRoute::Rotate(name("w")))),
        ("GET /v1/deliveries", Route::Webhooks(WebhookRoute::Deliveries)),
        (
            "GET /v1/deliveries/01936a5e-0000-7000-8000-0123456789ab",
            Route::Webhooks(WebhookRoute::ShowDelivery(delivery())),
        ),
        (
            "POST /v1/deliveries/01936a5e-0000-7000-8000-0123456789ab/retry",
            Route::Webhooks(WebhookRoute::Retry(delivery())),
        ),
        ("GET /v1/schedules", Route::Background(BackgroundRoute::Schedules)),
        ("GET /v1/schedules/s", Route::Background(BackgroundRoute::ShowSchedule(name("s")))),
        ("PUT /v1/schedules/s", Route::Background(BackgroundRoute::PutSchedule(name("s")))),
        ("DELETE /v1/schedules/s", Route::Background(BackgroundRoute::DeleteSchedule(name("s")))),
        (
            "DELETE /v1/dead-letters/01936a5e-0000-7000-8000-0123456789ab",
            Route::Background(BackgroundRoute::Drop(call())),
        ),
        (
            "POST /v1/dead-letters/01936a5e-0000-7000-8000-0123456789ab/replay",
            Route::Background(BackgroundRoute::Replay(call())),
        ),
        ("GET /healthz", Route::Healthz),
        ("GET /readyz", Route::Readyz),
        ("HEAD /metrics", Route::Metrics),
        ("GET /openapi.json", Route::Description),
    ];
    calls.extend(settings::tests::calls());
    calls
}

#[test]
fn every_call_of_the_api_has_its_route() {
    for (call, route) in calls() {
        let (method, path) = call.split_once(' ').expect("method and path");
        let method = method.parse().expect("a method");
        assert_eq!(Route::of(&method, path), Ok(route), "{call}");
    }
}

#[test]
fn a_target_is_a_name_and_perhaps_a_version() {
    assert_eq!(Target::parse("m", ""), Ok(target("m", None)));
    assert_eq!(Target::parse("m", "3"), Ok(target("m", Some(3))));
    for (name, version) in [("", ""), ("M", "1"), ("m", "0"), ("m", "one")] {
        assert!(Target::parse(name, version).is_err(), "{name:?} {version:?}");
    }
}

#[test]
fn what_has_no_route_is_named() {
    let nothing =
        |path: &str| format!("nothing answers at {path:?}: see docs/api.md for what does");
    for path in [
        "/",
        "",
        "*",
        "/f",
        "/f/",
        "/f//a",
        "/v1",
        "/v2/",
        "/v2/models",
        "/v1/functions/",
        "/v1/functions/f/",
        "/v1/models/m/logs",
        "/v1/gadgets",
        "/v1/models/m/traffic/x",
        "/v1/models/m/versions/1/x",
        "/v1/models/m/aliases",
        "/v1/models/m/canary/abort",
        "/v1/invocations/01936a5e-0000-7000-8000-0123456789ab/answer",
        "/v1/dead-letters/01936a5e-0000-7000-8000-0123456789ab/replay/now",
        "/v1/devices/0",
        "/v1/batches/01936a5e-0000-7000-8000-0123456789ab/rows",
        "/healthz/",
        "/v2/models/m/infer/",
        "/v2/models//infer",
        "/v2/models/m/versions/1/infer/x/y",
        "/v2/models/m/versions",
        "/v2/models/m/explain",
        "/v2/models/m/trace",
        "/v2/systemsharedmemory",
        "/v2/systemsharedmemory/region//status",
        "/v2/systemsharedmemory/region/a",
        "/v2/repository/models/m",
        "/V1/functions",
        "/v2/models/m@b/stats",
        "/f/@b/",
        "/f/a@",
        "/v1/shared/a",
    ] {
        let error = Route::of(&Method::GET, path).expect_err(path);
        assert_eq!(error.to_string(), nothing(path));
    }
    let cases = [
        ("POST /healthz", "\"/healthz\" does not take POST, but GET, HEAD"),
        ("GET /v2/models/m/infer", "\"/v2/models/m/infer\" does not take GET, but POST"),
        ("PATCH /v1/models/m", "\"/v1/models/m\" does not take PATCH, but GET, HEAD, PUT, DELETE"),
        ("PUT /v2/logging", "\"/v2/logging\" does not take PUT, but GET, HEAD, POST"),
        ("OPTIONS /v1/models", "\"/v1/models\" does not take OPTIONS, but GET, HEAD"),
        ("PUT /v1/tokens", "\"/v1/tokens\" does not take PUT, but GET, HEAD, POST"),
        (
            "GET /v1/tokens/0123456789abcdef",
            "\"/v1/tokens/0123456789abcdef\" does not take GET, but DELETE",
        ),
        (
            "DELETE /v1/tokens/x",
            "token \"x\" is not valid: it is named by 16 digits of 0-9 and a-f",
        ),
        (
            "GET /v1/deliveries/1",
            "delivery \"1\" is not valid: it is named by the UUID in its header webhook-id",
        ),
        (
            "GET /v1/batches/1",
            "batch \"1\" is not valid: it is named as the answer to making it did",
        ),
        (
            "GET /f/Hello",
            "name \"Hello\" is not valid: use 1 to 63 of a-z, 0-9, '-', '_' and '.', \
             beginning and ending with a letter or digit",
        ),
        (
            "PUT /v1/functions/a%20b",
            "name \"a%20b\" is percent-encoded: names consist of characters that need no \
             encoding",
        ),
        (
            "POST /v2/models/m/versions/latest/infer",
            "version \"latest\" is not a number: versions are 1, 2, …",
        ),
        ("DELETE /v1/models/m/versions/v1", "version \"v1\" is not a number: versions are 1, 2, …"),
        ("GET /v2/models/m/versions/0", "version \"0\" is not a number: versions are 1, 2, …"),
        (
            "GET /v2/systemsharedmemory/region/%ff/status",
            "name of the region \"%ff\" is not UTF-8 once it is decoded",
        ),
        ("GET /v2/models/m/versions/+1", "version \"+1\" is not a number: versions are 1, 2, …"),
    ];
    for (call, message) in cases {
        let (method, path) = call.split_once(' ').expect("method and path");
        let method = method.parse().expect("a method");
        let error = Route::of(&method, path).expect_err(call);
        assert_eq!(error.to_string(), message, "{call}");
    }
}

/// Names every operation and gives all names; one that is missing here doesn't compile. An operation
/// that wraps those of an area has to be taken apart.
macro_rules! operations {
    ($($pattern:pat => $name:literal,)*) => {
        fn operation(route: &Route) -> &'static str {
            match route { $($pattern => $name,)* }
        }

        const OPERATIONS: &[&str] = &[$($name,)*];
    };
}

operations! {
    Route::Call(_) => "call",
    Route::Infer(_) => "infer",
    Route::ModelMetadata(_) => "model metadata",
    Route::ModelReady(_) => "model ready",
    Route::ServerMetadata => "server metadata",
    Route::ModelConfig(_) => "model config",
    Route::Statistics(None) => "statistics",
    Route::Statistics(Some(_)) => "statistics of one",
    Route::RepositoryIndex => "repository index",
    Route::LoadModel(_) => "load",
    Route::UnloadModel(_) => "unload",
    Route::Settings(Subject::Log) => "log settings",
    Route::Settings(Subject::Trace(None)) => "trace settings",
    Route::Settings(Subject::Trace(Some(_))) => "trace settings of one",
    Route::ChangeSettings(Subject::Log) => "change log settings",
    Route::ChangeSettings(Subject::Trace(_)) => "change trace settings",
    Route::Regions(..) => "regions",
    Route::RegisterRegion(..) => "register a region",
    Route::UnregisterRegions(..) => "unregister regions",
    Route::Live => "live",
    Route::Ready => "ready",
    Route::Deploy(Class::Function, _) => "deploy a function",
    Route::Deploy(Class::Model, _) => "deploy a model",
    Route::List(Class::Function) => "functions",
    Route::List(Class::Model) => "models",
    Route::Show(Class::Function, _) => "a function",
    Route::Show(Class::Model, _) => "a model",
    Route::Delete(Class::Function, _) => "delete a function",
    Route::Delete(Class::Model, _) => "delete a model",
    Route::Versions(Class::Function, _) => "versions of a function",
    Route::Versions(Class::Model, _) => "versions of a model",
    Route::DeleteVersion(Class::Function, ..) => "delete a version of a function",
    Route::DeleteVersion(Class::Model, ..) => "delete a version of a model",
    Route::Rollback(Class::Function, _) => "roll back a function",
    Route::Rollback(Class::Model, _) => "roll back a model",
    Route::Logs(_) => "logs",
    Route::FunctionSettings(SettingsRoute::Config(_)) => "config",
    Route::FunctionSettings(SettingsRoute::ReplaceConfig(_)) => "replace a config",
    Route::FunctionSettings(SettingsRoute::MergeConfig(_)) => "change a config",
    Route::FunctionSettings(SettingsRoute::Secrets(_)) => "secrets",
    Route::FunctionSettings(SettingsRoute::SetSecret(..)) => "set a secret",
    Route::FunctionSettings(SettingsRoute::UnsetSecret(..)) => "remove a secret",
    Route::Background(BackgroundRoute::List) => "invocations",
    Route::Background(BackgroundRoute::Show(_)) => "an invocation",
    Route::Background(BackgroundRoute::Result(_)) => "result of an invocation",
    Route::Background(BackgroundRoute::Cancel(_)) => "cancel an invocation",
    Route::Background(BackgroundRoute::DeadLetters) => "dead letters",
    Route::Background(BackgroundRoute::Replay(_)) => "replay a dead letter",
    Route::Background(BackgroundRoute::Drop(_)) => "drop a dead letter",
    Route::Background(BackgroundRoute::Schedules) => "schedules",
    Route::Background(BackgroundRoute::ShowSchedule(_)) => "a schedule",
    Route::Background(BackgroundRoute::PutSchedule(_)) => "put a schedule",
    Route::Background(BackgroundRoute::DeleteSchedule(_)) => "delete a schedule",
    Route::Webhooks(WebhookRoute::List) => "webhooks",
    Route::Webhooks(WebhookRoute::Show(_)) => "a webhook",
    Route::Webhooks(WebhookRoute::Put(_)) => "put a webhook",
    Route::Webhooks(WebhookRoute::Delete(_)) => "delete a webhook",
    Route::Webhooks(WebhookRoute::Rotate(_)) => "rotate a webhook",
    Route::Webhooks(WebhookRoute::Deliveries) => "deliveries",
    Route::Webhooks(WebhookRoute::ShowDelivery(_)) => "a delivery",
    Route::Webhooks(WebhookRoute::Retry(_)) => "retry a delivery",
    Route::Sharing(SharingRoute::Show(Class::Function, _)) => "sharing of a function",
    Route::Sharing(SharingRoute::Show(Class::Model, _)) => "sharing of a model",
    Route::Sharing(SharingRoute::Change(Class::Function, _)) => "share a function",
    Route::Sharing(SharingRoute::Change(Class::Model, _)) => "share a model",
    Route::Sharing(SharingRoute::Received) => "shared",
    Route::Tenant(TenantRoute::Limits(_)) => "limits of a tenant",
    Route::Tenant(TenantRoute::ChangeLimits(_)) => "limit a tenant",
    Route::Traffic(_, _, TrafficRoute::Show) => "traffic",
    Route::Traffic(_, _, TrafficRoute::Set) => "set traffic",
    Route::Traffic(_, _, TrafficRoute::SetAlias(_)) => "set an alias",
    Route::Traffic(_, _, TrafficRoute::RemoveAlias(_)) => "remove an alias",
    Route::Traffic(_, _, TrafficRoute::Canary) => "canary",
    Route::Traffic(_, _, TrafficRoute::StartCanary) => "start a canary",
    Route::Traffic(_, _, TrafficRoute::AbortCanary) => "abort a canary",
    Route::Traffic(_, _, TrafficRoute::PromoteCanary) => "promote a canary",
    Route::Batches(BatchRoute::Create) => "create a batch",
    Route::Batches(BatchRoute::List) => "batches",
    Route::Batches(BatchRoute::Show(_)) => "a batch",
    Route::Batches(BatchRoute::Events(_)) => "events of a batch",
    Route::Batches(BatchRoute::Results(_)) => "results of a batch",
    Route::Batches(BatchRoute::Remove(_)) => "remove a batch",
    Route::Stats => "stats",
    Route::Devices => "devices",
    Route::Tokens => "tokens",
    Route::CreateToken => "create a token",
    Route::RevokeToken(_) => "revoke a token",
    Route::Audit => "audit",
    Route::Backup => "make a backup",
    Route::Healthz => "healthz",
    Route::Readyz => "readyz",
    Route::Metrics => "metrics",
    Route::Description => "description",
}

/// The table by which tests try every route as every caller.
#[test]
fn every_operation_is_in_the_table_of_routes_with_the_role_that_it_needs() {
    let mut missing: Vec<_> = OPERATIONS.to_vec();
    for line in include_str!("../../../../tests/end_to_end/routes.txt").lines() {
        let [least, method, path] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("a role, a method and a path: {line}");
        };
        let path = path.replace("{function}", "f").replace("{model}", "m");
        let path = path.replace("{invocation}", "01936a5e-0000-7000-8000-0123456789ab");
        let route = Route::of(&method.parse().expect("a method"), &path).expect(line);
        let needs = match least {
            "nobody" => Needs::Nothing,
            role => Needs::Role(role.parse().expect("a role")),
        };
        assert_eq!(route.needs(), needs, "{line}");
        missing.retain(|name| *name != operation(&route));
    }
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}
