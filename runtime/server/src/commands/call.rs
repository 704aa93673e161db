//! `quern call`: sends an HTTP request to a function and prints its answer as it streams in.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use quern_types::{Name, Period, QualifiedName};
use reqwest::Response;
use serde_json::{Map, Value, json};

use super::Session;
use crate::{
    client::AcceptedCall,
    failure::{Failure, UsageError},
    output,
};

/// Send an HTTP request to a function
#[derive(Debug, clap::Args)]
pub(crate) struct Call {
    /// The function; another tenant's as NAME@TENANT
    name: QualifiedName,

    /// Path below the function, with its query
    #[arg(default_value = "/")]
    path: String,

    /// HTTP method [default: GET, or POST where data are given]
    #[arg(short = 'X', long)]
    method: Option<Method>,

    /// A request header, "NAME: VALUE"; may be given several times
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// The request body: text, @FILE for a file's bytes, or @- for standard input
    #[arg(short, long, value_name = "DATA|@FILE")]
    data: Option<String>,

    #[command(flatten)]
    later: Later,
}

/// How a call is carried out that nobody waits for.
#[derive(Debug, clap::Args)]
struct Later {
    /// Don't wait for the answer: print the call's id at once, for `quern invocations`
    #[arg(long = "async")]
    asynchronous: bool,

    /// What names the call: another one with the same key is the same call
    #[arg(long, value_name = "KEY", requires = "asynchronous")]
    key: Option<HeaderValue>,

    /// How often it is tried [default: as the server is configured]
    #[arg(long, value_name = "COUNT", requires = "asynchronous")]
    max_attempts: Option<u32>,

    /// For how long it is tried, with its unit, such as 10m [default: as the server is configured]
    #[arg(long, value_name = "TIME", requires = "asynchronous")]
    max_age: Option<Period>,

    /// The webhook that is told how it ends
    #[arg(long, value_name = "NAME", requires = "asynchronous")]
    webhook: Option<Name>,
}

pub(crate) async fn run(session: &Session, command: Call) -> Result<()> {
    let url = session.client.url().of_function(&command.name, &command.path).map_err(UsageError)?;
    let body = command.data.as_deref().map(read_data).transpose()?;
    let default = if body.is_some() { Method::POST } else { Method::GET };
    let method = command.method.unwrap_or(default);
    let mut headers: HeaderMap = command.headers.into_iter().collect();
    let body = body.unwrap_or_default();
    if command.later.asynchronous {
        command.later.add_to(&mut headers)?;
        let answer = session.client.call_later(method, url, headers, body).await?;
        if session.json {
            return Ok(output::json(&answer.json)?);
        }
        let AcceptedCall { id, state, repeated } = answer.parsed;
        let before = if repeated { ", taken in before" } else { "" };
        eprintln!("invocation is {state}{before}; see it with: quern invocations show {id}");
        return Ok(output::line(id)?);
    }
    let response = session.client.call(method, url, headers, body.into()).await?;
    let status = response.status();
    print(response, session.json).await?;
    if status.is_client_error() || status.is_server_error() {
        return Err(failed(&command.name, status).into());
    }
    Ok(())
}

impl Later {
    fn add_to(self, headers: &mut HeaderMap) -> Result<()> {
        if let Some(key) = self.key {
            headers.insert("idempotency-key", key);
        }
        if let Some(attempts) = self.max_attempts {
            headers.insert("quern-max-attempts", attempts.into());
        }
        if let Some(age) = self.max_age {
            headers.insert("quern-max-age", HeaderValue::try_from(age.to_string())?);
        }
        if let Some(webhook) = self.webhook {
            headers.insert("quern-webhook", HeaderValue::try_from(webhook.as_str())?);
        }
        Ok(())
    }
}

/// Prints an answer: its body as it comes, or as JSON with its head.
pub(crate) async fn print(response: Response, json: bool) -> Result<()> {
    match json {
        true => Ok(output::json(&describe(response).await?)?),
        false => stream(response).await,
    }
}

async fn stream(mut response: Response) -> Result<()> {
    while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
        output::raw(&chunk)?;
    }
    Ok(())
}

/// Status, headers and body as JSON: the body as its value if it is JSON, or else as text.
async fn describe(response: Response) -> Result<Value> {
    let status = response.status().as_u16();
    let mut headers = Map::new();
    for (name, value) in response.headers() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.insert(name.to_string(), value.into());
    }
    let body = response.bytes().await.context("the answer broke off")?;
    let Ok(text) = std::str::from_utf8(&body) else {
        bail!(
            "the function answered {} bytes that are no text: call it without --json",
            body.len()
        );
    };
    let body = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    Ok(json!({"status": status, "headers": headers, "body": body}))
}

fn failed(name: &QualifiedName, status: StatusCode) -> Failure {
    let hint = match &name.owner {
        None => format!("see what it printed with: quern logs {name}"),
        Some(owner) => format!("tenant {owner} can see what it printed"),
    };
    Failure { message: format!("function {name:?} answered {status}"), hint }
}

pub(crate) fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write NAME: VALUE")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is not a header's name"))?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} can't be a header's value"))?;
    Ok((name, value))
}

pub(crate) fn read_data(data: &str) -> Result<Bytes> {
    match data.strip_prefix('@') {
        None => Ok(data.to_owned().into()),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("can't read standard input")?;
            Ok(bytes.into())
        }
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("can't read {path}"))?;
            Ok(bytes.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_checked() {
        let (name, value) = parse_header("Content-Type:  image/png ").expect("a header");
        assert_eq!((name.as_str(), value.as_bytes()), ("content-type", &b"image/png"[..]));
        for bad in ["no colon", "bad name: x", "x: a\nb", ": x"] {
            assert!(parse_header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn data_are_text_or_a_file() {
        assert_eq!(read_data("a=1").expect("text"), "a=1");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), [0, 255]).expect("written");
        let data = format!("@{}", file.path().display());
        assert_eq!(&read_data(&data).expect("read")[..], [0, 255]);
        let missing = read_data("@/nowhere/at/all").expect_err("no such file");
        assert!(missing.to_string().contains("/nowhere/at/all"));
    }
}
