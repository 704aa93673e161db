//! Models whose time is mostly the engine's: how much of what the engine alone computes a server
//! passes on.

use std::{path::Path, time::Duration};

use anyhow::Result;
use reqwest::Client;
use tempfile::TempDir;

use crate::{
    agreement,
    engine::Engine,
    models::{self, Form, LENET, MINILM, Model, RESNET},
    peers::{Peer, cores, fastapi, litserve, mlserver, triton},
    quern::{ORT, ORT_ROW_BY_ROW, Quern},
    rates::{self, Aim, Load},
    support::{group::client, load::Rounds, report::publish},
    target::Target,
};

const ROUNDS: usize = 3;
/// Rows in a run of the engine alone.
const ENGINE_ROWS: [u32; 2] = [1, 8];
/// The part of its throughput that a server should reach.
const ENGINE_AIM: f64 = 0.97;

/// The name of a heavy model that is deployed once more, without batches.
const ROW_BY_ROW: &str = "row-by-row";

/// How one model is measured.
struct Plan {
    model: &'static Model,
    /// What it is made of.
    about: &'static str,
    /// Whether a run takes milliseconds, so that more cores than one are worth a hop.
    heavy: bool,
    /// Connections of the load in JSON.
    json: u32,
}

pub(crate) async fn lenet() -> Result<()> {
    let about = "LeNet-5 on one image of 1 × 28 × 28, 62 thousand weights.";
    Plan { model: &LENET, about, heavy: false, json: 32 }.measure().await
}

pub(crate) async fn resnet() -> Result<()> {
    let about = "The shape of ResNet-18, one image of 3 × 224 × 224 in FP32 (602 KB in binary, \
                 1.6 MB as JSON), 11.7 million weights.";
    // With more, a server that parses 1.6 MB in tens of ms answers nobody for seconds.
    Plan { model: &RESNET, about, heavy: true, json: 4 }.measure().await
}

pub(crate) async fn minilm() -> Result<()> {
    let about = "The shape of MiniLM-L6 (6 layers, 384 wide, 12 heads, vocabulary 30,522), one \
                 sequence of 128 tokens, the mean of their embeddings.";
    Plan { model: &MINILM, about, heavy: true, json: 32 }.measure().await
}

impl Plan {
    async fn measure(&self) -> Result<()> {
        let folder = TempDir::new()?;
        models::write(folder.path())?;
        let client = client()?;
        let servers = self.start(&client, folder.path()).await?;
        let mut table = rates::table();
        let mut loads = vec![(Form::Binary, 32), (Form::Grpc, 32), (Form::Json, self.json)];
        if self.heavy {
            loads.insert(0, (Form::Binary, 1));
        }
        let mut batches = Vec::new();
        for (form, connections) in loads {
            let mut targets = servers.targets(self, form, connections, folder.path())?;
            agreement::check(&client, self.model, &mut targets).await?;
            let mut aims = Vec::new();
            if self.heavy && form == Form::Binary {
                let engines = self.engines(connections, folder.path());
                targets.extend(engines.into_iter().map(Target::engine));
                aims = self.aims();
            }
            let (model, targets, aims) = (self.model, &targets[..], &aims[..]);
            let load = Load { model, form, connections, targets, aims };
            let rounds = self.rounds();
            let rows = load.measure(&client, &servers.quern, rounds, &mut table).await?;
            batches.push(format!("{rows:.1} ({}, {connections})", form.title()));
        }
        let text = format!(
            "{}\n\n{table}\nRows in Quern's mean run: {}.",
            self.introduction(),
            batches.join(", ")
        );
        let section = format!("inference-{}", self.model.name);
        publish(&section, &format!("Models: {}", self.model.title), &text)
    }

    /// The engine alone, as a loop on as many threads as there are cores; for one caller, on one.
    fn engines(&self, connections: u32, folder: &Path) -> Vec<Engine> {
        let threads = if connections == 1 { 1 } else { cores() as u32 };
        let rows = if connections == 1 { &ENGINE_ROWS[..1] } else { &ENGINE_ROWS[..] };
        let engine = |&rows| Engine {
            name: engine_name(rows),
            model: self.model.file(folder),
            rows,
            threads,
        };
        rows.iter().map(engine).collect()
    }

    fn aims(&self) -> Vec<Aim> {
        let ahead = |server: &str| Aim { server: server.to_owned(), times: 1.0, lower_p99: false };
        let peers = ["FastAPI", "FastAPI, 2 workers", "Triton", "LitServe"].map(ahead);
        let engines = ENGINE_ROWS.map(|rows| Aim {
            server: engine_name(rows),
            times: ENGINE_AIM,
            lower_p99: false,
        });
        peers.into_iter().chain(engines).collect()
    }

    async fn start(&self, client: &Client, folder: &Path) -> Result<Servers> {
        let (model, file) = (self.model, self.model.file(folder));
        let quern = Quern::start("").await?;
        quern.deploy_model(client, model.name, ORT, &file).await?;
        if self.heavy {
            quern.deploy_model(client, ROW_BY_ROW, ORT_ROW_BY_ROW, &file).await?;
        }
        // All cores compute, whoever divides them.
        let cores = cores();
        let (one, two) = if self.heavy { (cores, cores.div_ceil(2)) } else { (0, 0) };
        let way = self.triton();
        let workers = litserve::Workers { count: cores, rows: 1 };
        Ok(Servers {
            quern,
            fastapi: [fastapi::start(&file, 1, one).await?, fastapi::start(&file, 2, two).await?],
            triton: triton::start(model, &file, &[way]).await?,
            litserve: litserve::start(&file, workers).await?,
            mlserver: mlserver::start(model, &file, if self.heavy { cores } else { 0 }).await?,
        })
    }

    /// What is under way at the end of a round is lost, which is more where runs take long.
    fn rounds(&self) -> Rounds {
        let seconds = if self.heavy { 3 } else { 1 };
        Rounds { count: ROUNDS, time: Duration::from_secs(seconds) }
    }

    /// A larger batch of a heavy model computes no more on one thread, and makes calls wait.
    fn triton(&self) -> triton::Deployed {
        let (rows, delay_us) = if self.heavy { (1, 0) } else { (64, 200) };
        triton::Deployed { name: self.model.name, instances: cores(), rows, delay_us }
    }

    fn introduction(&self) -> String {
        let cores = cores();
        let fastapi = if self.heavy {
            format!("FastAPI runs {cores} calls at the same time in threads, however many workers")
        } else {
            "FastAPI computes in its event loop".to_owned()
        };
        let mlserver = if self.heavy {
            format!("MLServer has {cores} worker processes")
        } else {
            "MLServer computes in the process that serves".to_owned()
        };
        let triton = if self.heavy { "no batches" } else { "a batching delay of 200 µs" };
        let quern = if self.heavy {
            " Quern has its defaults (batches up to 64 rows), and once `max_batch = 1`, which is \
             what `quern model profile` proposes."
        } else {
            ""
        };
        let engine = if self.heavy {
            format!(
                " **ONNX Runtime alone** is a loop without a server ([its source](../benches/peers\
                 /engine.py)), {cores} threads at 32 connections and one at 1, with so many rows \
                 a run; its p50 and p99 are those of a run, and its requests are rows."
            )
        } else {
            String::new()
        };
        format!(
            "{} Random weights, one row in a request. Forms, peers, load and what is compared as \
             above; one intra-op thread a run, everywhere. {fastapi}; Triton has {cores} instances \
             and {triton}; LitServe {cores} worker processes without batches, \
             and its binary form is base64 in JSON; {mlserver}.{quern}{engine} Medians over {} \
             rounds of {} s.",
            self.about,
            self.rounds().count,
            self.rounds().time.as_secs(),
        )
    }
}

fn engine_name(rows: u32) -> String {
    let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
    format!("ONNX Runtime alone, {rows}")
}

struct Servers {
    quern: Quern,
    fastapi: [Peer; 2],
    triton: Peer,
    litserve: Peer,
    mlserver: Peer,
}

impl Servers {
    /// Those that understand a form; for one caller, only one way of each.
    fn targets(
        &self,
        plan: &Plan,
        form: Form,
        connections: u32,
        folder: &Path,
    ) -> Result<Vec<Target>> {
        let model = plan.model;
        let request = model.request(form, model.name, None, folder)?;
        let path = format!("/v2/models/{}/infer", model.name);
        let mut targets = vec![self.quern.target("Quern", model.name, &request)];
        if plan.heavy && form == Form::Binary && connections > 1 {
            targets.push(self.quern.target("Quern, max_batch = 1", ROW_BY_ROW, &request));
        }
        let fastapi = match form {
            Form::Json => Some("/validated"),
            Form::Binary => Some("/binary"),
            Form::Grpc | Form::Base64 => None,
        };
        if let Some(path) = fastapi {
            let ways = if connections > 1 { &self.fastapi[..] } else { &self.fastapi[..1] };
            targets.extend(ways.iter().map(|peer| peer.target(path, &request)));
        }
        targets.push(self.triton.target(&path, &request));
        if form == Form::Binary {
            let request = model.request(Form::Base64, model.name, None, folder)?;
            targets.push(self.litserve.target("/infer", &request));
        } else {
            targets.push(self.mlserver.target(&path, &request));
        }
        Ok(targets)
    }
}
