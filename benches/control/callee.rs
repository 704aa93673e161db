//! Servers whose calls are compared one by one: in turn, so that what else happens on the machine
//! hits all of them. Never measures throughput.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};
use prometheus::Registry;
use quern_deploy::{NewToken, create_token};
use quern_store::{Store, StoreConfig};
use quern_types::{ByteSize, Caller, Role, TenantId};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};

use crate::support::{
    client::plain,
    function::deploy_function,
    load::quantile,
    process::{Announced, ServerProcess, root},
};

const HELLO: &str = "target/functions/wasm32-wasip2/release/hello.wasm";
/// Calls of each server in a row, and how often its turn comes.
pub(crate) const CALLS: usize = 100;
pub(crate) const TURNS: usize = 100;

/// A connection to a server, and what to call there.
pub(crate) struct Callee {
    pub(crate) name: String,
    connection: TcpStream,
    request: Vec<u8>,
}

impl Callee {
    /// Connects to a server, to send it `GET PATH` with these headers, each as `name: value`.
    pub(crate) async fn new(
        name: impl Into<String>,
        server: &ServerProcess,
        path: &str,
        headers: &[String],
    ) -> Result<Self> {
        let address = server.url("").replace("http://", "");
        let connection = TcpStream::connect(&address).await?;
        connection.set_nodelay(true)?;
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").into_bytes();
        Ok(Self { name: name.into(), connection, request })
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

/// The header that shows a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

/// Calls all in turn; p50 and p99 in µs.
pub(crate) async fn alternate(callees: &mut [Callee]) -> Result<Vec<[f64; 2]>> {
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
pub(crate) async fn serve(data: &Path, more: &[&str]) -> Result<ServerProcess> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
    ServerProcess::start(command, Announced::Stdout).await
}

/// A server on a folder that has these lines of configuration, with more on its command line.
pub(crate) async fn serve_configured(
    data: &Path,
    configuration: &str,
    more: &[&str],
) -> Result<ServerProcess> {
    let file = data.join("quern.toml");
    fs::write(&file, configuration)?;
    let file = file.to_str().context("a path of text")?;
    serve(data, &[&["--config", file], more].concat()).await
}

/// The template's function.
pub(crate) fn hello() -> Result<Vec<u8>> {
    fs::read(root().join(HELLO))
        .with_context(|| format!("{HELLO} is missing: `make guests` builds it"))
}

/// A folder in which the tenant `default` has the function `hello`.
pub(crate) async fn deployed() -> Result<TempDir> {
    let data = TempDir::new()?;
    let server = serve(data.path(), &[]).await?;
    deploy_function(&plain(), &server.url(""), "hello", hello()?).await?;
    server.stop().await?;
    Ok(data)
}

/// The store of a folder whose server has ended.
pub(crate) async fn open(data: &Path) -> Result<Store> {
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
pub(crate) async fn token(store: &Store, tenant: &TenantId) -> Result<String> {
    let new = NewToken {
        tenant: tenant.clone(),
        role: Role::Deployer,
        note: String::new(),
        lifetime: None,
    };
    Ok(create_token(store, &Caller::unasked(), new).await?.1.reveal())
}
