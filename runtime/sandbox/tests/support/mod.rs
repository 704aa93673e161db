//! What sandboxes are given by whoever sets them up: here a node that has nothing to offer.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use quern_sandbox::{Owner, Services};
use quern_types::{
    BucketId, Call, Change, KeyPage, KeyValue, KeyValueError, ModelCall, ModelCalls, ModelError,
    ModelReply, ModelSpec, QualifiedName, TenantId,
};

/// The services of a node without models and pairs.
pub(crate) fn services() -> Services {
    Services { models: Arc::new(NoModels), key_value: Arc::new(NoPairs), kernels: None }
}

/// Whoever has no tenant of its own, and its function of this name.
pub(crate) fn owner(function: &str) -> Owner {
    Owner { tenant: TenantId::default(), function: function.parse().expect("a name") }
}

/// A node on which no model is deployed.
struct NoModels;

impl ModelCalls for NoModels {
    fn spec(&self, _: &Call, model: &QualifiedName) -> Result<Arc<ModelSpec>, ModelError> {
        Err(ModelError::NotFound { name: model.name.clone() })
    }

    fn infer(&self, call: ModelCall) -> BoxFuture<'static, Result<ModelReply, ModelError>> {
        Box::pin(std::future::ready(Err(ModelError::NotFound { name: call.model.name })))
    }
}

/// A node that keeps no pairs.
struct NoPairs;

type Answer<T> = BoxFuture<'static, Result<T, KeyValueError>>;

fn no_pairs<T: Send + 'static>() -> Answer<T> {
    let reason = "there is no store here".into();
    Box::pin(std::future::ready(Err(KeyValueError::Storage { reason })))
}

impl KeyValue for NoPairs {
    fn get(&self, _: BucketId, _: Vec<String>) -> Answer<Vec<Option<Bytes>>> {
        no_pairs()
    }

    fn keys(&self, _: BucketId, _: Option<String>, _: usize) -> Answer<KeyPage> {
        no_pairs()
    }

    fn write(&self, _: BucketId, _: Vec<Change>) -> Answer<()> {
        no_pairs()
    }

    fn increment(&self, _: BucketId, _: String, _: i64) -> Answer<i64> {
        no_pairs()
    }

    fn compare_and_set(&self, _: BucketId, _: String, _: Option<Bytes>, _: Bytes) -> Answer<bool> {
        no_pairs()
    }
}
