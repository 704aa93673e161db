//! What a guest prints: kept per invocation up to a limit, never passed to the host's own streams.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream as WasiOutputStream, Pollable, StreamError},
};

/// Bytes that are kept of one invocation; the rest is counted and dropped.
const MAX_BYTES: usize = 64 << 10;
/// Pieces that are kept of one invocation, so that tiny alternating writes stay bounded too.
const MAX_PIECES: usize = 1_024;
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

/// What one invocation printed, in its order.
#[derive(Debug, Default)]
pub struct GuestOutput {
    /// Pieces of text; neighbours are of different streams.
    pub pieces: Vec<(OutputStream, Vec<u8>)>,
    /// Bytes that were printed beyond the limit and dropped.
    pub dropped_bytes: u64,
    kept_bytes: usize,
}

impl GuestOutput {
    fn push(&mut self, stream: OutputStream, bytes: &[u8]) {
        // What follows a gap is dropped too: a part that reads as the whole misleads.
        let room = if self.dropped_bytes == 0 { MAX_BYTES - self.kept_bytes } else { 0 };
        let full = self.pieces.len() >= MAX_PIECES;
        let (kept, mut dropped) = bytes.split_at(bytes.len().min(room));
        match self.pieces.last_mut() {
            Some((last, text)) if *last == stream => text.extend_from_slice(kept),
            _ if kept.is_empty() => {}
            _ if full => dropped = bytes,
            _ => self.pieces.push((stream, kept.to_vec())),
        }
        self.kept_bytes += bytes.len() - dropped.len();
        self.dropped_bytes += dropped.len() as u64;
    }
}

/// The shared end that the guest's streams write to.
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<GuestOutput>>);

impl Capture {
    /// One of the two streams.
    pub(crate) fn stream(&self, stream: OutputStream) -> CapturedStream {
        CapturedStream { capture: self.clone(), stream }
    }

    /// Adds a line of the host's, within the same limit.
    pub(crate) fn note(&self, line: &str) {
        self.lock().push(OutputStream::System, format!("{line}\n").as_bytes());
    }

    /// Takes what was printed so far.
    pub(crate) fn take(&self) -> GuestOutput {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, GuestOutput> {
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
        self.capture.lock().push(self.stream, bytes);
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

    #[test]
    fn output_keeps_its_order_and_its_limit() {
        let capture = Capture::default();
        let (out, err) =
            (capture.stream(OutputStream::Stdout), capture.stream(OutputStream::Stderr));
        out.push(b"a");
        out.push(b"b");
        err.push(b"c");
        out.push(&vec![b'x'; MAX_BYTES]);
        err.push(b"lost");
        let output = capture.take();
        assert_eq!(output.pieces[0], (OutputStream::Stdout, b"ab".to_vec()));
        assert_eq!(output.pieces[1], (OutputStream::Stderr, b"c".to_vec()));
        assert_eq!(output.pieces[2].1.len(), MAX_BYTES - 3);
        assert_eq!(output.pieces.len(), 3);
        assert_eq!(output.dropped_bytes, 3 + 4);
    }

    #[test]
    fn alternating_streams_stay_bounded() {
        let capture = Capture::default();
        for _ in 0..MAX_PIECES {
            capture.stream(OutputStream::Stdout).push(b"a");
            capture.stream(OutputStream::Stderr).push(b"b");
        }
        let output = capture.take();
        assert_eq!(output.pieces.len(), MAX_PIECES);
        assert_eq!(output.dropped_bytes, MAX_PIECES as u64);
    }
}
