//! From an uploaded model to a live version of it.

use std::{convert::Infallible, sync::Arc, time::SystemTime};

use bytes::Bytes;
use futures::stream;
use quern_store::{NewVersion, StagedBlob};
use quern_types::{
    Caller, DeviceError, ModelManifest, ModelSource, ModelSpec, Name, Replica, SpanKind, TenantId,
    Trace, VersionNumber,
};

use crate::{
    Activation, DeployError, DeployedKind, Deployment, ModelForm, archive, deployer::Parts, digest,
};

/// Bytes of a merged model that are written at a time.
const CHUNK: usize = 1 << 20;

/// What is to be deployed.
pub(crate) struct Uploaded {
    pub(crate) caller: Caller,
    pub(crate) name: Name,
    pub(crate) form: ModelForm,
    pub(crate) blob: StagedBlob,
    pub(crate) activation: Activation,
    /// Where its deployment stands in a trace.
    pub(crate) trace: Trace,
}

/// What was found out of a model.
struct Examined {
    spec: ModelSpec,
    /// The model, if it was warmed up: it goes live with the version.
    warm: Option<Arc<dyn Replica>>,
}

/// The manifest, or that of a model that comes without one.
pub(crate) fn parse(manifest: Option<&str>) -> Result<ModelManifest, DeployError> {
    Ok(manifest.map(ModelManifest::parse).transpose()?.unwrap_or_default())
}

/// Deploys a model.
pub(crate) async fn deploy(
    parts: &Parts,
    model: Uploaded,
    manifest: ModelManifest,
) -> Result<Deployment, DeployError> {
    let Uploaded { caller, name, form, blob, activation, trace } = model;
    let tenant = caller.tenant.clone();
    let turn = parts.turn().await;
    let blob = match form {
        ModelForm::Onnx => blob,
        ModelForm::Tar => unpack(parts, blob).await?,
    };
    let mut span = trace.begin(SpanKind::Internal, "examine");
    let examined = examine(parts, &manifest, &blob).await;
    span.outcome(&examined);
    drop((span, turn));
    let Examined { spec, warm } = examined?;
    let content = parts.store.blobs().keep(blob).await?;
    let digest = digest::of_version(&name, &content, &spec);
    let new = NewVersion {
        caller,
        name: name.clone(),
        digest,
        content,
        spec: spec.clone(),
        created: SystemTime::now(),
        live: activation == Activation::Live,
    };
    // Before it is live, so that not even its first call finds nothing.
    if let Some(replica) = &warm {
        parts.offers.offer(&tenant, digest, replica);
    }
    let committed = parts.store.catalog().commit_model(new).await?;
    if warm.is_some() {
        parts.offers.load(&tenant, &name, committed.version).await;
    }
    // There is no compiled code to forget of the models that fell out of retention.
    Ok(Deployment {
        name,
        version: committed.version,
        digest,
        created: committed.created,
        live: committed.live,
        kind: DeployedKind::Model(Arc::new(spec)),
        compile: None,
    })
}

/// Has the version loaded that a rollback is about to make live, if its manifest asks for a
/// warm-up.
pub(crate) async fn prepare_rollback(
    parts: &Parts,
    tenant: &TenantId,
    name: &Name,
    to: Option<VersionNumber>,
) {
    let routes = parts.store.catalog().routes();
    let Some(model) = routes.model(tenant, name) else { return };
    let live = model.live().number;
    let below = || model.versions().rev().map(|version| version.number).find(|one| *one < live);
    if let Some(version) = to.or_else(below) {
        prepare(parts, tenant, name, version).await;
    }
}

/// Has a version loaded that is about to get requests, if its manifest asks for a warm-up.
pub(crate) async fn prepare(parts: &Parts, tenant: &TenantId, name: &Name, version: VersionNumber) {
    let routes = parts.store.catalog().routes();
    // What does not exist is for the change itself to refuse.
    let Some(Ok(version)) = routes.model(tenant, name).map(|model| model.version(Some(version)))
    else {
        return;
    };
    if version.spec.warm_up.is_some() {
        parts.offers.load(tenant, name, version.number).await;
    }
}

/// The one ONNX file that an archive amounts to. What is stored is the same, however its weights
/// were spread over files.
async fn unpack(parts: &Parts, blob: StagedBlob) -> Result<StagedBlob, DeployError> {
    let limit = parts.config.max_upload;
    let packed = parts.store.blobs().read_staged(&blob).await?;
    let merge = move || archive::to_onnx(&packed, limit).map(Bytes::from);
    let merged = tokio::task::spawn_blocking(merge).await?;
    let onnx = merged.map_err(|error| DeployError::Model { reason: error.to_string() })?;
    let chunk =
        |start: usize| Ok::<_, Infallible>(onnx.slice(start..onnx.len().min(start + CHUNK)));
    let chunks: Vec<_> = (0..onnx.len()).step_by(CHUNK).map(chunk).collect();
    Ok(parts.store.blobs().stage(stream::iter(chunks), limit).await?)
}

/// Reads the signature, tries the model on its engine, and warms it up if that is asked for.
async fn examine(
    parts: &Parts,
    manifest: &ModelManifest,
    model: &StagedBlob,
) -> Result<Examined, DeployError> {
    let onnx = parts.store.blobs().read_staged(model).await?;
    let inspected = onnx.clone();
    let outline = tokio::task::spawn_blocking(move || quern_host_gpu::inspect(&inspected))
        .await?
        .map_err(|error| DeployError::Model { reason: error.to_string() })?;
    let signature = manifest.constrain(&outline.signature)?;
    let labels = manifest.labels(&signature)?;
    manifest.check_warm_up(&signature)?;
    let engine = manifest.engine.unwrap_or_else(|| parts.device.preferred_engine());
    let max_rows = manifest.max_batch.unwrap_or(parts.config.default_max_batch);
    let device = parts.device.as_ref();
    let batch = quern_host_gpu::trial(device, onnx.clone(), &outline, engine, max_rows).await?;
    let spec = ModelSpec {
        max_delay: manifest.max_delay,
        timeout: manifest.timeout,
        lanes: manifest.lanes,
        warm_up: manifest.warm_up.clone(),
        labels,
        ..ModelSpec::new(signature, engine, batch)
    };
    let warm = warm(parts, onnx, &spec).await?;
    Ok(Examined { spec, warm })
}

/// Loads the model and warms it up; none if its manifest does not ask for that.
async fn warm(
    parts: &Parts,
    onnx: Bytes,
    spec: &ModelSpec,
) -> Result<Option<Arc<dyn Replica>>, DeployError> {
    if spec.warm_up.is_none() {
        return Ok(None);
    }
    let source = ModelSource { onnx, spec: Arc::new(spec.clone()) };
    let replica = parts.device.load(source).await?;
    match quern_host_gpu::warm_up(&*replica, spec).await {
        Ok(()) => Ok(Some(replica)),
        Err(DeviceError::Run { reason, .. }) => {
            Err(DeployError::Model { reason: format!("its warm-up failed: {reason}") })
        }
        Err(error) => Err(error.into()),
    }
}
