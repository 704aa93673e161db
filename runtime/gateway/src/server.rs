//! Connections: accepted up to a limit, served in HTTP/1.1 or, by prior knowledge, HTTP/2, and
//! drained at the end. It knows nothing of what is asked over them.

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Instant,
};

use crate::{
    EdgeLimits, Gateway,
    activity::{Activity, Mark, Pulse, Watched},
    expecting::Expecting,
    self_woken::SelfWoken,
    stall::Progressing,
};

/// Longest time for the answer to a ping, over HTTP/2.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after the system refused to accept a connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come in.
#[derive(Debug)]
pub struct Listeners {
    /// For everything.
    pub http: TcpListener,
    /// For gRPC alone, which `http` has as well.
    pub grpc: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(http: TcpListener) -> Self {
        Self { http, grpc: None }
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
            let slots = Arc::new(Semaphore::new(self.config.limits.connections));
            loop {
                let slot = slots.clone().acquire_owned().await.expect("never closed");
                let (socket, offer) = accept(&listeners, &mut connections).await;
                let connection = Arc::clone(&self).connection(socket, offer, slot);
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

    async fn connection(
        self: Arc<Self>,
        socket: TcpStream,
        offer: Offer,
        slot: OwnedSemaphorePermit,
    ) {
        let _slot = slot;
        let _open = self.metrics.connection();
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "connection was gone before it was served");
            return;
        }
        let limits = &self.config.limits;
        let activity = Arc::new(Activity::default());
        let service = service_fn({
            let (gateway, activity) = (Arc::clone(&self), Arc::clone(&activity));
            move |request: Request<Incoming>| {
                let underway = activity.begin(request.version());
                let gateway = Arc::clone(&gateway);
                async move {
                    let reply = gateway.answer(offer, request).await;
                    Ok::<_, Infallible>(Watched::reply(reply, underway))
                }
            }
        });
        let builder = protocols(limits);
        let alone = {
            let (gateway, activity) = (Arc::clone(&self), Arc::clone(&activity));
            move || activity.is_at_rest() && gateway.metrics.is_only_connection()
        };
        let socket = Progressing::new(Expecting::new(socket, alone), limits.write_stall);
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
                    connection.as_mut().graceful_shutdown();
                }
                () = &mut look, if watch != Watch::Off => {
                    let again = match (watch, activity.pulse(mark)) {
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

/// Whether a connection is looked at from time to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// It may turn out to be idle.
    On,
    /// Its protocol does it.
    Off,
    /// It was told to end; at the next look it is cut off.
    Last,
}

fn protocols(limits: &EdgeLimits) -> auto::Builder<TokioExecutor> {
    let head_bytes = usize::try_from(limits.head.0).unwrap_or(usize::MAX);
    let mut builder = auto::Builder::new(TokioExecutor::new());
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
