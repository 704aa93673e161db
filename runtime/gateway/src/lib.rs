//! The HTTP edge: decodes requests, hands them on, encodes answers. The only place where errors
//! become status codes. It keeps nothing between requests, and runs nothing itself.

mod body;
mod collect;
mod deployments;
mod errors;
mod functions;
mod inspection;
mod invocation;
mod logs;
mod metrics;
mod multipart;
mod operations;
mod request;
mod route;
mod server;
mod stall;
mod v2;

use std::{sync::Arc, time::Duration};

use prometheus::Registry;
use quern_deploy::Deployer;
use quern_dispatcher::Dispatcher;
use quern_types::{ByteSize, TenantId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use collect::BodyRoom;
use metrics::Metrics;

/// What the edge is configured by.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Largest JSON body of an inference request.
    pub max_json_body: ByteSize,
    /// The server's version, as clients see it.
    pub version: &'static str,
}

/// The HTTP edge.
pub struct Gateway {
    config: GatewayConfig,
    deployer: Arc<Deployer>,
    dispatcher: Arc<Dispatcher>,
    registry: Registry,
    metrics: Metrics,
    /// Who calls, as long as nobody is asked to say.
    tenant: TenantId,
    /// Cancelled when the server begins to drain.
    closing: CancellationToken,
    /// Bodies that nobody wants any more, on their way to nowhere.
    leftovers: TaskTracker,
    /// Memory for the bodies that are read as a whole.
    body_room: BodyRoom,
    /// Longest time that a client may take nothing of what is written to it.
    write_stall: Duration,
}

impl Gateway {
    /// The edge of these parts; `registry` has the metrics of all.
    ///
    /// # Errors
    /// If the edge's own metrics are registered already.
    pub fn new(
        config: GatewayConfig,
        deployer: Arc<Deployer>,
        dispatcher: Arc<Dispatcher>,
        registry: Registry,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::new(&registry)?;
        Ok(Self {
            config,
            deployer,
            dispatcher,
            registry,
            metrics,
            tenant: TenantId::default(),
            closing: CancellationToken::new(),
            leftovers: TaskTracker::new(),
            body_room: BodyRoom::default(),
            write_stall: server::WRITE_STALL,
        })
    }

    /// Ends connections whose clients take nothing of what is written to them for this long,
    /// instead of 30 s.
    #[must_use]
    pub fn with_write_stall(mut self, allowed: Duration) -> Self {
        self.write_stall = allowed;
        self
    }
}
