//! What surrounds the engine: the endpoint itself, a sandboxed function around the model, and the
//! engine in a process of its own. Quern beside Quern.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use reqwest::Client;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    agreement,
    models::{self, Form, MLP, Model, RESNET},
    quern::{ORT, Quern, TRACT},
    rates::{rate, time},
    support::{
        ceiling,
        group::client,
        load::{Measured, Rounds, compare},
        process::{peer, root},
        report::{Table, aim, publish},
    },
    target::Target,
};

const ROUNDS: Rounds = Rounds { count: 3, time: Duration::from_secs(1) };
/// Most µs that the endpoint should add to the engine's own.
const ENDPOINT_AIMS_US: [(Form, f64); 2] = [(Form::Binary, 60.0), (Form::Json, 100.0)];
const FUNCTION_AIM_US: f64 = 60.0;
const WORKER_AIM_US: f64 = 30.0;
/// The models of the table of overheads, and their engines.
const ENGINES: [(&str, &str, &str); 2] =
    [("mlp", "onnxruntime", ORT), ("mlp-tract", "tract", TRACT)];
/// A function that leaves tensors as they are, and what its manifest says besides.
const FUNCTIONS: [(&str, &str, &str); 2] = [
    ("relay", "a fresh instance for each request", ""),
    ("relay-reused", "instances that are reused", REUSE),
];
const REUSE: &str = "reuse = { requests = 1000000, idle = \"10s\" }\n";
const RELAY: &str = "target/guests/wasm32-wasip2/release/relay.wasm";

pub(crate) async fn measure() -> Result<()> {
    let folder = TempDir::new()?;
    models::write(folder.path())?;
    let client = client()?;
    let here = Quern::start("").await?;
    let worker = Quern::start("[models]\nprocess = \"worker\"\n").await?;
    for (name, _, manifest) in ENGINES {
        here.deploy_model(&client, name, manifest, &MLP.file(folder.path())).await?;
    }
    for (server, model) in [(&worker, &MLP), (&worker, &RESNET), (&here, &RESNET)] {
        let file = model.file(folder.path());
        server.deploy_model(&client, model.name, ORT, &file).await?;
    }
    for (name, _, more) in FUNCTIONS {
        let manifest = fs::read_to_string(root().join("tests/guests/relay/quern.toml"))?;
        let manifest = format!("{more}{}", manifest.replace("\"relay\"", &format!("\"{name}\"")));
        let component = fs::read(root().join(RELAY))
            .with_context(|| format!("{RELAY} is missing: `make guests` builds it"))?;
        here.deploy_function(&client, name, manifest, component).await?;
    }
    let costs = Costs { client, here, worker, folder };
    let text = costs.all().await?;
    publish("inference-costs", "Models: what surrounds the engine", &text)
}

struct Costs {
    client: Client,
    here: Quern,
    worker: Quern,
    folder: TempDir,
}

/// One form of request at so many connections.
struct Found {
    form: Form,
    connections: u32,
    engines: Vec<Measured>,
    functions: Vec<Measured>,
    worker: Measured,
    /// The engines' own p50 in µs, at one connection.
    computing: Vec<f64>,
    bare: Measured,
}

impl Costs {
    async fn all(&self) -> Result<String> {
        let mut endpoint =
            Table::new(["form", "engine", "endpoint p50", "engine's own p50", "overhead", "aim"]);
        let heads =
            ["form", "connections", "function", "requests/s", "p50", "more than direct", "aim"];
        let mut functions = Table::new(heads);
        let heads = ["model, form", "connections", "in process", "in a worker", "more p50", "aim"];
        let mut worker = Table::new(heads);
        let mut bare_us = 0.0;
        for (form, aim_us) in ENDPOINT_AIMS_US {
            for connections in [1, 32] {
                let found = self.measured(form, connections).await?;
                if connections == 1 {
                    found.add_endpoint(aim_us, &mut endpoint);
                    bare_us = found.bare.p50_us;
                }
                found.add_functions(&mut functions);
                let pair = [found.engines[0], found.worker];
                worker.row(worker_row(&MLP, form, connections, pair));
            }
        }
        for connections in [1, 32] {
            let targets =
                [self.resnet("in process", &self.here)?, self.resnet("worker", &self.worker)?];
            let measured = compare(&targets, connections, ROUNDS).await?;
            let pair = [measured[0], measured[1]];
            worker.row(worker_row(&RESNET, Form::Binary, connections, pair));
        }
        Ok(format!(
            "The MLP, one row in a request. Load: `wrk -t1`; medians over {} rounds of {} s.\n\n\
             What the endpoint adds to the engine's own time at 1 connection; {} of it are a bare \
             hyper server's p50 (two sides of a socket, and wrk):\n\n{endpoint}\n\
             What a sandboxed function adds that hands the tensors through \
             ([its source](../tests/guests/relay/src/lib.rs)):\n\n{functions}\n\
             What a process of its own for the engine adds (`models.process = \"worker\"`):\n\n\
             {worker}",
            ROUNDS.count,
            ROUNDS.time.as_secs(),
            time(bare_us),
        ))
    }

    fn resnet(&self, title: &str, server: &Quern) -> Result<Target> {
        let request = RESNET.request(Form::Binary, RESNET.name, None, self.folder.path())?;
        Ok(server.target(title, RESNET.name, &request))
    }

    async fn measured(&self, form: Form, connections: u32) -> Result<Found> {
        let request = MLP.request(form, "mlp", None, self.folder.path())?;
        let mut targets: Vec<_> = ENGINES
            .iter()
            .map(|(name, engine, _)| self.here.target(engine, name, &request))
            .chain(FUNCTIONS.iter().map(|(name, ..)| self.here.target(name, name, &request)))
            .chain([self.worker.target("worker", "mlp", &request)])
            .collect();
        agreement::check(&self.client, &MLP, &mut targets).await?;
        let bare = format!("http://{}/", ceiling::start().await?);
        targets.push(Target::new("bare hyper", bare, &request, None));
        let mut measured = compare(&targets, connections, ROUNDS).await?.into_iter();
        let mut computing = Vec::new();
        if connections == 1 {
            for target in &targets[..ENGINES.len()] {
                computing.push(computing_us(target).await?);
            }
        }
        let engines = measured.by_ref().take(ENGINES.len()).collect();
        let functions = measured.by_ref().take(FUNCTIONS.len()).collect();
        let (worker, bare) = measured.next().zip(measured.next()).context("seven targets")?;
        Ok(Found { form, connections, engines, functions, worker, computing, bare })
    }
}

impl Found {
    fn add_endpoint(&self, aim_us: f64, table: &mut Table) {
        let engines = ENGINES.iter().zip(&self.engines).zip(&self.computing);
        for (((_, engine, _), measured), computing) in engines {
            let overhead = measured.p50_us - computing;
            table.row([
                self.form.title().to_owned(),
                (*engine).to_owned(),
                time(measured.p50_us),
                time(*computing),
                format!("**{}**", time(overhead)),
                aim(&format!("≤ {aim_us} µs"), overhead <= aim_us),
            ]);
        }
    }

    fn add_functions(&self, table: &mut Table) {
        let direct = self.engines[0];
        let all = [("none", direct)].into_iter().chain(
            FUNCTIONS
                .iter()
                .zip(&self.functions)
                .map(|((_, what, _), measured)| (*what, *measured)),
        );
        for (what, measured) in all {
            let more = measured.p50_us - direct.p50_us;
            let alone = self.connections == 1 && what != "none";
            table.row([
                self.form.title().to_owned(),
                self.connections.to_string(),
                what.to_owned(),
                rate(measured.per_second),
                time(measured.p50_us),
                format!("**{}**", time(more)),
                if alone {
                    aim(&format!("≤ {FUNCTION_AIM_US} µs"), more <= FUNCTION_AIM_US)
                } else {
                    "–".to_owned()
                },
            ]);
        }
    }
}

/// The same model in the server and in its worker.
fn worker_row(model: &Model, form: Form, connections: u32, pair: [Measured; 2]) -> [String; 6] {
    let [here, there] = pair;
    let more = there.p50_us - here.p50_us;
    let each = |measured: Measured| {
        format!("{}/s, p50 {}", rate(measured.per_second), time(measured.p50_us))
    };
    [
        format!("{}, {}", model.title, form.title()),
        connections.to_string(),
        each(here),
        each(there),
        format!("**{}**", time(more)),
        match connections {
            1 => aim(&format!("≤ {WORKER_AIM_US} µs"), more <= WORKER_AIM_US),
            _ => "–".to_owned(),
        },
    ]
}

/// The engine's own p50 in µs, as the answers say under the same load at one connection.
async fn computing_us(target: &Target) -> Result<f64> {
    let _awake = target.awake();
    let target = target.http()?;
    let mut wrk = Command::new(peer("wrk"));
    wrk.args(["--threads", "1", "--connections", "1", "--duration", "2s", "--script"])
        .arg(root().join("benches/support/wrk.lua"))
        .arg(&target.url)
        .env("WRK_BODY", target.body.as_ref().context("a body")?)
        .env("WRK_HEADERS", target.headers.join("\n"))
        .env("WRK_WATCH", "quern-compute-us")
        .kill_on_drop(true);
    let output = wrk.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk: {text}");
    let line = text.lines().find_map(|line| line.strip_prefix("WATCHED "));
    Ok(line.with_context(|| format!("wrk saw no times of the engine:\n{text}"))?.parse()?)
}
