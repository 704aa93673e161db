//! Functions, models and devices: deploying, inspecting and changing what is deployed.

use quern_types::{Name, VersionNumber};

use super::operation::{Content, Operation, Part, Shape};
use crate::{
    deployments::{DeployQuery, DeploymentReply, RollbackReply, RollbackRequest},
    errors::Code,
    inspection::{DeviceList, FunctionDetails, FunctionList, ModelDetails, ModelList, VersionList},
    logs::{LogLine, LogQuery},
};

const MANIFEST: &str = "The manifest, in TOML: docs/api.md says what may stand in it.";
const OF_A_FUNCTION: &[Part] = &[
    Part {
        schema: None,
        name: "manifest",
        media_type: "application/toml",
        description: MANIFEST,
        is_required: true,
    },
    Part {
        schema: None,
        name: "component",
        media_type: "application/wasm",
        description: "The WebAssembly component.",
        is_required: true,
    },
];
const OF_A_MODEL: &[Part] = &[
    Part {
        schema: None,
        name: "manifest",
        media_type: "application/toml",
        description: MANIFEST,
        is_required: false,
    },
    Part {
        schema: None,
        name: "model",
        media_type: "application/octet-stream",
        description: "The ONNX file, or an archive of it and its weights.",
        is_required: true,
    },
];

pub(super) fn operations() -> Vec<Operation> {
    let mut all = functions();
    all.extend(models());
    all.push(
        Operation::get("/v1/devices", "listDevices", "What computes, and what is in use of it")
            .replies::<DeviceList>(200, "The devices."),
    );
    all
}

fn functions() -> Vec<Operation> {
    vec![
        Operation::get("/v1/functions", "listFunctions", "The functions that are deployed")
            .replies::<FunctionList>(200, "The live version of each."),
        named(Operation::put("/v1/functions/{name}", "deployFunction", "Deploys a function"))
            .takes_one(
                true,
                vec![Content {
                    media_type: "multipart/form-data",
                    shape: Shape::Parts(OF_A_FUNCTION),
                }],
            )
            .query::<DeployQuery>()
            .replies::<DeploymentReply<'static>>(200, "The same was kept already.")
            .replies::<DeploymentReply<'static>>(201, "There is a new version.")
            .fails(&[
                Code::InvalidMultipart,
                Code::InvalidManifest,
                Code::NotAComponent,
                Code::InvalidComponent,
                Code::UnknownImport,
                Code::MissingGrant,
                Code::NameTaken,
                Code::UploadTooLarge,
            ]),
        named(Operation::get(
            "/v1/functions/{name}",
            "showFunction",
            "What is known of a function",
        ))
        .replies::<FunctionDetails<'static>>(200, "Its live version.")
        .fails(&[Code::NotFound]),
        removal(Operation::delete("/v1/functions/{name}", "deleteFunction", "Removes a function")),
        versions(Operation::get(
            "/v1/functions/{name}/versions",
            "listFunctionVersions",
            "The versions of a function that are kept",
        )),
        version_removal(Operation::delete(
            "/v1/functions/{name}/versions/{version}",
            "deleteFunctionVersion",
            "Removes a version of a function that no request goes to by itself",
        )),
        rollback(Operation::post(
            "/v1/functions/{name}/rollback",
            "rollBackFunction",
            "Makes a kept version of a function live",
        )),
        named(Operation::get("/v1/functions/{name}/logs", "readLogs", "What a function printed"))
            .query::<LogQuery>()
            .replies_with(
                200,
                "One object a line, the oldest first.",
                Some(Content::json_lines::<LogLine<'static>>()),
            )
            .fails(&[Code::NotFound]),
    ]
}

fn models() -> Vec<Operation> {
    vec![
        Operation::get("/v1/models", "listModels", "The models that are deployed")
            .replies::<ModelList>(200, "The live version of each."),
        named(Operation::put("/v1/models/{name}", "deployModel", "Deploys a model"))
            .takes_one(
                true,
                vec![
                    Content { media_type: "application/octet-stream", shape: Shape::Bytes },
                    Content { media_type: "application/x-tar", shape: Shape::Bytes },
                    Content { media_type: "multipart/form-data", shape: Shape::Parts(OF_A_MODEL) },
                ],
            )
            .query::<DeployQuery>()
            .replies::<DeploymentReply<'static>>(200, "The same was kept already.")
            .replies::<DeploymentReply<'static>>(201, "There is a new version.")
            .fails(&[
                Code::InvalidMultipart,
                Code::InvalidManifest,
                Code::InvalidModel,
                Code::NameTaken,
                Code::UploadTooLarge,
                Code::EngineAbsent,
                Code::DeviceLost,
            ]),
        named(Operation::get("/v1/models/{name}", "showModel", "What is known of a model"))
            .replies::<ModelDetails<'static>>(200, "Its live version.")
            .fails(&[Code::NotFound]),
        removal(Operation::delete("/v1/models/{name}", "deleteModel", "Removes a model")),
        versions(Operation::get(
            "/v1/models/{name}/versions",
            "listModelVersions",
            "The versions of a model that are kept",
        )),
        version_removal(Operation::delete(
            "/v1/models/{name}/versions/{version}",
            "deleteModelVersion",
            "Removes a version of a model that no request goes to by itself",
        )),
        rollback(Operation::post(
            "/v1/models/{name}/rollback",
            "rollBackModel",
            "Makes a kept version of a model live",
        )),
    ]
}

fn named(operation: Operation) -> Operation {
    operation.at::<Name>("name", "a", "The name of the function or model.")
}

fn removal(operation: Operation) -> Operation {
    let description = "It is gone, with all its versions.";
    named(operation).replies_nothing(204, description).fails(&[Code::NotFound])
}

fn version_removal(operation: Operation) -> Operation {
    named(operation)
        .at::<VersionNumber>("version", "1", "The number of the version.")
        .replies_nothing(204, "It is gone.")
        .fails(&[Code::NotFound, Code::TrafficConflict])
}

fn versions(operation: Operation) -> Operation {
    named(operation).replies::<VersionList>(200, "The newest first.").fails(&[Code::NotFound])
}

fn rollback(operation: Operation) -> Operation {
    named(operation)
        .may_take::<RollbackRequest>()
        .replies::<RollbackReply>(200, "The version that serves now.")
        .fails(&[Code::NotFound, Code::NoPreviousVersion])
}
