//! Latency against load: the MLP at rates that don't depend on the server's answers, up to where
//! each server falls behind. Drawn and tabulated.

use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    agreement,
    models::{self, Form, MLP},
    peers::{fastapi, litserve, mlserver, triton},
    plot::{self, Curve, Point},
    quern::{ORT, Quern},
    rates::time,
    support::{
        group::client,
        load::{Loaded as _, progress},
        open_loop::{Offer, offer},
        report::{Table, publish},
    },
    target::Target,
};

/// Requests a second that are offered, until a server falls behind.
const RATES: [f64; 12] = [
    250.0, 500.0, 1000.0, 2000.0, 3000.0, 4000.0, 6000.0, 9000.0, 13_000.0, 20_000.0, 30_000.0,
    40_000.0,
];
/// The part of the requests that must be answered, or the server has fallen behind.
const KEEPS_UP: f64 = 0.98;
const WARM_UP: Duration = Duration::from_millis(500);
const TIME: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_millis(500);
const REST: Duration = Duration::from_secs(3);
const AWAKE: Duration = Duration::MAX;
const DELAY_US: u32 = 200;

pub(crate) async fn measure() -> Result<()> {
    let folder = TempDir::new()?;
    models::write(folder.path())?;
    let file = MLP.file(folder.path());
    let client = client()?;
    let quern = Quern::start("").await?;
    quern.deploy_model(&client, "mlp", ORT, &file).await?;
    let fastapi = fastapi::start(&file, 1, 0).await?;
    let way = triton::Deployed { name: "mlp", instances: 4, rows: 64, delay_us: DELAY_US };
    let triton = triton::start(&MLP, &file, &[way]).await?;
    let litserve = litserve::start(&file, litserve::Workers { count: 2, rows: 32 }).await?;
    let mlserver = mlserver::start(&MLP, &file, 0).await?;

    let request = MLP.request(Form::Json, "mlp", None, folder.path())?;
    let path = "/v2/models/mlp/infer";
    let mut targets = vec![
        quern.target("Quern", "mlp", &request),
        triton.target(path, &request),
        fastapi.target("/validated", &request),
        mlserver.target(path, &request),
        litserve.target("/infer", &request),
    ];
    agreement::check(&client, &MLP, &mut targets).await?;
    let mut curves = Vec::new();
    for target in &targets {
        curves.push(curve(target).await?);
        // It may still compute what nobody waits for.
        sleep(REST).await;
    }
    plot::write(&curves)?;
    publish("inference-curve", "Models: latency against load", &text(&curves))
}

/// What a target does at each rate that it keeps up with.
async fn curve(target: &Target) -> Result<Curve> {
    let name = target.name().to_owned();
    let _awake = target.awake();
    let target = target.http()?;
    let mut points = Vec::new();
    for per_second in RATES {
        let offered =
            Offer { per_second, warm_up: WARM_UP, time: TIME, patience: PATIENCE, awake: AWAKE };
        let outcome = offer(target, offered).await?;
        let answered = outcome.answered() as f64 / outcome.offered as f64;
        let (Some(p50_us), Some(p99_us)) = (outcome.quantile(0.5), outcome.quantile(0.99)) else {
            break;
        };
        progress(format!(
            "{name} at {per_second}/s: {:.1} % in time, p50 {p50_us:.0} µs, p99 {p99_us:.0} µs",
            answered * 100.0
        ));
        if answered < KEEPS_UP {
            break;
        }
        points.push(Point { per_second, p50_us, p99_us });
    }
    Ok(Curve { name, points })
}

fn text(curves: &[Curve]) -> String {
    let mut table =
        Table::new(["requests/s", "Quern", "Triton", "FastAPI", "MLServer", "LitServe"]);
    for per_second in RATES {
        let cell = |index: usize| {
            let points: &[Point] = curves.get(index).map_or(&[], |curve| &curve.points);
            let point = points.iter().find(|point| point.per_second == per_second);
            point.map_or("–".to_owned(), |Point { p50_us, p99_us, .. }| {
                format!("{}, {}", time(*p50_us), time(*p99_us))
            })
        };
        let [quern, triton, fastapi, mlserver, litserve] = std::array::from_fn(cell);
        table.row([per_second.to_string(), quern, triton, fastapi, mlserver, litserve]);
    }
    format!(
        "![p50 and p99 of each server against the requests that it is offered]({})\n\n\
         The MLP as JSON; p50 and p99 at rates that don't wait for answers (open loop): requests \
         are due at times with exponential gaps, the same for every server, for {} s at each rate, \
         and latency counts from when a request was due. A server's row ends where less than \
         {} % of the requests were answered within {} ms. The generator ([its source]\
         (../benches/support/open_loop.rs)) keeps one core awake at all rates. Servers are \
         configured as for 32 connections above; FastAPI has one worker and validates.\n\n{table}",
        plot::LINK,
        TIME.as_secs(),
        KEEPS_UP * 100.0,
        PATIENCE.as_millis(),
    )
}
