//! `quern traffic`: which versions the requests to a function or model go to.

use std::str::FromStr;

use anyhow::Result;
use quern_types::{Name, VersionNumber};
use serde_json::{Value, json};

use super::{ClassFlags, Session, canary::cells};
use crate::{
    client::TrafficAnswer,
    output::{self, Table},
};

/// Show or set which versions requests go to
///
/// What is not given stays as it is, but for the shares, which are set together.
#[derive(Debug, clap::Args)]
pub(crate) struct Traffic {
    /// The function or model
    name: Name,

    /// Shares that add up to 100, such as v1=90 v2=10; none: show what there is
    #[arg(value_name = "VERSION=PERCENT")]
    shares: Vec<Share>,

    /// Send requests with the same value of this header to the same version
    #[arg(long, value_name = "NAME", group = "sticky")]
    sticky_header: Option<String>,

    /// Send requests with the same value of this cookie to the same version
    #[arg(long, value_name = "NAME", group = "sticky")]
    sticky_cookie: Option<String>,

    /// Let each request go its own way
    #[arg(long, group = "sticky")]
    not_sticky: bool,

    #[command(flatten)]
    class: ClassFlags,
}

/// A version and a percentage, as `v2=10` or `2=10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    version: VersionNumber,
    percent: u8,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (version, percent) = text.split_once('=')?;
            let version = version.strip_prefix('v').unwrap_or(version).parse().ok()?;
            let percent = percent.strip_suffix('%').unwrap_or(percent).parse().ok()?;
            Some(Self { version, percent })
        };
        parse().ok_or_else(|| "write a version and a percentage, such as v2=10".into())
    }
}

pub(crate) async fn run(session: &Session, command: Traffic) -> Result<()> {
    let class = command.class.resolve(&session.client, &command.name).await?;
    let mut answer = session.client.traffic(class, &command.name).await?;
    if let Some(changed) = command.changed(&answer.json) {
        answer = session.client.set_traffic(class, &command.name, &changed).await?;
    }
    match session.json {
        true => Ok(output::json(&answer.json)?),
        false => show(&answer.parsed),
    }
}

impl Traffic {
    /// What there is with what is to be changed; none if nothing is.
    fn changed(&self, now: &Value) -> Option<Value> {
        let sticky = match (&self.sticky_header, &self.sticky_cookie, self.not_sticky) {
            (Some(header), ..) => Some(json!({"header": header})),
            (_, Some(cookie), _) => Some(json!({"cookie": cookie})),
            (_, _, true) => Some(Value::Null),
            _ => None,
        };
        if self.shares.is_empty() && sticky.is_none() {
            return None;
        }
        let share =
            |version: &Value, percent: &Value| json!({"version": version, "percent": percent});
        let versions: Vec<Value> = match self.shares.is_empty() {
            true => {
                let shares = now["versions"].as_array().into_iter().flatten();
                shares.map(|of| share(&of["version"], &of["percent"])).collect()
            }
            false => {
                let shares = self.shares.iter();
                shares.map(|of| share(&json!(of.version), &json!(of.percent))).collect()
            }
        };
        let sticky = sticky.unwrap_or_else(|| now["sticky"].clone());
        Some(json!({"versions": versions, "sticky": sticky}))
    }
}

fn show(traffic: &TrafficAnswer) -> Result<()> {
    let mut table = Table::new(&["VERSION", "SHARE", "REQUESTS", "ERRORS", "TRAPS", "P50", "P99"]);
    for share in &traffic.versions {
        let mut row = vec![share.version.to_string(), format!("{}%", share.percent)];
        row.extend(cells(&share.counted));
        table.row(row);
    }
    output::line(table)?;
    if let Some(sticky) = traffic.sticky.as_ref().and_then(Value::as_object) {
        for (kind, name) in sticky {
            output::line(format_args!("sticky by {kind} {}", name.as_str().unwrap_or_default()))?;
        }
    }
    for alias in &traffic.aliases {
        output::line(format_args!("alias {} is version {}", alias.alias, alias.version))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn command(line: &str) -> Traffic {
        let parser = Traffic::augment_args(clap::Command::new("traffic").no_binary_name(true));
        let matches = parser.try_get_matches_from(line.split(' ')).expect(line);
        Traffic::from_arg_matches(&matches).expect(line)
    }

    #[test]
    fn a_share_is_a_version_and_a_percentage() {
        let share = |version, percent| {
            Ok(Share { version: VersionNumber::new(version).expect("not zero"), percent })
        };
        assert_eq!("v1=90".parse(), share(1, 90));
        assert_eq!("2=10%".parse(), share(2, 10));
        for bad in ["", "v1", "v0=1", "v1=", "v1=ten", "v1=300"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_given_stays() {
        let now = json!({
            "versions": [{"version": 1, "percent": 100, "counted": {}}],
            "sticky": {"header": "x-user"},
        });
        assert_eq!(command("f").changed(&now), None);
        let split = command("f v1=90 v2=10").changed(&now).expect("a change");
        let shares = json!([{"version": 1, "percent": 90}, {"version": 2, "percent": 10}]);
        assert_eq!((&split["versions"], &split["sticky"]), (&shares, &now["sticky"]));
        let loose = command("f --not-sticky").changed(&now).expect("a change");
        assert_eq!(loose, json!({"versions": [{"version": 1, "percent": 100}], "sticky": null}));
        let cookie = command("f --sticky-cookie id").changed(&now).expect("a change");
        assert_eq!(cookie["sticky"], json!({"cookie": "id"}));
    }
}
