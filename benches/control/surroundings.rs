//! What it costs a call that its caller is asked for a token and held to limits, and that it is
//! traced.

use anyhow::Result;
use quern_types::TenantId;

use crate::{
    callee::{CALLS, Callee, TURNS, alternate, bearer, deployed, open, serve_configured, token},
    support::{
        ceiling,
        load::progress,
        report::{Table, aim, publish},
    },
};

/// Most µs that asking for a token and counting may add to a call.
const AIM_US: f64 = 5.0;
/// Limits that nobody reaches.
const LIMITS: &str =
    "[tenants]\nrequests_per_second = 1000000\nburst = 1000000\nconcurrency = 1000000\n";

/// A server to compare.
struct Kind {
    name: &'static str,
    configuration: String,
    asks: bool,
    has_aim: bool,
}

/// Calls of servers that differ in what surrounds a call.
pub(crate) async fn measure() -> Result<()> {
    let collector = ceiling::start().await?;
    let traced = |ratio: f64| {
        format!(
            "[tracing]\nendpoint = \"http://{collector}\"\nsampler = \"traceidratio\"\n\
             ratio = {ratio:?}\n"
        )
    };
    let kinds = [
        Kind { name: "nothing", configuration: String::new(), asks: false, has_aim: false },
        Kind { name: "a token", configuration: String::new(), asks: true, has_aim: true },
        Kind { name: "a token, limits", configuration: LIMITS.into(), asks: true, has_aim: true },
        Kind { name: "traces, 1 in 100", configuration: traced(0.01), asks: false, has_aim: false },
        Kind { name: "traces, all", configuration: traced(1.0), asks: false, has_aim: false },
    ];
    let (mut folders, mut servers, mut callees) = (Vec::new(), Vec::new(), Vec::new());
    for Kind { name, configuration, asks, .. } in &kinds {
        let data = deployed().await?;
        let store = open(data.path()).await?;
        let secret = token(&store, &TenantId::default()).await?;
        store.close().await;
        let (more, headers) = match asks {
            true => (&["--authenticate"][..], vec![bearer(&secret)]),
            false => (&[][..], Vec::new()),
        };
        let server = serve_configured(data.path(), configuration, more).await?;
        callees.push(Callee::new(*name, &server, "/f/hello/", &headers).await?);
        folders.push(data);
        servers.push(server);
    }
    progress("calling servers with more and less around a call");
    let measured = alternate(&mut callees).await?;
    for server in servers {
        server.stop().await?;
    }
    let mut table = Table::new(["around a call", "p50", "p99", "more p50", "aim"]);
    let [bare, _] = measured[0];
    for (kind, [p50, p99]) in kinds.iter().zip(&measured) {
        let more = p50 - bare;
        let met = || aim(&format!("≤ {AIM_US} µs"), more <= AIM_US);
        table.row([
            kind.name.to_owned(),
            format!("{p50:.1} µs"),
            format!("{p99:.1} µs"),
            format!("**{more:.1} µs**"),
            if kind.has_aim { met() } else { "–".to_owned() },
        ]);
    }
    let text = format!(
        "The template's hello, called over one connection, {} times in turns of {CALLS} on each of \
         these servers. Spans go to a collector on the same machine, which reads and forgets \
         them.\n\n{table}",
        CALLS * TURNS
    );
    publish("surroundings", "Tokens, limits and traces", &text)
}
