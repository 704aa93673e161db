//! `quern schedule`: what is called at which times.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use http::{HeaderName, HeaderValue, Method};
use quern_types::{Missed, Name, Overlap, Period, ScheduleSpec};

use super::{
    Session,
    call::{parse_header, read_data},
};
use crate::output::{self, Table};

/// Call functions and models at certain times
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    Create(Box<Create>),
    List(List),
    Next(Next),
    Delete(Delete),
}

/// Make a schedule, or change one
///
/// Each time it makes an asynchronous call, which `quern invocations` shows.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its name
    name: Name,

    /// When: minute, hour, day of month, month and day of week, such as "0 4 * * *"
    cron: String,

    /// What is called: a path such as /f/report/daily or /v2/models/digits/infer
    path: String,

    /// The zone of the times, by its name in the IANA database
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,

    /// HTTP method of the call
    #[arg(short = 'X', long, default_value = "POST")]
    method: Method,

    /// A header of the call, "NAME: VALUE"; may be given several times
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,

    /// The body of the call, which must be text: itself, @FILE, or @- for standard input
    #[arg(short, long, value_name = "DATA|@FILE")]
    data: Option<String>,

    /// What happens to times that passed while the server was down: skip leaves them out, once
    /// calls the last one, all calls up to 100 of them
    #[arg(long, value_parser = ["skip", "once", "all"], default_value = "once")]
    missed: String,

    /// Leave a time out while the last call has not come to its end
    #[arg(long)]
    skip_overlap: bool,

    /// How often each call is tried [default: as the server is configured]
    #[arg(long, value_name = "COUNT")]
    max_attempts: Option<u32>,

    /// For how long each call is tried, with its unit [default: as the server is configured]
    #[arg(long, value_name = "TIME")]
    max_age: Option<Period>,

    /// The webhook that is told how each call ends
    #[arg(long, value_name = "NAME")]
    webhook: Option<Name>,
}

/// List the schedules
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

/// Show the next times of a schedule
#[derive(Debug, clap::Args)]
pub(crate) struct Next {
    /// The schedule
    name: Name,
}

/// Delete a schedule
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// The schedule
    name: Name,
}

impl Create {
    fn into_spec(self) -> Result<(Name, ScheduleSpec)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).context("this must be text");
        let body = self.data.as_deref().map(read_data).transpose()?.unwrap_or_default();
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| Ok((name.to_string(), text(value.as_bytes())?)));
        let spec = ScheduleSpec {
            cron: self.cron,
            time_zone: self.time_zone,
            method: self.method.to_string(),
            path: self.path,
            headers: headers.collect::<Result<_>>()?,
            body: text(&body)?,
            missed: match &*self.missed {
                "skip" => Missed::Skip,
                "all" => Missed::All,
                _ => Missed::Once,
            },
            overlap: if self.skip_overlap { Overlap::Skip } else { Overlap::Allow },
            max_attempts: self.max_attempts,
            max_age: self.max_age,
            webhook: self.webhook,
        };
        Ok((self.name, spec))
    }
}

pub(crate) async fn run(session: &Session, command: Schedule) -> Result<()> {
    match command {
        Schedule::Create(command) => {
            let (name, spec) = command.into_spec()?;
            let answer = session.client.put_schedule(&name, &spec).await?;
            if session.json {
                return Ok(output::json(&answer.json)?);
            }
            let next = answer.parsed.next.into_iter().next().unwrap_or_else(|| "never".into());
            Ok(output::line(format_args!("schedule {name} calls next at {next}"))?)
        }
        Schedule::List(List {}) => list(session).await,
        Schedule::Next(Next { name }) => {
            let answer = session.client.schedule(&name).await?;
            if session.json {
                return Ok(output::json(&answer.json)?);
            }
            answer.parsed.next.iter().try_for_each(|time| Ok(output::line(time)?))
        }
        Schedule::Delete(Delete { name }) => {
            session.client.delete_schedule(&name).await?;
            if !session.json {
                output::line(format_args!("schedule {name} is deleted"))?;
            }
            Ok(())
        }
    }
}

async fn list(session: &Session) -> Result<()> {
    let answer = session.client.schedules().await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table = Table::new(&["SCHEDULE", "CRON", "ZONE", "CALLS", "NEXT"]);
    for schedule in answer.parsed.schedules {
        let calls = format!("{} {}", schedule.method, schedule.path);
        let next = schedule.next.unwrap_or_else(|| "never".into());
        table.row(vec![schedule.name, schedule.cron, schedule.time_zone, calls, next]);
    }
    Ok(output::line(table)?)
}
