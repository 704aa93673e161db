//! What it costs a call that its caller is asked for a token and held to limits, and what it costs
//! one tenant that there are a thousand. Quern beside Quern; never judges: it prints whether each aim
//! was met.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use prometheus::Registry;
use quern_deploy::{NewToken, create_token};
use quern_store::{NewVersion, Store, StoreConfig};
use quern_types::{ByteSize, Caller, Digest, Name, Role, TenantId};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use support::{
    client::plain,
    function::deploy_function,
    load::{progress, quantile},
    process::{Announced, ServerProcess, root},
    report::{Table, aim, publish},
};

mod support {
    #[expect(dead_code, reason = "no answer of it is needed")]
    pub(crate) mod client;
    #[expect(dead_code, reason = "all functions are of one component")]
    pub(crate) mod function;
    #[expect(dead_code, reason = "calls are made one by one here, in pairs")]
    pub(crate) mod load;
    #[expect(dead_code, reason = "there are no peers")]
    pub(crate) mod process;
    pub(crate) mod report;
}

const HELLO: &str = "target/functions/wasm32-wasip2/release/hello.wasm";
/// Most µs that asking for a token and counting may add to a call.
const AIM_US: f64 = 5.0;
/// Most that a thousand tenants may add to a call or a deployment: what is less can't be told from
/// what one round differs from another by.
const AIM_RATIO: f64 = 1.1;
const TENANTS: usize = 1_000;
const FUNCTIONS: usize = 100;
/// Calls of each server in a row, and how often its turn comes.
const CALLS: usize = 100;
const TURNS: usize = 100;
/// Deployments of each server.
const DEPLOYMENTS: usize = 100;
/// Rows that are written at the same time.
const ROWS: usize = 512;
/// Limits that nobody reaches.
const LIMITS: &str =
    "[tenants]\nrequests_per_second = 1000000\nburst = 1000000\nconcurrency = 1000000\n";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let text = format!("{}\n{}", asking().await?, tenants().await?);
    publish("access", "Tokens, limits and tenants", &text)
}

/// A server, a connection to it, and what to call there.
struct Callee {
    name: &'static str,
    server: ServerProcess,
    connection: TcpStream,
    request: Vec<u8>,
}

impl Callee {
    async fn new(name: &'static str, server: ServerProcess, token: Option<&str>) -> Result<Self> {
        let address = server.url("").replace("http://", "");
        let connection = TcpStream::connect(&address).await?;
        connection.set_nodelay(true)?;
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let head =
            format!("GET /f/hello/ HTTP/1.1\r\nhost: x\r\n{}\r\n", token.unwrap_or_default());
        Ok(Self { name, server, connection, request: head.into_bytes() })
    }

    /// Makes a call; how long its answer took, in µs.
    async fn call(&mut self) -> Result<f64> {
        let mut answer = [0; 1024];
        let (started, mut length) = (Instant::now(), 0);
        self.connection.write_all(&self.request).await?;
        while !answer[..length].ends_with(b"hello\n") && !answer[..length].ends_with(b"0\r\n\r\n") {
            let read = self.connection.read(&mut answer[length..]).await?;
            ensure!(read > 0, "{} has hung up: {:?}", self.name, String::from_utf8_lossy(&answer));
            length += read;
        }
        let took = started.elapsed();
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        Ok(took.as_secs_f64() * 1e6)
    }
}

/// Calls all in turn, so that what else happens on the machine hits all of them; p50 and p99 in µs.
async fn alternate(callees: &mut [Callee]) -> Result<Vec<[f64; 2]>> {
    let mut all = vec![Vec::with_capacity(CALLS * TURNS); callees.len()];
    for turn in 0..=TURNS {
        for (callee, times) in callees.iter_mut().zip(&mut all) {
            for _ in 0..CALLS {
                let took = callee.call().await?;
                // The first turn loads what is called.
                if turn > 0 {
                    times.push(took);
                }
            }
        }
    }
    let quantiles = |times: &mut Vec<f64>| [quantile(times, 0.5), quantile(times, 0.99)];
    Ok(all.iter_mut().map(quantiles).collect())
}

/// A server on a folder, with more on its command line.
async fn serve(data: &Path, more: &[&str]) -> Result<ServerProcess> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
    ServerProcess::start(command, Announced::Stdout).await
}

/// A folder in which the tenant `default` has the function `hello`.
async fn deployed() -> Result<TempDir> {
    let data = TempDir::new()?;
    let server = serve(data.path(), &[]).await?;
    let component = fs::read(root().join(HELLO))
        .with_context(|| format!("{HELLO} is missing: `make guests` builds it"))?;
    deploy_function(&plain(), &server.url(""), "hello", component).await?;
    server.stop().await?;
    Ok(data)
}

async fn open(data: &Path) -> Result<Store> {
    let config = StoreConfig {
        directory: data.to_owned(),
        keep_versions: 10,
        log_records: 100,
        log_bytes: ByteSize::mib(1),
        bucket_bytes: StoreConfig::DEFAULT_BUCKET_BYTES,
        secrets_key: None,
    };
    Ok(Store::open(config, &Registry::new()).await?)
}

/// Makes a token in an open folder; its secret.
async fn token(store: &Store, tenant: &TenantId) -> Result<String> {
    let new = NewToken {
        tenant: tenant.clone(),
        role: Role::Deployer,
        note: String::new(),
        lifetime: None,
    };
    Ok(create_token(store, &Caller::unasked(), new).await?.1.reveal())
}

/// Calls of servers that ask nobody, ask for a token, and hold to limits as well.
async fn asking() -> Result<String> {
    let mut folders = Vec::new();
    let mut callees = Vec::new();
    for (name, configuration) in
        [("nobody is asked", None), ("a token", Some("")), ("a token, and limits", Some(LIMITS))]
    {
        let data = deployed().await?;
        let store = open(data.path()).await?;
        let secret = token(&store, &TenantId::default()).await?;
        store.close().await;
        let file = data.path().join("quern.toml");
        fs::write(&file, configuration.unwrap_or_default())?;
        let file = file.to_str().context("a path of text")?;
        let asks = ["--authenticate", "--config", file];
        let server = serve(data.path(), if configuration.is_some() { &asks } else { &[] }).await?;
        let shown = configuration.is_some().then_some(&*secret);
        callees.push(Callee::new(name, server, shown).await?);
        folders.push(data);
    }
    progress("calling servers that ask, and one that doesn't".to_owned());
    let measured = alternate(&mut callees).await?;
    let mut table = Table::new(["server asks for", "p50", "p99", "more p50", "aim"]);
    let [bare, _] = measured[0];
    for (callee, [p50, p99]) in callees.iter().zip(&measured) {
        let more = p50 - bare;
        table.row([
            callee.name.to_owned(),
            format!("{p50:.1} µs"),
            format!("{p99:.1} µs"),
            format!("**{more:.1} µs**"),
            aim(&format!("≤ {AIM_US} µs"), more <= AIM_US),
        ]);
    }
    for callee in callees {
        callee.server.stop().await?;
    }
    Ok(format!(
        "The template's hello, called over one connection, {} times in turns of {CALLS} on each of \
         three servers.\n\n{table}",
        CALLS * TURNS
    ))
}

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
async fn tenants() -> Result<String> {
    let (few, many) = (deployed().await?, deployed().await?);
    let store = open(few.path()).await?;
    let alone = token(&store, &TenantId::default()).await?;
    store.close().await;
    progress(format!("writing {TENANTS} tenants with {FUNCTIONS} functions each"));
    let among = fill(many.path()).await?;
    let mut callees = Vec::new();
    for (name, data, token) in
        [("1 tenant, 1 function", &few, &alone), ("1,000 tenants × 100", &many, &among)]
    {
        let started = Instant::now();
        let server = serve(data.path(), &["--authenticate"]).await?;
        progress(format!("{name}: started in {:?}", started.elapsed()));
        callees.push(Callee::new(name, server, Some(token)).await?);
    }
    let calls = alternate(&mut callees).await?;
    let deployments = deploy_in_turn(&callees, [&alone, &among]).await?;
    let mut table =
        Table::new(["server has", "call p50", "call p99", "deployment p50", "deployment p99"]);
    for (callee, ([call, slow_call], [deploy, slow_deploy])) in
        callees.iter().zip(calls.iter().zip(&deployments))
    {
        table.row([
            callee.name.to_owned(),
            format!("{call:.1} µs"),
            format!("{slow_call:.1} µs"),
            format!("{:.2} ms", deploy / 1e3),
            format!("{:.2} ms", slow_deploy / 1e3),
        ]);
    }
    let ratio = |of: &[[f64; 2]]| of[1][0] / of[0][0];
    let (of_calls, of_deployments) = (ratio(&calls), ratio(&deployments));
    for callee in callees {
        callee.server.stop().await?;
    }
    Ok(format!(
        "One tenant's hello, and a deployment of it under another name, where it is alone on the \
         server and where it is one of {TENANTS} tenants with {FUNCTIONS} functions each; in \
         turns.\n\n{table}\nCalls take {of_calls:.3} times as long, {}; deployments \
         {of_deployments:.3} times, {}.\n",
        aim(&format!("≤ {AIM_RATIO} ×"), of_calls <= AIM_RATIO),
        aim(&format!("≤ {AIM_RATIO} ×"), of_deployments <= AIM_RATIO),
    ))
}

/// Deploys the component that is there under other names; p50 and p99 in µs.
async fn deploy_in_turn(callees: &[Callee], tokens: [&str; 2]) -> Result<Vec<[f64; 2]>> {
    let component = fs::read(root().join(HELLO))?;
    let client = plain();
    let mut all = vec![Vec::new(); callees.len()];
    for number in 0..DEPLOYMENTS {
        for ((callee, token), times) in callees.iter().zip(tokens).zip(&mut all) {
            let name = format!("more-{number}");
            let manifest = format!("name = \"{name}\"\nkind = \"http\"\n");
            let form = reqwest::multipart::Form::new()
                .text("manifest", manifest)
                .part("component", reqwest::multipart::Part::bytes(component.clone()));
            let url = callee.server.url(&format!("/v1/functions/{name}"));
            let started = Instant::now();
            let answer = client.put(url).bearer_auth(token).multipart(form).send().await?;
            ensure!(answer.status() == 201, "{}: {}", callee.name, answer.text().await?);
            answer.bytes().await?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
            // What is committed in the background of one is not to slow the other.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let quantiles = |times: &mut Vec<f64>| [quantile(times, 0.5), quantile(times, 0.99)];
    Ok(all.iter_mut().map(quantiles).collect())
}
