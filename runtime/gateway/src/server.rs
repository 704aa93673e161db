//! Connections: accepted up to a limit, served in HTTP/1.1 or HTTP/2, with TLS or by prior
//! knowledge, and drained at the end. It knows nothing of what is asked over them.

use std::{
    convert::Infallible, future::Future, io, net::IpAddr, pin::pin, sync::Arc, time::Duration,
};

use http::{HeaderValue, Request, Version, header::CONNECTION};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::{
    EdgeLimits, Gateway, Tls,
    activity::{Activity, Mark, Pulse, Watched},
    expecting::Expecting,
    self_woken::SelfWoken,
    stall::{PIECE, Progressing},
    tls::{HandshakeError, Place},
    uptake::Streams,
};

/// Longest time for the answer to a ping, over HTTP/2.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after the system refused to accept a connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection is waited for, once the server drains, over which a request may be on its
/// way: to close it at once could lose that.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where connections come in.
pub struct Listeners {
    /// For everything.
    pub http: TcpListener,
    /// For gRPC alone, which `http` has as well.
    pub grpc: Option<TcpListener>,
    /// What connections of both are encrypted with.
    pub tls: Option<Arc<Tls>>,
}

impl From<TcpListener> for Listeners {
    fn from(http: TcpListener) -> Self {
        Self { http, grpc: None, tls: None }
    }
}

impl Listeners {
    async fn accept(&self) -> io::Result<(TcpStream, Offer)> {
        let grpc = async {
            match &self.grpc {
                Some(grpc) => grpc.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.http.accept() => accepted.map(|(socket, _)| (socket, Offer::Everything)),
            accepted = grpc => accepted.map(|(socket, _)| (socket, Offer::Grpc)),
        }
    }
}

/// What a connection may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Everything,
    Grpc,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// What may be asked for there.
    pub(crate) offer: Offer,
    /// The other end of the connection.
    pub(crate) address: IpAddr,
}

impl Gateway {
    /// Serves the connections of listeners until `shutdown` resolves; then lets those that are
    /// open finish their requests, and returns once all have ended.
    pub async fn serve(
        self: Arc<Self>,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
    ) {
        let listeners = listeners.into();
        let mut connections = JoinSet::new();
        let accept = async {
            let slots = Arc::new(Semaphore::new(self.limits().connections));
            loop {
                let slot = slots.clone().acquire_owned().await.expect("never closed");
                let (socket, offer) = accept(&listeners, &mut connections).await;
                let tls = listeners.tls.as_ref().map(|tls| (Arc::clone(tls), tls.enter()));
                let arrival = Arrival { socket, offer, tls };
                let connection = Arc::clone(&self).connection(arrival, slot);
                connections.spawn(SelfWoken::new(connection));
            }
        };
        tokio::select! {
            biased;
            () = shutdown => {}
            () = accept => {}
        }
        drop(listeners);
        self.closing.cancel();
        self.leftovers.close();
        while let Some(ended) = connections.join_next().await {
            ended_well(ended);
        }
        self.leftovers.wait().await;
    }

    async fn connection(self: Arc<Self>, arrival: Arrival, slot: OwnedSemaphorePermit) {
        let _slot = slot;
        let _open = self.metrics.connection();
        let Arrival { socket, offer, tls } = arrival;
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "connection was gone before it was served");
            return;
        }
        let Ok(address) = socket.peer_addr() else { return };
        let origin = Origin { offer, address: address.ip() };
        let activity = Arc::new(Activity::default());
        let alone = {
            let (gateway, activity) = (Arc::clone(&self), Arc::clone(&activity));
            move || activity.is_at_rest() && gateway.metrics.is_only_connection()
        };
        let expecting = |socket| Expecting::new(socket, alone);
        let socket = match tls {
            None => Either::Left(expecting(socket)),
            Some((tls, place)) => {
                match Box::pin(self.encrypt(&tls, place, socket, expecting)).await {
                    Ok(socket) => Either::Right(socket),
                    Err(error) => {
                        tracing::debug!(%error, "no connection");
                        return;
                    }
                }
            }
        };
        self.serve_connection(socket, origin, activity).await;
    }

    /// Makes an encrypted connection, for which there is not much time once the server drains.
    async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        tls: &Tls,
        place: Place,
        socket: TcpStream,
        wrap: impl FnOnce(TcpStream) -> S,
    ) -> Result<Box<TlsStream<S>>, HandshakeError> {
        let late = async {
            self.closing.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            biased;
            accepted = tls.accept(place, socket, wrap) => accepted.map(Box::new),
            () = late => Err(HandshakeError::Stalled(FAREWELL)),
        }
    }

    async fn serve_connection(
        self: Arc<Self>,
        socket: impl AsyncRead + AsyncWrite + Unpin + 'static,
        origin: Origin,
        activity: Arc<Activity>,
    ) {
        let limits = self.limits();
        let service = service_fn({
            let (gateway, activity) = (Arc::clone(&self), Arc::clone(&activity));
            move |request: Request<Incoming>| {
                let version = request.version();
                let underway = activity.begin(version);
                let gateway = Arc::clone(&gateway);
                async move {
                    let mut reply = gateway.answer(origin, request).await;
                    if version < Version::HTTP_2 && gateway.closing.is_cancelled() {
                        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, Infallible>(Watched::reply(reply, underway))
                }
            }
        });
        let builder = protocols(&limits);
        let socket = Progressing::new(socket, limits.write_stall);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
        let mut closing = pin!(self.closing.cancelled());
        let mut look = pin!(tokio::time::sleep(limits.head_timeout));
        let (mut mark, mut watch, mut drains) = (Mark::default(), Watch::On, false);
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "connection ended early");
                    }
                    return;
                }
                () = &mut closing, if !drains => {
                    drains = true;
                    match activity.pulse(mark) {
                        // The next request is answered, and told that it is the last one.
                        Pulse::Silent | Pulse::Http1 => {
                            watch = Watch::Farewell;
                            look.as_mut().reset(Instant::now() + FAREWELL);
                        }
                        // HTTP/2 tells the client which requests it has taken.
                        Pulse::Busy(_) | Pulse::Idle => connection.as_mut().graceful_shutdown(),
                    }
                }
                () = &mut look, if watch != Watch::Off => {
                    let again = match (watch, activity.pulse(mark)) {
                        (Watch::Farewell, _) => {
                            connection.as_mut().graceful_shutdown();
                            watch = Watch::Off;
                            continue;
                        }
                        // The protocols' own timers start only when it is known which it is.
                        (Watch::Last, _) | (_, Pulse::Silent) => return,
                        (_, Pulse::Http1) => {
                            watch = Watch::Off;
                            continue;
                        }
                        (_, Pulse::Busy(now)) => {
                            mark = now;
                            limits.head_timeout
                        }
                        // Pings keep it alive, but it is of no use. What is left of a response is
                        // still sent, for a while.
                        (_, Pulse::Idle) => {
                            connection.as_mut().graceful_shutdown();
                            watch = Watch::Last;
                            limits.body_timeout
                        }
                    };
                    look.as_mut().reset(Instant::now() + again);
                }
            }
        }
    }
}

/// A connection that was accepted.
struct Arrival {
    socket: TcpStream,
    offer: Offer,
    /// What it is encrypted with, and its place among those that begin to be.
    tls: Option<(Arc<Tls>, Place)>,
}

/// Whether a connection is looked at from time to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// It may turn out to be idle.
    On,
    /// Its protocol does it.
    Off,
    /// It was told to end; at the next look it is cut off.
    Last,
    /// The server drains; at the next look it is told to end.
    Farewell,
}

fn protocols(limits: &EdgeLimits) -> auto::Builder<Streams> {
    let head_bytes = usize::try_from(limits.head.0).unwrap_or(usize::MAX);
    let mut builder = auto::Builder::new(Streams::new(limits.write_stall));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(head_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head_timeout)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        // What waits for the socket is neither taken yet nor free: no more of it than is seen.
        .max_send_buf_size(PIECE)
        .max_concurrent_streams(limits.streams);
    builder
}

/// The next connection. Meanwhile, connections that have ended are joined.
async fn accept(listeners: &Listeners, connections: &mut JoinSet<()>) -> (TcpStream, Offer) {
    loop {
        tokio::select! {
            accepted = listeners.accept() => match accepted {
                Ok(accepted) => return accepted,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted: trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => ended_well(ended),
        }
    }
}

/// Whether an error concerns the connection that was to be accepted, and no other.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Requests catch their own panics: one here is a fault of the connection's machinery.
fn ended_well(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "connection was lost to a fault of the server");
    }
}

#[cfg(test)]
mod tests;
