//! Models: what becomes live, and what is refused.

use quern_deploy::{DeployError, DeployedKind};
use quern_types::{BatchAxis, Class, DeviceError, Engine};

use crate::common::{Server, component, digits, manifest, name, tenant};

#[tokio::test]
async fn a_deployed_model_is_live_with_its_signature_and_batch_axis() {
    let server = Server::start(10).await;
    let deployment = server.deploy_model("digits", None, &digits()).await.expect("deployed");
    assert_eq!((deployment.version.get(), deployment.compile), (1, None));
    let DeployedKind::Model(spec) = deployment.kind else { panic!("a model") };
    assert_eq!(spec.engine, Engine::Tract, "the only one here");
    assert_eq!(spec.batch, BatchAxis::Rows { max: 32 });
    assert_eq!(spec.signature.inputs()[0].shape, [-1, 64]);
    let routes = server.deployer.routes();
    let live = routes.model(&tenant(), &name("digits")).expect("deployed").live();
    assert_eq!(live.spec, spec);
    assert!(server.metric("quern_deploys_total{class=\"model\",outcome=\"created\"} 1"));
}

#[tokio::test]
async fn a_manifest_sets_ranges_batch_and_engine() {
    let server = Server::start(10).await;
    let plain = server.deploy_model("digits", None, &digits()).await.expect("deployed");
    let DeployedKind::Model(spec) = plain.kind else { panic!("a model") };
    let input = &spec.signature.inputs()[0].name;
    let manifest =
        format!("engine = 'tract'\nmax_batch = 8\n[[inputs]]\nname = '{input}'\nrange = [0, 16]");
    let deployment = server.deploy_model("digits", Some(&manifest), &digits()).await;
    let deployment = deployment.expect("deployed");
    assert_eq!((deployment.version.get(), deployment.created), (2, true));
    let DeployedKind::Model(spec) = deployment.kind else { panic!("a model") };
    assert_eq!(spec.batch, BatchAxis::Rows { max: 8 });
    let range = spec.signature.inputs()[0].range.expect("as in the manifest");
    assert_eq!(<(f64, f64)>::from(range), (0.0, 16.0));
    let again = server.deploy_model("digits", Some(&manifest), &digits()).await;
    assert!(!again.expect("deployed").created, "the same version");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_leaves_nothing() {
    let server = Server::start(10).await;
    let digits = digits();
    let cut = digits[..digits.len() / 2].to_vec();
    let unknown = "[[inputs]]\nname = 'pixels'\nrange = [0, 1]";
    let cases = [
        (Some("engine = 'torch'"), digits.clone(), "manifest: line 1: unknown variant `torch`"),
        (Some(unknown), digits.clone(), "manifest: input \"pixels\" is not one of the model's"),
        (None, b"not ONNX".to_vec(), "the model can't be served: this is not an ONNX file"),
        (None, cut, "the model can't be served: this is not an ONNX file"),
        (None, Vec::new(), "the model can't be served: this is not an ONNX file: it is empty"),
        (Some("engine = 'onnxruntime'"), digits, "engine onnxruntime is not available here"),
    ];
    for (manifest, model, expected) in cases {
        let refused = server.deploy_model("m", manifest, &model).await;
        let refused = refused.expect_err(expected);
        let text = refused.to_string();
        assert!(text.contains(expected), "{text:?} should contain {expected:?}");
        assert_eq!(server.kept(), (0, 0), "{expected}");
        if expected.starts_with("engine") {
            assert!(matches!(refused, DeployError::Engine(DeviceError::EngineAbsent { .. })));
        }
    }
    assert!(server.deployer.routes().tenant(&tenant()).is_none());
}

#[tokio::test]
async fn a_model_and_an_inference_function_can_not_share_a_name() {
    let server = Server::start(10).await;
    let taken = |by| Err(DeployError::NameTaken { name: name("a"), by });
    server.deploy_model("a", None, &digits()).await.expect("deployed");
    let clash = server.deploy_function("a", &manifest("a"), &component(1)).await;
    assert_eq!(clash, taken(Class::Model));
    assert_eq!(server.kept(), (1, 0), "no compiled code of what was refused");
    server.deployer.delete(&tenant(), Class::Model, &name("a")).await.expect("deleted");
    server.deploy_function("a", &manifest("a"), &component(1)).await.expect("deployed");
    let clash = server.deploy_model("a", None, &digits()).await;
    assert_eq!(clash, taken(Class::Function));
    assert_eq!(server.kept(), (1, 1));
}
