//! Answers over HTTP/2 that their clients must take. A connection may be read from while one of its
//! streams is not, or opens its window by a byte at a time: such a stream is ended, and no other.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;

use crate::stall::{Alarm, PIECE};

tokio::task_local! {
    /// The stream whose task this is.
    static STREAM: Uptake;
}

/// How a stream's client takes the answer, as the answer's body sees it. Only the stream's own task
/// looks at it.
#[derive(Debug, Default)]
struct Uptake {
    /// Whether the body has given its last piece and was not asked for more yet: what is waited
    /// for is the client, and not whoever makes the answer.
    waits: Cell<bool>,
    /// Bytes that the body has given.
    given: Cell<u64>,
}

/// Runs the streams of a connection, each as a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    /// Longest time that a client may take for a piece of an answer.
    pub(crate) allowed: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(STREAM.scope(Uptake::default(), taken(stream, self.allowed)));
    }
}

/// Goes on with a stream to its end, or until its client has taken too little of what waits for it.
/// Dropping a stream resets it, and throws away what was left of it.
async fn taken(stream: impl Future<Output = ()>, allowed: Duration) {
    let mut stream = pin!(stream);
    let mut alarm = Alarm::new(allowed);
    let mut counted = 0;
    poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let (waits, given) = STREAM.with(|stream| (stream.waits.get(), stream.given.get()));
        if given - counted >= PIECE as u64 {
            counted = given;
            alarm.rest();
        }
        if alarm.watch(context, waits).is_ready() {
            tracing::debug!(?allowed, "stream ended: its client does not take the answer");
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// The body of an answer in pieces, each of which is made once the client has room for something of
/// it. Over HTTP/1, which has one answer at a time, it is handed on as it is.
pub(crate) struct Pieces<B> {
    body: B,
    /// What is made already of a larger piece.
    rest: Bytes,
    is_http2: bool,
}

impl<B> Pieces<B> {
    pub(crate) fn new(body: B, is_http2: bool) -> Self {
        Self { body, rest: Bytes::new(), is_http2 }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, rest, is_http2 } = &mut *self;
        if !*is_http2 {
            return Pin::new(body).poll_frame(context);
        }
        let mut frame = match rest.is_empty() {
            true => Pin::new(body).poll_frame(context),
            false => Poll::Ready(Some(Ok(Frame::data(mem::take(rest))))),
        };
        let mut given = None;
        if let Poll::Ready(Some(Ok(frame))) = &mut frame
            && let Some(piece) = frame.data_mut()
        {
            if piece.len() > PIECE {
                *rest = piece.split_off(PIECE);
            }
            given = Some(piece.len() as u64);
        }
        // A body that is looked at outside of its stream's task waits for nobody.
        let _ = STREAM.try_with(|stream| {
            stream.waits.set(given.is_some());
            stream.given.set(stream.given.get() + given.unwrap_or_default());
        });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, Full, StreamBody};
    use tokio::sync::mpsc;

    use super::*;

    const ALLOWED: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn a_large_body_is_given_in_pieces_that_add_up() {
        let content: Bytes = (0..PIECE * 2 + 5).map(|byte| byte as u8).collect();
        let mut body = Pieces::new(Full::new(content.clone()), true);
        let (mut pieces, mut given) = (Vec::new(), Vec::new());
        while !body.is_end_stream() {
            assert_eq!(body.size_hint().exact(), Some((content.len() - given.len()) as u64));
            let frame = body.frame().await.expect("there is more").expect("no error");
            let piece = frame.into_data().expect("data");
            pieces.push(piece.len());
            given.extend(piece);
        }
        assert_eq!((pieces, given), (vec![PIECE, PIECE, 5], content.to_vec()));
        let whole = Pieces::new(Full::new(content.clone()), false).frame().await;
        let whole = whole.expect("a frame").expect("no error").into_data().expect("data");
        assert_eq!(whole, content, "HTTP/1 has its own pieces");
    }

    /// A stream as the protocol has it: asks for a piece once its client has taken the one before,
    /// each of which a message says.
    async fn stream(
        body: impl Body<Data = Bytes, Error = Infallible> + Unpin,
        mut taken: mpsc::UnboundedReceiver<()>,
    ) {
        let mut body = Pieces::new(body, true);
        while let Some(Ok(_)) = body.frame().await {
            if taken.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn run(stream: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
        tokio::spawn(STREAM.scope(Uptake::default(), taken(stream, ALLOWED)))
    }

    #[tokio::test]
    async fn a_stream_whose_client_takes_nothing_or_too_little_ends() {
        let (_, never) = mpsc::unbounded_channel();
        let whole = Full::new(Bytes::from(vec![0; PIECE * 8]));
        run(stream(whole, never)).await.expect("no panic");

        // It takes something all the time, of pieces that are small.
        let (takes, taken) = mpsc::unbounded_channel();
        let pieces = futures::stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(b"x"))));
        let ending = run(stream(StreamBody::new(pieces), taken));
        while takes.send(()).is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ending.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_stream_goes_on_while_its_client_takes_pieces_or_nothing_is_made() {
        let (takes, taken) = mpsc::unbounded_channel();
        let (made, arriving) = mpsc::unbounded_channel::<Bytes>();
        let pieces = futures::stream::unfold(arriving, async |mut arriving| {
            Some((Ok(Frame::data(arriving.recv().await?)), arriving))
        });
        let ending = run(stream(StreamBody::new(Box::pin(pieces)), taken));
        // More than the time allowed, in steps that are shorter.
        for _ in 0..6 {
            made.send(Bytes::from(vec![0; PIECE])).expect("it goes on");
            tokio::time::sleep(ALLOWED / 4).await;
            takes.send(()).expect("it goes on");
        }
        tokio::time::sleep(ALLOWED * 2).await;
        assert!(!ending.is_finished(), "the client has taken all that there is");
        drop(made);
        ending.await.expect("no panic");
    }
}
