//! Functions in numbers: deployed, told apart, and the memory of a server that has them. Never
//! calls one.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use reqwest::Client;

use super::{client::deploy, process::ServerProcess};

/// Deploys a component as a function that serves HTTP, on the server at this origin.
pub(crate) async fn deploy_function(
    client: &Client,
    origin: &str,
    name: &str,
    component: Vec<u8>,
) -> Result<()> {
    let manifest = format!("name = \"{name}\"\nkind = \"http\"\n");
    let url = format!("{origin}/v1/functions/{name}");
    deploy(client, &url, [("manifest", manifest.into_bytes()), ("component", component)]).await
}

/// The component with a custom section added that makes its content a different one.
pub(crate) fn distinct(component: &[u8], number: u32) -> Vec<u8> {
    let name = b"bench";
    let length = u8::try_from(1 + name.len() + size_of_val(&number)).expect("a short section");
    let head = [0, length, name.len() as u8];
    [component, &head, name, &number.to_le_bytes()].concat()
}

/// The resident set once the server has come to rest.
pub(crate) async fn settled_kib(server: &ServerProcess) -> Result<f64> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = fs::read_to_string(format!("/proc/{}/status", server.id()?))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.context("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(kib.parse()?)
}
