//! Compiled code that nobody needs any more goes; what a deployment has just compiled and not yet
//! committed stays. Never removes what a version refers to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quern_sandbox::Sandbox;
use quern_store::Store;
use quern_types::{Digest, Routes};

/// Who needs compiled code: the versions in the routes, and deployments under way.
#[derive(Debug, Default)]
pub(crate) struct Artifacts {
    in_use: Mutex<HashMap<Digest, u32>>,
}

/// Keeps the compiled code of one component.
#[derive(Debug)]
pub(crate) struct InUse {
    artifacts: Arc<Artifacts>,
    content: Digest,
}

impl Artifacts {
    /// Keeps compiled code, there or not yet, for a deployment.
    pub(crate) fn hold(self: &Arc<Self>, content: Digest) -> InUse {
        *self.lock().entry(content).or_default() += 1;
        InUse { artifacts: self.clone(), content }
    }

    /// Removes the compiled code that nobody needs. Blocks on the disk.
    pub(crate) fn forget(&self, contents: &[Digest], store: &Store, sandbox: &Sandbox) {
        for content in contents {
            // Under the lock, so that no deployment can begin to rely on it meanwhile.
            let in_use = self.lock();
            if !in_use.contains_key(content) && !referenced(&store.catalog().routes(), content) {
                sandbox.forget(content);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, u32>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut in_use = self.artifacts.lock();
        if let Some(count) = in_use.get_mut(&self.content) {
            *count -= 1;
            if *count == 0 {
                in_use.remove(&self.content);
            }
        }
    }
}

fn referenced(routes: &Routes, content: &Digest) -> bool {
    let functions = routes.tenants().flat_map(|(_, tenant)| tenant.functions.values());
    functions.flat_map(|function| function.versions()).any(|version| version.content == *content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_in_use_until_the_last_deployment_lets_go() {
        let (artifacts, content) = (Arc::new(Artifacts::default()), Digest::of(b"x"));
        let (first, second) = (artifacts.hold(content), artifacts.hold(content));
        drop(first);
        assert!(artifacts.lock().contains_key(&content));
        drop(second);
        assert!(artifacts.lock().is_empty());
    }
}
