//! Calls of a model whose versions share them: which version gets one, how it ends, and copies for a
//! shadow. Never queues anything itself.

use std::{sync::Arc, time::Instant};

use http::HeaderMap;
use quern_types::{
    Call, Choice, Deadline, ModelCall, ModelError, ModelReply, Name, Picked, Priority, Tensor,
    Trace,
};

use super::Shared;
use crate::{outcomes::Ending, queue::Place, ready::VersionKey};

impl Shared {
    /// Chooses the version for a call of a guest: all calls of one request to one model get the same.
    pub(super) fn choose(&self, call: &Call, name: &Name) -> Result<Picked, ModelError> {
        let routes = self.store.catalog().routes();
        let model = routes
            .model(&call.tenant, name)
            .ok_or_else(|| ModelError::NotFound { name: name.clone() })?;
        let choice = Choice { selector: None, headers: &HeaderMap::new(), id: call.id };
        let picked = model.pick(name, &choice);
        Ok(picked.expect("what asks for no version gets one"))
    }

    /// Computes a call by the version that was picked.
    pub(super) async fn infer_picked(
        self: Arc<Self>,
        call: ModelCall,
        picked: Picked,
        place: Place,
    ) -> Result<ModelReply, ModelError> {
        let call = ModelCall { version: Some(picked.version), ..call };
        if !picked.counted && picked.shadow.is_none() {
            return self.infer(call, place).await;
        }
        // Boxed, so that the future of every other call stays small.
        Box::pin(self.infer_shared(call, picked, place)).await
    }

    /// Computes a call that is compared with others: how it ends is counted, or a copy of it goes to
    /// a shadow.
    async fn infer_shared(
        self: Arc<Self>,
        call: ModelCall,
        picked: Picked,
        place: Place,
    ) -> Result<ModelReply, ModelError> {
        let ModelCall { call: of, model, .. } = &call;
        let key = |version| VersionKey::new(&of.tenant, &model.name, version);
        let watch = picked.counted.then(|| self.outcomes.watch(&key(picked.version)));
        let copy = picked.shadow.and_then(|version| {
            let copy = self.shadows.copy(&key(version), of.id, &call.inputs)?;
            Some((copy, ModelCall { version: Some(version), ..call.clone() }))
        });
        let outcome = self.clone().infer(call, place).await;
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
        let reply = self.infer(ModelCall { call: own, ..call }, Place::Elsewhere).await?;
        Ok(reply.outputs)
    }
}
