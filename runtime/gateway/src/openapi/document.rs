//! Writes operations as an OpenAPI 3.1 document, with what the edge does for all of them.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use quern_types::Name;
use serde_json::{Map, Value, json};

use super::{
    operation::{Content, Operation, SchemaOf, Shape},
    schemas::{Schemas, bound_integers},
};
use crate::{
    access::Needs,
    errors::{Code, Problem},
    route::Route,
};

const ABOUT: &str = "Functions in WebAssembly and models in ONNX: deploy, inspect and change them. \
     Two parts of the server are not described here. Calls of functions, `/f/{name}/…`, are whatever \
     the function makes of them. `/v2` is the Open Inference Protocol, which has a description of \
     its own.";
/// The name under which tokens are described.
const TOKEN: &str = "token";

/// What a document is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server<'a> {
    /// Its version.
    pub(super) version: &'a str,
    /// Whether it asks for tokens.
    pub(super) authenticate: bool,
}

/// The document of these operations; the error names a schema that has two forms.
pub(super) fn write(server: Server<'_>, operations: &[Operation]) -> Result<Value, String> {
    let mut schemas = Schemas::new();
    let problem = schemas.sent(|generator| generator.subschema_for::<Problem>());
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let method = operation.method.as_str().to_ascii_lowercase();
        let written = write_operation(server, operation, &mut schemas, &problem);
        paths.entry(operation.path).or_default().insert(method, written);
    }
    let tenant = schemas.received(|generator| generator.subschema_for::<Name>());
    let mut components = json!({"schemas": schemas.into_definitions()?});
    if server.authenticate {
        components["securitySchemes"] = json!({TOKEN: {
            "type": "http",
            "scheme": "bearer",
            "description": "A token, as `POST /v1/tokens` makes it. Operations name the role that \
                            they take; each role may do what those before it may: invoker, \
                            deployer, admin.",
        }});
        components["parameters"] = json!({"tenant": {
            "name": "quern-tenant",
            "in": "header",
            "description": "Whom an admin acts for, if not for its own tenant.",
            "schema": tenant,
        }});
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Quern",
            "version": server.version,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": components,
    });
    bound_integers(&mut document);
    Ok(document)
}

fn write_operation(
    server: Server<'_>,
    operation: &Operation,
    schemas: &mut Schemas,
    problem: &Value,
) -> Value {
    // What has no route needs nothing; the tests find it.
    let route = Route::of(&operation.method, &operation.sample_path());
    let needs = route.map_or(Needs::Nothing, |route| route.needs());
    let role = match needs {
        Needs::Role(role) if server.authenticate => Some(role),
        _ => None,
    };
    let mut written = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": write_replies(operation, role.is_some(), schemas, problem),
    });
    if let Some(role) = role {
        written["security"] = json!([{TOKEN: [role]}]);
    }
    let mut parameters = write_parameters(operation, schemas);
    if role.is_some() {
        parameters.push(json!({"$ref": "#/components/parameters/tenant"}));
    }
    if !parameters.is_empty() {
        written["parameters"] = parameters.into();
    }
    if let Some(body) = &operation.body {
        let contents = body.contents.iter().map(|content| {
            let schema = write_content(content, |of| schemas.received(of));
            (content.media_type.to_owned(), schema)
        });
        let contents: Map<_, _> = contents.collect();
        written["requestBody"] = json!({"required": body.is_required, "content": contents});
    }
    written
}

fn write_parameters(operation: &Operation, schemas: &mut Schemas) -> Vec<Value> {
    let in_path = operation.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "path",
            "required": true,
            "description": parameter.description,
            "schema": schemas.received(parameter.schema),
        })
    });
    let mut written: Vec<_> = in_path.collect();
    for (name, mut schema, is_required) in
        operation.query.map_or_else(Vec::new, |of| schemas.fields(of))
    {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        written.push(json!({
            "name": name,
            "in": "query",
            "required": is_required,
            "description": description.unwrap_or_default(),
            "schema": without_null(schema),
        }));
    }
    written
}

/// A query has no null: what may be left out is left out.
fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema["type"].as_array_mut() {
        types.retain(|of| of != "null");
        if let [only] = &types[..] {
            schema["type"] = only.clone();
        }
    }
    if let Some([one, null]) = schema["anyOf"].as_array().map(Vec::as_slice)
        && *null == json!({"type": "null"})
    {
        return one.clone();
    }
    if let Some(object) = schema.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    schema
}

fn write_replies(
    operation: &Operation,
    asks_for_token: bool,
    schemas: &mut Schemas,
    problem: &Value,
) -> Map<String, Value> {
    let mut written = Map::new();
    for reply in &operation.replies {
        let mut answer = json!({"description": reply.description});
        if let Some(content) = &reply.content {
            let schema = write_content(content, |of| schemas.sent(of));
            answer["content"] = json!({content.media_type: schema});
        }
        written.insert(reply.status.to_string(), answer);
    }
    let mut by_status: BTreeMap<u16, BTreeSet<&str>> = BTreeMap::new();
    for code in codes(operation, asks_for_token) {
        by_status.entry(code.status().as_u16()).or_default().insert(code.as_str());
    }
    for (status, codes) in by_status {
        let codes: Vec<_> = codes.into_iter().map(|code| format!("`{code}`")).collect();
        let mut headers = json!({"quern-error": {
            "description": "The problem's code.",
            "required": true,
            "schema": {"type": "string"},
        }});
        if status == 401 {
            headers["www-authenticate"] = json!({"required": true, "schema": {"type": "string"}});
        }
        written.insert(
            status.to_string(),
            json!({
                "description": codes.join(", "),
                "headers": headers,
                "content": {"application/problem+json": {"schema": problem}},
            }),
        );
    }
    written
}

/// An operation's own errors, and those of everything that takes what it takes.
fn codes(operation: &Operation, asks_for_token: bool) -> Vec<Code> {
    let mut codes = operation.codes.clone();
    codes.extend([Code::InvalidRequest, Code::Internal]);
    if asks_for_token {
        codes.extend([Code::Unauthenticated, Code::Forbidden]);
    }
    if !operation.parameters.is_empty() {
        codes.push(Code::InvalidName);
    }
    if operation.method != Method::GET {
        codes.extend([Code::StorageFull, Code::StorageReadOnly]);
    }
    if let Some(body) = &operation.body {
        codes.extend([Code::RequestTooLarge, Code::RequestTimeout, Code::Busy]);
        if body.contents.iter().any(|content| matches!(content.shape, Shape::Json(_))) {
            codes.push(Code::InvalidJson);
        }
    }
    codes
}

fn write_content(content: &Content, mut schema: impl FnMut(SchemaOf) -> Value) -> Value {
    match &content.shape {
        Shape::Json(of) => json!({"schema": schema(*of)}),
        // The field for it comes with OpenAPI 3.2.
        Shape::JsonLines(of) => json!({"schema": {"type": "string"}, "x-item-schema": schema(*of)}),
        Shape::Text => json!({"schema": {"type": "string"}}),
        Shape::Object => json!({"schema": {"type": "object"}}),
        Shape::Bytes => json!({"schema": {}}),
        Shape::Parts(parts) => {
            let properties = parts.iter().map(|part| {
                let mut part_schema = match part.schema {
                    Some(of) => schema(of),
                    None => json!({"type": "string", "contentMediaType": part.media_type}),
                };
                part_schema["description"] = part.description.into();
                (part.name.to_owned(), part_schema)
            });
            let properties: Map<_, _> = properties.collect();
            let required = parts.iter().filter(|part| part.is_required).map(|part| part.name);
            json!({"schema": {
                "type": "object",
                "properties": properties,
                "required": required.collect::<Vec<_>>(),
                "additionalProperties": false,
            }})
        }
    }
}
