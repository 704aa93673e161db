//! What unit tests call: a dispatcher's parts over an empty store and a device that never loads.

use std::{future::Future, pin::pin, sync::Arc, task, time::SystemTime};

use futures::future::BoxFuture;
use quern_sandbox::{Sandbox, SandboxConfig, Services};
use quern_store::{Store, StoreConfig};
use quern_types::{
    ByteSize, Device, DeviceDescription, DeviceError, DeviceId, Digest, Engine, ModelSource,
    Replica, Version, VersionNumber,
};
use tempfile::TempDir;

use crate::{Functions, FunctionsConfig, Kernels, KernelsConfig, Models, ModelsConfig};

/// A device that never has anything loaded.
struct Slow;

impl Device for Slow {
    fn id(&self) -> DeviceId {
        DeviceId::Cpu(0)
    }

    fn describe(&self) -> DeviceDescription {
        DeviceDescription {
            id: self.id(),
            name: "slow".into(),
            lanes: 1,
            engines: Vec::new(),
            replicas: 0,
            residents: Vec::new(),
            tensors: None,
            down: None,
            worker: None,
        }
    }

    fn preferred_engine(&self) -> Engine {
        Engine::Tract
    }

    fn load(&self, _: ModelSource) -> BoxFuture<'static, Result<Arc<dyn Replica>, DeviceError>> {
        Box::pin(std::future::pending())
    }
}

/// What calls and loads, with a store of nothing behind it.
pub(crate) struct House {
    pub(crate) store: Arc<Store>,
    pub(crate) models: Arc<Models>,
    pub(crate) functions: Functions,
    pub(crate) kernels: Arc<Kernels>,
    pub(crate) folder: TempDir,
}

impl House {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let registry = prometheus::Registry::new();
        let store = StoreConfig {
            directory: folder.path().to_owned(),
            keep_versions: 2,
            log_records: 100,
            log_bytes: ByteSize::mib(1),
            bucket_bytes: StoreConfig::DEFAULT_BUCKET_BYTES,
            secrets_key: None,
        };
        let store = Arc::new(Store::open(store, &registry).await.expect("a store"));
        let models = Models::new(ModelsConfig::default(), store.clone(), Arc::new(Slow), &registry);
        let models = Arc::new(models.expect("new metrics"));
        let config =
            SandboxConfig { pooling: false, ..SandboxConfig::new(folder.path().join("artifacts")) };
        let services =
            Services { models: models.clone(), key_value: store.key_value(), kernels: None };
        let sandbox = Arc::new(Sandbox::new(config, services, &registry).expect("a sandbox"));
        let config = FunctionsConfig::default();
        let functions = Functions::new(config, store.clone(), sandbox, &registry);
        let functions = functions.expect("new metrics");
        let kernels = Kernels::new(KernelsConfig::default(), Vec::new(), &registry);
        let kernels = Arc::new(kernels.expect("new metrics"));
        Self { store, models, functions, kernels, folder }
    }
}

/// The first version of something.
pub(crate) fn version<Spec>(spec: Spec) -> Arc<Version<Spec>> {
    Arc::new(Version {
        number: VersionNumber::FIRST,
        digest: Digest::of(b"version"),
        content: Digest::of(b"content"),
        spec: Arc::new(spec),
        created: SystemTime::UNIX_EPOCH,
    })
}

/// Sets off what has to wait, and leaves.
pub(crate) fn abandon(load: impl Future) {
    let mut context = task::Context::from_waker(task::Waker::noop());
    assert!(pin!(load).poll(&mut context).is_pending());
}
