//! Answers over HTTP/2 that their clients must take. A connection may be read from while one of its
//! streams is not, or opens its window by a byte at a time: such a stream is ended, and no other that
//! is not to blame.

mod connection;

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;

use self::connection::{Connection, Verdict};
use crate::stall::{Alarm, PIECE};

tokio::task_local! {
    /// The stream whose task this is.
    static STREAM: Uptake;
}

/// How a stream's client takes the answer, as the answer's body sees it. Only the stream's own task
/// looks at it.
#[derive(Debug)]
struct Uptake {
    connection: Arc<Connection>,
    /// Bytes of the last piece that the body has given, until it is asked for more: what is waited
    /// for is the client, and not whoever makes the answer.
    given: Cell<Option<u64>>,
    /// Whether that piece is the end of the body, which is not asked for more then.
    is_last: Cell<bool>,
    /// Bytes that the client has taken.
    taken: Cell<u64>,
}

impl Uptake {
    fn new(connection: Arc<Connection>) -> Self {
        connection.stream_begins();
        Self {
            connection,
            given: Cell::default(),
            is_last: Cell::default(),
            taken: Cell::default(),
        }
    }

    /// Notes that there was room for the last piece.
    fn is_asked(&self) {
        let bytes = self.given.take().unwrap_or_default();
        self.taken.set(self.taken.get() + bytes);
        self.connection.took(bytes);
    }
}

impl Drop for Uptake {
    fn drop(&mut self) {
        self.connection.stream_ends();
    }
}

/// Runs the streams of one connection, each as a task.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    /// Longest time that a client may take for a piece of an answer.
    allowed: Duration,
    connection: Arc<Connection>,
}

impl Streams {
    pub(crate) fn new(allowed: Duration) -> Self {
        Self { allowed, connection: Arc::default() }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let uptake = Uptake::new(self.connection.clone());
        tokio::spawn(STREAM.scope(uptake, taken(stream, self.allowed)));
    }
}

/// Goes on with a stream to its end, or until its client has taken too little of what waits for it.
/// Dropping a stream resets it, and throws away what was left of it.
async fn taken(stream: impl Future<Output = ()>, allowed: Duration) {
    let mut stream = pin!(stream);
    let mut alarm = Alarm::new(allowed);
    let mut counted = 0;
    let mut wait = None;
    poll_fn(|context| {
        let is_over = stream.as_mut().poll(context).is_ready();
        STREAM.with(|stream| {
            if is_over {
                // One that its client has reset is over as well, and nobody took what it had left.
                if stream.is_last.get() {
                    stream.is_asked();
                }
                return Poll::Ready(());
            }
            let (waits, taken) = (stream.given.get().is_some(), stream.taken.get());
            if taken - counted >= PIECE as u64 {
                counted = taken;
                alarm.rest();
                wait = None;
            }
            if !waits {
                wait = None;
                return alarm.watch(context, false);
            }
            let wait = wait.get_or_insert_with(|| stream.connection.wait());
            while alarm.watch(context, true).is_ready() {
                if stream.connection.judge(wait) == Verdict::Ends {
                    tracing::debug!(?allowed, "stream ended: its client does not take the answer");
                    return Poll::Ready(());
                }
                alarm.rest();
            }
            Poll::Pending
        })
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
        // A body that is looked at outside of its stream's task waits for nobody.
        let _ = STREAM.try_with(Uptake::is_asked);
        let mut frame = match rest.is_empty() {
            true => Pin::new(&mut *body).poll_frame(context),
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
        let is_last = rest.is_empty() && body.is_end_stream();
        let _ = STREAM.try_with(|stream| {
            stream.given.set(given);
            stream.is_last.set(is_last);
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
        tokio::spawn(STREAM.scope(Uptake::new(Arc::default()), taken(stream, ALLOWED)))
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
    async fn the_last_piece_of_a_stream_counts_and_that_of_one_that_is_reset_does_not() {
        for (pieces, verdict) in [(1, Verdict::Waits), (2, Verdict::Ends)] {
            let connection = Arc::<Connection>::default();
            let mut other = connection.wait();
            // It is over with its first piece, of all that there are.
            let stream = async move {
                let whole = Full::new(Bytes::from(vec![0; PIECE * pieces]));
                let piece = Pieces::new(whole, true).frame().await;
                assert!(matches!(piece, Some(Ok(_))));
            };
            STREAM.scope(Uptake::new(connection.clone()), taken(stream, ALLOWED)).await;
            assert_eq!(connection.judge(&mut other), verdict, "one of {pieces} pieces was taken");
        }
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
