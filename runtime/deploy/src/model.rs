//! From an uploaded ONNX file to a live version of a model.

use std::{sync::Arc, time::SystemTime};

use quern_store::{NewVersion, StagedBlob};
use quern_types::{ModelManifest, ModelSpec, Name, TenantId};

use crate::{DeployError, DeployedKind, Deployment, deployer::Parts, digest};

/// The manifest, or that of a model that comes without one.
pub(crate) fn parse(manifest: Option<&str>) -> Result<ModelManifest, DeployError> {
    Ok(manifest.map(ModelManifest::parse).transpose()?.unwrap_or_default())
}

/// Deploys a model.
pub(crate) async fn deploy(
    parts: &Parts,
    tenant: TenantId,
    name: Name,
    manifest: ModelManifest,
    model: StagedBlob,
) -> Result<Deployment, DeployError> {
    let spec = examine(parts, &manifest, &model).await?;
    let content = parts.store.blobs().keep(model).await?;
    let digest = digest::of_version(&name, &content, &spec);
    let created = SystemTime::now();
    let new =
        NewVersion { tenant, name: name.clone(), digest, content, spec: spec.clone(), created };
    let committed = parts.store.catalog().commit_model(new).await?;
    // There is no compiled code to forget of the models that fell out of retention.
    Ok(Deployment {
        name,
        version: committed.version,
        digest,
        created: committed.created,
        kind: DeployedKind::Model(Arc::new(spec)),
        compile: None,
    })
}

/// Reads the signature and tries the model on its engine.
async fn examine(
    parts: &Parts,
    manifest: &ModelManifest,
    model: &StagedBlob,
) -> Result<ModelSpec, DeployError> {
    let _turn = parts.turn().await;
    let onnx = parts.store.blobs().read_staged(model).await?;
    let inspected = onnx.clone();
    let outline = tokio::task::spawn_blocking(move || quern_host_gpu::inspect(&inspected))
        .await?
        .map_err(|error| DeployError::Model { reason: error.to_string() })?;
    let signature = manifest.constrain(&outline.signature)?;
    let engine = manifest.engine.unwrap_or_else(|| parts.device.preferred_engine());
    let max_rows = manifest.max_batch.unwrap_or(parts.config.default_max_batch);
    let device = parts.device.as_ref();
    let batch = quern_host_gpu::trial(device, onnx, &outline, engine, max_rows).await?;
    Ok(ModelSpec { signature, engine, batch, max_delay: manifest.max_delay })
}
