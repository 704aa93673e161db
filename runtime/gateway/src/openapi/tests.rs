//! The document holds what the server answers to, all of it and nothing else.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::*;
use crate::route::tests::calls;

fn written(authenticate: bool) -> Value {
    serde_json::from_str(&document("1.2.3", authenticate)).expect("JSON")
}

/// What is described, by its name.
fn by_id(document: &Value) -> HashMap<&str, &Value> {
    let paths = document["paths"].as_object().expect("paths").values();
    let operations = paths.flat_map(|path| path.as_object().expect("operations").values());
    operations.map(|of| (of["operationId"].as_str().expect("a name"), of)).collect()
}

#[test]
fn every_route_is_described_or_belongs_to_another_protocol() {
    let document = written(true);
    let described = by_id(&document);
    let mut routed = BTreeSet::new();
    for (call, route) in calls() {
        let (_, path) = call.split_once(' ').expect("method and path");
        match route.operation() {
            Some(id) => {
                assert!(described.contains_key(id), "{call} is {id}, which is not described")
            }
            None => assert!(path.starts_with("/v2") || path.starts_with("/f/"), "{call}"),
        }
        routed.extend(route.operation());
    }
    let described: BTreeSet<_> = described.into_keys().collect();
    assert_eq!(described, routed, "each with a call in the tests of routes");
}

#[test]
fn every_description_is_of_a_route() {
    for operation in described() {
        let path = operation.sample_path();
        let route = Route::of(&operation.method, &path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(route.operation(), Some(operation.id), "{} {path}", operation.method);
        assert!(!operation.replies.is_empty(), "{} answers", operation.id);
    }
    let ids: Vec<_> = described().iter().map(|operation| operation.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "names differ: {ids:?}");
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_referred_to() {
    fn references<'d>(value: &'d Value, found: &mut BTreeSet<&'d str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = written(true);
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for name in document["components"]["schemas"].as_object().expect("schemas").keys() {
        let reference = format!("#/components/schemas/{name}");
        assert!(found.contains(&*reference), "nothing refers to {name}");
        assert!(!name.ends_with(|end: char| end.is_ascii_digit()), "{name} is a name of two types");
    }
}

#[test]
fn tokens_are_described_where_they_are_asked_for() {
    let (open, guarded) = (written(false), written(true));
    let (open, guarded) = (by_id(&open), by_id(&guarded));
    assert!(open.values().all(|operation| operation.get("security").is_none()));
    for (id, security) in [
        ("createToken", json!([{"token": ["admin"]}])),
        ("deployModel", json!([{"token": ["deployer"]}])),
        ("listModels", json!([{"token": ["invoker"]}])),
        ("isAlive", Value::Null),
        ("readDescription", Value::Null),
    ] {
        assert_eq!(guarded[id]["security"], security, "{id}");
        let refused = guarded[id]["responses"].get("401");
        assert_eq!(refused.is_some(), !security.is_null(), "{id}");
    }
}

#[test]
fn types_say_what_is_taken_and_what_is_answered() {
    let document = written(true);
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["TokenRequest"]["required"], json!(["role"]));
    assert_eq!(schemas["TokenRequest"]["additionalProperties"], json!(false));
    assert_eq!(schemas["Role"]["enum"], Value::Null, "each has a description of its own");
    assert_eq!(schemas["VersionNumber"]["maximum"], json!(u32::MAX));
    let required = schemas["TokenEntry"]["required"].as_array().expect("a list");
    assert!(required.contains(&json!("expires")), "it is there, even if it is null");
    let operations = by_id(&document);
    let limit = &operations["readAudit"]["parameters"][1];
    assert_eq!((&limit["name"], &limit["in"]), (&json!("limit"), &json!("query")));
    let bounds = json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100});
    assert_eq!(limit["schema"], bounds);
    let codes = &operations["rollBackModel"]["responses"]["409"]["description"];
    assert_eq!(*codes, "`no-previous-version`");
}

#[test]
fn what_can_be_scheduled_is_described_by_what_the_server_takes() {
    let document = written(true);
    let fields = &document["components"]["schemas"]["ScheduleSpec"]["properties"];
    let examples = |field: &str| fields[field]["examples"].as_array().expect("some").clone();
    for field in ["cron", "time_zone", "method", "path"] {
        assert!(fields[field]["pattern"].is_string(), "{field}: {}", fields[field]);
    }
    assert_eq!(fields["body"]["maxLength"], 65_536);
    assert_eq!(
        (&fields["headers"]["maxProperties"], &fields["method"]["default"]),
        (&json!(64), &json!("POST"))
    );
    let name = "nightly".parse().expect("a name");
    for cron in examples("cron") {
        for (zone, path) in examples("time_zone").iter().zip(examples("path")) {
            let spec = json!({"cron": cron, "time_zone": zone, "path": path});
            let spec: quern_types::ScheduleSpec = serde_json::from_value(spec).expect("a schedule");
            let now = std::time::SystemTime::now();
            quern_jobs::Timetable::parse(&spec.cron, &spec.time_zone, now).expect("times");
            quern_jobs::request(&name, &spec).expect("a request");
        }
    }
}

#[test]
fn whoever_has_the_document_is_not_sent_it_again() {
    let api = Api::new("1.2.3", false);
    let tag = api.reply(&HeaderMap::new()).headers()[ETAG].clone();
    let tag = tag.to_str().expect("text");
    for (known, status) in [
        (tag.to_owned(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"other\", {tag}"), 304),
        ("*".to_owned(), 304),
        ("\"other\"".to_owned(), 200),
        (String::new(), 200),
    ] {
        let headers = HeaderMap::from_iter([(IF_NONE_MATCH, known.parse().expect("a value"))]);
        let reply = api.reply(&headers);
        assert_eq!(reply.status(), status, "{known}");
        assert_eq!(reply.headers()[ETAG], tag);
        assert_eq!(reply.headers().contains_key(CONTENT_TYPE), status == 200);
    }
}

#[test]
fn a_query_is_refused_where_none_is_described() {
    let api = Api::new("1.2.3", false);
    for (call, route) in calls() {
        let takes_any = match route.operation() {
            Some(id) => [
                "readLogs",
                "readAudit",
                "deployFunction",
                "deployModel",
                "listShared",
                "listInvocations",
                "listDeadLetters",
                "listDeliveries",
            ]
            .contains(&id),
            // The protocol's and the functions' own.
            None => true,
        };
        assert_eq!(api.check_query(&route, Some("x=1")).is_ok(), takes_any, "{call}");
        assert_eq!(api.check_query(&route, None), Ok(()), "{call}");
    }
}
