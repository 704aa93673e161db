//! What a guest prints and logs: kept per invocation up to `limits.log`, never passed to the host's
//! own streams.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use quern_types::{ByteSize, LogLevel};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream as WasiOutputStream, Pollable, StreamError},
};

/// Pieces that are kept of one invocation for each this many bytes of its limit, so that tiny
/// alternating writes stay bounded too.
const PIECE_BYTES: u64 = 64;
/// Bytes that a guest may pass in one write.
const WRITE_BYTES: usize = 64 << 10;

/// Where a guest printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error; Rust's panic messages go there.
    Stderr,
    /// Not the guest: the host, about what it refused the guest.
    System,
}

/// A piece of what a guest wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// It printed this.
    Printed {
        /// Where.
        stream: OutputStream,
        /// What, not yet checked to be text.
        bytes: Vec<u8>,
    },
    /// It logged this.
    Logged {
        /// How much the message matters.
        level: LogLevel,
        /// What groups it with others.
        context: String,
        /// The message.
        message: String,
    },
}

/// What one invocation printed and logged, in its order.
#[derive(Debug, Default)]
pub struct GuestOutput {
    /// All that is kept; printed neighbours are of different streams.
    pub pieces: Vec<Piece>,
    /// Bytes that were written beyond the limit and dropped.
    pub dropped_bytes: u64,
}

/// What is written, up to a limit.
struct Output {
    kept: GuestOutput,
    kept_bytes: usize,
    limit: ByteSize,
}

impl Output {
    /// Bytes that there is still room for. What follows a gap is dropped too: a part that reads as
    /// the whole misleads.
    fn room(&self) -> usize {
        if self.kept.dropped_bytes > 0 {
            return 0;
        }
        usize::try_from(self.limit.0).unwrap_or(usize::MAX).saturating_sub(self.kept_bytes)
    }

    fn is_full(&self) -> bool {
        self.kept.pieces.len() as u64 >= self.limit.0.div_ceil(PIECE_BYTES)
    }

    fn print(&mut self, stream: OutputStream, bytes: &[u8]) {
        let full = self.is_full();
        let (kept, mut dropped) = bytes.split_at(bytes.len().min(self.room()));
        match self.kept.pieces.last_mut() {
            Some(Piece::Printed { stream: last, bytes: text }) if *last == stream => {
                text.extend_from_slice(kept);
            }
            _ if kept.is_empty() => {}
            _ if full => dropped = bytes,
            _ => self.kept.pieces.push(Piece::Printed { stream, bytes: kept.to_vec() }),
        }
        self.kept_bytes += bytes.len() - dropped.len();
        self.kept.dropped_bytes += dropped.len() as u64;
    }

    /// A message is kept as a whole or not at all; it counts one byte for the end of its line.
    fn log(&mut self, level: LogLevel, context: String, message: String) {
        let bytes = context.len() + message.len() + 1;
        if bytes > self.room() || self.is_full() {
            self.kept.dropped_bytes += bytes as u64;
        } else {
            self.kept_bytes += bytes;
            self.kept.pieces.push(Piece::Logged { level, context, message });
        }
    }
}

/// The shared end that the guest's streams and its log write to.
#[derive(Clone)]
pub(crate) struct Capture(Arc<Mutex<Output>>);

impl Capture {
    /// Keeps so much of what is written.
    pub(crate) fn new(limit: ByteSize) -> Self {
        let output = Output { kept: GuestOutput::default(), kept_bytes: 0, limit };
        Self(Arc::new(Mutex::new(output)))
    }

    /// One of the two streams.
    pub(crate) fn stream(&self, stream: OutputStream) -> CapturedStream {
        CapturedStream { capture: self.clone(), stream }
    }

    /// A message of the guest's own log.
    pub(crate) fn log(&self, level: LogLevel, context: String, message: String) {
        self.lock().log(level, context, message);
    }

    /// Adds a line of the host's, within the same limit.
    pub(crate) fn note(&self, line: &str) {
        self.lock().print(OutputStream::System, format!("{line}\n").as_bytes());
    }

    /// Takes what was written so far; the limit begins anew.
    pub(crate) fn take(&self) -> GuestOutput {
        let mut output = self.lock();
        output.kept_bytes = 0;
        std::mem::take(&mut output.kept)
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standard output or standard error of a guest.
#[derive(Clone)]
pub(crate) struct CapturedStream {
    capture: Capture,
    stream: OutputStream,
}

impl CapturedStream {
    fn push(&self, bytes: &[u8]) {
        self.capture.lock().print(self.stream, bytes);
    }
}

impl IsTerminal for CapturedStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for CapturedStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn WasiOutputStream> {
        Box::new(self.clone())
    }
}

impl WasiOutputStream for CapturedStream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for CapturedStream {
    async fn ready(&mut self) {}
}

impl AsyncWrite for CapturedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 10;
    const PIECES: usize = LIMIT / PIECE_BYTES as usize;

    fn capture() -> Capture {
        Capture::new(ByteSize(LIMIT as u64))
    }

    fn printed(stream: OutputStream, bytes: &[u8]) -> Piece {
        Piece::Printed { stream, bytes: bytes.to_vec() }
    }

    fn logged(message: &str) -> Piece {
        let (context, message) = ("c".to_owned(), message.to_owned());
        Piece::Logged { level: LogLevel::Info, context, message }
    }

    #[test]
    fn output_keeps_its_order_and_its_limit() {
        let capture = capture();
        let (out, err) =
            (capture.stream(OutputStream::Stdout), capture.stream(OutputStream::Stderr));
        out.push(b"a");
        out.push(b"b");
        capture.log(LogLevel::Info, "c".into(), "m".into());
        out.push(b"d");
        err.push(b"e");
        out.push(&[b'x'; LIMIT]);
        err.push(b"lost");
        capture.log(LogLevel::Info, "c".into(), "lost".into());
        let output = capture.take();
        let expected = [
            printed(OutputStream::Stdout, b"ab"),
            logged("m"),
            printed(OutputStream::Stdout, b"d"),
            printed(OutputStream::Stderr, b"e"),
            printed(OutputStream::Stdout, &[b'x'; LIMIT - 7]),
        ];
        assert_eq!(output.pieces, expected);
        assert_eq!(output.dropped_bytes, 7 + 4 + 6);
    }

    #[test]
    fn a_message_is_kept_as_a_whole_or_not_at_all() {
        let capture = capture();
        let log = |length: usize| capture.log(LogLevel::Info, "c".into(), "x".repeat(length));
        log(LIMIT - 2);
        let output = capture.take();
        assert_eq!((output.pieces.len(), output.dropped_bytes), (1, 0), "just fits");
        log(LIMIT - 1);
        log(0);
        let output = capture.take();
        assert_eq!((output.pieces.len(), output.dropped_bytes), (0, LIMIT as u64 + 1 + 2));
    }

    #[test]
    fn tiny_pieces_stay_bounded() {
        let capture = capture();
        for _ in 0..PIECES {
            capture.stream(OutputStream::Stdout).push(b"a");
            capture.stream(OutputStream::Stderr).push(b"b");
        }
        capture.log(LogLevel::Info, String::new(), String::new());
        let output = capture.take();
        assert_eq!(output.pieces.len(), PIECES);
        assert_eq!(output.dropped_bytes, PIECES as u64 + 1);
    }
}
