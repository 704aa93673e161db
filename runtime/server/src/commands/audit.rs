//! `quern audit`: who changed what, the newest first.

use anyhow::Result;
use quern_types::Name;

use super::Session;
use crate::output::{self, Table};

/// Show who changed what on a server
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// Only what was done for this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<Name>,

    /// How many changes, the newest ones
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// Only those before this number
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
}

pub(crate) async fn run(session: &Session, command: Audit) -> Result<()> {
    let Audit { tenant, limit, before } = command;
    let answer = session.client.audit(tenant.as_ref(), limit, before).await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table = Table::new(&["NUMBER", "TIME", "TENANT", "TOKEN", "ACTION", "SUBJECT"]);
    for record in answer.parsed.records {
        let token = record.token.unwrap_or_else(|| "-".into());
        let number = record.sequence.to_string();
        table.row(vec![number, record.time, record.tenant, token, record.action, record.subject]);
    }
    Ok(output::line(table)?)
}
