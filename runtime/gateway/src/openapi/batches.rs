//! Batch scoring: files of rows through models and functions.

use quern_scoring::{BatchId, BatchRequest};

use super::operation::{Content, Operation, Part, Shape};
use crate::{
    batches::{BatchList, BatchReply},
    errors::Code,
};

const PARTS: &[Part] = &[
    Part {
        schema: Some(|generator| generator.subschema_for::<BatchRequest>()),
        name: "request",
        media_type: "application/json",
        description: "What is asked for.",
        is_required: true,
    },
    Part {
        schema: None,
        name: "input",
        media_type: "application/octet-stream",
        description: "The file of rows, in the format that the request says, or its media type: \
                      text/csv, application/x-ndjson or application/vnd.apache.parquet.",
        is_required: true,
    },
];

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/v1/batches", "createBatch", "Begins to score a file of rows")
            .takes_one(
                true,
                vec![Content { media_type: "multipart/form-data", shape: Shape::Parts(PARTS) }],
            )
            .replies::<BatchReply>(201, "The batch.")
            .fails(&[
                Code::InvalidMultipart,
                Code::InvalidJson,
                Code::NotFound,
                Code::WrongKind,
                Code::TooManyBatches,
                Code::UploadTooLarge,
                Code::StorageFull,
            ]),
        Operation::get("/v1/batches", "listBatches", "The batches that are kept")
            .replies::<BatchList>(200, "The newest first."),
        named(Operation::get("/v1/batches/{id}", "showBatch", "How far a batch is"))
            .replies::<BatchReply>(200, "The batch."),
        named(Operation::get("/v1/batches/{id}/events", "followBatch", "Tells how far a batch is"))
            .replies_with(
                200,
                "An event after each change, and the last when the batch has ended.",
                Some(Content { media_type: "text/event-stream", shape: Shape::Text }),
            ),
        named(Operation::get(
            "/v1/batches/{id}/results",
            "readBatchResults",
            "The results of a batch that has ended",
        ))
        .replies_with(
            200,
            "A row for each row of the file.",
            Some(Content { media_type: "application/octet-stream", shape: Shape::Bytes }),
        )
        .fails(&[Code::NotEnded]),
        named(Operation::delete("/v1/batches/{id}", "removeBatch", "Stops and removes a batch"))
            .replies_nothing(204, "It is gone, with its results."),
    ]
}

fn named(operation: Operation) -> Operation {
    operation
        .at::<BatchId>("id", "01936a5e-0000-7000-8000-0123456789ab", "The name of the batch.")
        .fails(&[Code::NotFound])
}
