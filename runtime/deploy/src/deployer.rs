//! The one way in which anything that is deployed changes. Never looks into an upload itself.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::Stream;
use prometheus::Registry;
use quern_sandbox::Sandbox;
use quern_store::{DeleteVersionError, LogPage, LogQuery, StageError, StagedBlob, Store};
use quern_types::{
    ByteSize, Caller, Class, Device, Digest, FunctionManifest, FunctionSpec, LimitRules, ModelSpec,
    Name, ReplicaOffers, Routes, Span, SpanKind, TenantId, Trace, TrafficOutcomes, VersionNumber,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{
    DeployError,
    artifacts::Artifacts,
    canary::{self, Canaries},
    function,
    metrics::{DeployMetrics, EndedCanaries},
    model,
};

/// Uploads that are compiled or tried at the same time, each of which takes a processor and holds
/// a whole upload in memory. The others wait as files.
const AT_ONCE: usize = 2;

/// Uploads and deployments under way at the same time, those that wait for a turn included. With
/// the limit of one upload it bounds the disk that uploads take.
const MOST_UNDER_WAY: usize = 64;

/// What deployments keep to.
#[derive(Debug, Clone)]
pub struct DeployConfig {
    /// Largest component or model.
    pub max_upload: ByteSize,
    /// Most rows in one run of a model whose manifest does not say.
    pub default_max_batch: u32,
    /// What functions whose manifests don't say are limited to, and what none can exceed.
    pub limits: LimitRules,
}

/// Deploys, rolls back and deletes functions and models.
pub struct Deployer {
    pub(crate) parts: Arc<Parts>,
    metrics: DeployMetrics,
    pub(crate) under_way: TaskTracker,
    slots: Arc<Semaphore>,
}

/// The parts of a server that deployments work with.
pub struct DeployServices {
    /// What is deployed.
    pub store: Arc<Store>,
    /// Validates and compiles components.
    pub sandbox: Arc<Sandbox>,
    /// Tries models.
    pub device: Arc<dyn Device>,
    /// Takes models that were warmed up.
    pub offers: Arc<dyn ReplicaOffers>,
    /// Counts how the requests to versions end.
    pub outcomes: Arc<dyn TrafficOutcomes>,
}

/// An upload on the disk, which counts as a deployment under way. Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    blob: StagedBlob,
    slot: OwnedSemaphorePermit,
}

/// An uploaded model.
#[derive(Debug)]
pub struct ModelUpload {
    /// What it is uploaded as.
    pub form: ModelForm,
    /// The upload.
    pub content: Staged,
    /// Whether it gets requests at once.
    pub activation: Activation,
    /// Where its upload stands in a trace.
    pub trace: Trace,
}

/// An uploaded function.
#[derive(Debug)]
pub struct FunctionUpload {
    /// The component.
    pub content: Staged,
    /// Whether it gets requests at once.
    pub activation: Activation,
    /// Where its upload stands in a trace.
    pub trace: Trace,
}

/// Whether a new version gets requests as soon as it is deployed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activation {
    /// All of them.
    #[default]
    Live,
    /// Only those that ask for it, until somebody gives it more; the first version of a name gets
    /// all of them even so.
    Waiting,
}

/// What a model is uploaded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelForm {
    /// An ONNX file with all that belongs to it.
    Onnx,
    /// A tar archive of an ONNX file and the files that hold its weights.
    Tar,
}

/// A version that can be called now.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// What it is a version of.
    pub name: Name,
    /// Its number.
    pub version: VersionNumber,
    /// Names manifest and content together.
    pub digest: Digest,
    /// Whether it is new; otherwise the same was kept already.
    pub created: bool,
    /// Whether it is live.
    pub live: bool,
    /// What it is.
    pub kind: DeployedKind,
    /// For functions, how long compiling took; next to nothing where the code was there already.
    pub compile: Option<Duration>,
}

/// What was deployed.
#[derive(Debug, Clone, PartialEq)]
pub enum DeployedKind {
    /// A function.
    Function(Arc<FunctionSpec>),
    /// A model.
    Model(Arc<ModelSpec>),
}

/// What deployments are made with.
pub(crate) struct Parts {
    pub(crate) config: DeployConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) offers: Arc<dyn ReplicaOffers>,
    pub(crate) outcomes: Arc<dyn TrafficOutcomes>,
    pub(crate) artifacts: Arc<Artifacts>,
    pub(crate) canaries: Canaries,
    pub(crate) ended: EndedCanaries,
    turns: Arc<Semaphore>,
}

impl Deployer {
    /// A deployer over these parts of the server, and the task that looks at its canaries for as
    /// long as it lives.
    pub fn new(
        config: DeployConfig,
        services: DeployServices,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let DeployServices { store, sandbox, device, offers, outcomes } = services;
        let parts = Arc::new(Parts {
            config,
            store,
            sandbox,
            device,
            offers,
            outcomes,
            artifacts: Arc::new(Artifacts::default()),
            canaries: Canaries::default(),
            ended: EndedCanaries::register(registry)?,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        });
        tokio::spawn(canary::watch(Arc::downgrade(&parts)));
        Ok(Self {
            parts,
            metrics: DeployMetrics::register(registry)?,
            under_way: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(MOST_UNDER_WAY)),
        })
    }

    /// Refuses an upload by the length that its client declares, before any of it is sent.
    pub fn check_declared(&self, length: u64) -> Result<(), DeployError> {
        let limit = self.parts.config.max_upload;
        // Beside the payload, an upload may have a manifest and what separates the two.
        if length > limit.0.saturating_add(2 * FunctionManifest::MAX_SIZE.0) {
            return Err(StageError::TooLarge { limit }.into());
        }
        Ok(())
    }

    /// Streams an upload to the disk; refused at once where too many are under way. Dropping the
    /// result removes it.
    pub async fn stage<S, E>(&self, content: S) -> Result<Staged, DeployError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin + Send,
        E: std::error::Error + Send + Sync + 'static,
    {
        let busy = |_| DeployError::Busy { limit: MOST_UNDER_WAY };
        let slot = self.slots.clone().try_acquire_owned().map_err(busy)?;
        let blob = self.parts.store.blobs().stage(content, self.parts.config.max_upload).await?;
        Ok(Staged { blob, slot })
    }

    /// Deploys a function: checks manifest and component, compiles, and makes the version live,
    /// unless it is to wait.
    /// Goes on to its end even if the caller stops waiting.
    pub async fn deploy_function(
        &self,
        caller: &Caller,
        name: &Name,
        manifest: &str,
        component: FunctionUpload,
    ) -> Result<Deployment, DeployError> {
        let spec = function::parse(name, manifest, &self.parts.config.limits);
        let (parts, owner, key) = (self.parts.clone(), caller.clone(), name.clone());
        let FunctionUpload { content: Staged { blob, slot }, activation, trace } = component;
        let span = begin(&trace, Class::Function, caller, name);
        let trace = span.trace().clone();
        let work = async move {
            let _slot = slot;
            let component =
                function::Uploaded { caller: owner, name: key, blob, activation, trace };
            function::deploy(&parts, component, spec?).await
        };
        self.run(Class::Function, caller, name, (span, work)).await
    }

    /// Deploys a model: reads its signature, loads and tries it on its engine, warms it up if its
    /// manifest asks for that, and makes the version live, unless it is to wait. Goes on to its end
    /// even if the caller stops waiting.
    pub async fn deploy_model(
        &self,
        caller: &Caller,
        name: &Name,
        manifest: Option<&str>,
        model: ModelUpload,
    ) -> Result<Deployment, DeployError> {
        let manifest = model::parse(manifest);
        let (parts, owner, key) = (self.parts.clone(), caller.clone(), name.clone());
        let ModelUpload { form, content: Staged { blob, slot }, activation, trace } = model;
        let span = begin(&trace, Class::Model, caller, name);
        let trace = span.trace().clone();
        let work = async move {
            let _slot = slot;
            let model = model::Uploaded { caller: owner, name: key, form, blob, activation, trace };
            model::deploy(&parts, model, manifest?).await
        };
        self.run(Class::Model, caller, name, (span, work)).await
    }

    /// Gives a kept version all requests: `to`; or, where they are split, the live one; or else the
    /// newest one below it.
    pub async fn rollback(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        to: Option<VersionNumber>,
    ) -> Result<VersionNumber, DeployError> {
        let tenant = &caller.tenant;
        if class == Class::Model {
            model::prepare_rollback(&self.parts, tenant, name, to).await;
        }
        let version = self.parts.store.catalog().rollback(caller, class, name, to).await?;
        tracing::info!(%tenant, %class, %name, %version, "rolled back");
        Ok(version)
    }

    /// Removes a function or model with all its versions, compiled code and logs.
    pub async fn delete(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
    ) -> Result<(), DeployError> {
        let tenant = &caller.tenant;
        let removed = self.parts.store.catalog().delete(caller, class, name).await?;
        tracing::info!(%tenant, %class, %name, "deleted");
        if class == Class::Function
            && let Err(error) = self.parts.store.logs().remove(tenant, name).await
        {
            tracing::warn!(%tenant, %name, %error, "logs of a deleted function stay");
        }
        self.parts.forget(removed.contents).await;
        Ok(())
    }

    /// Removes one version that no request goes to by itself, with its compiled code.
    pub async fn delete_version(
        &self,
        caller: &Caller,
        class: Class,
        name: &Name,
        version: VersionNumber,
    ) -> Result<(), DeleteVersionError> {
        let removed =
            self.parts.store.catalog().delete_version(caller, class, name, version).await?;
        tracing::info!(tenant = %caller.tenant, %class, %name, %version, "version deleted");
        self.parts.forget(removed.contents).await;
        Ok(())
    }

    /// Some of what a function's kept versions printed.
    pub async fn logs(
        &self,
        tenant: &TenantId,
        function: &Name,
        query: LogQuery,
    ) -> Result<LogPage, DeployError> {
        let routes = self.routes();
        // Version numbers are never given twice, so an invocation that outlived its deleted
        // function printed under an older one than any of a new function of that name.
        let oldest = routes
            .function(tenant, function)
            .and_then(|function| function.versions().next())
            .map(|version| version.number)
            .ok_or_else(|| DeployError::NotFound {
                class: Class::Function,
                name: function.clone(),
            })?;
        let query = LogQuery { oldest: oldest.max(query.oldest), ..query };
        Ok(self.parts.store.logs().page(tenant, function, query).await?)
    }

    /// Changes whenever functions have printed something.
    pub fn log_changes(&self) -> watch::Receiver<u64> {
        self.parts.store.logs().subscribe()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.parts.store
    }

    /// What is deployed now.
    pub fn routes(&self) -> Arc<Routes> {
        self.parts.store.catalog().routes()
    }

    /// Waits for deployments that go on without their callers; to be called when no more come.
    pub async fn drain(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Runs a deployment as a task of its own: a caller that goes away must not leave one half
    /// done.
    async fn run(
        &self,
        class: Class,
        caller: &Caller,
        name: &Name,
        (mut traced, work): (
            Span,
            impl Future<Output = Result<Deployment, DeployError>> + Send + 'static,
        ),
    ) -> Result<Deployment, DeployError> {
        let tenant = &caller.tenant;
        let span = tracing::info_span!("deploy", %tenant, %class, subject = %name);
        let metrics = self.metrics.clone();
        let recorded = async move {
            let started = Instant::now();
            let outcome = work.await;
            let took = started.elapsed();
            metrics.record(class, &outcome, took);
            traced.outcome(&outcome);
            match &outcome {
                Ok(Deployment { version, digest, created, .. }) => {
                    traced.note(|| {
                        [
                            ("quern.version", version.get().into()),
                            ("quern.digest", digest.to_string().into()),
                            ("quern.created", (*created).into()),
                        ]
                    });
                    tracing::info!(%version, %digest, created, ?took, "deployed");
                }
                Err(error) => tracing::info!(%error, ?took, "not deployed"),
            }
            outcome
        };
        self.under_way.spawn(recorded.instrument(span)).await?
    }
}

/// The span of a deployment, from its turn among others to the commit.
fn begin(trace: &Trace, class: Class, caller: &Caller, name: &Name) -> Span {
    let mut span = trace.begin(SpanKind::Internal, "deploy");
    let subject = match class {
        Class::Function => "quern.function",
        Class::Model => "quern.model",
    };
    span.note(|| {
        [("quern.tenant", caller.tenant.as_str().into()), (subject, name.as_str().into())]
    });
    span
}

impl Parts {
    /// Waits for a turn to compile or try an upload.
    pub(crate) async fn turn(&self) -> OwnedSemaphorePermit {
        self.turns.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Removes compiled code that nobody needs any more.
    pub(crate) async fn forget(&self, contents: Vec<Digest>) {
        if contents.is_empty() {
            return;
        }
        let (artifacts, store, sandbox) =
            (self.artifacts.clone(), self.store.clone(), self.sandbox.clone());
        let forget = move || artifacts.forget(&contents, &store, &sandbox);
        if let Err(error) = tokio::task::spawn_blocking(forget).await {
            tracing::warn!(%error, "unneeded compiled code stays");
        }
    }
}
