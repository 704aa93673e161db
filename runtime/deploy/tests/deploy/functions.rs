//! Functions: what becomes live, and what is refused.

use std::sync::Arc;

use quern_deploy::{ComponentError, DeployError, DeployedKind, StageError};
use quern_types::{ByteSize, Digest, LimitRules, Limits};

use crate::common::{Server, caller, component, files, live, manifest, name, spec, tenant, upload};

#[tokio::test]
async fn a_deployed_function_is_live_stored_and_compiled() {
    let server = Server::start(10).await;
    let (manifest, component) = (manifest("f"), component(1));
    let deployment = server.deploy_function("f", &manifest, &component).await.expect("deployed");
    assert_eq!((deployment.version.get(), deployment.created), (1, true));
    assert_eq!(deployment.kind, DeployedKind::Function(Arc::new(spec(&manifest))));
    assert!(deployment.compile.is_some());
    let routes = server.deployer.routes();
    let live = routes.function(&tenant(), &name("f")).expect("deployed").live();
    assert_eq!((live.digest, live.content), (deployment.digest, Digest::of(&component)));
    assert_eq!(server.store.blobs().read(&live.content).await.expect("stored"), component);
    assert!(server.is_compiled(&component, &live.spec));
    assert!(server.metric("quern_deploys_total{class=\"function\",outcome=\"created\"} 1"));
    assert!(server.metric("quern_deploy_seconds_count{class=\"function\"} 1"));
}

#[tokio::test]
async fn the_same_upload_is_the_same_version_and_another_manifest_is_not() {
    let server = Server::start(10).await;
    let (manifest, component) = (manifest("f"), component(1));
    let first = server.deploy_function("f", &manifest, &component).await.expect("deployed");
    let changed = manifest.replace("kind", "limits = { memory = '32MiB' }\nkind");
    let second = server.deploy_function("f", &changed, &component).await.expect("deployed");
    assert_eq!((second.version.get(), second.created), (2, true));
    let again = server.deploy_function("f", &manifest, &component).await.expect("deployed");
    assert_eq!((again.version, again.created, again.digest), (first.version, false, first.digest));
    assert_eq!(server.kept(), (1, 1), "one component, stored and compiled once");
    assert!(server.metric("quern_deploys_total{class=\"function\",outcome=\"unchanged\"} 1"));
}

#[tokio::test]
async fn the_operators_rules_on_limits_hold_and_not_the_built_in_ones() {
    let rules = LimitRules {
        defaults: Limits { memory: ByteSize::mib(8), ..Limits::default() },
        ceilings: Limits { memory: ByteSize::mib(16), ..Limits::CEILING },
        ..LimitRules::default()
    };
    let server = Server::start_within(10, rules).await;
    let (manifest, component) = (manifest("f"), component(1));
    let too_much = manifest.replace("kind", "limits = { memory = '17MiB' }\nkind");
    let refused = server.deploy_function("f", &too_much, &component).await.expect_err("above");
    assert_eq!(
        refused.to_string(),
        "manifest: limits.memory is above this server's ceiling of 16.0 MiB"
    );
    let deployment = server.deploy_function("f", &manifest, &component).await.expect("deployed");
    let DeployedKind::Function(spec) = deployment.kind else { panic!("is a function") };
    assert_eq!(spec.limits, rules.defaults);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_leaves_nothing() {
    let server = Server::start(10).await;
    let (manifest, component) = (manifest("f"), component(1));
    let importing = |import: &str| {
        let text = format!("(component (import \"{import}\" (instance)))");
        wat::parse_str(&text).expect("valid text")
    };
    let core = wat::parse_str("(module)").expect("valid text");
    let empty = wat::parse_str("(component)").expect("valid text");
    let cases = [
        (manifest.replace("kind", "knid"), component.clone(), "manifest: line 2: unknown field"),
        (
            manifest.replace("'f'", "'g'"),
            component.clone(),
            "the manifest names function \"g\", but is deployed as \"f\"",
        ),
        (manifest.clone(), core, "the upload is not a WebAssembly component"),
        (manifest.clone(), b"PK\x03\x04 a zip".to_vec(), "the upload is not a WebAssembly"),
        (manifest.clone(), Vec::new(), "the upload is not a WebAssembly component"),
        (manifest.clone(), component[..component.len() / 2].to_vec(), "the component is not valid"),
        (manifest.clone(), empty, "the component does not export quern:ml/inference"),
        (manifest.clone(), importing("acme:rockets/launch@1.0.0"), "acme:rockets/launch@1.0.0"),
        (manifest.clone(), importing("quern:ml/models@0.1.0"), "grant it in the manifest"),
    ];
    for (manifest, component, expected) in cases {
        let refused = server.deploy_function("f", &manifest, &component).await;
        let refused = refused.expect_err(expected).to_string();
        assert!(refused.contains(expected), "{refused:?} should contain {expected:?}");
        assert_eq!(server.kept(), (0, 0), "{expected}");
    }
    assert!(server.deployer.routes().tenant(&tenant()).is_none());
    assert!(server.metric("quern_deploys_total{class=\"function\",outcome=\"refused\"} 9"));
    server.store.close().await;
    assert!(files(&server.folder.path().join("blobs/uploads")).is_empty());
}

#[tokio::test]
async fn a_failed_deploy_keeps_what_serves() {
    let server = Server::start(10).await;
    let (manifest, component) = (manifest("f"), component(1));
    server.deploy_function("f", &manifest, &component).await.expect("deployed");
    let before = server.deployer.routes();
    let http = "name = 'f'\nkind = 'http'";
    let refused = server.deploy_function("f", http, &component).await.expect_err("no http");
    assert!(
        matches!(&refused, DeployError::Component(ComponentError::MissingExport { kind, .. })
            if *kind == "http"),
        "{refused}"
    );
    let after = server.deployer.routes();
    let key = name("f");
    assert_eq!(after.function(&tenant(), &key), before.function(&tenant(), &key));
    assert!(server.is_compiled(&component, &spec(&manifest)), "the same bytes serve another kind");
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused() {
    let server = Server::start(10).await;
    let refused = server.deploy_function("f", &manifest("f"), &vec![0; 5 << 20]).await;
    let limit = ByteSize::mib(4);
    assert_eq!(refused, Err(DeployError::Upload(StageError::TooLarge { limit })));
}

#[tokio::test]
async fn a_store_that_fails_is_the_servers_fault() {
    let server = Server::start(10).await;
    let staged = server.deployer.stage(upload(&component(1))).await.expect("staged");
    server.store.close().await;
    let key = name("f");
    let refused =
        server.deployer.deploy_function(&caller(), &key, &manifest("f"), live(staged)).await;
    assert!(matches!(refused, Err(DeployError::Storage { .. })), "{refused:?}");
    assert_eq!(server.kept().1, 0, "no compiled code");
    assert!(server.metric("quern_deploys_total{class=\"function\",outcome=\"failed\"} 1"));
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_whole_deployment() {
    let server = Server::start(10).await;
    let (key, manifest, component) = (name("f"), manifest("f"), component(1));
    let staged = server.deployer.stage(upload(&component)).await.expect("staged");
    let owner = caller();
    let deploy = server.deployer.deploy_function(&owner, &key, &manifest, live(staged));
    tokio::select! {
        biased;
        _ = deploy => panic!("compiling takes longer than one poll"),
        () = std::future::ready(()) => {}
    }
    server.deployer.drain().await;
    let routes = server.deployer.routes();
    let live = routes.function(&owner.tenant, &key).expect("deployed").live();
    assert!(server.is_compiled(&component, &live.spec));
}

#[tokio::test]
async fn uploads_under_way_are_counted_from_their_first_byte() {
    let server = Server::start(10).await;
    let mut staged = Vec::new();
    for _ in 0..64 {
        staged.push(server.deployer.stage(upload(b"upload")).await.expect("staged"));
    }
    let is_full = async || match server.deployer.stage(upload(b"one more")).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error, DeployError::Busy { limit: 64 });
            true
        }
    };
    assert!(is_full().await);
    assert_eq!(files(&server.folder.path().join("blobs/uploads")).len(), 64);
    let (owner, key) = (caller(), name("f"));
    let last = staged.pop().expect("staged");
    let refused = server.deployer.deploy_function(&owner, &key, &manifest("f"), live(last)).await;
    refused.expect_err("no component");
    assert!(!is_full().await, "a refused deployment leaves");
    let whole = server.deployer.stage(upload(&component(1))).await.expect("staged");
    assert!(is_full().await);
    let deployed = server.deployer.deploy_function(&owner, &key, &manifest("f"), live(whole)).await;
    deployed.expect("deployed");
    assert!(!is_full().await, "a finished deployment leaves");
    staged.pop();
    let _first = server.deployer.stage(upload(b"a")).await.expect("staged");
    let _second = server.deployer.stage(upload(b"b")).await.expect("a dropped upload leaves");
    assert!(is_full().await);
}
