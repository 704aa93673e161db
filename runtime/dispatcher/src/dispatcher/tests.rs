//! What a request calls is what was there when it was let in.

use std::collections::BTreeMap;

use http_body_util::{BodyExt as _, Empty};
use quern_types::{BatchAxis, Deployed, Engine, FunctionKind, ModelError, ModelSpec, Signature};

use super::*;
use crate::house::{House, abandon, version};

const INVOCATION: &str = "01936a5e-0000-7000-8000-0123456789ab";

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn deployed<Spec>(spec: Spec) -> Arc<Deployed<Spec>> {
    let versions = BTreeMap::from([(VersionNumber::FIRST, version(spec))]);
    Arc::new(Deployed::new(versions, VersionNumber::FIRST).expect("it is among them"))
}

/// The model `m`, the inference function `i` and the function `h`.
fn routes() -> Arc<Routes> {
    let mut routes = Routes::default();
    let own = routes.tenant_mut(&TenantId::default());
    let signature = || Signature::new(vec![], vec![]).expect("valid");
    let model = ModelSpec::new(signature(), Engine::Tract, BatchAxis::Rows { max: 8 });
    own.models.insert(name("m"), deployed(model));
    for (function, kind) in [("i", FunctionKind::Inference(signature())), ("h", FunctionKind::Http)]
    {
        own.functions.insert(name(function), deployed(FunctionSpec::new(kind)));
    }
    Arc::new(routes)
}

fn inference(target: &str, routes: &Arc<Routes>) -> InferRequest {
    let version = VersionNumber::FIRST;
    InferRequest {
        id: INVOCATION.parse().expect("an id"),
        routes: routes.clone(),
        tenant: TenantId::default(),
        target: name(target),
        picked: Picked { version, asked: false, counted: false, shadow: None },
        timeout: None,
        priority: Priority::default(),
        trace: Trace::default(),
        inputs: Vec::new(),
    }
}

fn call(routes: &Arc<Routes>) -> HttpCall {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    HttpCall {
        id: INVOCATION.parse().expect("an id"),
        routes: routes.clone(),
        tenant: TenantId::default(),
        target: name("h"),
        selector: None,
        trace: Trace::default(),
        request: Request::new(body),
    }
}

/// What a name stands for may change between the look at who may call it and the call: what is
/// deployed then is nobody's to call yet.
#[tokio::test]
async fn what_was_let_in_is_what_is_called_whatever_is_deployed_meanwhile() {
    let House { store, models, functions, kernels, folder: _folder } = House::new().await;
    let (then, now) = (routes(), store.catalog().routes());
    let dispatcher = Dispatcher::new(store, models, functions, kernels);
    abandon(dispatcher.infer(inference("m", &then)));
    for target in ["m", "i"] {
        let absent = dispatcher.infer(inference(target, &now)).await.expect_err("not there");
        assert_eq!(absent, ModelError::NotFound { name: name(target) }.into());
    }
    // They get as far as to their code, which went with them.
    let (function, called) =
        (dispatcher.infer(inference("i", &then)).await, dispatcher.call_http(call(&then)).await);
    for (outcome, target) in [(function.err(), "i"), (called.err(), "h")] {
        let is_gone = matches!(&outcome, Some(InvokeError::Unavailable { name: of, .. })
            if *of == name(target));
        assert!(is_gone, "{outcome:?}");
    }
    let absent = dispatcher.call_http(call(&now)).await;
    assert_eq!(absent.err(), Some(InvokeError::NotFound { name: name("h") }));
}
