//! Bodies at the edge: requests read with a limit in size and time, and replies that cost no box
//! where they are short.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::Stream;
use http::{
    HeaderValue, Version,
    header::{CONTENT_TYPE, EXPECT},
    request,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Empty, Full};
use hyper::body::Incoming;
use quern_types::{Body, BodyError, ByteSize};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::stall::Arriving;

/// A response on its way out.
pub(crate) type Reply = http::Response<ReplyBody>;

/// A reply of JSON.
pub(crate) fn json(content: &impl Serialize) -> Reply {
    let content = serde_json::to_vec(content);
    let content = content.expect("keys of replies are text, and memory takes whatever is written");
    let mut reply = Reply::new(ReplyBody::full(content));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Longest time that a body which nobody wants any more is still received.
const LINGER: Duration = Duration::from_secs(5);

/// Why a request's body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// It is longer than allowed.
    #[error("request body is larger than the limit of {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The client or the connection failed.
    #[error("request body broke off: {reason}")]
    Broken {
        /// What the connection says.
        reason: String,
    },
    /// The client went silent.
    #[error("request body stalled for {after:?}")]
    Stalled {
        /// How long it was waited for.
        after: Duration,
    },
    /// The client sends, but too slowly.
    #[error("request body was not complete after {after:?}")]
    Slow {
        /// How long it was waited for.
        after: Duration,
    },
    /// Other bodies take up all the memory that there is for them.
    #[error(
        "the bodies of other requests leave no room for this one, {total} are allowed together: \
         try again later"
    )]
    NoRoom {
        /// What all bodies have together.
        total: ByteSize,
    },
}

/// The body of a request. If it is dropped before its end, what the client still sends is thrown
/// away for a while: a connection that is closed while a client sends loses the answer, too.
pub(crate) struct RequestBody {
    incoming: Option<Either<Incoming, Full<Bytes>>>,
    /// Where to throw the rest away; none where the protocol has its own way to say stop.
    rest: Option<TaskTracker>,
    /// The client waits to be asked before it sends anything.
    waits: bool,
    /// Longest time between two parts.
    stall: Duration,
}

impl RequestBody {
    pub(crate) fn new(
        incoming: Incoming,
        head: &request::Parts,
        rest: &TaskTracker,
        stall: Duration,
    ) -> Self {
        if incoming.is_end_stream() {
            return Self { incoming: None, rest: None, waits: false, stall };
        }
        let rest = (head.version < Version::HTTP_2).then(|| rest.clone());
        let waits = head.headers.contains_key(EXPECT);
        Self { incoming: Some(Either::Left(incoming)), rest, waits, stall }
    }

    /// The body of a request that was stored.
    pub(crate) fn stored(content: Bytes, stall: Duration) -> Self {
        let incoming = Some(Either::Right(Full::new(content)));
        let incoming = incoming.filter(|incoming| !incoming.is_end_stream());
        Self { incoming, rest: None, waits: false, stall }
    }

    /// Longest time between two parts.
    pub(crate) fn stall(&self) -> Duration {
        self.stall
    }

    /// Whether no other body can arrive on its connection at the same time.
    pub(crate) fn is_alone(&self) -> bool {
        self.incoming.is_none() || self.rest.is_some()
    }

    /// The body for a function, which has a limit and a timeout of its own. A client that goes
    /// silent in the middle of it is not the function's fault, so that it ends sooner.
    pub(crate) fn boxed(self) -> Body {
        match &self.incoming {
            // An empty body takes no room, so that its box is none.
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Some(_) => {
                let stall = self.stall;
                Arriving::new(self, stall).boxed_unsync()
            }
        }
    }

    /// The parts of the body as they arrive.
    pub(crate) fn parts(self) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + 'static {
        futures::stream::try_unfold(self, async |mut body| {
            Ok(body.part().await?.map(|part| (part, body)))
        })
    }

    /// The next part that is not empty; none at the end.
    async fn part(&mut self) -> Result<Option<Bytes>, ReadError> {
        self.part_before(None).await
    }

    /// The next part, unless the time for all of them ends first: a moment, and how long it was
    /// until then.
    pub(crate) async fn part_before(
        &mut self,
        end: Option<(Instant, Duration)>,
    ) -> Result<Option<Bytes>, ReadError> {
        self.part_within(self.stall, end).await
    }

    /// The same, if it may take another time than parts of a body usually may. Dropping the future
    /// loses nothing.
    pub(crate) async fn part_within(
        &mut self,
        after: Duration,
        end: Option<(Instant, Duration)>,
    ) -> Result<Option<Bytes>, ReadError> {
        loop {
            let stall = Instant::now() + after;
            let (until, error) = match end {
                Some((end, after)) if end < stall => (end, ReadError::Slow { after }),
                _ => (stall, ReadError::Stalled { after }),
            };
            match tokio::time::timeout_at(until, self.frame()).await.map_err(|_| error)? {
                None => return Ok(None),
                Some(Err(error)) => return Err(ReadError::Broken { reason: error.to_string() }),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(part) if !part.is_empty() => return Ok(Some(part)),
                    // Trailers say nothing here.
                    _ => {}
                },
            }
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(context));
        self.waits = false;
        if !matches!(frame, Some(Ok(_))) {
            self.incoming = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::Broken(error.to_string()))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some((incoming, rest)) = self.incoming.take().zip(self.rest.take()) else { return };
        if self.waits || incoming.is_end_stream() {
            return;
        }
        // While the runtime ends there is no client to be kind to.
        if tokio::runtime::Handle::try_current().is_ok() {
            rest.spawn(tokio::time::timeout(LINGER, discard(incoming)));
        }
    }
}

/// Reads a body to its end, for a while, and keeps nothing of it.
pub(crate) fn drain(body: Body, leftovers: &TaskTracker) {
    if !body.is_end_stream() {
        leftovers.spawn(tokio::time::timeout(LINGER, discard(body)));
    }
}

async fn discard(mut body: impl HttpBody + Unpin) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// The body of a reply.
pub(crate) enum ReplyBody {
    /// In one piece; none once it has been sent.
    Full(Option<Bytes>),
    /// In pieces that lie in several places; none of them is empty.
    Pieces(VecDeque<Bytes>),
    /// As it is made.
    Stream(Body),
}

impl ReplyBody {
    pub(crate) fn full(content: impl Into<Bytes>) -> Self {
        Self::Full(Some(content.into()).filter(|content| !content.is_empty()))
    }

    pub(crate) fn pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self::Pieces(pieces.into_iter().filter(|piece| !piece.is_empty()).collect())
    }

    pub(crate) fn empty() -> Self {
        Self::Full(None)
    }
}

impl HttpBody for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(content) => Poll::Ready(content.take().map(|all| Ok(Frame::data(all)))),
            Self::Pieces(pieces) => Poll::Ready(pieces.pop_front().map(|one| Ok(Frame::data(one)))),
            Self::Stream(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(content) => content.is_none(),
            Self::Pieces(pieces) => pieces.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, Bytes::len) as u64)
            }
            Self::Pieces(pieces) => {
                SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum())
            }
            Self::Stream(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_in_pieces_has_the_length_of_all() {
        let pieces = ["first ", "", "second"].map(Bytes::from);
        let mut body = ReplyBody::pieces(pieces);
        assert_eq!(HttpBody::size_hint(&body).exact(), Some(12));
        let first = body.frame().await.expect("a frame").expect("no error");
        assert_eq!(first.into_data().expect("data"), "first ");
        assert!(!body.is_end_stream());
        let rest = body.collect().await.expect("no error").to_bytes();
        assert_eq!(rest, "second");
        assert!(ReplyBody::pieces([]).is_end_stream());
    }
}
