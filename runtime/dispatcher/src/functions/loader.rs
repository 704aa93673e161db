//! Makes the code of functions ready: linked from what is compiled, or compiled anew. Never admits a
//! request.

use std::{sync::Arc, time::Instant};

use quern_sandbox::{Function, Owner};
use quern_types::{FunctionSpec, InvokeError, Version};
use tokio::sync::Semaphore;

use super::{Loaded, Loader, places::Places};
use crate::ready::VersionKey;

impl Loader {
    /// Makes a version's code ready for a request that waits for it.
    pub(super) async fn start_cold(
        self: Arc<Self>,
        key: VersionKey,
        version: Arc<Version<FunctionSpec>>,
    ) -> Result<Arc<Loaded>, InvokeError> {
        let (start, waited) = (Instant::now(), self.metrics.cold_start_seconds.clone());
        let loaded = self.load(key, version).await?;
        loaded.metrics.cold_starts.inc();
        waited.observe(start.elapsed().as_secs_f64());
        Ok(loaded)
    }

    /// Makes a version's code ready, compiling it anew if this node's machine code is gone.
    pub(crate) async fn load(
        self: Arc<Self>,
        key: VersionKey,
        version: Arc<Version<FunctionSpec>>,
    ) -> Result<Arc<Loaded>, InvokeError> {
        let unavailable =
            |reason: String| InvokeError::Unavailable { name: key.name.clone(), reason };
        let function = match self.link(&key, &version).await.map_err(unavailable)? {
            Some(function) => function,
            None => {
                self.compile(&version).await.map_err(unavailable)?;
                let linked = self.link(&key, &version).await.map_err(unavailable)?;
                linked.ok_or_else(|| unavailable("its compiled code vanished".into()))?
            }
        };
        let metrics = Arc::new(self.metrics.function(&key.tenant, &key.name));
        let places = Places::new(function.concurrency());
        let redaction = Arc::new(Semaphore::new(1));
        Ok(Arc::new(Loaded { function, places, redaction, metrics }))
    }

    async fn link(
        &self,
        key: &VersionKey,
        version: &Version<FunctionSpec>,
    ) -> Result<Option<Function>, String> {
        let (sandbox, content, spec) =
            (self.sandbox.clone(), version.content, version.spec.clone());
        let owner = Owner { tenant: key.tenant.clone(), function: key.name.clone() };
        let load = tokio::task::spawn_blocking(move || sandbox.load(&owner, &content, &spec));
        load.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn compile(&self, version: &Version<FunctionSpec>) -> Result<(), String> {
        let _turn = self.compiling.acquire().await.map_err(|error| error.to_string())?;
        let component = self.store.blobs().read(&version.content).await;
        let component = component.map_err(|error| error.to_string())?;
        let (sandbox, content, spec) =
            (self.sandbox.clone(), version.content, version.spec.clone());
        let compile =
            tokio::task::spawn_blocking(move || sandbox.compile(&content, &component, &spec));
        let took =
            compile.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        tracing::info!(%content, ?took, "component compiled anew");
        Ok(())
    }
}
