//! How far a batch is, as server-sent events: one at once, one after each change, and the last when
//! it has ended. A slow client is told less often, and never of what is over.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{
    HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use quern_scoring::{BatchId, BatchState, Scoring};
use quern_types::{BodyError, Caller, TenantId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::BatchReply;
use crate::{
    Gateway,
    body::{Reply, ReplyBody},
    errors::Failure,
};

/// Shortest time between two events.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest time without anything, so that who has gone is noticed.
const SILENCE: Duration = Duration::from_secs(15);

/// `GET /v1/batches/{id}/events`
pub(super) fn follow(gateway: &Gateway, caller: &Caller, id: BatchId) -> Result<Reply, Failure> {
    let mut changes = gateway.scoring.changes(&caller.tenant, id)?;
    changes.mark_changed();
    let follower = Follower {
        scoring: gateway.scoring.clone(),
        tenant: caller.tenant.clone(),
        id,
        changes,
        closing: gateway.closing.clone(),
        is_over: false,
    };
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok::<_, BodyError>(Frame::data(event)), follower))
    });
    let mut reply = Response::new(ReplyBody::Stream(StreamBody::new(events).boxed_unsync()));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(reply)
}

struct Follower {
    scoring: Arc<Scoring>,
    tenant: TenantId,
    id: BatchId,
    changes: watch::Receiver<u64>,
    /// Ends when the server does.
    closing: CancellationToken,
    is_over: bool,
}

impl Follower {
    /// The next event; none once the batch has ended or is gone, or the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        tokio::select! {
            () = self.closing.cancelled() => return None,
            changed = tokio::time::timeout(SILENCE, self.changes.changed()) => match changed {
                Err(_) => return Some(Bytes::from_static(b": still there\n\n")),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            },
        }
        // What comes soon after goes into the same event.
        tokio::time::sleep(PAUSE).await;
        self.changes.mark_unchanged();
        let status = self.scoring.status(&self.tenant, self.id).ok()?;
        let name = match status.state {
            BatchState::Queued | BatchState::Running => "progress",
            BatchState::Completed | BatchState::Failed => {
                self.is_over = true;
                "ended"
            }
        };
        let data = serde_json::to_string(&BatchReply::from(status)).ok()?;
        Some(format!("event: {name}\ndata: {data}\n\n").into())
    }
}
