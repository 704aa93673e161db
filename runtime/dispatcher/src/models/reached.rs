//! Models as those reach them who know of the dispatcher only by a trait: guests, through the
//! sandbox, and deployments.

use std::sync::Arc;

use futures::future::BoxFuture;
use quern_types::{
    Call, Digest, ModelCall, ModelCalls, ModelError, ModelReply, ModelSpec, Name, Picked,
    QualifiedName, Replica, ReplicaOffers, TenantId, Version, VersionNumber,
};

use super::{Models, Shared, traffic::choose};
use crate::{
    found::{model_version, of_owner},
    queue::Place,
};

/// A guest's call on its way.
struct Reached {
    /// The call, as the owner's.
    call: ModelCall,
    version: Arc<Version<ModelSpec>>,
    picked: Picked,
}

impl ModelCalls for Models {
    fn spec(&self, call: &Call, model: &QualifiedName) -> Result<Arc<ModelSpec>, ModelError> {
        let (model, version) = (model.clone(), None);
        let call = ModelCall { call: call.clone(), model, version, inputs: Vec::new() };
        Ok(self.shared.reach(call)?.version.spec.clone())
    }

    fn infer(&self, call: ModelCall) -> BoxFuture<'static, Result<ModelReply, ModelError>> {
        let shared = self.shared.clone();
        // A guest is not charged for the run, and may be on a thread that others don't wait for.
        Box::pin(async move {
            let Reached { call, version, picked } = shared.reach(call)?;
            shared.infer_picked(call, version, picked, Place::Elsewhere).await
        })
    }
}

impl Shared {
    /// Whose model a guest calls, whether it may, and which version it gets: all of one moment, so
    /// that what is called is what is shared.
    fn reach(&self, call: ModelCall) -> Result<Reached, ModelError> {
        let routes = self.store.catalog().routes();
        let own = of_owner(&routes, &call.call, &call.model)?;
        let name = &call.model.name;
        let model = routes.model(&own.tenant, name);
        let model = model.ok_or_else(|| ModelError::NotFound { name: name.clone() })?;
        let picked = match call.version {
            Some(version) => Picked { version, asked: true, counted: false, shadow: None },
            None => choose(model, &own, name),
        };
        let version = model_version(model, name, Some(picked.version))?;
        let call = ModelCall { call: own, model: call.model.name.into(), ..call };
        Ok(Reached { call, version, picked })
    }
}

impl ReplicaOffers for Models {
    fn offer(&self, tenant: &TenantId, version: Digest, replica: &Arc<dyn Replica>) {
        self.shared.offers.make(tenant, version, replica);
    }

    fn load(
        &self,
        tenant: &TenantId,
        model: &Name,
        version: VersionNumber,
    ) -> BoxFuture<'static, ()> {
        let (shared, tenant, model) = (self.shared.clone(), tenant.clone(), model.clone());
        Box::pin(async move { shared.make_ready(&tenant, &model, version).await })
    }
}
