//! What it costs one tenant that there are a thousand.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use quern_store::NewVersion;
use quern_types::{Caller, Digest, Name, TenantId};

use crate::{
    callee::{Callee, alternate, bearer, deployed, hello, open, serve, token},
    support::{
        client::plain,
        load::{progress, quantile},
        process::ServerProcess,
        report::{Table, aim, publish},
    },
};

/// Most that a thousand tenants may add to a call or a deployment: what is less can't be told from
/// what one round differs from another by.
const AIM_RATIO: f64 = 1.1;
const TENANTS: usize = 1_000;
const FUNCTIONS: usize = 100;
/// Deployments of each server.
const DEPLOYMENTS: usize = 100;
/// Rows that are written at the same time.
const ROWS: usize = 512;

/// Rows of so many tenants with so many functions each, all of the component that is there.
async fn fill(data: &Path) -> Result<String> {
    let store = open(data).await?;
    let routes = store.catalog().routes();
    let hello: Name = "hello".parse()?;
    let found = routes.function(&TenantId::default(), &hello).context("was deployed")?;
    let known = found.live().clone();
    let rows = (0..TENANTS).flat_map(|tenant| (0..FUNCTIONS).map(move |number| (tenant, number)));
    futures::stream::iter(rows)
        .map(|(tenant, number)| {
            let (store, known) = (&store, &known);
            async move {
                let tenant = TenantId::new(&format!("tenant-{tenant}"));
                // The first one of each has the name that is called.
                let name = if number == 0 { "hello".into() } else { format!("hello-{number}") };
                let digest = Digest::of(format!("{tenant} {name}").as_bytes());
                let new = NewVersion {
                    caller: Caller { tenant, ..Caller::unasked() },
                    name: name.parse()?,
                    digest,
                    content: known.content,
                    spec: (*known.spec).clone(),
                    created: SystemTime::now(),
                    live: true,
                };
                store.catalog().commit_function(new).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(ROWS)
        .try_collect::<()>()
        .await?;
    let tenants = (0..TENANTS).map(|tenant| TenantId::new(&format!("tenant-{tenant}")));
    let secrets: Vec<String> = futures::stream::iter(tenants)
        .map(|tenant| {
            let store = &store;
            async move { token(store, &tenant).await }
        })
        .buffered(ROWS)
        .try_collect()
        .await?;
    store.close().await;
    secrets.into_iter().nth(TENANTS / 2).context("a tenant in the middle")
}

/// One tenant with one function beside one of a thousand with a hundred.
pub(crate) async fn measure() -> Result<()> {
    let (few, many) = (deployed().await?, deployed().await?);
    let store = open(few.path()).await?;
    let alone = token(&store, &TenantId::default()).await?;
    store.close().await;
    progress(format!("writing {TENANTS} tenants with {FUNCTIONS} functions each"));
    let among = fill(many.path()).await?;
    let (mut servers, mut callees) = (Vec::new(), Vec::new());
    for (name, data, token) in
        [("1 tenant, 1 function", &few, &alone), ("1,000 tenants × 100", &many, &among)]
    {
        let started = Instant::now();
        let server = serve(data.path(), &["--authenticate"]).await?;
        progress(format!("{name}: started in {:?}", started.elapsed()));
        callees.push(Callee::new(name, &server, "/f/hello/", &[bearer(token)]).await?);
        servers.push(server);
    }
    let calls = alternate(&mut callees).await?;
    let deployments = deploy_in_turn(&servers, [&alone, &among]).await?;
    let mut table =
        Table::new(["server has", "call p50", "call p99", "deployment p50", "deployment p99"]);
    for (callee, ([call, slow_call], [deploy, slow_deploy])) in
        callees.iter().zip(calls.iter().zip(&deployments))
    {
        table.row([
            callee.name.clone(),
            format!("{call:.1} µs"),
            format!("{slow_call:.1} µs"),
            format!("{:.2} ms", deploy / 1e3),
            format!("{:.2} ms", slow_deploy / 1e3),
        ]);
    }
    let ratio = |of: &[[f64; 2]]| of[1][0] / of[0][0];
    let (of_calls, of_deployments) = (ratio(&calls), ratio(&deployments));
    for server in servers {
        server.stop().await?;
    }
    let text = format!(
        "One tenant's hello, and a deployment of it under another name, where it is alone on the \
         server and where it is one of {TENANTS} tenants with {FUNCTIONS} functions each; in \
         turns.\n\n{table}\nCalls take {of_calls:.3} times as long, {}; deployments \
         {of_deployments:.3} times, {}.\n",
        aim(&format!("≤ {AIM_RATIO} ×"), of_calls <= AIM_RATIO),
        aim(&format!("≤ {AIM_RATIO} ×"), of_deployments <= AIM_RATIO),
    );
    publish("tenants", "A thousand tenants", &text)
}

/// Deploys the component that is there under other names; p50 and p99 in µs.
async fn deploy_in_turn(servers: &[ServerProcess], tokens: [&str; 2]) -> Result<Vec<[f64; 2]>> {
    let component = hello()?;
    let client = plain();
    let mut all = vec![Vec::new(); servers.len()];
    for number in 0..DEPLOYMENTS {
        for ((server, token), times) in servers.iter().zip(tokens).zip(&mut all) {
            let name = format!("more-{number}");
            let manifest = format!("name = \"{name}\"\nkind = \"http\"\n");
            let form = reqwest::multipart::Form::new()
                .text("manifest", manifest)
                .part("component", reqwest::multipart::Part::bytes(component.clone()));
            let url = server.url(&format!("/v1/functions/{name}"));
            let started = Instant::now();
            let answer = client.put(url).bearer_auth(token).multipart(form).send().await?;
            ensure!(answer.status() == 201, "{}", answer.text().await?);
            answer.bytes().await?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
            // What is committed in the background of one is not to slow the other.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let quantiles = |times: &mut Vec<f64>| [quantile(times, 0.5), quantile(times, 0.99)];
    Ok(all.iter_mut().map(quantiles).collect())
}
