//! Models: what becomes live, and what is refused.

use quern_deploy::{DeployError, DeployedKind, ModelForm};
use quern_types::{BatchAxis, Class, DeviceError, Engine, Period};

use crate::common::{Server, archive, caller, component, digits, manifest, name, tenant};

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
async fn a_manifest_says_how_calls_are_served() {
    let server = Server::start(10).await;
    let digits = digits();
    let plain = server.deploy_model("digits", None, &digits).await.expect("deployed");
    let labels = (0..10).map(|digit| format!("'{digit}'")).collect::<Vec<_>>().join(", ");
    let manifest = format!(
        "timeout = '250ms'\nlanes = 1\n[[outputs]]\nname = 'probabilities'\nlabels = [{labels}]"
    );
    let deployment = server.deploy_model("digits", Some(&manifest), &digits).await;
    let deployment = deployment.expect("deployed");
    assert!(deployment.created && deployment.digest != plain.digest);
    let routes = server.deployer.routes();
    let spec = routes.model(&tenant(), &name("digits")).expect("deployed").live().spec.clone();
    assert_eq!(spec.timeout, Some(Period::from_millis(250)));
    assert_eq!(spec.lanes.map(std::num::NonZeroU32::get), Some(1));
    assert_eq!(spec.labels["probabilities"][9], "9");
    assert!(server.offers.offered.lock().expect("no panic").is_empty(), "nothing was asked for");
}

#[tokio::test]
async fn a_warm_model_is_offered_before_it_is_live_and_then_loaded() {
    let server = Server::start(10).await;
    let warm = "warm_up = { runs = 2 }";
    let deployed = server.deploy_model("digits", Some(warm), &digits()).await.expect("deployed");
    {
        let offered = server.offers.offered.lock().expect("no panic");
        let [(digest, replica)] = &offered[..] else { panic!("one offer") };
        assert_eq!(*digest, deployed.digest);
        assert_eq!(replica.strong_count(), 0, "the deployment lets go of it");
    }
    let loaded = server.offers.loaded.lock().expect("no panic").clone();
    assert_eq!(loaded, [(name("digits"), 1)]);
    let given = |data: &str| {
        format!("[warm_up]\n[[warm_up.inputs]]\nname = 'image'\nshape = [1, 64]\ndata = [{data}]")
    };
    let row = vec!["1.5"; 64].join(", ");
    server.deploy_model("digits", Some(&given(&row)), &digits()).await.expect("deployed");
    let refused = server.deploy_model("digits", Some(&given("1.5")), &digits()).await;
    let refused = refused.expect_err("63 are missing");
    assert!(matches!(refused, DeployError::Manifest(_)), "{refused}");
    assert!(refused.to_string().contains("needs 256 bytes, got 4"), "{refused}");
}

#[tokio::test]
async fn an_archive_of_one_file_is_the_same_version_as_the_file() {
    let server = Server::start(10).await;
    let digits = digits();
    let plain = server.deploy_model("digits", None, &digits).await.expect("deployed");
    let packed = archive(&[("README", b"of no use"), ("any-name.onnx", &digits)]);
    let again = server.deploy_model_as(ModelForm::Tar, "digits", None, &packed).await;
    let again = again.expect("deployed");
    assert_eq!((again.created, again.digest), (false, plain.digest));
    assert_eq!(server.kept(), (1, 0), "the archive itself is not kept");
}

#[tokio::test]
async fn an_archive_that_is_no_model_is_refused_and_leaves_nothing() {
    let server = Server::start(10).await;
    let digits = digits();
    let cases = [
        (digits.clone(), "the model can't be served: this is not a tar archive"),
        (archive(&[]), "no .onnx file at its root"),
        (archive(&[("a.onnx", &digits), ("b.onnx", &digits)]), "several .onnx files"),
        (archive(&[("a.onnx", b"no model")]), "the model can't be served: this is not an ONNX"),
    ];
    for (packed, expected) in cases {
        let refused = server.deploy_model_as(ModelForm::Tar, "m", None, &packed).await;
        let refused = refused.expect_err(expected).to_string();
        assert!(refused.contains(expected), "{refused:?} should contain {expected:?}");
        assert_eq!(server.kept(), (0, 0), "{expected}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_named_and_leaves_nothing() {
    let server = Server::start(10).await;
    let digits = digits();
    let cut = digits[..digits.len() / 2].to_vec();
    let unknown = "[[inputs]]\nname = 'pixels'\nrange = [0, 1]";
    let labels = "[[outputs]]\nname = 'probabilities'\nlabels = ['cat']";
    let cases = [
        (Some("lanes = 0"), digits.clone(), "manifest: line 1: "),
        (Some(labels), digits.clone(), "manifest: output \"probabilities\" has 1 labels"),
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
    server.deployer.delete(&caller(), Class::Model, &name("a")).await.expect("deleted");
    server.deploy_function("a", &manifest("a"), &component(1)).await.expect("deployed");
    let clash = server.deploy_model("a", None, &digits()).await;
    assert_eq!(clash, taken(Class::Function));
    assert_eq!(server.kept(), (1, 1));
}
