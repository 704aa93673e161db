//! Asynchronous calls, dead letters and schedules.

use quern_types::{InvocationId, Name, ScheduleSpec};

use super::operation::{Content, Operation, Shape};
use crate::{
    background::{CallFilter, CallList, CallView, DeadLetterFilter, ScheduleList, ScheduleView},
    errors::Code,
};

pub(super) fn operations() -> Vec<Operation> {
    let mut all = calls();
    all.extend(schedules());
    all
}

fn schedules() -> Vec<Operation> {
    vec![
        Operation::get("/v1/schedules", "listSchedules", "The schedules")
            .replies::<ScheduleList>(200, "By name."),
        schedule(Operation::get("/v1/schedules/{name}", "showSchedule", "A schedule"))
            .replies::<ScheduleView>(200, "What it calls, and when."),
        schedule(Operation::put("/v1/schedules/{name}", "putSchedule", "Makes a schedule"))
            .takes::<ScheduleSpec>()
            .replies::<ScheduleView>(201, "It is new.")
            .replies::<ScheduleView>(200, "It was there, and says this now.")
            .fails(&[Code::InvalidRequest, Code::WrongKind, Code::TooManySchedules]),
        schedule(Operation::delete("/v1/schedules/{name}", "deleteSchedule", "Deletes a schedule"))
            .replies_nothing(204, "It calls nothing more."),
    ]
}

fn schedule(operation: Operation) -> Operation {
    operation.at::<Name>("name", "nightly", "The name of the schedule.").fails(&[Code::NotFound])
}

fn calls() -> Vec<Operation> {
    vec![
        Operation::get("/v1/invocations", "listInvocations", "The asynchronous calls")
            .query::<CallFilter>()
            .replies::<CallList>(200, "The newest first."),
        one(Operation::get("/v1/invocations/{id}", "showInvocation", "An asynchronous call"))
            .replies::<CallView>(200, "Where it is on its way."),
        one(Operation::get("/v1/invocations/{id}/result", "readResult", "The answer to a call"))
            .replies_with(
                200,
                "What was called has answered this, with this status; the header `quern-state` \
                 says so. Other statuses are given as they are.",
                Some(Content { media_type: "*/*", shape: Shape::Bytes }),
            )
            .fails(&[Code::NoResult]),
        one(Operation::delete("/v1/invocations/{id}", "cancelInvocation", "Calls a call off"))
            .replies_nothing(204, "It will not be carried out.")
            .fails(&[Code::WrongState]),
        Operation::get("/v1/dead-letters", "listDeadLetters", "The calls that were given up")
            .query::<DeadLetterFilter>()
            .replies::<CallList>(200, "The newest first."),
        one(Operation::post(
            "/v1/dead-letters/{id}/replay",
            "replayDeadLetter",
            "Queues a dead letter again",
        ))
        .replies::<CallView>(202, "It waits, as if it were new.")
        .fails(&[Code::WrongState, Code::Busy]),
        one(Operation::delete("/v1/dead-letters/{id}", "dropDeadLetter", "Removes a dead letter"))
            .replies_nothing(204, "It is gone.")
            .fails(&[Code::WrongState]),
    ]
}

fn one(operation: Operation) -> Operation {
    let sample = "01936a5e-0000-7000-8000-0123456789ab";
    operation.at::<InvocationId>("id", sample, "The id of the call.").fails(&[Code::NotFound])
}
