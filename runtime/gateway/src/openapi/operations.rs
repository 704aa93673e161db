//! Health, metrics, and the document itself.

use super::operation::{Content, Operation, Shape};
use crate::{
    backup::BackupRequest, errors::Code, health::HealthReport, operations::Liveness, stats::Stats,
};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/healthz", "isAlive", "Whether the process runs")
            .replies::<Liveness>(200, "It does; what is wrong with it is in `/readyz`."),
        Operation::get("/readyz", "isReady", "Whether the server takes requests")
            .replies::<HealthReport>(200, "It does; something may be wrong with it nevertheless.")
            .replies::<HealthReport>(503, "It starts, or drains."),
        Operation::get("/metrics", "readMetrics", "The metrics of the server").replies_with(
            200,
            "Prometheus text.",
            Some(Content { media_type: "text/plain", shape: Shape::Text }),
        ),
        Operation::get(
            "/v1/stats",
            "readStats",
            "What functions and models have done since the server started, and do now",
        )
        .replies::<Stats>(200, "Counters: rates are for whoever asks twice."),
        Operation::post("/v1/backup", "makeBackup", "Makes a backup while the server serves")
            .may_take::<BackupRequest>()
            .replies_with(
                200,
                "An archive of all that the server has, without the key for secrets; \
                 `quern-backup-bytes` says how long it will be.",
                Some(Content { media_type: "application/x-tar", shape: Shape::Bytes }),
            )
            .fails(&[Code::Busy, Code::StorageFull, Code::WrongState]),
        Operation::get("/openapi.json", "readDescription", "This document").replies_with(
            200,
            "OpenAPI 3.1.",
            Some(Content { media_type: "application/json", shape: Shape::Object }),
        ),
    ]
}
