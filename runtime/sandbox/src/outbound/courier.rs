//! Requests that the server itself sends for its tenants: to the same addresses, by the same rules and
//! from connections of their own. What is sent and whether it is sent again is for its caller.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ::http::Request;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use quern_types::{NotSent, Receipt, retry_after};
use tokio::sync::Semaphore;

use super::{client::MAX_HEAD_BYTES, connect::Connector, fault::Fault, network::Network};

/// Connections that are kept for the next request to their server.
const KEPT: usize = 64;
/// Bytes of an answer's body that are read, so that its connection can be kept.
const MAX_BODY_BYTES: usize = 16 << 10;
/// Longest time for that: the answer's head has said it all.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

type Sending = Pin<Box<dyn Future<Output = Result<Receipt, NotSent>> + Send>>;

/// Sends requests by a server's way out.
pub(crate) struct Courier {
    http: legacy::Client<Connector, Full<Bytes>>,
}

impl Courier {
    pub(crate) fn new(network: Arc<Network>) -> Self {
        let idle = network.config.idle_timeout;
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle)
            .pool_max_idle_per_host(KEPT)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(Connector::new(network, Arc::new(Semaphore::new(KEPT))));
        Self { http }
    }
}

impl quern_types::Courier for Courier {
    fn send(&self, request: Request<Bytes>, timeout: Duration) -> Sending {
        let answer = self.http.request(request.map(Full::new));
        Box::pin(async move {
            let not_sent = |reason: String| NotSent { reason };
            let answer = tokio::time::timeout(timeout, answer).await;
            let late = |_| not_sent(format!("there was no answer within {timeout:?}"));
            let answer = answer.map_err(late)?;
            let answer = answer.map_err(|error| not_sent(Fault::of_client(&error).to_string()))?;
            let wait = retry_after(answer.headers(), SystemTime::now());
            let receipt = Receipt { status: answer.status(), retry_after: wait };
            let body = Limited::new(answer.into_body(), MAX_BODY_BYTES).collect();
            // One that is longer, or slower, costs the connection and nothing else.
            let _ = tokio::time::timeout(BODY_TIMEOUT, body).await;
            Ok(receipt)
        })
    }
}
