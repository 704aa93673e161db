//! `quern share`: who may call a function or a model besides its owner, and what others share.

use anyhow::Result;
use quern_types::Name;

use super::{ClassFlags, Session};
use crate::{
    client::Grants,
    output::{self, Table},
};

/// Let other tenants, or everybody, call a function or a model
///
/// What is given replaces what was: those that are not named any more are refused from the next
/// request on. Without --with, --public and --nobody it is printed who may call it. Others call it
/// as NAME@TENANT, with the name of the tenant whose it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Share {
    /// The function or model; without one, what others share with you is listed
    name: Option<Name>,

    #[command(flatten)]
    class: ClassFlags,

    /// A tenant that may call it; may be given several times
    #[arg(long, value_name = "TENANT", requires = "name")]
    with: Vec<Name>,

    /// Let anybody call it, without a token
    #[arg(long, requires = "name")]
    public: bool,

    /// Let nobody but its owner call it any more
    #[arg(long, requires = "name", conflicts_with_all = ["with", "public"])]
    nobody: bool,
}

pub(crate) async fn run(session: &Session, command: Share) -> Result<()> {
    let Share { name, class, with, public, nobody } = command;
    let Some(name) = name else { return list(session).await };
    let class = class.resolve(&session.client, &name).await?;
    let changes = public || nobody || !with.is_empty();
    let answer = match changes {
        true => session.client.share(class, &name, public, &with).await?,
        false => session.client.sharing(class, &name).await?,
    };
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    output::line(format_args!("{class} {name} may be called by {}", describe(&answer.parsed)))?;
    Ok(())
}

fn describe(grants: &Grants) -> String {
    match (grants.public, &grants.tenants[..]) {
        (true, _) => "anybody, without a token".to_owned(),
        (false, []) => "its owner alone".to_owned(),
        (false, tenants) => format!("its owner and {}", tenants.join(", ")),
    }
}

async fn list(session: &Session) -> Result<()> {
    let mut table = Table::new(&["NAME", "KIND", "VERSION"]);
    let mut after = None;
    loop {
        let answer = session.client.shared(after.as_deref()).await?;
        if session.json {
            output::json(&answer.json)?;
        }
        for shared in answer.parsed.shared {
            table.row(vec![shared.name, shared.kind, shared.version.to_string()]);
        }
        after = answer.parsed.next;
        if after.is_none() {
            break;
        }
    }
    if !session.json {
        output::line(table)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_who_may_call() {
        for (public, tenants, said) in [
            (true, vec!["a"], "anybody, without a token"),
            (false, vec![], "its owner alone"),
            (false, vec!["a", "b"], "its owner and a, b"),
        ] {
            let tenants = tenants.into_iter().map(str::to_owned).collect();
            assert_eq!(describe(&Grants { public, tenants }), said);
        }
    }
}
