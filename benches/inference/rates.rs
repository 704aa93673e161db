//! One load on several servers, as rows of a table: how fast each is, and how many times as fast
//! Quern is. The first target is Quern.

use anyhow::Result;
use reqwest::Client;

use crate::{
    models::{Form, Model},
    quern::Quern,
    support::{
        load::{Loaded as _, Measured, Rounds, compare},
        report::{Table, aim},
    },
    target::Target,
};

/// What is hoped for, against the server of this name.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    pub(crate) server: String,
    /// Times its requests a second that Quern has at least.
    pub(crate) times: f64,
    /// Whether the p99 should be lower as well.
    pub(crate) lower_p99: bool,
}

/// A load on all targets.
pub(crate) struct Load<'a> {
    pub(crate) model: &'a Model,
    pub(crate) form: Form,
    pub(crate) connections: u32,
    pub(crate) targets: &'a [Target],
    pub(crate) aims: &'a [Aim],
}

/// The heads of the table that loads become rows of.
pub(crate) fn table() -> Table {
    Table::new([
        "model",
        "form",
        "connections",
        "server",
        "requests/s",
        "p50",
        "p99",
        "Quern : it",
        "aim",
    ])
}

impl Load<'_> {
    /// Measures it, adds its rows, and gives the rows of Quern's mean run.
    pub(crate) async fn measure(
        &self,
        client: &Client,
        quern: &Quern,
        rounds: Rounds,
        table: &mut Table,
    ) -> Result<f64> {
        let before = quern.computed(client, self.model).await?;
        let measured = compare(self.targets, self.connections, rounds).await?;
        let after = quern.computed(client, self.model).await?;
        for (target, theirs) in self.targets.iter().zip(&measured) {
            table.row(self.row(target.name(), measured[0], *theirs));
        }
        Ok((after.0 - before.0) / (after.1 - before.1))
    }

    fn row(&self, name: &str, ours: Measured, theirs: Measured) -> [String; 9] {
        let ratio = ours.per_second / theirs.per_second;
        let verdict = self.aims.iter().find(|aim| aim.server == name).map(|wanted| {
            let rate = match wanted.times {
                1.0 => aim("ahead", ratio > 1.0),
                times => aim(&format!("≥ {times} ×"), ratio >= times),
            };
            match wanted.lower_p99 {
                true => format!("{rate}; {}", aim("lower p99", ours.p99_us < theirs.p99_us)),
                false => rate,
            }
        });
        [
            self.model.title.to_owned(),
            self.form.title().to_owned(),
            self.connections.to_string(),
            name.to_owned(),
            rate(theirs.per_second),
            time(theirs.p50_us),
            time(theirs.p99_us),
            format!("**{ratio:.2}**"),
            verdict.unwrap_or_else(|| "–".to_owned()),
        ]
    }
}

/// A rate with as many digits as mean something.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second < 1000.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

/// A latency, in ms where µs would be noise.
pub(crate) fn time(us: f64) -> String {
    if us < 10_000.0 { format!("{us:.0} µs") } else { format!("{:.1} ms", us / 1000.0) }
}
