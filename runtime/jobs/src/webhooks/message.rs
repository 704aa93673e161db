//! What a webhook is told: the JSON of a message, as Standard Webhooks has it. The answer to the call
//! is not in it, but where it can be had.

use std::time::SystemTime;

use quern_store::CallRecord;
use quern_types::{CallKind, CallState, InvocationId, Name};
use serde::Serialize;

/// A message.
#[derive(Debug, Serialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: String,
    timestamp: Option<String>,
    data: Ended<'a>,
}

/// A call that has come to its end.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    id: InvocationId,
    state: CallState,
    target: &'a Name,
    kind: CallKind,
    status: Option<u16>,
    reason: Option<&'a str>,
    attempts: u32,
    created: String,
    finished: Option<String>,
    kept_until: Option<String>,
    invocation: String,
    result: Option<String>,
}

/// The message that a call has ended.
pub(crate) fn compose(call: &CallRecord) -> String {
    let invocation = format!("/v1/invocations/{}", call.id);
    // None came of a call that was called off, or given up before it was answered.
    let has_result = call.status.is_some() && call.state != CallState::Cancelled;
    let finished = call.finished.map(text);
    let message = Message {
        kind: format!("invocation.{}", call.state),
        timestamp: finished.clone(),
        data: Ended {
            id: call.id,
            state: call.state,
            target: &call.target,
            kind: call.kind,
            status: call.status.map(|status| status.as_u16()),
            reason: call.reason.as_deref(),
            attempts: call.attempts,
            created: text(call.created),
            finished,
            kept_until: call.kept_until.map(text),
            result: has_result.then(|| format!("{invocation}/result")),
            invocation,
        },
    };
    serde_json::to_string(&message).expect("texts and numbers are JSON")
}

/// A time as the API writes it.
fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    fn ended(state: CallState) -> CallRecord {
        let at =
            |seconds: u64| UNIX_EPOCH + Duration::from_millis(1_774_000_000_000 + seconds * 1_000);
        CallRecord {
            id: "01936a5e-0000-7000-8000-0123456789ab".parse().expect("an id"),
            target: "digits".parse().expect("a name"),
            kind: CallKind::Inference,
            method: "POST".into(),
            path: "/v2/models/digits/infer?secret=1".into(),
            state,
            key: Some("order-17".into()),
            attempts: 2,
            max_attempts: 5,
            created: at(0),
            expires: at(100),
            due: None,
            started: Some(at(1)),
            finished: Some(at(2)),
            kept_until: Some(at(3)),
            status: Some(StatusCode::OK),
            reason: None,
            webhook: Some("shop".parse().expect("a name")),
        }
    }

    fn composed(call: &CallRecord) -> Value {
        serde_json::from_str(&compose(call)).expect("JSON")
    }

    #[test]
    fn a_message_says_what_came_of_a_call_and_where_its_answer_is() {
        assert_eq!(
            composed(&ended(CallState::Succeeded)),
            json!({
                "type": "invocation.succeeded",
                "timestamp": "2026-03-20T09:46:42.000Z",
                "data": {
                    "id": "01936a5e-0000-7000-8000-0123456789ab",
                    "state": "succeeded",
                    "target": "digits",
                    "kind": "inference",
                    "status": 200,
                    "reason": null,
                    "attempts": 2,
                    "created": "2026-03-20T09:46:40.000Z",
                    "finished": "2026-03-20T09:46:42.000Z",
                    "kept_until": "2026-03-20T09:46:43.000Z",
                    "invocation": "/v1/invocations/01936a5e-0000-7000-8000-0123456789ab",
                    "result": "/v1/invocations/01936a5e-0000-7000-8000-0123456789ab/result",
                },
            })
        );
    }

    #[test]
    fn where_there_is_no_answer_none_is_named() {
        let cut_off = CallRecord {
            status: None,
            reason: Some("its time was over".into()),
            ..ended(CallState::Dead)
        };
        let message = composed(&cut_off);
        assert_eq!(message["type"], "invocation.dead");
        assert_eq!(message["data"]["reason"], "its time was over");
        assert_eq!(message["data"]["result"], Value::Null);
        let message = composed(&ended(CallState::Cancelled));
        assert_eq!(message["data"]["result"], Value::Null);
    }
}
