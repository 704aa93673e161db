//! Calls of a model whose versions share them: which version gets one, how it ends, and copies for a
//! shadow. Never queues anything itself.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;
use quern_types::{
    Call, Choice, Deadline, Deployed, ModelCall, ModelError, ModelReply, ModelSpec, Name, Picked,
    Priority, Tensor, Trace, Version,
};

use super::Shared;
use crate::{outcomes::Ending, queue::Place, ready::VersionKey};

/// Chooses the version for a call of a guest: all calls of one request to one model get the same.
pub(super) fn choose(model: &Deployed<ModelSpec>, call: &Call, name: &Name) -> Picked {
    let choice = Choice { selector: None, headers: &HeaderMap::new(), id: call.id };
    model.pick(name, &choice).expect("what asks for no version gets one")
}

impl Shared {
    /// Computes a call by the version that was picked.
    pub(super) async fn infer_picked(
        self: Arc<Self>,
        call: ModelCall,
        version: Arc<Version<ModelSpec>>,
        picked: Picked,
        place: Place,
    ) -> Result<ModelReply, ModelError> {
        if !picked.counted && picked.shadow.is_none() {
            return self.infer(call, version, place).await;
        }
        // Boxed, so that the future of every other call stays small.
        Box::pin(self.infer_shared(call, version, picked, place)).await
    }

    /// Computes a call that is compared with others: how it ends is counted, or a copy of it goes to
    /// a shadow.
    async fn infer_shared(
        self: Arc<Self>,
        call: ModelCall,
        version: Arc<Version<ModelSpec>>,
        picked: Picked,
        place: Place,
    ) -> Result<ModelReply, ModelError> {
        let ModelCall { call: of, model, .. } = &call;
        let key = |version| VersionKey::new(&of.tenant, &model.name, version);
        let watch = picked.counted.then(|| self.outcomes.watch(&key(picked.version)));
        let copy = picked.shadow.and_then(|shadow| {
            let copy = self.shadows.copy(&key(shadow), of.id, &call.inputs)?;
            Some((copy, ModelCall { version: Some(shadow), ..call.clone() }))
        });
        let outcome = self.clone().infer(call, version, place).await;
        let ending = outcome.as_ref().map_or_else(Ending::of_model, |_| Ending::Good);
        if let Some(watch) = watch {
            watch.end(ending);
        }
        // A call that found no room has no answer to compare.
        if let Some((copy, call)) = copy.filter(|_| ending != Ending::Rejected) {
            let answer = outcome.as_ref().map(|reply| &*reply.outputs);
            copy.follow(answer.map_err(ToString::to_string), self.infer_copy(call));
        }
        outcome
    }

    /// Computes a copy of a call, after everything else, and within as much time as that had.
    async fn infer_copy(self: Arc<Self>, call: ModelCall) -> Result<Vec<Tensor>, ModelError> {
        let deadline = Deadline::after(Instant::now(), call.call.deadline.allowed());
        let (priority, trace) = (Priority::LOWEST, Trace::default());
        let own = Call { priority, deadline, trace, ..call.call };
        let version = self.resolve(&own.tenant, &call.model.name, call.version)?;
        let reply = self.infer(ModelCall { call: own, ..call }, version, Place::Elsewhere).await?;
        Ok(reply.outputs)
    }
}
