//! The least that an HTTP server can do, on the same hyper and the same threads: reads a request,
//! answers a word. What no server on this machine, under this load, will exceed.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Starts it on the runtime of the caller, for as long as that lives.
pub(crate) async fn start() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Without it, a small answer waits for the client's delayed acknowledgement.
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(connection);
        }
    });
    Ok(address)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off ends the connection anyway.
    drop(request.into_body().collect().await);
    Ok(Response::new(Full::new(Bytes::from_static(b"hello\n"))))
}
