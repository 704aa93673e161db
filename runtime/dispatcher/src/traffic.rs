//! Requests that versions share: how they end is counted, and copies of them go to a shadow. A request
//! to a name whose live version answers everything never comes here.

use std::sync::Arc;

use http::{Request, Response};
use quern_types::{
    Body, Class, FunctionSpec, InvokeError, Name, OutcomeCounts, Picked, Priority, Routes,
    TenantId, Tensor, Trace, TrafficOutcomes, Version, VersionNumber,
};

use crate::{Dispatcher, ShadowReport, functions::Invocation, outcomes::Ending, ready::VersionKey};

impl Dispatcher {
    /// Calls a function that serves HTTP whose requests are counted, or copied, or both.
    pub(crate) async fn call_shared(
        self: &Arc<Self>,
        invocation: Invocation,
        version: &Arc<Version<FunctionSpec>>,
        request: Request<Body>,
        picked: Picked,
    ) -> Result<Response<Body>, InvokeError> {
        let functions = &self.functions;
        let key = |version| VersionKey::new(&invocation.tenant, &invocation.name, version);
        let watch = picked.counted.then(|| functions.outcomes.watch(&key(version.number)));
        let aftermath = watch.as_ref().map(|watch| watch.aftermath());
        let (request, copy) = match picked.shadow {
            Some(shadow) => functions.shadows.copy_http(&key(shadow), invocation.id, request),
            None => (request, None),
        };
        let shadow = picked.shadow.map(|version| (invocation.as_shadow(), version));
        let outcome = functions.call_http(invocation, version, request, aftermath.clone()).await;
        let ending = match &outcome {
            Ok(response) => Ending::of_status(response.status()),
            Err(error) => Ending::of(error),
        };
        if let Some(watch) = watch {
            watch.end(ending);
        }
        if let Some(aftermath) = aftermath.filter(|_| outcome.is_ok() && ending != Ending::Failed) {
            aftermath.begun();
        }
        let (Some(copy), Some((invocation, version))) = (copy, shadow) else { return outcome };
        let dispatcher = self.clone();
        copy.follow(outcome, move |request| async move {
            let Invocation { tenant, name, .. } = &invocation;
            let found = dispatcher.functions.resolve(tenant, name, Some(version))?;
            dispatcher.functions.call_http(invocation, &found, request, None).await
        })
    }

    /// Calls an inference function whose requests are counted, or copied, or both.
    pub(crate) async fn infer_shared(
        self: &Arc<Self>,
        invocation: Invocation,
        version: &Arc<Version<FunctionSpec>>,
        inputs: Vec<Tensor>,
        picked: Picked,
    ) -> Result<Vec<Tensor>, InvokeError> {
        let functions = &self.functions;
        let key = |version| VersionKey::new(&invocation.tenant, &invocation.name, version);
        let watch = picked.counted.then(|| functions.outcomes.watch(&key(version.number)));
        let copy = picked.shadow.and_then(|shadow| {
            let copy = functions.shadows.copy(&key(shadow), invocation.id, &inputs)?;
            Some((copy, invocation.as_shadow(), shadow))
        });
        let outcome = functions.infer(invocation, version, inputs).await;
        let ending = outcome.as_ref().map_or_else(Ending::of, |_| Ending::Good);
        if let Some(watch) = watch {
            watch.end(ending);
        }
        // A request that found no room has no answer to compare.
        if let Some((copy, invocation, version)) = copy.filter(|_| ending != Ending::Rejected) {
            let (dispatcher, inputs) = (self.clone(), copy.inputs.clone());
            let answer = outcome.as_deref().map_err(ToString::to_string);
            copy.follow(answer, async move {
                let Invocation { tenant, name, .. } = &invocation;
                let found = dispatcher.functions.resolve(tenant, name, Some(version))?;
                dispatcher.functions.infer(invocation, &found, inputs).await
            });
        }
        outcome
    }

    /// What came of the copies that a version got.
    pub fn shadowed(
        &self,
        class: Class,
        tenant: &TenantId,
        name: &Name,
        version: VersionNumber,
    ) -> ShadowReport {
        let key = VersionKey::new(tenant, name, version);
        match class {
            Class::Function => self.functions.shadows.read(&key),
            Class::Model => self.models.shadowed(&key),
        }
    }
}

impl Invocation {
    /// The same for a copy, which nobody waits for.
    fn as_shadow(&self) -> Self {
        let (id, tenant, name) = (self.id, self.tenant.clone(), self.name.clone());
        let (patience, priority) = (self.patience, Priority::LOWEST);
        // It is no part of what its caller waits for, and so of no trace.
        Self { id, tenant, name, patience, priority, trace: Trace::default(), work: None }
    }
}

/// What was picked for a request, or the live version if that fell out of retention while the
/// request arrived, and any will do.
pub(crate) fn still_kept(
    picked: Picked,
    routes: &Routes,
    tenant: &TenantId,
    name: &Name,
) -> Picked {
    let number = Some(picked.version);
    let (is_kept, live) = match (routes.model(tenant, name), routes.function(tenant, name)) {
        (Some(model), _) => (model.version(number).is_ok(), model.live().number),
        (None, Some(function)) => (function.version(number).is_ok(), function.live().number),
        (None, None) => return picked,
    };
    match is_kept || picked.asked {
        true => picked,
        false => Picked { version: live, asked: false, counted: false, shadow: None },
    }
}

impl TrafficOutcomes for Dispatcher {
    fn outcomes(
        &self,
        class: Class,
        tenant: &TenantId,
        name: &Name,
        version: VersionNumber,
    ) -> OutcomeCounts {
        let key = VersionKey::new(tenant, name, version);
        match class {
            Class::Function => self.functions.outcomes.read(&key),
            Class::Model => self.models.outcomes(&key),
        }
    }
}
