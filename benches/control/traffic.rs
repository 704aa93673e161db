//! What it costs a call that its version is chosen among two.

use std::{hint::black_box, time::Instant};

use anyhow::{Context as _, Result, ensure};
use http::{HeaderMap, HeaderValue};
use quern_types::{Choice, InvocationId, Name, TenantId};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    callee::{CALLS, Callee, TURNS, alternate, hello, open, serve},
    support::{
        client::plain,
        function::{deploy_function, distinct},
        load::progress,
        process::ServerProcess,
        report::{Table, aim, publish},
    },
};

/// Most µs that sharing out may add to a call.
const AIM_US: f64 = 1.0;
/// Choices that are timed together.
const CHOICES: u32 = 1_000_000;
const USER: &str = "x-user";

/// Calls of one version, and of two that share the calls; and the choice alone.
pub(crate) async fn measure() -> Result<()> {
    let data = TempDir::new()?;
    let server = serve(data.path(), &[]).await?;
    let halves = json!([{"version": 1, "percent": 50}, {"version": 2, "percent": 50}]);
    let kinds = [
        ("one", "one version", None),
        ("halves", "two, a half each", Some(json!({"versions": halves}))),
        (
            "sticky",
            "two, sticky by header",
            Some(json!({"versions": halves, "sticky": {"header": USER}})),
        ),
    ];
    let mut callees = Vec::new();
    for (name, title, traffic) in &kinds {
        deploy_function(&plain(), &server.url(""), name, hello()?).await?;
        deploy_function(&plain(), &server.url(""), name, distinct(&hello()?, 2)).await?;
        if let Some(traffic) = traffic {
            share(&server, name, traffic).await?;
        }
        let path = format!("/f/{name}/");
        callees.push(Callee::new(*title, &server, &path, &[format!("{USER}: 17")]).await?);
    }
    progress("calling one version, and two");
    let measured = alternate(&mut callees).await?;
    server.stop().await?;
    let store = open(data.path()).await?;
    let mut table = Table::new(["versions", "p50", "p99", "the choice alone", "aim"]);
    for ((name, title, _), [p50, p99]) in kinds.iter().zip(&measured) {
        let nanoseconds = choose(&store, name)?;
        table.row([
            (*title).to_owned(),
            format!("{p50:.1} µs"),
            format!("{p99:.1} µs"),
            format!("**{nanoseconds:.0} ns**"),
            aim(&format!("≤ {AIM_US} µs"), nanoseconds <= AIM_US * 1e3),
        ]);
    }
    store.close().await;
    let text = format!(
        "The template's hello, called over one connection, {} times in turns of {CALLS} on each \
         name; and the choice by itself, {CHOICES} times in a loop, in this process.\n\n{table}",
        CALLS * TURNS
    );
    publish("traffic", "Traffic between versions", &text)
}

async fn share(server: &ServerProcess, name: &str, traffic: &Value) -> Result<()> {
    let url = server.url(&format!("/v1/functions/{name}/traffic"));
    let answer = plain().put(url).json(traffic).send().await?;
    ensure!(answer.status().is_success(), "{}", answer.text().await?);
    Ok(())
}

/// How long one choice takes, in ns.
fn choose(store: &quern_store::Store, name: &str) -> Result<f64> {
    let routes = store.catalog().routes();
    let name: Name = name.parse()?;
    let found = routes.function(&TenantId::default(), &name).context("was deployed")?;
    let mut headers = HeaderMap::new();
    headers.insert(USER, HeaderValue::from_static("17"));
    let id: InvocationId = "01a1ffd5-88b3-749a-8da6-ea9a792e923d".parse()?;
    let started = Instant::now();
    for _ in 0..CHOICES {
        let choice = Choice { selector: None, headers: &headers, id };
        let picked = black_box(found.pick(&name, black_box(&choice)));
        ensure!(picked.is_ok(), "nobody asks for a version");
    }
    Ok(started.elapsed().as_secs_f64() * 1e9 / f64::from(CHOICES))
}
