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

use crate::{
    body::{Reply, ReplyBody},
    uptake::Pieces,
};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
    http2: AtomicBool,
    /// Whether the last answer left nothing to be done.
    settled: AtomicBool,
}

/// Marks an answer after which nothing is left to be done for its request: whoever made it has
/// ended. A guest may go on after its answer, and others wait for what it gives back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled;

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
    /// Counts a request until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> Underway {
        self.begun.fetch_add(1, Ordering::Relaxed);
        // HTTP/1 has one request at a time, and a timer for the pause between two.
        if version >= Version::HTTP_2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        Underway(Arc::clone(self))
    }

    /// Whether no request is under way, and nothing left to be done for the last one. Never known
    /// of HTTP/2, where a connection reads before it writes what its answers have left to it.
    pub(crate) fn is_at_rest(&self) -> bool {
        let ended = self.ended.load(Ordering::Acquire);
        self.begun.load(Ordering::Relaxed) == ended
            && self.settled.load(Ordering::Relaxed)
            && !self.http2.load(Ordering::Relaxed)
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

/// A request that is under way.
#[derive(Debug)]
pub(crate) struct Underway(Arc<Activity>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

/// The body of a reply, whose request is under way until it is dropped.
pub(crate) struct Watched {
    body: Pieces<ReplyBody>,
    _underway: Underway,
}

impl Watched {
    pub(crate) fn reply(reply: Reply, underway: Underway) -> http::Response<Self> {
        let settled = reply.extensions().get::<Settled>().is_some();
        let activity = &underway.0;
        activity.settled.store(settled, Ordering::Relaxed);
        let is_http2 = activity.http2.load(Ordering::Relaxed);
        reply.map(|body| Self { body: Pieces::new(body, is_http2), _underway: underway })
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
        let request = activity.begin(Version::HTTP_11);
        assert_eq!(activity.pulse(Mark(0)), Pulse::Http1);
        drop(request);
        assert_eq!(activity.pulse(Mark(0)), Pulse::Http1);
    }

    #[test]
    fn a_connection_is_at_rest_after_answers_that_leave_nothing_to_be_done() {
        let activity = Arc::new(Activity::default());
        let settled = || {
            let mut reply = Reply::new(ReplyBody::full("hello"));
            reply.extensions_mut().insert(Settled);
            reply
        };
        let of_a_guest = Reply::new(ReplyBody::full("hello"));
        assert!(!activity.is_at_rest(), "nothing was asked");
        for (reply, at_rest) in [(settled(), true), (of_a_guest, false)] {
            let request = activity.begin(Version::HTTP_11);
            let reply = Watched::reply(reply, request);
            assert!(!activity.is_at_rest(), "it is being sent");
            drop(reply);
            assert_eq!(activity.is_at_rest(), at_rest);
        }
        drop(Watched::reply(settled(), activity.begin(Version::HTTP_2)));
        assert!(!activity.is_at_rest(), "it may not have been sent");
    }
}
