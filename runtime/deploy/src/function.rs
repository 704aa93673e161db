//! From an uploaded component to a live version of a function.

use std::{sync::Arc, time::SystemTime};

use quern_store::{NewVersion, Removed, StagedBlob};
use quern_types::{Caller, FunctionManifest, FunctionSpec, LimitRules, Name, SpanKind, Trace};

use crate::{Activation, DeployError, DeployedKind, Deployment, deployer::Parts, digest};

/// The spec of a manifest that must be this function's, and keep to the operator's rules.
pub(crate) fn parse(
    name: &Name,
    manifest: &str,
    rules: &LimitRules,
) -> Result<FunctionSpec, DeployError> {
    let manifest = FunctionManifest::parse_within(manifest, rules)?;
    if manifest.name != *name {
        return Err(DeployError::NameMismatch { path: name.clone(), manifest: manifest.name });
    }
    Ok(manifest.spec)
}

/// What is to be deployed.
pub(crate) struct Uploaded {
    pub(crate) caller: Caller,
    pub(crate) name: Name,
    pub(crate) blob: StagedBlob,
    pub(crate) activation: Activation,
    /// Where its deployment stands in a trace.
    pub(crate) trace: Trace,
}

/// Deploys a component; whatever comes of it, only code that a version needs stays.
pub(crate) async fn deploy(
    parts: &Parts,
    component: Uploaded,
    spec: FunctionSpec,
) -> Result<Deployment, DeployError> {
    let content = component.blob.digest();
    let in_use = parts.artifacts.hold(content);
    let outcome = commit(parts, component, spec).await;
    drop(in_use);
    match outcome {
        Ok((deployment, removed)) => {
            parts.forget(removed.contents).await;
            Ok(deployment)
        }
        Err(error) => {
            parts.forget(vec![content]).await;
            Err(error)
        }
    }
}

async fn commit(
    parts: &Parts,
    component: Uploaded,
    spec: FunctionSpec,
) -> Result<(Deployment, Removed), DeployError> {
    let Uploaded { caller, name, blob, activation, trace } = component;
    let content = blob.digest();
    let turn = parts.turn().await;
    let mut span = trace.begin(SpanKind::Internal, "compile");
    let bytes = parts.store.blobs().read_staged(&blob).await?;
    let (sandbox, compiled) = (parts.sandbox.clone(), spec.clone());
    let compile = tokio::task::spawn_blocking(move || {
        sandbox.validate(&bytes, &compiled)?;
        sandbox.compile(&content, &bytes, &compiled)
    });
    let compiled = compile.await?;
    span.outcome(&compiled);
    drop((span, turn));
    let compile = compiled?;

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
    let committed = parts.store.catalog().commit_function(new).await?;
    let deployment = Deployment {
        name,
        version: committed.version,
        digest,
        created: committed.created,
        live: committed.live,
        kind: DeployedKind::Function(Arc::new(spec)),
        compile: Some(compile),
    };
    Ok((deployment, committed.removed))
}
