//! Everything at once, under constant load, while the server is killed every few seconds: nothing
//! that was acknowledged is lost, and every request is answered or cleanly refused.

mod calls;
mod canaries;
mod deployments;
mod load;
mod place;
mod schedules;
mod shares;

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    HELLO, MISBEHAVE,
    support::{Server, answer},
};
use place::Place;

/// Versions of the function that traffic is shared between.
const VERSIONS: u64 = 4;

/// A version number of its own for each limit of the same component.
async fn deploy_hello(server: &Server, version: u64) {
    let manifest = format!("name = 'hello'\nkind = 'http'\n[limits]\nlog = '{version}KiB'\n");
    let deployed = server.upload(HELLO.name, manifest, HELLO.component()).await;
    assert_eq!(deployed.status, 201, "{}", deployed.text());
    assert_eq!(deployed.json()["version"], version);
}

/// What is there before anything else happens.
async fn furnish(server: &Server) {
    for version in 1..=VERSIONS {
        deploy_hello(server, version).await;
    }
    server.deploy(&MISBEHAVE).await;
    server.deploy_digits_model().await;
    let row = load::digit().to_string();
    let answered = answer(server.request(reqwest::Method::POST, load::INFER).body(row)).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_though_the_server_is_killed_again_and_again() {
    let long = std::env::var_os("QUERN_LONG_TESTS").is_some();
    let span = Duration::from_secs(if long { 600 } else { 60 });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut random = fastrand::Rng::with_seed(now.subsec_nanos().into());
    println!("seed {}", random.get_seed());

    let place = Arc::new(Place::new());
    place.open();
    let server = place.server().await;
    furnish(&server).await;
    canaries::furnish(&server).await;
    let minutes = schedules::furnish(&place, &server).await;
    drop(server);
    let deployed = tokio::spawn(deployments::deploy_on(place.clone(), random.fork()));
    let shared = tokio::spawn(shares::share_on(place.clone(), random.fork()));
    let called = tokio::spawn(calls::call_on(place.clone(), random.fork()));
    let scheduled = tokio::spawn(schedules::pass_on(place.clone(), minutes, random.fork()));
    let canaries = tokio::spawn(canaries::follow_on(place.clone(), random.fork()));
    let visitors: Vec<_> = (0..2)
        .flat_map(|_| {
            [tokio::spawn(load::visit(place.clone())), tokio::spawn(load::infer(place.clone()))]
        })
        .collect();

    let start = Instant::now();
    let mut kills = 0;
    while start.elapsed() < span {
        tokio::time::sleep(Duration::from_millis(random.u64(1_000..5_000))).await;
        place.kill();
        kills += 1;
        place.open();
    }
    place.close();

    let mut report = format!("{kills} kills");
    let mut refused = load::Served::default();
    for visitor in visitors {
        refused += visitor.await.expect("every request is answered or cleanly refused");
    }
    let deployed = deployed.await.expect("no deployment is lost");
    let mut shared = shared.await.expect("no change of traffic is lost");
    let mut called = called.await.expect("no call is lost");
    let scheduled = scheduled.await.expect("no call of a schedule is lost");
    let mut canaries = canaries.await.expect("canaries are what was acknowledged");
    let server = place.server().await;
    deployments::check(&server, &deployed).await;
    shared.check(&server).await;
    called.check(&server).await;
    let minutes = scheduled.check(&server).await;
    canaries.check(&server).await;
    let (promoted, others) = canaries.ended();
    let _ = write!(
        report,
        "; {} requests answered, {} refused, {} cut off; {} deployments, {} changes of traffic \
         and {} calls acknowledged; {minutes} minutes of a schedule called; {promoted} canaries \
         promoted, {others} ended otherwise",
        refused.answered,
        refused.refused,
        refused.cut_off,
        deployed.len(),
        shared.acknowledged(),
        called.len(),
    );
    println!("{report}");
    assert!(refused.answered > 0 && !deployed.is_empty() && called.len() > 0);
    assert!(shared.acknowledged() > 0 && minutes > 0 && promoted + others > 0);
}
