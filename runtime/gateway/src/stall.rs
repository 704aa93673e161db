//! A socket whose writes must make progress: a client that never reads can't hold a connection.
//! What is written, and when a connection may be idle, is not decided here.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// Fails a write that waits longer than allowed without taking a byte.
pub(crate) struct Progressing<S> {
    socket: S,
    allowed: Duration,
    /// Made by the first write that has to wait.
    alarm: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl<S> Progressing<S> {
    pub(crate) fn new(socket: S, allowed: Duration) -> Self {
        Self { socket, allowed, alarm: None, armed: false }
    }

    /// Passes the outcome of a write on, unless it has waited too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.armed = false;
            return outcome;
        }
        let allowed = self.allowed;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed)));
        if !self.armed {
            alarm.as_mut().reset(Instant::now() + allowed);
            self.armed = true;
        }
        std::task::ready!(alarm.as_mut().poll(context));
        let reason = format!("the client has read nothing for {allowed:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Progressing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Progressing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        content: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(context, content);
        self.watch(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        contents: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, contents);
        self.watch(context, outcome)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_served_and_one_that_stops_is_not() {
        let (mut client, server) = tokio::io::duplex(8);
        let mut server = Progressing::new(server, Duration::from_millis(400));
        let writing = tokio::spawn(async move { server.write_all(&[b'x'; 1000]).await });
        // Twice the time allowed, in steps that are shorter.
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(!writing.is_finished(), "it makes progress");
            client.read_exact(&mut [0; 8]).await.expect("there is more");
        }
        let error = writing.await.expect("no panic").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "the client has read nothing for 400ms");
    }
}
