//! What the tests share: a server's parts on a temporary folder, and things to deploy.

use std::{
    collections::HashMap,
    convert::Infallible,
    path::Path,
    sync::{Arc, Mutex, Weak},
};

use bytes::Bytes;
use futures::{future::BoxFuture, stream};
use prometheus::{Encoder, Registry, TextEncoder};
use quern_deploy::{
    Activation, DeployConfig, DeployError, DeployServices, Deployer, Deployment, FunctionUpload,
    ModelForm, ModelUpload, Staged,
};
use quern_host_gpu::{Cpu, CpuConfig};
use quern_sandbox::{Owner, Sandbox, SandboxConfig, Services};
use quern_store::{Store, StoreConfig};
use quern_types::{
    ByteSize, Call, Caller, Class, Digest, FunctionManifest, FunctionSpec, LimitRules, ModelCall,
    ModelCalls, ModelError, ModelReply, ModelSpec, Name, OutcomeCounts, QualifiedName, Replica,
    ReplicaOffers, TenantId, Trace, TrafficOutcomes, VersionNumber,
};
use tempfile::TempDir;

/// The parts of a server that deployments need.
pub(crate) struct Server {
    pub(crate) deployer: Arc<Deployer>,
    pub(crate) store: Arc<Store>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) offers: Arc<Offers>,
    pub(crate) outcomes: Arc<Outcomes>,
    pub(crate) registry: Registry,
    pub(crate) folder: TempDir,
}

/// What deployments have offered, and what they have had loaded.
#[derive(Default)]
pub(crate) struct Offers {
    pub(crate) offered: Mutex<Vec<(Digest, Weak<dyn Replica>)>>,
    pub(crate) loaded: Mutex<Vec<(Name, u32)>>,
}

impl ReplicaOffers for Offers {
    fn offer(&self, _: &TenantId, version: Digest, replica: &Arc<dyn Replica>) {
        let mut offered = self.offered.lock().expect("no panic");
        offered.push((version, Arc::downgrade(replica)));
    }

    fn load(&self, _: &TenantId, model: &Name, version: VersionNumber) -> BoxFuture<'static, ()> {
        let offered = self.offered.lock().expect("no panic");
        let (_, replica) = offered.last().expect("it was offered before");
        assert!(replica.strong_count() > 0, "it is there until it is loaded");
        self.loaded.lock().expect("no panic").push((model.clone(), version.get()));
        Box::pin(std::future::ready(()))
    }
}

/// What is said to have been counted, by version.
#[derive(Default)]
pub(crate) struct Outcomes(pub(crate) Mutex<HashMap<VersionNumber, OutcomeCounts>>);

impl TrafficOutcomes for Outcomes {
    fn outcomes(&self, _: Class, _: &TenantId, _: &Name, version: VersionNumber) -> OutcomeCounts {
        self.0.lock().expect("no panic").get(&version).cloned().unwrap_or_default()
    }
}

/// A node on which no model can be called.
struct NoModels;

impl ModelCalls for NoModels {
    fn spec(&self, _: &Call, model: &QualifiedName) -> Result<Arc<ModelSpec>, ModelError> {
        Err(ModelError::NotFound { name: model.name.clone() })
    }

    fn infer(&self, call: ModelCall) -> BoxFuture<'static, Result<ModelReply, ModelError>> {
        Box::pin(std::future::ready(Err(ModelError::NotFound { name: call.model.name })))
    }
}

impl Server {
    pub(crate) async fn start(keep_versions: u32) -> Self {
        Self::start_within(keep_versions, LimitRules::default()).await
    }

    pub(crate) async fn start_within(keep_versions: u32, limits: LimitRules) -> Self {
        let folder = TempDir::new().expect("a folder");
        let registry = Registry::new();
        let directory = folder.path().to_owned();
        let store = StoreConfig {
            directory,
            keep_versions,
            log_records: 100,
            log_bytes: ByteSize::mib(1),
            bucket_bytes: StoreConfig::DEFAULT_BUCKET_BYTES,
            secrets_key: None,
        };
        let store = Arc::new(Store::open(store, &registry).await.expect("a store"));
        let config =
            SandboxConfig { pooling: false, ..SandboxConfig::new(folder.path().join("artifacts")) };
        let services =
            Services { models: Arc::new(NoModels), key_value: store.key_value(), kernels: None };
        let sandbox = Sandbox::new(config, services, &registry).expect("a sandbox");
        let sandbox = Arc::new(sandbox);
        let cpu = CpuConfig { lanes: 1, ort_library: None };
        let cpu = Arc::new(Cpu::new(cpu, &registry).expect("a device"));
        let config = DeployConfig { max_upload: ByteSize::mib(4), default_max_batch: 32, limits };
        let offers = Arc::new(Offers::default());
        let outcomes = Arc::new(Outcomes::default());
        let services = DeployServices {
            store: store.clone(),
            sandbox: sandbox.clone(),
            device: cpu,
            offers: offers.clone(),
            outcomes: outcomes.clone(),
        };
        let deployer = Deployer::new(config, services, &registry).expect("a deployer");
        let deployer = Arc::new(deployer);
        Self { deployer, store, sandbox, offers, outcomes, registry, folder }
    }

    pub(crate) async fn deploy_function(
        &self,
        name: &str,
        manifest: &str,
        component: &[u8],
    ) -> Result<Deployment, DeployError> {
        self.deploy_function_as(Activation::Live, name, manifest, component).await
    }

    pub(crate) async fn deploy_function_as(
        &self,
        activation: Activation,
        name: &str,
        manifest: &str,
        component: &[u8],
    ) -> Result<Deployment, DeployError> {
        let content = self.deployer.stage(upload(component)).await?;
        let component = FunctionUpload { activation, ..live(content) };
        self.deployer.deploy_function(&caller(), &self::name(name), manifest, component).await
    }

    pub(crate) async fn deploy_model(
        &self,
        name: &str,
        manifest: Option<&str>,
        model: &[u8],
    ) -> Result<Deployment, DeployError> {
        self.deploy_model_as(ModelForm::Onnx, name, manifest, model).await
    }

    pub(crate) async fn deploy_model_as(
        &self,
        form: ModelForm,
        name: &str,
        manifest: Option<&str>,
        model: &[u8],
    ) -> Result<Deployment, DeployError> {
        let content = self.deployer.stage(upload(model)).await?;
        let model =
            ModelUpload { form, content, activation: Activation::Live, trace: Trace::default() };
        self.deployer.deploy_model(&caller(), &self::name(name), manifest, model).await
    }

    /// Whether there is compiled code of a component that can be loaded.
    pub(crate) fn is_compiled(&self, component: &[u8], spec: &FunctionSpec) -> bool {
        let owner = Owner { tenant: tenant(), function: name("any") };
        self.sandbox.load(&owner, &Digest::of(component), spec).expect("loads").is_some()
    }

    /// How many blobs, and how many compiled components there are.
    pub(crate) fn kept(&self) -> (usize, usize) {
        let artifacts = files(&self.folder.path().join("artifacts"));
        let sealed = artifacts.iter().filter(|name| name.len() == 64).count();
        assert_eq!(artifacts.len(), sealed + 1, "besides the key: {artifacts:?}");
        (files(&self.folder.path().join("blobs/sha256")).len(), sealed)
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("encodes");
        String::from_utf8(text).expect("text").lines().any(|found| found == line)
    }
}

/// Whoever may do anything for the tenant.
pub(crate) fn caller() -> Caller {
    Caller::unasked()
}

/// A component that is to be live at once.
pub(crate) fn live(content: Staged) -> FunctionUpload {
    FunctionUpload { content, activation: Activation::Live, trace: Trace::default() }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::default()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a valid name")
}

pub(crate) fn upload(
    content: &[u8],
) -> impl futures::Stream<Item = Result<Bytes, Infallible>> + Unpin + Send + use<> {
    let parts: Vec<_> = content.chunks(10_000).map(Bytes::copy_from_slice).map(Ok).collect();
    stream::iter(parts)
}

/// The manifest of an inference function.
pub(crate) fn manifest(name: &str) -> String {
    format!(
        "name = '{name}'\nkind = 'inference'\n\
         [[inputs]]\nname = 'x'\ndtype = 'UINT8'\nshape = [-1]\n\
         [[outputs]]\nname = 'x'\ndtype = 'UINT8'\nshape = [-1]\n"
    )
}

pub(crate) fn spec(manifest: &str) -> FunctionSpec {
    FunctionManifest::parse(manifest).expect("a manifest").spec
}

/// An inference function that answers with its inputs; `variant` makes its bytes different.
pub(crate) fn component(variant: i32) -> Vec<u8> {
    let text = format!(
        "(module
            (memory (export \"memory\") 1)
            (global (export \"variant\") i32 (i32.const {variant}))
            (global $free (mut i32) (i32.const 1024))
            (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at
                    (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
                (global.set $free (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func (export \"quern:ml/inference@0.1.0#infer\")
                (param $inputs i32) (param $count i32) (result i32)
                (i32.store (i32.const 0) (i32.const 0))
                (i32.store (i32.const 4) (local.get $inputs))
                (i32.store (i32.const 8) (local.get $count))
                (i32.const 0)))"
    );
    let mut module = wat::parse_str(&text).expect("valid text");
    let mut resolve = wit_parser::Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_dir(wit).expect("the contract");
    let world = resolve.select_world(&[package], Some("inference-function")).expect("its world");
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, encoding)
        .expect("metadata");
    let mut encoder = wit_component::ComponentEncoder::default().module(&module).expect("a module");
    encoder.encode().expect("a component")
}

/// A tar archive of these files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, path, *content).expect("memory");
    }
    archive.into_inner().expect("memory")
}

/// The repository's model of handwritten digits.
pub(crate) fn digits() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../functions/digits-mlp/digits-mlp.onnx");
    std::fs::read(path).expect("the digits model")
}

pub(crate) fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a folder") {
        let entry = entry.expect("an entry");
        match entry.file_type().expect("a type").is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.file_name().into_string().expect("UTF-8")),
        }
    }
    found
}
