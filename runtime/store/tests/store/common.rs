//! What the tests share: stores in temporary folders, and things to deploy.

use std::{collections::BTreeSet, convert::Infallible, path::Path, time::SystemTime};

use bytes::Bytes;
use futures::stream;
use prometheus::{Encoder, Registry, TextEncoder};
use quern_store::{
    CommitError, Committed, NewVersion, RollbackError, StagedBlob, Store, StoreConfig,
};
use quern_types::{
    BatchAxis, ByteSize, Caller, Class, Digest, Engine, FunctionKind, FunctionSpec, ModelSpec,
    Name, Role, Signature, TenantId, VersionNumber,
};

pub(crate) fn config(directory: &Path, keep_versions: u32) -> StoreConfig {
    StoreConfig {
        directory: directory.to_owned(),
        keep_versions,
        log_records: 100,
        log_bytes: ByteSize::mib(16),
        bucket_bytes: StoreConfig::DEFAULT_BUCKET_BYTES,
        secrets_key: None,
    }
}

pub(crate) async fn open(directory: &Path, keep_versions: u32) -> Store {
    Store::open(config(directory, keep_versions), &Registry::new()).await.expect("the store opens")
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a valid name")
}

pub(crate) fn number(number: u32) -> VersionNumber {
    VersionNumber::new(number).expect("not zero")
}

pub(crate) fn tenant() -> TenantId {
    TenantId::default()
}

/// Whoever may do anything for a tenant.
pub(crate) fn caller(tenant: &TenantId) -> Caller {
    Caller { tenant: tenant.clone(), role: Role::Admin, token: None }
}

pub(crate) fn http() -> FunctionSpec {
    function(FunctionKind::Http)
}

pub(crate) fn inference() -> FunctionSpec {
    function(FunctionKind::Inference(signature()))
}

pub(crate) fn model() -> ModelSpec {
    let batch = BatchAxis::Rows { max: 8 };
    ModelSpec::new(signature(), Engine::Tract, batch)
}

pub(crate) async fn stage(store: &Store, content: &[u8]) -> StagedBlob {
    let parts = stream::iter([Ok::<_, Infallible>(Bytes::copy_from_slice(content))]);
    store.blobs().stage(parts, ByteSize::mib(64)).await.expect("staged")
}

pub(crate) async fn keep(store: &Store, content: &[u8]) -> Digest {
    let staged = stage(store, content).await;
    store.blobs().keep(staged).await.expect("kept")
}

/// A version whose digest follows from name and content.
pub(crate) fn version<Spec>(
    tenant: &TenantId,
    name: &str,
    content: Digest,
    spec: Spec,
) -> NewVersion<Spec> {
    NewVersion {
        caller: caller(tenant),
        name: self::name(name),
        digest: Digest::of(format!("{name} {content}").as_bytes()),
        content,
        spec,
        created: SystemTime::now(),
        live: true,
    }
}

/// Stages, keeps and commits an http function.
pub(crate) async fn deploy(
    store: &Store,
    name: &str,
    content: &[u8],
) -> Result<Committed, CommitError> {
    let content = keep(store, content).await;
    store.catalog().commit_function(version(&tenant(), name, content, http())).await
}

/// Rolls an http function back.
pub(crate) async fn roll_back(
    store: &Store,
    name: &str,
    to: Option<u32>,
) -> Result<VersionNumber, RollbackError> {
    let to = to.map(number);
    store.catalog().rollback(&caller(&tenant()), Class::Function, &self::name(name), to).await
}

/// The value on a line of the metrics.
pub(crate) fn metric(registry: &Registry, name: &str) -> f64 {
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).expect("encodes");
    let text = String::from_utf8(text).expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().expect("a number")
}

/// The digests of all blobs on the disk.
pub(crate) fn blob_files(directory: &Path) -> BTreeSet<String> {
    files(&directory.join("blobs/sha256"))
}

/// What is left of uploads.
pub(crate) fn upload_files(directory: &Path) -> BTreeSet<String> {
    files(&directory.join("blobs/uploads"))
}

fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).expect("a folder") {
        let entry = entry.expect("an entry");
        match entry.file_type().expect("a type").is_dir() {
            true => found.extend(files(&entry.path())),
            false => {
                found.insert(entry.file_name().into_string().expect("UTF-8"));
            }
        }
    }
    found
}

fn function(kind: FunctionKind) -> FunctionSpec {
    FunctionSpec::new(kind)
}

fn signature() -> Signature {
    Signature::new(vec![], vec![]).expect("an empty signature")
}
