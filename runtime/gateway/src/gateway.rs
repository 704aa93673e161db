//! What every request at the edge is given. Answering is in `request`, connections in `server`.

use std::{sync::Arc, time::Duration};

use prometheus::Registry;
use quern_deploy::Deployer;
use quern_dispatcher::Dispatcher;
use quern_types::{ByteSize, TenantId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{collect::BodyRoom, metrics::Metrics, server};

/// What the edge is configured by.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Largest JSON body of an inference request.
    pub max_json_body: ByteSize,
    /// Whether whoever calls owns what is called, and may see where a guest trapped.
    pub callers_are_owners: bool,
    /// The server's version, as clients see it.
    pub version: &'static str,
}

/// The HTTP edge.
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) deployer: Arc<Deployer>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    /// Who calls, as long as nobody is asked to say.
    pub(crate) tenant: TenantId,
    /// Cancelled when the server begins to drain.
    pub(crate) closing: CancellationToken,
    /// Bodies that nobody wants any more, on their way to nowhere.
    pub(crate) leftovers: TaskTracker,
    /// Memory for the bodies that are read as a whole.
    pub(crate) body_room: BodyRoom,
    /// Longest time that a client may take nothing of what is written to it.
    pub(crate) write_stall: Duration,
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
        let metrics = Metrics::register(&registry)?;
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
