//! `quern token`: makes, lists and revokes tokens, on a server or, for the first one, in a data
//! folder that no server has open.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use prometheus::Registry;
use quern_deploy::{NewToken, create_token};
use quern_store::Store;
use quern_types::{Caller, Name, Period, Role, TenantId, TokenId};
use serde_json::json;

use super::Session;
use crate::{
    config::Options,
    failure::Failure,
    output::{self, Table},
    wiring,
};

/// Make, list and revoke the tokens of a server that runs with --authenticate
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make a token, and print its secret
///
/// The secret is printed on standard output and can't be had again. A server's first token is made
/// with --data, while the server does not run; later ones by an admin, whose token stands in
/// QUERN_TOKEN.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// What it allows: invoker calls functions and models, deployer changes them as well, admin
    /// runs the server
    #[arg(long, value_name = "ROLE")]
    role: Role,

    /// The tenant that it acts for; one that is not known yet begins to be [default: that of the
    /// token that asks, or "default" with --data]
    #[arg(long, value_name = "NAME")]
    tenant: Option<Name>,

    /// What to remember about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,

    /// How long it is good for, with its unit, such as 90d [default: for ever]
    #[arg(long, value_name = "TIME")]
    expires_in: Option<Period>,

    /// Make it in this data folder, which no server may have open, rather than on a server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Make the data folder if there is none yet, as before a server's first start
    #[arg(long, requires = "data")]
    init: bool,
}

/// List the tokens of all tenants
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

/// Revoke a token: from then on it lets nobody in
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// The token, as `quern token list` names it
    id: TokenId,
}

pub(crate) async fn run(session: &Session, command: Token) -> Result<()> {
    match command {
        Token::Create(command) => create(session, command).await,
        Token::List(List {}) => list(session).await,
        Token::Revoke(Revoke { id }) => {
            session.client.revoke_token(id).await?;
            if !session.json {
                output::line(format_args!("token {id} is revoked"))?;
            }
            Ok(())
        }
    }
}

async fn create(session: &Session, command: Create) -> Result<()> {
    let Create { role, tenant, note, expires_in, data, init } = command;
    let Some(data) = data else {
        let created = session.client.create_token(role, tenant.as_ref(), &note, expires_in).await?;
        if session.json {
            return Ok(output::json(&created.json)?);
        }
        let made = created.parsed;
        return show(&made.id, &made.tenant, role, &made.secret);
    };
    if !init && !Store::is_in(&data) {
        return Err(no_folder(&data).into());
    }
    let tenant = tenant.as_ref().map_or_else(TenantId::default, TenantId::from);
    let new = NewToken { tenant, role, note, lifetime: expires_in };
    let (token, credential) = create_in(&data, new).await?;
    if session.json {
        let quern_types::Token { id, tenant, note, .. } = token;
        let secret = credential.reveal();
        let made =
            json!({"id": id, "tenant": tenant, "role": role, "note": note, "secret": secret});
        return Ok(output::json(&made)?);
    }
    show(&token.id.to_string(), token.tenant.as_str(), role, &credential.reveal())
}

/// A folder that a server never had is more often a wrong path than a new one.
fn no_folder(data: &Path) -> Failure {
    Failure {
        message: format!("{} is not a data folder: no server has run on it yet", data.display()),
        hint: "check --data; add --init to make the first token before the first start".into(),
    }
}

/// The secret goes where programs read it, the rest where people do.
fn show(id: &str, tenant: &str, role: Role, secret: &str) -> Result<()> {
    eprintln!("token {id} has the role {role} for tenant {tenant:?}; its secret, shown only now:");
    Ok(output::line(secret)?)
}

async fn create_in(
    data: &Path,
    new: NewToken,
) -> Result<(quern_types::Token, quern_types::Credential)> {
    let options = Options::default();
    let config = wiring::store_config(data, &options);
    let store = Store::open(config, &Registry::new())
        .await
        .with_context(|| format!("can't open the data folder {}", data.display()))?;
    let created = create_token(&store, &Caller::unasked(), new).await;
    store.close().await;
    Ok(created?)
}

async fn list(session: &Session) -> Result<()> {
    let answer = session.client.tokens().await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table = Table::new(&["TOKEN", "TENANT", "ROLE", "CREATED", "EXPIRES", "NOTE"]);
    for token in answer.parsed.tokens {
        let expires = match (token.expires, token.expired) {
            (None, _) => "never".to_owned(),
            (Some(_), true) => "expired".to_owned(),
            (Some(time), false) => time,
        };
        table.row(vec![token.id, token.tenant, token.role, token.created, expires, token.note]);
    }
    Ok(output::line(table)?)
}
