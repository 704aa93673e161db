//! What takes calls, before anything that was asked to be loaded is.

use quern_types::{BatchAxis, Engine, FunctionKind, Signature};

use super::*;
use crate::house::{House, abandon, version};

#[tokio::test]
async fn a_load_that_nobody_waits_for_takes_effect() {
    let house = House::new().await;
    let (tenant, name) = (TenantId::default(), "m".parse().expect("a name"));
    let key = || VersionKey::new(&tenant, &name, VersionNumber::FIRST);
    let signature = || Signature::new(vec![], vec![]).expect("valid");

    let House { models, functions, .. } = &house;
    models.unload([key()]);
    let unloaded = Err(ModelError::Unloaded { name: name.clone() });
    assert_eq!(models.readiness(&key(), Engine::Tract), unloaded);
    let model = ModelSpec::new(signature(), Engine::Tract, BatchAxis::Rows { max: 8 });
    abandon(models.load(&tenant, &name, &version(model)));
    assert_eq!(models.readiness(&key(), Engine::Tract), Ok(()));

    functions.unload([key()]);
    assert_eq!(functions.readiness(&key()), unloaded);
    let function = FunctionSpec::new(FunctionKind::Inference(signature()));
    abandon(functions.load(&tenant, &name, &version(function)));
    assert_eq!(functions.readiness(&key()), Ok(()));
}
