//! What takes calls, before anything that was asked to be loaded is.

use std::{future::Future, pin::pin, task, time::SystemTime};

use futures::future::BoxFuture;
use quern_sandbox::{Sandbox, SandboxConfig, Services};
use quern_store::{Store, StoreConfig};
use quern_types::{
    BatchAxis, ByteSize, Device, DeviceDescription, DeviceError, DeviceId, Digest, Engine,
    FunctionKind, ModelSource, Replica, Signature,
};
use tempfile::TempDir;

use super::*;
use crate::{Functions, FunctionsConfig, Models, ModelsConfig};

/// A device that never has anything loaded.
struct Slow;

impl Device for Slow {
    fn id(&self) -> DeviceId {
        DeviceId::Cpu(0)
    }

    fn describe(&self) -> DeviceDescription {
        let (id, engines) = (self.id(), Vec::new());
        DeviceDescription { id, name: "slow".into(), lanes: 1, engines, replicas: 0, worker: None }
    }

    fn preferred_engine(&self) -> Engine {
        Engine::Tract
    }

    fn load(&self, _: ModelSource) -> BoxFuture<'static, Result<Arc<dyn Replica>, DeviceError>> {
        Box::pin(std::future::pending())
    }
}

/// What loads, with a store of nothing behind it.
struct House {
    models: Arc<Models>,
    functions: Functions,
    _folder: TempDir,
}

impl House {
    async fn new() -> Self {
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
        let services = Services { models: models.clone(), key_value: store.key_value() };
        let sandbox = Arc::new(Sandbox::new(config, services, &registry).expect("a sandbox"));
        let functions = Functions::new(FunctionsConfig::default(), store, sandbox, &registry);
        Self { models, functions: functions.expect("new metrics"), _folder: folder }
    }
}

fn version<Spec>(spec: Spec) -> Arc<Version<Spec>> {
    Arc::new(Version {
        number: VersionNumber::FIRST,
        digest: Digest::of(b"version"),
        content: Digest::of(b"content"),
        spec: Arc::new(spec),
        created: SystemTime::UNIX_EPOCH,
    })
}

/// Sets a load off and leaves.
fn abandon(load: impl Future) {
    let mut context = task::Context::from_waker(task::Waker::noop());
    assert!(pin!(load).poll(&mut context).is_pending());
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_takes_effect() {
    let house = House::new().await;
    let (tenant, name) = (TenantId::default(), "m".parse().expect("a name"));
    let key = || VersionKey::new(&tenant, &name, VersionNumber::FIRST);
    let signature = || Signature::new(vec![], vec![]).expect("valid");

    let House { models, functions, .. } = &house;
    models.unload([key()]);
    let unloaded = Err(ModelError::Unloaded { name: name.clone() });
    assert_eq!(models.readiness(&key(), Engine::Tract), unloaded);
    let model = ModelSpec::new(signature(), Engine::Tract, BatchAxis::Rows { max: 8 });
    abandon(models.load(&tenant, &name, &version(model)));
    assert_eq!(models.readiness(&key(), Engine::Tract), Ok(()));

    functions.unload([key()]);
    assert_eq!(functions.readiness(&key()), unloaded);
    let function = FunctionSpec::new(FunctionKind::Inference(signature()));
    abandon(functions.load(&tenant, &name, &version(function)));
    assert_eq!(functions.readiness(&key()), Ok(()));
}
