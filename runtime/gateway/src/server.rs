//! Connections: accepted up to a limit, served in HTTP/1.1 or, by prior knowledge, HTTP/2, and
//! drained at the end. It knows nothing of what is asked over them.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use crate::{Gateway, stall::Progressing};

/// Most connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// Longest time for the head of a request, and for which an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time that a client may take nothing of what is written to it.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(30);
/// Longest time for the answer to a ping, over HTTP/2.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest head of a request.
const MAX_HEAD: usize = 64 << 10;
/// Most requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Pause after the system refused to accept a connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Gateway {
    /// Serves the connections of a listener until `shutdown` resolves; then lets those that are
    /// open finish their requests, and returns once all have ended.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let accept = async {
            let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            loop {
                let slot = slots.clone().acquire_owned().await.expect("never closed");
                let socket = accept(&listener, &mut connections).await;
                connections.spawn(Arc::clone(&self).connection(socket, slot));
            }
        };
        tokio::select! {
            biased;
            () = shutdown => {}
            () = accept => {}
        }
        drop(listener);
        self.closing.cancel();
        self.leftovers.close();
        while let Some(ended) = connections.join_next().await {
            ended_well(ended);
        }
        self.leftovers.wait().await;
    }

    async fn connection(self: Arc<Self>, socket: TcpStream, slot: OwnedSemaphorePermit) {
        let _slot = slot;
        let _open = self.metrics.connection();
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "connection was gone before it was served");
            return;
        }
        let asked = Arc::new(AtomicBool::new(false));
        let service = service_fn({
            let (gateway, asked) = (Arc::clone(&self), Arc::clone(&asked));
            move |request| {
                asked.store(true, Ordering::Relaxed);
                let gateway = Arc::clone(&gateway);
                async move { Ok::<_, Infallible>(gateway.answer(request).await) }
            }
        });
        let builder = protocols();
        let socket = Progressing::new(socket, self.write_stall);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
        let mut closing = pin!(self.closing.cancelled());
        let mut silence = pin!(tokio::time::sleep(HEAD_TIMEOUT));
        let (mut drains, mut watched) = (false, true);
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
                // The protocols' own timers start only when it is known which protocol it is.
                () = &mut silence, if watched => {
                    watched = false;
                    if !asked.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
        }
    }
}

fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(MAX_HEAD as u32)
        .max_concurrent_streams(MAX_STREAMS);
    builder
}

/// The next connection. Meanwhile, connections that have ended are joined.
async fn accept(listener: &TcpListener, connections: &mut JoinSet<()>) -> TcpStream {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => return socket,
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
