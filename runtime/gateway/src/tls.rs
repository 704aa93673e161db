//! TLS in front of connections: handshakes that are bounded in time and number, with a certificate
//! that can be exchanged while they go on. It reads no files, and knows no more of HTTP than how to
//! refuse it.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use prometheus::Registry;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

mod metrics;
mod queue;

use metrics::Metrics;
pub(crate) use queue::Place;
use queue::Queue;

/// The first byte of every connection that begins a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;
/// The most that is read of a request in the clear before its connection is closed.
const MOST_PLAIN: u64 = 64 << 10;
/// What a request in the clear is told.
const PLAIN: &str = r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"this port speaks TLS: write https:// instead of http://","code":"invalid-request"}"#;

/// Who a server is: its chain of certificates, its own first, and the key of that one.
#[derive(Debug)]
pub struct Identity {
    /// The certificates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

/// What bounds handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// Longest time for one.
    pub timeout: Duration,
    /// Handshakes at a time; with one more, the one that has taken longest is ended.
    pub most: usize,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), most: 512 }
    }
}

/// What connections are encrypted with.
pub struct Tls {
    config: ArcSwap<ServerConfig>,
    limits: HandshakeLimits,
    queue: Queue,
    metrics: Metrics,
}

/// Why TLS can't be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificate and key don't go together, or are of a kind that is not known.
    #[error("certificate and key can't be used: {0}")]
    Identity(#[from] rustls::Error),
    /// A metric of this name is registered already.
    #[error("metrics can't be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Why there is no connection. None of it concerns another one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the client did not complete the handshake within {0:?}")]
    Stalled(Duration),
    #[error("there are too many handshakes, and this one has taken longest")]
    Displaced,
    #[error("the client speaks no TLS")]
    Plain,
    #[error("the handshake failed: {0}")]
    Failed(#[from] io::Error),
}

impl Tls {
    /// TLS in the name of `identity`.
    ///
    /// # Errors
    /// If certificate and key don't go together, or the metrics are registered already.
    pub fn new(
        identity: Identity,
        limits: HandshakeLimits,
        registry: &Registry,
    ) -> Result<Self, TlsError> {
        let config = ArcSwap::from(server_config(identity)?);
        let metrics = Metrics::register(registry)?;
        Ok(Self { config, limits, queue: Queue::new(limits.most), metrics })
    }

    /// Takes another identity for handshakes that begin from now on. After an error it is still the
    /// one before.
    ///
    /// # Errors
    /// If certificate and key don't go together.
    pub fn replace(&self, identity: Identity) -> Result<(), TlsError> {
        self.config.store(server_config(identity)?);
        Ok(())
    }

    /// A place for the handshake of a connection that has just come: those that came before it
    /// give way first.
    pub(crate) fn enter(&self) -> Place {
        self.queue.enter()
    }

    /// Makes a connection of a socket, which `wrap` may put something around first. The future may
    /// be dropped at any time.
    pub(crate) async fn accept<S>(
        &self,
        place: Place,
        socket: TcpStream,
        wrap: impl FnOnce(TcpStream) -> S,
    ) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { config, limits, .. } = self;
        let outcome = tokio::select! {
            biased;
            outcome = handshake(config.load_full(), socket, wrap) => outcome,
            () = place.lost() => Err(HandshakeError::Displaced),
            () = tokio::time::sleep(limits.timeout) => Err(HandshakeError::Stalled(limits.timeout)),
        };
        self.metrics.ended(outcome.as_ref().err());
        outcome
    }
}

/// HTTP/2 and HTTP/1.1, by what the client prefers.
fn server_config(Identity { chain, key }: Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

async fn handshake<S>(
    config: Arc<ServerConfig>,
    socket: TcpStream,
    wrap: impl FnOnce(TcpStream) -> S,
) -> Result<TlsStream<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut first = [0];
    if socket.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if first != [HANDSHAKE] {
        refuse(socket).await?;
        return Err(HandshakeError::Plain);
    }
    Ok(TlsAcceptor::from(config).accept(wrap(socket)).await?)
}

/// Tells a client in the clear what it has mistaken. What it sends is read for a while: a
/// connection that is closed with something unread loses the answer, too.
async fn refuse(mut socket: TcpStream) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\
         quern-error: invalid-request\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        PLAIN.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(PLAIN.as_bytes()).await?;
    socket.shutdown().await?;
    tokio::io::copy(&mut socket.take(MOST_PLAIN), &mut tokio::io::sink()).await?;
    Ok(())
}
