//! Models as those reach them who know of the dispatcher only by a trait: guests, through the
//! sandbox, and deployments.

use std::sync::Arc;

use futures::future::BoxFuture;
use quern_types::{
    Call, Digest, ModelCall, ModelCalls, ModelError, ModelReply, ModelSpec, Name, Picked,
    QualifiedName, Replica, ReplicaOffers, TenantId, VersionNumber,
};

use super::Models;
use crate::{found::of_owner, queue::Place};

impl ModelCalls for Models {
    fn spec(&self, call: &Call, model: &QualifiedName) -> Result<Arc<ModelSpec>, ModelError> {
        let call = of_owner(&self.shared.store.catalog().routes(), call, model)?;
        let picked = self.shared.choose(&call, &model.name)?;
        Ok(self.shared.resolve(&call.tenant, &model.name, Some(picked.version))?.spec.clone())
    }

    fn infer(&self, call: ModelCall) -> BoxFuture<'static, Result<ModelReply, ModelError>> {
        let shared = self.shared.clone();
        // A guest is not charged for the run, and may be on a thread that others don't wait for.
        Box::pin(async move {
            let owners = of_owner(&shared.store.catalog().routes(), &call.call, &call.model)?;
            let call = ModelCall { call: owners, model: call.model.name.into(), ..call };
            let picked = match call.version {
                Some(version) => Picked { version, asked: true, counted: false, shadow: None },
                None => shared.choose(&call.call, &call.model.name)?,
            };
            shared.infer_picked(call, picked, Place::Elsewhere).await
        })
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
