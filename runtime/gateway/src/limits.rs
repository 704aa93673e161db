//! What bounds the edge, whatever is asked over it. It enforces nothing itself.

use std::time::Duration;

use quern_types::ByteSize;

/// The limits of the edge.
///
/// Memory that clients can make the edge hold is bounded by them: each connection has a head and
/// a window of what it has sent and nobody has read (1 MiB, over HTTP/2), all bodies that are read
/// as a whole share `body_memory`, and other bodies are passed on as they come. Connections wait for
/// their clients no longer than `write_stall` for each piece of their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// Requests of one gRPC stream that are under way at a time; the next waits to be read.
    pub stream_requests: usize,
    /// Bytes of the head of a request.
    pub head: ByteSize,
    /// Longest time for the head of a request. A connection without a request is closed after as
    /// long; over HTTP/2 it may take twice as long.
    pub head_timeout: Duration,
    /// Bytes of the body of an inference request, compressed and decompressed alike.
    pub json_body: ByteSize,
    /// Bytes that all bodies which are read as a whole have together.
    pub body_memory: ByteSize,
    /// Longest time between two parts of a request's body.
    pub body_stall: Duration,
    /// Longest time for all of a body that is read as a whole.
    pub body_timeout: Duration,
    /// Longest time that a client may take for 16 KiB of what waits for it, or for all if that is
    /// less; over HTTP/2, of all streams of a connection together.
    pub write_stall: Duration,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            streams: 256,
            stream_requests: 16,
            head: ByteSize(64 << 10),
            head_timeout: Duration::from_secs(30),
            json_body: ByteSize::mib(64),
            body_memory: ByteSize::mib(512),
            body_stall: Duration::from_secs(60),
            body_timeout: Duration::from_secs(5 * 60),
            write_stall: Duration::from_secs(30),
        }
    }
}
