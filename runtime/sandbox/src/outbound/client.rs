//! The outbound requests of one function: what it is granted, how many it has under way, and its
//! connections, which no other function ever uses.

use std::sync::{Arc, OnceLock};

use ::http::{Method, Request};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use quern_types::{ByteSize, HttpGrant, Limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{body::SentBody, connect::Connector, fault::Fault, network::Network};

/// Bytes of the head of a response.
pub(crate) const MAX_HEAD_BYTES: usize = 64 << 10;

type HttpClient = legacy::Client<Connector, SentBody>;

/// Sends the requests of one function.
pub(crate) struct Client {
    pub(crate) network: Arc<Network>,
    /// Bytes that one invocation may send and receive.
    pub(crate) bytes: ByteSize,
    grants: Vec<HttpGrant>,
    connections: u32,
    permits: Arc<Semaphore>,
    /// Made for the first request, so that a function that sends none stays small.
    http: OnceLock<HttpClient>,
}

impl Client {
    pub(crate) fn new(network: Arc<Network>, grants: &[HttpGrant], limits: &Limits) -> Self {
        let connections = limits.connections;
        Self {
            network,
            bytes: limits.outbound,
            grants: grants.to_vec(),
            connections,
            permits: Arc::new(Semaphore::new(places(connections))),
            http: OnceLock::new(),
        }
    }

    /// Whether the function may send this request, as far as its manifest says. The permit counts
    /// for as long as the request is under way.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<OwnedSemaphorePermit, Fault> {
        let url = request.uri();
        let (Some(scheme), Some(authority)) = (url.scheme(), url.authority()) else {
            let problem = "it has no scheme or no host";
            return Err(Fault::Url { url: url.to_string(), problem });
        };
        if authority.as_str().contains('@') {
            let (url, problem) = (format!("{scheme}://{}", authority.host()), "it names a user");
            return Err(Fault::Url { url, problem });
        }
        if !self.grants.iter().any(|grant| grant.allows(scheme, authority)) {
            return Err(Fault::NotGranted { origin: format!("{scheme}://{authority}") });
        }
        if request.method() == Method::CONNECT {
            return Err(Fault::Connect);
        }
        let permit = self.permits.clone().try_acquire_owned();
        permit.map_err(|_| Fault::Connections { limit: self.connections })
    }

    /// What sends requests. HTTP/1.1 alone: each connection serves one request at a time, which
    /// keeps the limits on them exact.
    pub(crate) fn http(&self) -> &HttpClient {
        self.http.get_or_init(|| {
            let kept = places(self.connections);
            let connector = Connector::new(self.network.clone(), Arc::new(Semaphore::new(kept)));
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(self.network.config.idle_timeout)
                .pool_max_idle_per_host(kept)
                .http1_max_buf_size(MAX_HEAD_BYTES)
                .build(connector)
        })
    }
}

fn places(connections: u32) -> usize {
    usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS)
}
