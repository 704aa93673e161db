//! Whether a connection is of use: counts its requests, so that one that only keeps itself alive
//! can be told from one that waits for an answer. It closes nothing itself.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Version;
use http_body::{Body as HttpBody, Frame, SizeHint};
use quern_types::BodyError;

use crate::body::{Reply, ReplyBody};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
    http2: AtomicBool,
}

/// How many requests of a connection had begun, and how many had ended, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark(u64);

/// What a connection was up to since it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// Nothing was ever asked.
    Silent,
    /// The protocol watches over its own pauses.
    Http1,
    /// A request began, ended, or is under way. The mark is for the next look.
    Busy(Mark),
    /// No request was under way in all the time.
    Idle,
}

impl Activity {
    /// Counts a request; over HTTP/2 until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> Option<Underway> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        // HTTP/1 has one request at a time, and a timer for the pause between two.
        (version >= Version::HTTP_2).then(|| {
            self.http2.store(true, Ordering::Relaxed);
            Underway(Arc::clone(self))
        })
    }

    /// How the connection has fared since the mark.
    pub(crate) fn pulse(&self, before: Mark) -> Pulse {
        // In this order: a request that begins in between looks as if it were under way.
        let ended = self.ended.load(Ordering::Acquire);
        match self.begun.load(Ordering::Relaxed) {
            0 => Pulse::Silent,
            _ if !self.http2.load(Ordering::Relaxed) => Pulse::Http1,
            begun if begun == ended && Mark(begun + ended) == before => Pulse::Idle,
            begun => Pulse::Busy(Mark(begun + ended)),
        }
    }
}

/// A request over HTTP/2 that is under way.
#[derive(Debug)]
pub(crate) struct Underway(Arc<Activity>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

/// The body of a reply, whose request is under way until it is dropped.
pub(crate) struct Watched {
    body: ReplyBody,
    _underway: Option<Underway>,
}

impl Watched {
    pub(crate) fn reply(reply: Reply, underway: Option<Underway>) -> http::Response<Self> {
        reply.map(|body| Self { body, _underway: underway })
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_when_nothing_was_under_way_all_the_time() {
        let activity = Arc::new(Activity::default());
        assert_eq!(activity.pulse(Mark(0)), Pulse::Silent);
        let request = activity.begin(Version::HTTP_2);
        assert_eq!(activity.pulse(Mark(0)), Pulse::Busy(Mark(1)));
        assert_eq!(activity.pulse(Mark(1)), Pulse::Busy(Mark(1)), "it is under way");
        drop(request);
        assert_eq!(activity.pulse(Mark(1)), Pulse::Busy(Mark(2)), "it ended since");
        assert_eq!(activity.pulse(Mark(2)), Pulse::Idle);
        drop(activity.begin(Version::HTTP_2));
        assert_eq!(activity.pulse(Mark(2)), Pulse::Busy(Mark(4)), "it came and went");
        assert_eq!(activity.pulse(Mark(4)), Pulse::Idle);
    }

    #[test]
    fn a_request_lasts_as_long_as_the_body_of_its_reply() {
        let activity = Arc::new(Activity::default());
        let underway = activity.begin(Version::HTTP_2);
        let reply = Watched::reply(Reply::new(ReplyBody::full("hello")), underway);
        assert_eq!(activity.pulse(Mark(1)), Pulse::Busy(Mark(1)));
        assert_eq!(reply.body().size_hint().exact(), Some(5));
        drop(reply);
        assert_eq!(activity.pulse(Mark(2)), Pulse::Idle);
    }

    #[test]
    fn pauses_of_http1_are_its_own_affair() {
        let activity = Arc::new(Activity::default());
        assert!(activity.begin(Version::HTTP_11).is_none());
        assert_eq!(activity.pulse(Mark(0)), Pulse::Http1);
    }
}
