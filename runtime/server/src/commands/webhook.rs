//! `quern webhook`: addresses that are told how asynchronous calls end, and what came of telling them.

use anyhow::Result;
use clap::Subcommand;
use quern_types::{DeliveryId, DeliveryState, Name, Period};

use super::Session;
use crate::{
    client::DeliveryFilter,
    output::{self, Table},
};

/// Have it told how asynchronous calls end
#[derive(Debug, Subcommand)]
pub(crate) enum Webhook {
    Create(Create),
    List(List),
    Rotate(Rotate),
    Delete(Delete),
    Deliveries(Deliveries),
    Retry(Retry),
}

/// Make a webhook and print its secret, or give one another address
///
/// The secret is printed on standard output and can't be had again. A call that is made with
/// --webhook NAME, or a schedule, sends a signed message there when it ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its name
    name: Name,

    /// The address that its messages go to, with https:// or http://
    address: String,
}

/// List the webhooks
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

/// Give a webhook another secret, and print it
///
/// For a while, messages are signed with the secret before as well, so that whoever receives them
/// can change over.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// The webhook
    name: Name,

    /// How long the secret before signs as well, with its unit, such as 2h; 0s where it is known to
    /// others [default: 1day]
    #[arg(long, value_name = "TIME")]
    keep_previous: Option<Period>,
}

/// Delete a webhook; messages that wait for it are given up
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// The webhook
    name: Name,
}

/// List messages to webhooks, the newest first
#[derive(Debug, clap::Args)]
pub(crate) struct Deliveries {
    /// Only those to this webhook
    webhook: Option<Name>,

    /// Only those in this state: waiting, delivered or failed
    #[arg(long, value_name = "STATE")]
    state: Option<DeliveryState>,

    /// Only those that came before this one
    #[arg(long, value_name = "ID")]
    before: Option<DeliveryId>,

    /// How many at most
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Have a message sent again that was given up
#[derive(Debug, clap::Args)]
pub(crate) struct Retry {
    /// The message
    id: DeliveryId,
}

pub(crate) async fn run(session: &Session, command: Webhook) -> Result<()> {
    match command {
        Webhook::Create(Create { name, address }) => {
            let answer = session.client.put_webhook(&name, &address).await?;
            if session.json {
                return Ok(output::json(&answer.json)?);
            }
            match answer.parsed.secret {
                Some(secret) => show(&name, &secret),
                None => Ok(output::line(format_args!("webhook {name} has this address now"))?),
            }
        }
        Webhook::List(List {}) => list(session).await,
        Webhook::Rotate(Rotate { name, keep_previous }) => {
            let answer = session.client.rotate_webhook(&name, keep_previous).await?;
            if session.json {
                return Ok(output::json(&answer.json)?);
            }
            show(&name, answer.parsed.secret.as_deref().unwrap_or_default())
        }
        Webhook::Delete(Delete { name }) => {
            session.client.delete_webhook(&name).await?;
            if !session.json {
                output::line(format_args!("webhook {name} is deleted"))?;
            }
            Ok(())
        }
        Webhook::Deliveries(command) => deliveries(session, command).await,
        Webhook::Retry(Retry { id }) => {
            let answer = session.client.retry_delivery(id).await?;
            match session.json {
                true => Ok(output::json(&answer.json)?),
                false => Ok(output::line(format_args!("{id} is {}", answer.parsed.state))?),
            }
        }
    }
}

/// The secret goes where programs read it, the rest where people do.
fn show(name: &Name, secret: &str) -> Result<()> {
    eprintln!("messages to webhook {name} are signed with this secret, shown only now:");
    Ok(output::line(secret)?)
}

async fn list(session: &Session) -> Result<()> {
    let answer = session.client.webhooks().await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table = Table::new(&["WEBHOOK", "ADDRESS", "CREATED", "SECRET"]);
    for webhook in answer.parsed.webhooks {
        let secret = match (webhook.locked, webhook.previous_until) {
            (true, _) => "locked".to_owned(),
            (false, Some(until)) => format!("the one before until {until}"),
            (false, None) => "one".to_owned(),
        };
        table.row(vec![webhook.name, webhook.url, webhook.created, secret]);
    }
    Ok(output::line(table)?)
}

async fn deliveries(session: &Session, command: Deliveries) -> Result<()> {
    let Deliveries { webhook, state, before, limit } = command;
    let filter = DeliveryFilter { webhook, state, before, limit };
    let answer = session.client.deliveries(&filter).await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table =
        Table::new(&["DELIVERY", "WEBHOOK", "STATE", "SENT", "CREATED", "INVOCATION", "REASON"]);
    for delivery in answer.parsed.deliveries {
        table.row(vec![
            delivery.id,
            delivery.webhook,
            delivery.state,
            delivery.attempts.to_string(),
            delivery.created,
            delivery.invocation,
            delivery.reason.unwrap_or_default(),
        ]);
    }
    Ok(output::line(table)?)
}
