//! What every request at the edge is given. Answering is in `request`, connections in `server`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::Registry;
use quern_deploy::Deployer;
use quern_dispatcher::Dispatcher;
use quern_jobs::Jobs;
use quern_scoring::Scoring;
use quern_types::{Caller, HealthSource, Tracer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    CallerLimits, EdgeLimits, SharedMemoryConfig, Trouble, collect::BodyRoom, health::Concerns,
    limiter::Limiter, metrics::Metrics, openapi::Api, shared_memory::Regions, troubles::Troubles,
};

/// What the edge is configured by.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// What bounds connections and bodies, at the start.
    pub limits: EdgeLimits,
    /// What clients may register of the machine's shared memory.
    pub shared_memory: SharedMemoryConfig,
    /// Whether requests need a token; otherwise anybody may do anything, as one tenant.
    pub authenticate: bool,
    /// How much callers may ask for where they need a token.
    pub callers: CallerLimits,
    /// Where nobody needs a token: whether whoever calls owns what is called, and may see where a
    /// guest trapped. Where tokens are needed, their roles say so.
    pub callers_are_owners: bool,
    /// Begins the traces of requests; none: there are none.
    pub tracer: Option<Arc<Tracer>>,
    /// The server's version, as clients see it.
    pub version: &'static str,
}

/// What the edge hands requests on to.
pub struct GatewayServices {
    /// Makes and changes what is called.
    pub deployer: Arc<Deployer>,
    /// Calls it.
    pub dispatcher: Arc<Dispatcher>,
    /// Keeps calls that are carried out later.
    pub jobs: Arc<Jobs>,
    /// Scores files of rows.
    pub scoring: Arc<Scoring>,
}

/// The HTTP edge.
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) deployer: Arc<Deployer>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) scoring: Arc<Scoring>,
    pub(crate) registry: Registry,
    /// What there is to ask for.
    pub(crate) api: Api,
    pub(crate) metrics: Metrics,
    /// Counts what callers ask for.
    pub(crate) limiter: Limiter,
    pub(crate) troubles: Arc<Troubles>,
    limits: ArcSwap<EdgeLimits>,
    /// Who calls, where nobody is asked.
    pub(crate) unasked: Caller,
    /// Who calls without a token where others need one.
    pub(crate) anonymous: Caller,
    /// Cancelled when the server begins to drain.
    pub(crate) closing: CancellationToken,
    /// Bodies that nobody wants any more, on their way to nowhere.
    pub(crate) leftovers: TaskTracker,
    /// Memory for the bodies that are read as a whole.
    pub(crate) body_room: BodyRoom,
    /// The shared memory that clients have registered.
    pub(crate) regions: Regions,
    /// The parts that know whether something is wrong with them.
    pub(crate) health: Arc<[Arc<dyn HealthSource>]>,
}

impl Gateway {
    /// The edge of these parts; `registry` has the metrics of all.
    ///
    /// # Errors
    /// If the edge's own metrics are registered already.
    pub fn new(
        config: GatewayConfig,
        services: GatewayServices,
        registry: Registry,
    ) -> Result<Self, prometheus::Error> {
        let GatewayServices { deployer, dispatcher, scoring, jobs } = services;
        let metrics = Metrics::register(&registry)?;
        let limiter = Limiter::new(config.callers, &registry)?;
        let limits = ArcSwap::from_pointee(config.limits);
        let body_room = BodyRoom::new(&config.limits);
        let api = Api::new(config.version, config.authenticate);
        let regions = Regions::new(config.shared_memory.clone(), &registry)?;
        Ok(Self {
            config,
            deployer,
            dispatcher,
            jobs,
            scoring,
            registry,
            api,
            metrics,
            limiter,
            troubles: Arc::default(),
            limits,
            unasked: Caller::unasked(),
            anonymous: Caller::anonymous(),
            closing: CancellationToken::new(),
            leftovers: TaskTracker::new(),
            body_room,
            regions,
            health: Arc::new([]),
        })
    }

    /// The same, asking these parts whether something is wrong with them.
    ///
    /// # Errors
    /// If that is registered as a metric already.
    pub fn with_health(
        mut self,
        sources: Vec<Arc<dyn HealthSource>>,
    ) -> Result<Self, prometheus::Error> {
        let troubles: Arc<dyn HealthSource> = self.troubles.clone();
        self.health = std::iter::once(troubles).chain(sources).collect();
        self.registry.register(Box::new(Concerns::new(self.health.clone())?))?;
        Ok(self)
    }

    /// What bounds connections and bodies at the moment.
    pub(crate) fn limits(&self) -> EdgeLimits {
        **self.limits.load()
    }

    /// Bounds by other limits what begins from now on. The number of connections, and the room and
    /// the time of bodies that are read as a whole, stay as they were at the start.
    pub fn set_limits(&self, limits: EdgeLimits) {
        self.limits.store(Arc::new(limits));
    }

    /// Says whether there is something that an operator has to see to.
    pub fn set_trouble(&self, trouble: Trouble, is_there: bool) {
        self.troubles.set(trouble, is_there);
    }
}
