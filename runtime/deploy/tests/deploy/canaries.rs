//! The live loop of canaries, over counts that the test makes up.

use quern_deploy::{
    Activation, CanaryEnd, CanaryStatus, NewCanary, TrafficChangeError, TrafficError,
};
use quern_types::{
    CanaryLimits, CanaryState, Class, InvalidTraffic, OutcomeCounts, Shadow, Shares, Traffic,
    VersionNumber,
};

use crate::common::{Server, caller, component, manifest, name, tenant};

fn number(number: u32) -> VersionNumber {
    VersionNumber::new(number).expect("not zero")
}

/// A server with two versions of `f`, of which the first is live.
async fn two_versions() -> Server {
    let server = Server::start(10).await;
    for variant in [1, 2] {
        let component = component(variant);
        let deployed =
            server.deploy_function_as(Activation::Waiting, "f", &manifest("f"), &component).await;
        assert_eq!(deployed.expect("deployed").live, variant == 1, "the first is live");
    }
    server
}

fn count(server: &Server, version: u32, requests: u64, traps: u64) {
    let counts = OutcomeCounts { requests, errors: traps, traps, ..OutcomeCounts::default() };
    server.outcomes.0.lock().expect("no panic").insert(number(version), counts);
}

async fn start(server: &Server, steps: &str) -> Result<CanaryStatus, TrafficChangeError> {
    let steps = steps.parse().expect("steps");
    let new = NewCanary { version: number(2), steps, limits: CanaryLimits::default() };
    server.deployer.start_canary(&caller(), Class::Function, &name("f"), new).await
}

/// The state in which the canary ends, and the version that is live then.
async fn ended(server: &Server) -> (CanaryState, VersionNumber) {
    loop {
        let status = server.deployer.canary(&tenant(), Class::Function, &name("f"));
        let state = status.expect("a canary").canary.state.clone();
        if !matches!(state, CanaryState::Running { .. }) {
            let routes = server.deployer.routes();
            let function = routes.function(&tenant(), &name("f")).expect("deployed");
            let routing = function.routing().expect("a canary");
            assert_eq!(routing.traffic.shares, None, "one version has everything");
            return (state, function.live().number);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_canary_is_judged_by_what_is_counted_after_its_start() {
    let server = two_versions().await;
    // What was before says nothing.
    count(&server, 1, 1_000, 0);
    count(&server, 2, 1_000, 1_000);
    let started = start(&server, "10% 1s, 100%").await.expect("started");
    assert_eq!(started.canary.from, number(1));
    count(&server, 1, 2_000, 0);
    count(&server, 2, 1_100, 1_000);
    let (state, live) = ended(&server).await;
    assert!(matches!(state, CanaryState::Promoted { .. }), "{state:?}");
    assert_eq!(live, number(2));
    assert!(server.metric("quern_deploy_canaries_total{outcome=\"promoted\"} 1"));
}

#[tokio::test]
async fn a_canary_that_traps_is_rolled_back() {
    let server = two_versions().await;
    start(&server, "10% 1h, 100%").await.expect("started");
    count(&server, 1, 1_000, 0);
    count(&server, 2, 100, 60);
    let (state, live) = ended(&server).await;
    let CanaryState::RolledBack { reason, .. } = state else { panic!("{state:?}") };
    assert!(reason.starts_with("60 of 100 requests (60.00 %) to version 2 trapped"), "{reason}");
    assert_eq!(live, number(1));
    assert!(server.metric("quern_deploy_canaries_total{outcome=\"rolled_back\"} 1"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_changes() {
    let server = two_versions().await;
    let (class, f) = (Class::Function, name("f"));
    let limits = CanaryLimits { latency: 0.0, ..CanaryLimits::default() };
    let steps = "100%".parse().expect("steps");
    let new = NewCanary { version: number(2), steps, limits };
    let refused = server.deployer.start_canary(&caller(), class, &f, new).await;
    assert!(matches!(refused, Err(TrafficChangeError::Limits { .. })), "{refused:?}");
    let shares = Some(Shares::new(vec![quern_types::Share { version: number(1), percent: 100 }]));
    let shadow = Some(Shadow { version: number(1), percent: 10 });
    let traffic = Traffic { shares: shares.transpose().expect("shares"), sticky: None, shadow };
    let refused = server.deployer.set_traffic(&caller(), class, &f, traffic).await;
    let itself = InvalidTraffic::ShadowOfItself { version: number(1) };
    assert_eq!(refused, Err(TrafficChangeError::Invalid(itself)));
    let ended = server.deployer.end_canary(&caller(), class, &f, CanaryEnd::Abort).await;
    let none = TrafficError::NoCanary { class, name: f.clone() };
    assert_eq!(ended, Err(TrafficChangeError::Traffic(none)));
    assert!(server.deployer.routes().function(&tenant(), &f).expect("there").routing().is_none());
}
