//! The MLP, whose time is mostly the server's, in all forms and on all servers.

use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    agreement::{self, TOLERANCE},
    models::{self, Form, MLP},
    peers::{Peer, fastapi, litserve, mlserver, triton},
    quern::{ORT, Quern, TRACT},
    rates::{self, Aim, Load},
    support::{
        ceiling,
        group::client,
        load::Rounds,
        process::peer,
        report::{publish, said_by},
    },
    target::Target,
};

const CONNECTIONS: [u32; 2] = [1, 32];
const ROUNDS: Rounds = Rounds { count: 3, time: Duration::from_secs(1) };
/// Triton's better settings at 1 connection, where waiting for others only costs, and at 32.
const TRITON: [triton::Deployed; 2] = [
    triton::Deployed { name: "mlp-1", instances: 1, rows: 64, delay_us: 0 },
    triton::Deployed { name: "mlp-32", instances: 4, rows: 64, delay_us: 200 },
];
const LITSERVE: litserve::Workers = litserve::Workers { count: 2, rows: 32 };

pub(crate) async fn measure() -> Result<()> {
    let folder = TempDir::new()?;
    models::write(folder.path())?;
    let file = MLP.file(folder.path());
    let client = client()?;
    let quern = Quern::start("").await?;
    quern.deploy_model(&client, "mlp", ORT, &file).await?;
    quern.deploy_model(&client, "mlp-tract", TRACT, &file).await?;
    let servers = Servers {
        fastapi: [fastapi::start(&file, 1, 0).await?, fastapi::start(&file, 2, 0).await?],
        triton: triton::start(&MLP, &file, &TRITON).await?,
        litserve: litserve::start(&file, LITSERVE).await?,
        mlserver: mlserver::start(&MLP, &file, 0).await?,
        bare: format!("http://{}/", ceiling::start().await?),
        quern,
        folder,
    };
    let mut table = rates::table();
    let mut batches = Vec::new();
    for form in [Form::Json, Form::Binary, Form::Grpc] {
        for (connections, way) in CONNECTIONS.into_iter().zip(&TRITON) {
            let mut targets = servers.targets(form, way.name)?;
            let bare = (form != Form::Grpc).then(|| targets.pop()).flatten();
            agreement::check(&client, &MLP, &mut targets).await?;
            targets.extend(bare);
            let aims = aims(connections);
            let load = Load { model: &MLP, form, connections, targets: &targets, aims: &aims };
            let rows = load.measure(&client, &servers.quern, ROUNDS, &mut table).await?;
            batches.push(format!("{rows:.1} ({}, {connections})", form.title()));
        }
    }
    let text = format!(
        "{}\n\n{table}\nRows in Quern's mean run: {}.",
        introduction()?,
        batches.join(", ")
    );
    publish("inference", "Models: a small one", &text)
}

fn aims(connections: u32) -> Vec<Aim> {
    let (server, times) = if connections == 1 { ("FastAPI", 3.0) } else { ("Triton", 4.0) };
    vec![Aim { server: server.to_owned(), times, lower_p99: true }]
}

struct Servers {
    quern: Quern,
    fastapi: [Peer; 2],
    triton: Peer,
    litserve: Peer,
    mlserver: Peer,
    bare: String,
    folder: TempDir,
}

impl Servers {
    /// Those that understand a form; of Triton the model that is configured in one way. The last
    /// one over HTTP/1 is the ceiling.
    fn targets(&self, form: Form, way: &str) -> Result<Vec<Target>> {
        let request = |target: &str| MLP.request(form, target, None, self.folder.path());
        let (ours, tract, theirs) = (request("mlp")?, request("mlp-tract")?, request(way)?);
        let path = format!("/v2/models/{way}/infer");
        let mut targets = vec![
            self.quern.target("Quern", "mlp", &ours),
            self.quern.target("Quern, tract", "mlp-tract", &tract),
        ];
        let [one, two] = &self.fastapi;
        match form {
            Form::Json => {
                targets.push(one.target("/validated", &ours));
                targets.push(two.target("/validated", &ours));
                targets.push(one.target_as("FastAPI, unchecked", "/unchecked", &ours));
            }
            Form::Binary => {
                targets.push(one.target("/binary", &ours));
                targets.push(two.target("/binary", &ours));
            }
            Form::Grpc | Form::Base64 => {}
        }
        targets.push(self.triton.target(&path, &theirs));
        if form == Form::Json {
            targets.push(self.litserve.target("/infer", &ours));
        }
        if form != Form::Binary {
            targets.push(self.mlserver.target("/v2/models/mlp/infer", &ours));
        }
        if form != Form::Grpc {
            targets.push(Target::new("bare hyper", self.bare.clone(), &ours, None));
        }
        Ok(targets)
    }
}

fn introduction() -> Result<String> {
    let versions = "import fastapi, uvicorn, litserve, onnxruntime as o; \
                    print(f'FastAPI {fastapi.__version__} on uvicorn {uvicorn.__version__} \
                    (httptools, uvloop), LitServe {litserve.__version__}, ONNX Runtime \
                    {o.__version__}')";
    let versions = said_by(peer("python"), &["-c", versions])?;
    let mlserver = said_by(peer("mlserver"), &["--version"])?;
    let mlserver = mlserver.rsplit(' ').next().unwrap_or_default();
    Ok(format!(
        "An MLP of 256 → 512 → 512 → 10, one row in a request; answers agree to {TOLERANCE}. \
         Peers: {versions}, MLServer {mlserver}, Triton 2.51 on the CPU with ONNX Runtime in its \
         Python backend, which is the one that PyPI has ([their sources](../benches/peers)). All \
         compute with ONNX Runtime, one intra-op thread a run; so does Quern, but for the rows of \
         tract.\n\n\
         - **JSON** is the Open Inference Protocol's, the same bytes to every server; **binary** \
         its binary tensors both ways, which FastAPI is given code for; LitServe and MLServer \
         don't read them. **gRPC** is `ModelInfer` with raw contents.\n\
         - FastAPI validates the request with pydantic, as Quern validates it, unless it is \
         unchecked: parsed by orjson and used. Its binary form is unchecked, too. It computes in \
         its event loop, with one worker process or two.\n\
         - Triton has one instance and no batching delay at 1 connection, {instances} instances \
         and a delay of {delay} µs at 32, which was its better setting at each. LitServe: \
         {workers} worker processes and as many HTTP servers, batches of what waits, up to {rows}. \
         MLServer computes in the process that serves, without its adaptive batching: it was \
         slower with it, and with more processes.\n\
         - LitServe stands still (`SIGSTOP`) while others are measured, as its processes poll \
         without a pause while they have nothing to do.\n\
         - Load: `wrk -t1` for HTTP, `h2load -t1` with one stream a connection for gRPC. Medians \
         over {rounds} rounds of {seconds} s. A bare hyper server that reads the request and \
         answers a word marks the ceiling.",
        instances = TRITON[1].instances,
        delay = TRITON[1].delay_us,
        workers = LITSERVE.count,
        rows = LITSERVE.rows,
        rounds = ROUNDS.count,
        seconds = ROUNDS.time.as_secs(),
    ))
}
