//! What can be called for inference as one repository: what there is, whether it takes calls, and
//! loading and unloading it on request. How that is asked for is the edge's business.

use std::sync::Arc;

use quern_types::{
    FunctionSpec, InvokeError, ModelError, ModelSpec, Name, TenantId, Version, VersionNumber,
};

use crate::{Dispatcher, found::Found, ready::VersionKey, statistics::ModelStatistics};

/// One version of a model or an inference function.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexEntry {
    /// The model or function.
    pub name: Name,
    /// The version.
    pub version: VersionNumber,
    /// Whether it takes calls, and why not.
    pub readiness: Result<(), ModelError>,
}

impl Dispatcher {
    /// Every kept version of every model and inference function, by name and number.
    pub fn index(&self, tenant: &TenantId) -> Vec<IndexEntry> {
        let entry = |(key, found): (VersionKey, Found)| IndexEntry {
            readiness: self.readiness_of(&key, &found),
            name: key.name,
            version: key.version,
        };
        self.inference_versions(tenant).into_iter().map(entry).collect()
    }

    /// Whether a version takes calls, the live one where no number is given: it exists, it was not
    /// unloaded, and its engine is present. It need not be loaded: its first call does that.
    pub fn readiness(
        &self,
        tenant: &TenantId,
        name: &Name,
        number: Option<VersionNumber>,
    ) -> Result<(), InvokeError> {
        let found = Found::find(&self.routes(), tenant, name, number)?;
        Ok(self.readiness_of(&VersionKey::new(tenant, name, found.version()), &found)?)
    }

    /// Takes calls of all versions again, and loads the live one. It goes on should the caller leave.
    pub async fn load(&self, tenant: &TenantId, name: &Name) -> Result<(), InvokeError> {
        let _work = self.admit()?;
        match Found::find(&self.routes(), tenant, name, None)? {
            Found::Model(_, version) => Ok(self.models.load(tenant, name, &version).await?),
            Found::Function(_, version) => self.functions.load(tenant, name, &version).await,
        }
    }

    /// Refuses calls of all versions that are kept at this moment, until they are loaded on request,
    /// and drops what is loaded of them once the calls under way have ended. A version that is
    /// deployed later is not concerned.
    pub async fn unload(
        self: &Arc<Self>,
        tenant: &TenantId,
        name: &Name,
    ) -> Result<(), InvokeError> {
        let found = Found::find(&self.routes(), tenant, name, None)?;
        let versions = found.versions().into_iter();
        let keys: Vec<_> = versions.map(|version| VersionKey::new(tenant, name, version)).collect();
        let dispatcher = self.clone();
        // Off the async threads: an engine takes its time to let go of a model.
        let unload = move || match found {
            Found::Model(..) => dispatcher.models.unload(keys),
            Found::Function(..) => dispatcher.functions.unload(keys),
        };
        let unloaded = tokio::task::spawn_blocking(unload).await;
        unloaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        Ok(())
    }

    /// What was counted of every version, of the versions of one name, or of one version.
    pub fn statistics(
        &self,
        tenant: &TenantId,
        name: Option<&Name>,
        number: Option<VersionNumber>,
    ) -> Result<Vec<ModelStatistics>, InvokeError> {
        let versions = match name {
            None => self.inference_versions(tenant),
            Some(name) => {
                let found = Found::find(&self.routes(), tenant, name, number)?;
                let mut versions = found.versions();
                versions.retain(|version| number.is_none_or(|number| number == *version));
                let versions = versions.into_iter();
                versions
                    .map(|version| (VersionKey::new(tenant, name, version), found.clone()))
                    .collect()
            }
        };
        let read = |(key, found): &(VersionKey, Found)| match found {
            Found::Model(..) => self.models.statistics(key),
            Found::Function(..) => self.functions.statistics(key),
        };
        Ok(versions.iter().map(read).collect())
    }

    fn readiness_of(&self, key: &VersionKey, found: &Found) -> Result<(), ModelError> {
        match found {
            Found::Model(_, version) => self.models.readiness(key, version.spec.engine),
            Found::Function(..) => self.functions.readiness(key),
        }
    }

    fn inference_versions(&self, tenant: &TenantId) -> Vec<(VersionKey, Found)> {
        let routes = self.routes();
        let Some(own) = routes.tenant(tenant) else { return Vec::new() };
        let models = own.models.iter().flat_map(|(name, model)| {
            let found = move |version: &Arc<Version<ModelSpec>>| {
                Found::Model(model.clone(), version.clone())
            };
            model
                .versions()
                .map(move |version| (VersionKey::new(tenant, name, version.number), found(version)))
        });
        let functions = own.functions.iter().flat_map(|(name, function)| {
            let versions =
                function.versions().filter(|version| version.spec.kind.signature().is_some());
            let found = move |version: &Arc<Version<FunctionSpec>>| {
                Found::Function(function.clone(), version.clone())
            };
            versions
                .map(move |version| (VersionKey::new(tenant, name, version.number), found(version)))
        });
        let mut versions: Vec<_> = models.chain(functions).collect();
        versions.sort_by(|(one, _), (other, _)| {
            (&one.name, one.version).cmp(&(&other.name, other.version))
        });
        versions
    }
}

#[cfg(test)]
mod tests;
