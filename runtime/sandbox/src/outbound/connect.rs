//! Makes connections, to checked addresses alone: what is resolved is checked, and what is checked
//! is what is connected to, so that a name can't change its mind in between.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use ::http::{Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tower_service::Service;

use super::{fault::Fault, network::Network};

/// Addresses of one name that are tried.
const MOST_ATTEMPTS: usize = 8;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send>>;

/// Makes the connections of one function.
#[derive(Clone)]
pub(crate) struct Connector(Tcp);

impl Connector {
    /// Of the connections, as many as `kept` has places are used again.
    pub(crate) fn new(network: Arc<Network>, kept: Arc<Semaphore>) -> Self {
        Self(Tcp { network, kept })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<Socket>>;
    type Error = Fault;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let mut tcp = self.0.clone();
        Box::pin(async move {
            let network = tcp.network.clone();
            let host = url.host().unwrap_or_default().to_owned();
            let connect = async {
                if url.scheme() == Some(&Scheme::HTTP) {
                    return Ok(MaybeHttpsStream::Http(tcp.call(url).await?));
                }
                let certificates = network.certificates().await?;
                let connected = HttpsConnector::from((tcp, certificates)).call(url).await;
                connected.map_err(|error| match error.downcast::<Fault>() {
                    Ok(fault) => *fault,
                    Err(error) => Fault::of_handshake(&host, &*error),
                })
            };
            let in_time = timeout(network.config.connect_timeout, connect).await;
            in_time.unwrap_or_else(|_| Err(Fault::ConnectTimeout { host: host.clone() }))
        })
    }
}

/// Makes connections without TLS.
#[derive(Clone)]
struct Tcp {
    network: Arc<Network>,
    kept: Arc<Semaphore>,
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<Socket>;
    type Error = Fault;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let tcp = self.clone();
        Box::pin(async move {
            let host = url.host().unwrap_or_default();
            let default_port = if url.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
            let port = url.port_u16().unwrap_or(default_port);
            let start = Instant::now();
            let addresses = tcp.network.addresses(host, port).await?;
            let stream = tcp.connect(host, &addresses, start).await?;
            let place = tcp.kept.try_acquire_owned().ok();
            Ok(TokioIo::new(Socket { stream, place }))
        })
    }
}

impl Tcp {
    /// Tries the addresses in turn, each for its share of the time that is left.
    async fn connect(
        &self,
        host: &str,
        addresses: &[SocketAddr],
        start: Instant,
    ) -> Result<TcpStream, Fault> {
        let host = host.to_owned();
        let attempts = addresses.len().min(MOST_ATTEMPTS);
        let mut fault = Fault::ConnectTimeout { host: host.clone() };
        for (tried, address) in addresses.iter().take(attempts).enumerate() {
            let left = self.network.config.connect_timeout.saturating_sub(start.elapsed());
            let share = left / u32::try_from(attempts - tried).unwrap_or(u32::MAX);
            fault = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A request is written in pieces: none of them shall wait for an answer.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => connect_fault(&host, &error),
                Err(_) => Fault::ConnectTimeout { host: host.clone() },
            };
        }
        Err(fault)
    }
}

fn connect_fault(host: &str, error: &io::Error) -> Fault {
    let (host, detail) = (host.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Fault::Refused { host },
        io::ErrorKind::TimedOut => Fault::ConnectTimeout { host },
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Fault::Unroutable { host, detail }
        }
        _ => Fault::Unavailable { host, detail },
    }
}

/// A connection. One without a place among those that are kept serves one request.
pub(crate) struct Socket {
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.place.is_none() {
            connected.poison();
        }
        connected
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
