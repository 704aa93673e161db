//! Sockets whose writes must make progress, and bodies that must: a client that never reads, or a
//! byte at a time, or stops in the middle of what it sends, can't hold what is behind it; nor can
//! one that reads or sends without a pause hold the others. When a connection may be idle is not
//! decided here, and what single streams of it take is in `uptake`.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use quern_types::{BodyError, Period};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop,
    time::{Instant, Sleep},
};

/// What a client has to take in the time that it has, in bytes: a single one is no progress. It is
/// as much as a frame of HTTP/2 has by default.
pub(crate) const PIECE: usize = 16 << 10;

/// The time that something may wait; it is looked at only while it waits.
pub(crate) struct Alarm {
    allowed: Duration,
    /// Made when there is something to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Alarm {
    pub(crate) fn new(allowed: Duration) -> Self {
        Self { allowed, sleep: None, armed: false }
    }

    /// Begins anew with the next wait.
    pub(crate) fn rest(&mut self) {
        self.armed = false;
    }

    /// Passes on whether it waits; ready if it has waited for too long.
    pub(crate) fn watch(&mut self, context: &mut Context<'_>, waits: bool) -> Poll<()> {
        let Self { allowed, sleep, armed } = self;
        if !waits {
            *armed = false;
            return Poll::Pending;
        }
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(*allowed)));
        if !*armed {
            sleep.as_mut().reset(Instant::now() + *allowed);
            *armed = true;
        }
        // The time is up even where the task has had its turn.
        Pin::new(&mut coop::unconstrained(sleep.as_mut())).poll(context)
    }
}

/// Bytes that count as one of the operations after which a task lets others run. There are 128 of
/// them, however large each is: a task could copy megabytes before it is another's turn.
const TURN_BYTES: usize = 4 << 10;

/// Fails a write once the client has taken too little of what waits for it in the time allowed, and
/// gives other connections their turns by what is read and written.
pub(crate) struct Progressing<S> {
    socket: S,
    alarm: Alarm,
    /// Bytes that the client has taken since it was last waited for anew.
    taken: usize,
}

impl<S> Progressing<S> {
    pub(crate) fn new(socket: S, allowed: Duration) -> Self {
        Self { socket, alarm: Alarm::new(allowed), taken: 0 }
    }

    /// Passes the outcome of a write on, unless it has waited too long.
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = outcome {
            take_turns(context, bytes);
            self.taken = self.taken.saturating_add(bytes);
            if self.taken >= PIECE {
                self.begin_anew();
            }
        }
        self.waited(context, outcome)
    }

    /// The same of what follows the last write: until it is done, the client is waited for.
    fn flushed(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if outcome.is_ready() {
            self.begin_anew();
        }
        self.waited(context, outcome)
    }

    fn begin_anew(&mut self) {
        self.alarm.rest();
        self.taken = 0;
    }

    fn waited<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        if !coop::has_budget_remaining() {
            // It may wait for its next turn alone, and not for the client.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.alarm.watch(context, true).is_pending() {
            return Poll::Pending;
        }
        let (taken, allowed) = (self.taken, self.alarm.allowed);
        let reason = format!("the client has taken {taken} bytes in {allowed:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

/// Counts a transfer as as many operations as it is large. The next one waits for the task's next
/// turn if there have been enough.
fn take_turns(context: &mut Context<'_>, bytes: usize) {
    // The socket has counted the first one.
    for _ in 0..bytes / TURN_BYTES {
        match coop::poll_proceed(context) {
            Poll::Ready(turn) => turn.made_progress(),
            Poll::Pending => return,
        }
    }
}

/// Fails a body of which nothing comes for longer than allowed while somebody waits for it.
pub(crate) struct Arriving<B> {
    body: B,
    alarm: Alarm,
}

impl<B> Arriving<B> {
    pub(crate) fn new(body: B, allowed: Duration) -> Self {
        Self { body, alarm: Alarm::new(allowed) }
    }
}

impl<B: Body<Error = BodyError> + Unpin> Body for Arriving<B> {
    type Data = B::Data;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if self.alarm.watch(context, frame.is_pending()).is_pending() {
            return frame;
        }
        Poll::Ready(Some(Err(BodyError::Stalled(Period(self.alarm.allowed)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progressing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.socket).poll_read(context, buffer);
        take_turns(context, buffer.filled().len() - before);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progressing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        content: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(context, content);
        self.wrote(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        contents: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, contents);
        self.wrote(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_flush(context);
        self.flushed(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.socket).poll_shutdown(context);
        self.flushed(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_served_and_one_that_stops_is_not() {
        let (mut client, server) = tokio::io::duplex(PIECE);
        let mut server = Progressing::new(server, Duration::from_millis(400));
        let writing = tokio::spawn(async move { server.write_all(&[b'x'; 20 * PIECE]).await });
        // Twice the time allowed, in steps that are shorter.
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!writing.is_finished(), "it makes progress");
            client.read_exact(&mut [0; PIECE]).await.expect("there is more");
        }
        let error = writing.await.expect("no panic").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "the client has taken 0 bytes in 400ms");
    }

    #[tokio::test]
    async fn a_reader_of_single_bytes_makes_no_progress() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = Progressing::new(server, Duration::from_millis(400));
        let writing = tokio::spawn(async move { server.write_all(&[b'x'; PIECE]).await });
        while !writing.is_finished() {
            client.read_exact(&mut [0; 1]).await.expect("the socket is there until the end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let error = writing.await.expect("no panic").expect_err("it takes too long");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_is_written_and_kept_back_is_waited_for_as_well() {
        let (client, server) = tokio::io::duplex(8);
        // As TLS does, it takes more than the socket.
        let server = tokio::io::BufWriter::new(server);
        let mut server = Progressing::new(server, Duration::from_millis(100));
        server.write_all(&[b'x'; 1000]).await.expect("it is kept back");
        let error = server.flush().await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = server.shutdown().await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn a_pause_between_answers_is_nobodys_delay() {
        let allowed = Duration::from_millis(200);
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = Progressing::new(server, allowed);
        for _ in 0..3 {
            let answer = async {
                server.write_all(&[b'x'; 24]).await.expect("the client reads");
                server.flush().await.expect("the client reads");
            };
            let mut received = [0; 24];
            let ((), read) = tokio::join!(answer, client.read_exact(&mut received));
            read.expect("there is more");
            tokio::time::sleep(allowed * 2).await;
        }
    }

    #[tokio::test]
    async fn a_connection_without_a_pause_lets_others_have_their_turns() {
        let mut endless = Progressing::new(tokio::io::sink(), Duration::from_secs(60));
        let content = vec![b'x'; 64 << 10];
        let turn = std::future::poll_fn(move |context| {
            let mut written = 0;
            while coop::has_budget_remaining() {
                let Poll::Ready(Ok(bytes)) = Pin::new(&mut endless).poll_write(context, &content)
                else {
                    panic!("a sink takes everything");
                };
                written += bytes;
            }
            Poll::Ready(written)
        });
        assert_eq!(tokio::spawn(turn).await.expect("no panic"), 512 << 10);
    }

    #[tokio::test]
    async fn a_write_that_waits_for_its_turn_is_not_a_client_that_stalls() {
        let mut server = Progressing::new(tokio::io::sink(), Duration::ZERO);
        let mut turns = 0;
        let turn = std::future::poll_fn(move |context| {
            turns += 1;
            if turns == 1 {
                while let Poll::Ready(turn) = coop::poll_proceed(context) {
                    turn.made_progress();
                }
                let written = server.wrote(context, Poll::Pending);
                assert!(written.is_pending() && !server.alarm.armed);
                return Poll::Pending;
            }
            Pin::new(&mut server).poll_write(context, b"x")
        });
        let written = tokio::spawn(turn).await.expect("no panic");
        assert_eq!(written.expect("nobody stalls"), 1);
    }

    #[tokio::test]
    async fn an_alarm_goes_off_though_the_task_has_had_its_turn() {
        let mut alarm = Alarm::new(Duration::ZERO);
        let turn = std::future::poll_fn(move |context| {
            if coop::has_budget_remaining() {
                while let Poll::Ready(turn) = coop::poll_proceed(context) {
                    turn.made_progress();
                }
                // Until the clock's next tick, by which the time is up.
                std::thread::sleep(Duration::from_millis(2));
            }
            alarm.watch(context, true)
        });
        let turn = tokio::time::timeout(Duration::from_secs(30), tokio::spawn(turn));
        turn.await.expect("it goes off").expect("no panic");
    }

    #[tokio::test]
    async fn a_body_that_stops_in_the_middle_is_given_up() {
        let allowed = Duration::from_millis(400);
        let (parts, arriving) = tokio::sync::mpsc::channel::<Bytes>(1);
        let stream = futures::stream::unfold(arriving, async |mut arriving| {
            Some((Ok(Frame::data(arriving.recv().await?)), arriving))
        });
        let mut body = Arriving::new(StreamBody::new(Box::pin(stream)), allowed);
        // Twice the time allowed, in steps that are shorter.
        for _ in 0..8 {
            let slow = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                parts.send("x".into()).await.expect("somebody reads");
            };
            let (frame, ()) = tokio::join!(body.frame(), slow);
            let frame = frame.expect("there is more").expect("it goes on");
            assert_eq!(frame.into_data().expect("data"), "x");
        }
        let error = body.frame().await.expect("an end").expect_err("silence");
        assert_eq!(error, BodyError::Stalled(Period(allowed)));
        assert_eq!(error.to_string(), "body stalled: nothing came for 400ms");
    }
}
