//! Talks to the server under test: deploys, and reads answers. Never measures.

use anyhow::{Context as _, Result, ensure};
use reqwest::{
    Client, ClientBuilder,
    multipart::{Form, Part},
};

/// A client without TLS, which nothing is measured over.
pub(crate) fn plain() -> Client {
    unencrypted().build().expect("a client without certificates")
}

/// What clients without TLS begin with.
pub(crate) fn unencrypted() -> ClientBuilder {
    // It asks for this even where it encrypts nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().tls_certs_only([])
}

/// Deploys what the parts hold.
pub(crate) async fn deploy(
    client: &Client,
    url: &str,
    parts: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
) -> Result<()> {
    let form = parts
        .into_iter()
        .fold(Form::new(), |form, (name, content)| form.part(name, Part::bytes(content)));
    let response = client.put(url).multipart(form).send().await?;
    let status = response.status();
    let answer = response.text().await?;
    ensure!(status.is_success(), "PUT {url}: {status} {answer}");
    Ok(())
}

/// The body of a successful GET.
pub(crate) async fn get(client: &Client, url: &str) -> Result<String> {
    let response = client.get(url).send().await.with_context(|| format!("GET {url}"))?;
    let status = response.status();
    let answer = response.text().await?;
    ensure!(status.is_success(), "GET {url}: {status} {answer}");
    Ok(answer)
}
