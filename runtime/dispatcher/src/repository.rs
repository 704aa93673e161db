//! What can be called for inference as one repository: what there is, whether it takes calls, and
//! loading and unloading it on request. How that is asked for is the edge's business.

use std::sync::Arc;

use quern_types::{
    Class, Deployed, FunctionSpec, InvokeError, ModelError, ModelSpec, Name, QualifiedName, Routes,
    TenantId, VersionNumber,
};

use crate::{Dispatcher, found::Found, ready::VersionKey, statistics::ModelStatistics};

/// Most names of others in an index: who shares decides how many there are, not who looks.
const MOST_SHARED: usize = 1_000;

/// One version of a model or an inference function.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexEntry {
    /// The model or function, with its owner where that is another tenant.
    pub name: QualifiedName,
    /// The version.
    pub version: VersionNumber,
    /// Whether it takes calls, and why not.
    pub readiness: Result<(), ModelError>,
}

impl Dispatcher {
    /// Every kept version of every model and inference function that is the tenant's, by name and
    /// number; and after them of those that others share with it by name, by name and owner, but of
    /// no more than the first thousand. What is public is in no list.
    pub fn index(&self, tenant: &TenantId) -> Vec<IndexEntry> {
        let routes = self.routes();
        let own = inference_versions(&routes, tenant).into_iter().map(|of| (None, of));
        let shared = shared_with(&routes, tenant).into_iter();
        let shared = shared.map(|of| (Some(of.0.tenant.clone()), of));
        let entry = |(owner, (key, found)): (Option<TenantId>, (VersionKey, Found))| IndexEntry {
            readiness: self.readiness_of(&key, &found),
            name: QualifiedName { name: key.name, owner },
            version: key.version,
        };
        own.chain(shared).map(entry).collect()
    }

    /// Whether a version takes calls, the live one where no number is given: it exists, it was not
    /// unloaded, and its engine is present. It need not be loaded: its first call does that.
    pub fn readiness(
        &self,
        routes: &Routes,
        tenant: &TenantId,
        name: &Name,
        number: Option<VersionNumber>,
    ) -> Result<(), InvokeError> {
        let found = Found::find(routes, tenant, name, number)?;
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
            None => inference_versions(&self.routes(), tenant),
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
}

/// What a tenant has that can be called for inference, by name and number.
fn inference_versions(routes: &Routes, tenant: &TenantId) -> Vec<(VersionKey, Found)> {
    let Some(own) = routes.tenant(tenant) else { return Vec::new() };
    let models = own.models.iter().flat_map(|(name, model)| of_model(tenant, name, model));
    let functions = own.functions.iter();
    let functions = functions.flat_map(|(name, function)| of_function(tenant, name, function));
    let mut versions: Vec<_> = models.chain(functions).collect();
    versions.sort_by(|(one, _), (other, _)| {
        (&one.name, one.version).cmp(&(&other.name, other.version))
    });
    versions
}

/// The same of others, as far as they share it with a tenant by name.
fn shared_with(routes: &Routes, tenant: &TenantId) -> Vec<(VersionKey, Found)> {
    let others = routes.tenants().filter(|(owner, _)| *owner != tenant);
    let shared = others.flat_map(|(owner, own)| {
        let shared = own.shared().filter(|(.., sharing)| sharing.tenants.contains(tenant));
        shared.map(move |(class, name, _)| (name, owner, class))
    });
    let of = |(name, owner, class): (&Name, &TenantId, Class)| match class {
        Class::Model => routes.model(owner, name).map(|model| of_model(owner, name, model)),
        Class::Function => {
            routes.function(owner, name).map(|function| of_function(owner, name, function))
        }
    };
    let mut shared: Vec<_> = shared.collect();
    shared.sort_unstable_by_key(|(name, owner, class)| (*name, owner.as_str(), class.as_str()));
    // What is not called for inference takes no place.
    let versions = shared.into_iter().filter_map(of).filter(|versions| !versions.is_empty());
    versions.take(MOST_SHARED).flatten().collect()
}

fn of_model(
    tenant: &TenantId,
    name: &Name,
    model: &Arc<Deployed<ModelSpec>>,
) -> Vec<(VersionKey, Found)> {
    let found = |version| Found::Model(model.clone(), Arc::clone(version));
    let versions = model.versions();
    versions
        .map(|version| (VersionKey::new(tenant, name, version.number), found(version)))
        .collect()
}

fn of_function(
    tenant: &TenantId,
    name: &Name,
    function: &Arc<Deployed<FunctionSpec>>,
) -> Vec<(VersionKey, Found)> {
    let found = |version| Found::Function(function.clone(), Arc::clone(version));
    let versions = function.versions().filter(|version| version.spec.kind.signature().is_some());
    versions
        .map(|version| (VersionKey::new(tenant, name, version.number), found(version)))
        .collect()
}

#[cfg(test)]
mod tests;
