//! Traffic between versions: shares, aliases and canaries.

use std::borrow::Cow;

use quern_types::{Class, Name};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::operation::Operation;
use crate::{
    errors::Code,
    traffic::{AliasReply, AliasRequest, CanaryReply, CanaryRequest, TrafficReply, TrafficRequest},
};

pub(super) fn operations() -> Vec<Operation> {
    let mut all = of(Class::Function);
    all.extend(of(Class::Model));
    all
}

fn of(class: Class) -> Vec<Operation> {
    let pick = |function: &'static str, model: &'static str| match class {
        Class::Function => function,
        Class::Model => model,
    };
    let traffic = pick("/v1/functions/{name}/traffic", "/v1/models/{name}/traffic");
    let alias = pick("/v1/functions/{name}/aliases/{alias}", "/v1/models/{name}/aliases/{alias}");
    let canary = pick("/v1/functions/{name}/canary", "/v1/models/{name}/canary");
    let promote = pick("/v1/functions/{name}/canary/promote", "/v1/models/{name}/canary/promote");
    let id = pick;
    vec![
        named(Operation::get(
            traffic,
            id("showFunctionTraffic", "showModelTraffic"),
            "Which versions requests go to",
        ))
        .replies::<TrafficReply>(200, "The shares, with what was counted of them."),
        named(Operation::put(
            traffic,
            id("setFunctionTraffic", "setModelTraffic"),
            "Shares requests out between versions",
        ))
        .takes::<TrafficRequest>()
        .replies::<TrafficReply>(200, "They are shared out so.")
        .fails(&[Code::TrafficConflict]),
        aliased(Operation::put(
            alias,
            id("setFunctionAlias", "setModelAlias"),
            "Names a version, for requests that ask for it",
        ))
        .takes::<AliasRequest>()
        .replies::<AliasReply>(200, "It has the name.")
        .fails(&[Code::TrafficConflict]),
        aliased(Operation::delete(
            alias,
            id("removeFunctionAlias", "removeModelAlias"),
            "Takes the name of a version away",
        ))
        .replies_nothing(204, "No version has the name."),
        named(Operation::get(
            canary,
            id("showFunctionCanary", "showModelCanary"),
            "How the last canary does, or how it ended",
        ))
        .replies::<CanaryReply>(200, "The canary."),
        named(Operation::post(
            canary,
            id("startFunctionCanary", "startModelCanary"),
            "Gives a version more and more requests, for as long as it does no worse",
        ))
        .takes::<CanaryRequest>()
        .replies::<CanaryReply>(201, "It has its first share.")
        .fails(&[Code::TrafficConflict]),
        named(Operation::delete(
            canary,
            id("abortFunctionCanary", "abortModelCanary"),
            "Gives the old version all requests again",
        ))
        .replies::<CanaryReply>(200, "The canary has ended."),
        named(Operation::post(
            promote,
            id("promoteFunctionCanary", "promoteModelCanary"),
            "Gives the new version all requests at once",
        ))
        .replies::<CanaryReply>(200, "The canary has ended."),
    ]
}

fn named(operation: Operation) -> Operation {
    let description = "The name of the function or model.";
    operation.at::<Name>("name", "a", description).fails(&[Code::NotFound])
}

fn aliased(operation: Operation) -> Operation {
    named(operation).at::<Alias>("alias", "stable", "The name of the version.")
}

/// A name that can be told from a version.
enum Alias {}

impl JsonSchema for Alias {
    fn schema_name() -> Cow<'static, str> {
        "Alias".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[a-z]([a-z0-9._-]{0,61}[a-z0-9])?$",
            "not": {"const": "live"},
            "description": "A name that can be told from a version.",
        })
    }
}
