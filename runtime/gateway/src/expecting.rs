//! A socket whose next request is expected soon, as the ones before it came soon: it is looked at
//! for a short while before its task sleeps until something comes. Never while there is anything
//! else to do.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use quern_types::Lookout;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop,
};

/// Most bytes that a look takes in; what is left is read as usual.
const TAKEN: usize = 8 << 10;
/// How long a thread may look, again and again, and serve what comes, before it lets the runtime
/// see what else there is.
const TURN: Duration = Duration::from_millis(1);

/// A socket and what is known of the pauses between its requests.
pub(crate) struct Expecting<S, F> {
    socket: S,
    /// Whether this socket is all that there is to look at, and nothing is under way on it.
    alone: F,
    lookout: Lookout,
    /// Since when nothing is to be read, and nothing else to be done.
    since: Option<Instant>,
    /// When the first look in a row began; none before it, and after the runtime had its turn.
    turn: Option<Instant>,
}

impl<S, F> Expecting<S, F> {
    pub(crate) fn new(socket: S, alone: F) -> Self {
        Self { socket, alone, lookout: Lookout::default(), since: None, turn: None }
    }
}

impl<S: AsFd, F: Fn() -> bool> Expecting<S, F> {
    /// What comes within a short time, if that is to be expected.
    fn look(&mut self, buffer: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        if !(self.alone)() {
            self.since = None;
            return None;
        }
        let None = self.since else { return None };
        let now = Instant::now();
        self.since = Some(now);
        let patience = self.lookout.patience();
        let turn = *self.turn.get_or_insert(now);
        if patience.is_zero() || now - turn > TURN || !coop::has_budget_remaining() {
            self.turn = None;
            return None;
        }
        let room = buffer.initialize_unfilled_to(buffer.remaining().min(TAKEN));
        loop {
            match recv(&self.socket, &mut *room, RecvFlags::DONTWAIT) {
                Ok((bytes, _)) => {
                    buffer.advance(bytes);
                    return Some(Ok(()));
                }
                // Whoever else wants this processor goes first.
                Err(Errno::AGAIN) => thread::yield_now(),
                Err(Errno::INTR) => {}
                Err(error) => return Some(Err(error.into())),
            }
            if now.elapsed() > patience {
                self.turn = None;
                return None;
            }
        }
    }
}

impl<S: AsyncRead + AsFd + Unpin, F: Fn() -> bool + Unpin> AsyncRead for Expecting<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut outcome = Pin::new(&mut self.socket).poll_read(context, buffer);
        // The task stays registered with the runtime, so that it is woken if the look was in vain.
        if outcome.is_pending()
            && let Some(seen) = self.look(buffer)
        {
            outcome = Poll::Ready(seen);
        }
        if outcome.is_ready()
            && let Some(since) = self.since.take()
        {
            self.lookout.came_after(since.elapsed());
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Expecting<S, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        content: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, content)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        contents: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, contents)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write as _, os::unix::net::UnixStream as Client};

    use tokio::net::UnixStream;

    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (client, server) = Client::pair().expect("a pair");
        server.set_nonblocking(true).expect("a socket");
        (client, UnixStream::from_std(server).expect("in a runtime"))
    }

    /// A socket of which everything before came at once.
    fn expecting<F: Fn() -> bool>(server: UnixStream, alone: F) -> Expecting<UnixStream, F> {
        let mut expecting = Expecting::new(server, alone);
        (0..100).for_each(|_| expecting.lookout.came_after(Duration::ZERO));
        expecting
    }

    /// What one poll reads; none if there is nothing.
    async fn poll_once<F: Fn() -> bool + Unpin>(
        socket: &mut Expecting<UnixStream, F>,
        most: usize,
    ) -> Option<Vec<u8>> {
        poll_fn(|context| {
            let mut memory = vec![0; most];
            let mut buffer = ReadBuf::new(&mut memory);
            let polled = Pin::new(&mut *socket).poll_read(context, &mut buffer);
            Poll::Ready(polled.is_ready().then(|| buffer.filled().to_vec()))
        })
        .await
    }

    #[tokio::test]
    async fn what_comes_during_the_look_is_read_in_the_same_turn() {
        let (mut client, server) = pair();
        let mut socket = expecting(server, || true);
        // The runtime has not seen it: this turn has not ended.
        assert_eq!(poll_once(&mut socket, 10).await, None);
        socket.since = None;
        client.write_all(b"more than enough").expect("there is room");
        assert_eq!(poll_once(&mut socket, 10).await.as_deref(), Some(&b"more than "[..]));
        socket.since = None;
        assert_eq!(poll_once(&mut socket, 10).await.as_deref(), Some(&b"enough"[..]));
        drop(client);
        socket.since = None;
        assert_eq!(poll_once(&mut socket, 10).await.as_deref(), Some(&b""[..]), "the end");
    }

    #[tokio::test]
    async fn nobody_looks_while_there_is_something_else_to_do_or_nothing_to_expect() {
        for (alone, expected) in [(true, true), (false, true), (true, false)] {
            let (mut client, server) = pair();
            let mut socket = expecting(server, || alone);
            if !expected {
                socket.lookout = Lookout::default();
            }
            assert_eq!(poll_once(&mut socket, 10).await, None);
            socket.since = None;
            client.write_all(b"x").expect("there is room");
            let seen = poll_once(&mut socket, 10).await.is_some();
            assert_eq!(seen, alone && expected);
            // Nothing is lost: the runtime sees it in its turn.
            let mut byte = [0];
            if !seen {
                tokio::io::AsyncReadExt::read_exact(&mut socket, &mut byte).await.expect("comes");
            }
        }
    }

    #[tokio::test]
    async fn after_its_turn_the_runtime_has_one() {
        let (mut client, server) = pair();
        let mut socket = expecting(server, || true);
        assert_eq!(poll_once(&mut socket, 10).await, None);
        socket.since = None;
        socket.turn = Instant::now().checked_sub(2 * TURN);
        client.write_all(b"x").expect("there is room");
        assert_eq!(poll_once(&mut socket, 10).await, None);
        socket.since = None;
        assert_eq!(poll_once(&mut socket, 10).await.as_deref(), Some(&b"x"[..]));
    }

    #[tokio::test]
    async fn long_pauses_end_the_expectation() {
        let (mut client, server) = pair();
        let mut socket = expecting(server, || true);
        assert_eq!(poll_once(&mut socket, 10).await, None);
        socket.since = Instant::now().checked_sub(Duration::from_secs(1));
        client.write_all(b"x").expect("there is room");
        let mut byte = [0];
        tokio::io::AsyncReadExt::read_exact(&mut socket, &mut byte).await.expect("comes");
        assert!(socket.lookout.patience().is_zero());
    }
}
