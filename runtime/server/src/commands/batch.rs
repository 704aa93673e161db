//! `quern batch`: scores files of rows in the background of a server, and takes the results.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use quern_scoring::{BatchId, ColumnNames, Format, OnError, ResultFormat};
use quern_types::{Name, VersionNumber};
use serde::Serialize;
use serde_json::json;

use super::Session;
use crate::{
    client::{Answer, Batch as Known, BatchUpload},
    failure::{Failure, UsageError},
    output::{self, Table},
};

/// How often the server is asked how far a batch is.
const POLL: Duration = Duration::from_millis(200);
/// Bytes by which a file is told that does not say by its name how it is written.
const BEGINNING: u64 = 16;

/// Score a file of rows through a model or an inference function, in the background
#[derive(Debug, Subcommand)]
pub(crate) enum Batch {
    Run(Run),
    List(List),
    Show(Show),
    Results(Results),
    Remove(Remove),
}

/// Upload a file of rows, follow how far it is, and take the results
///
/// The file is CSV, JSON lines (NDJSON) or Parquet. The batch runs at the lowest priority. Ctrl-C leaves it
/// running on the server.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The model or inference function
    model: Name,

    /// The file of rows
    file: PathBuf,

    /// Where to write the results [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The version that scores all rows [default: the live one]
    #[arg(long, value_name = "NUMBER")]
    version: Option<VersionNumber>,

    /// How the file is written, csv, ndjson or parquet [default: as its name says, or its first bytes]
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    format: Option<Format>,

    /// How the results are written, csv or ndjson [default: as the name of --output says, or as the
    /// file is, and ndjson for one of Parquet]
    #[arg(long, value_name = "FORMAT", value_parser = parse_result_format)]
    output_format: Option<ResultFormat>,

    /// The columns of an input: INPUT=COLUMN, INPUT=A,B,C, or INPUT=pixel{}, where numbers stand
    /// for {}; may be given several times [default: the columns named like the inputs]
    #[arg(long = "column", value_name = "INPUT=COLUMNS")]
    columns: Vec<ColumnFlag>,

    /// A column of the file that the results have as well; may be given several times
    #[arg(long, value_name = "COLUMN")]
    keep: Vec<String>,

    /// What to do about a row that can't be scored: stop there, or record why in the results and
    /// go on
    #[arg(long, value_name = "stop|record", value_parser = parse_on_error, default_value = "stop")]
    on_error: OnError,

    /// Most rows in one call [default: those of one run of a model, one of a function]
    #[arg(long, value_name = "COUNT")]
    rows_per_call: Option<std::num::NonZeroU32>,

    /// Don't wait for the results
    #[arg(long)]
    detach: bool,
}

/// List the batches of a server
#[derive(Debug, clap::Args)]
pub(crate) struct List {}

/// Show how far a batch is
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The batch, as `quern batch list` names it
    id: BatchId,
}

/// Take the results of a batch that has ended
#[derive(Debug, clap::Args)]
pub(crate) struct Results {
    /// The batch, as `quern batch list` names it
    id: BatchId,

    /// Where to write them [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Remove a batch with its results; one that runs is stopped
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// The batch, as `quern batch list` names it
    id: BatchId,
}

/// The columns of one input.
#[derive(Debug, Clone, PartialEq)]
struct ColumnFlag {
    input: String,
    columns: ColumnNames,
}

impl FromStr for ColumnFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (input, columns) = text
            .split_once('=')
            .filter(|(input, columns)| !input.is_empty() && !columns.is_empty())
            .ok_or_else(|| format!("{text:?} is not of the form INPUT=COLUMNS"))?;
        let columns = match columns.split(',').map(str::to_owned).collect::<Vec<_>>() {
            one if one.len() == 1 => ColumnNames::One(columns.to_owned()),
            many => ColumnNames::Many(many),
        };
        Ok(Self { input: input.to_owned(), columns })
    }
}

fn parse_format(text: &str) -> Result<Format, String> {
    Format::of_extension(text).ok_or_else(|| "choose csv, ndjson or parquet".into())
}

fn parse_result_format(text: &str) -> Result<ResultFormat, String> {
    ResultFormat::of_extension(text).ok_or_else(|| "choose csv or ndjson".into())
}

fn parse_on_error(text: &str) -> Result<OnError, String> {
    match text {
        "stop" => Ok(OnError::Stop),
        "record" => Ok(OnError::Record),
        _ => Err("choose stop or record".into()),
    }
}

/// What is asked for.
#[derive(Debug, Serialize)]
struct Request<'a> {
    model: &'a Name,
    version: Option<VersionNumber>,
    format: Format,
    output_format: ResultFormat,
    columns: BTreeMap<&'a str, &'a ColumnNames>,
    keep: &'a [String],
    on_error: OnError,
    rows_per_call: Option<std::num::NonZeroU32>,
}

impl<'a> Request<'a> {
    fn of(command: &'a Run) -> Result<Self, UsageError> {
        let extension = |path: &'a Path| path.extension()?.to_str();
        let of_name = || extension(&command.file).and_then(Format::of_extension);
        let format = command.format.or_else(of_name).or_else(|| of_beginning(&command.file));
        let format = format.ok_or_else(|| {
            let file = command.file.display();
            UsageError(format!("{file} does not say by its name how it is written: pass --format"))
        })?;
        let of_output = command.output.as_deref().and_then(extension);
        let of_output = of_output.and_then(ResultFormat::of_extension);
        let columns = command.columns.iter().map(|flag| (&*flag.input, &flag.columns));
        Ok(Self {
            model: &command.model,
            version: command.version,
            format,
            output_format: command.output_format.or(of_output).unwrap_or(format.of_results()),
            columns: columns.collect(),
            keep: &command.keep,
            on_error: command.on_error,
            rows_per_call: command.rows_per_call,
        })
    }
}

/// The format that a file begins like; none where it can't be read, which the upload will say.
fn of_beginning(path: &Path) -> Option<Format> {
    let mut beginning = Vec::new();
    File::open(path).ok()?.take(BEGINNING).read_to_end(&mut beginning).ok()?;
    Format::of_beginning(&beginning)
}

pub(crate) async fn run(session: &Session, command: Batch) -> Result<()> {
    match command {
        Batch::Run(command) => score(session, command).await,
        Batch::List(List {}) => list(session).await,
        Batch::Show(Show { id }) => {
            let batch = session.client.batch(id).await?;
            if session.json {
                return Ok(output::json(batch.json())?);
            }
            Ok(output::line(describe(&batch.parsed))?)
        }
        Batch::Results(Results { id, output }) => {
            take_results(session, id, output.as_deref()).await
        }
        Batch::Remove(Remove { id }) => {
            session.client.remove_batch(id).await?;
            match session.json {
                true => output::json(&json!({"id": id, "removed": true}))?,
                false => output::line(format_args!("batch {id} is removed"))?,
            }
            Ok(())
        }
    }
}

async fn score(session: &Session, command: Run) -> Result<()> {
    let request = Request::of(&command)?;
    let progress = output::byte_progress(0, format!("uploading {}", command.file.display()));
    let upload = BatchUpload { request: &request, file: &command.file };
    let made = session.client.create_batch(upload, &progress).await;
    progress.finish_and_clear();
    let made = made?;
    let id = made.parsed.id;
    if command.detach {
        return match session.json {
            true => Ok(output::json(made.json())?),
            false => Ok(output::line(id)?),
        };
    }
    let ended = tokio::select! {
        ended = follow(session, made) => ended?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("can't watch signals")?;
            eprintln!(
                "batch {id} goes on without you\n  how far it is:  quern batch show {id}\n  \
                 its results:    quern batch results {id} -o FILE\n  to stop it:     \
                 quern batch remove {id}"
            );
            return Ok(());
        }
    };
    finish(session, &ended, command.output.as_deref()).await
}

/// Shows how far a batch is, until it has ended.
async fn follow(session: &Session, mut batch: Answer<Known>) -> Result<Answer<Known>> {
    let Known { id, input, .. } = &batch.parsed;
    let (id, progress) = (*id, output::byte_progress(input.bytes, format!("batch {id}")));
    while !batch.has_ended() {
        let Known { state, rows, rows_per_second, .. } = &batch.parsed;
        let speed = rows_per_second.map_or(String::new(), |speed| format!(", {speed:.0}/s"));
        progress.set_position(batch.parsed.input.done);
        progress.set_message(format!("{state}: {} rows{speed}", rows.done));
        tokio::time::sleep(POLL).await;
        batch = session.client.batch(id).await?;
    }
    progress.finish_and_clear();
    Ok(batch)
}

async fn finish(session: &Session, batch: &Answer<Known>, to: Option<&Path>) -> Result<()> {
    let Known { id, rows, error, .. } = &batch.parsed;
    if let Some(error) = error {
        return Err(Failure {
            message: error.detail.clone(),
            hint: format!(
                "{} rows before it have their results: quern batch results {id}",
                rows.done
            ),
        }
        .into());
    }
    if session.json {
        output::json(batch.json())?;
    }
    if to.is_some() || !session.json {
        take_results(session, *id, to).await?;
    }
    if rows.failed > 0 {
        return Err(Failure {
            message: format!("{} of {} rows could not be scored", rows.failed, rows.done),
            hint: "their \"error\" in the results says why".into(),
        }
        .into());
    }
    if let Some(path) = to {
        eprintln!("{} rows are in {}", rows.done, path.display());
    }
    Ok(())
}

/// Writes results to a file, which is there as a whole or not at all, or to standard output.
async fn take_results(session: &Session, id: BatchId, to: Option<&Path>) -> Result<()> {
    let mut results = session.client.batch_results(id).await?;
    let Some(path) = to else {
        while let Some(part) = results.next().await? {
            output::raw(&part)?;
        }
        return Ok(());
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let unwritable = || format!("can't write {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .with_context(unwritable)?;
    while let Some(part) = results.next().await? {
        file.write_all(&part).with_context(unwritable)?;
    }
    file.persist(path).with_context(unwritable)?;
    Ok(())
}

async fn list(session: &Session) -> Result<()> {
    let answer = session.client.batches().await?;
    if session.json {
        return Ok(output::json(&answer.json)?);
    }
    let mut table = Table::new(&["BATCH", "MODEL", "STATE", "DONE", "ROWS", "FAILED", "CREATED"]);
    for batch in answer.parsed.batches {
        let done = share(&batch);
        let Known { id, model, state, rows, created, .. } = batch;
        let (all, failed) = (rows.done.to_string(), rows.failed.to_string());
        table.row(vec![id.to_string(), model, state, done, all, failed, created]);
    }
    Ok(output::line(table)?)
}

/// How much of its file a batch has done.
fn share(batch: &Known) -> String {
    match batch.input.bytes {
        0 => "-".into(),
        all => format!("{} %", batch.input.done.saturating_mul(100) / all),
    }
}

fn describe(batch: &Known) -> String {
    let Known { id, state, model, version, rows, rows_per_second, remaining_s, error, .. } = batch;
    let mut lines = vec![
        format!("batch {id}: {state}, {} of its file", share(batch)),
        format!("{model} version {version}"),
        format!("{} rows, {} of them could not be scored", rows.done, rows.failed),
    ];
    if let Some(speed) = rows_per_second {
        let rest = remaining_s.map(|rest| {
            format!(", {} left", output::duration(Duration::from_secs_f64(rest.clamp(0.0, 1e9))))
        });
        lines.push(format!("{speed:.0} rows/s{}", rest.unwrap_or_default()));
    }
    lines.extend(error.as_ref().map(|error| error.detail.clone()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_one_or_several() {
        let flag = |text: &str| text.parse::<ColumnFlag>().map(|flag| flag.columns);
        assert_eq!(flag("x=pixel{}"), Ok(ColumnNames::One("pixel{}".into())));
        assert_eq!(flag("x=a,b"), Ok(ColumnNames::Many(vec!["a".into(), "b".into()])));
        for bad in ["x", "=a", "x="] {
            assert!(flag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_batch_is_described_in_lines() {
        let batch = json!({
            "id": "01936a5e-0000-7000-8000-0123456789ab", "state": "failed", "model": "m",
            "version": 2, "created": "now", "rows": {"done": 3, "failed": 1},
            "input": {"bytes": 10, "done": 5}, "rows_per_second": 2.5, "remaining_s": 4.0,
            "error": {"detail": "row 4 is bad"}
        });
        let batch = serde_json::from_value(batch).expect("a batch");
        let expected = "batch 01936a5e-0000-7000-8000-0123456789ab: failed, 50 % of its file\n\
                        m version 2\n3 rows, 1 of them could not be scored\n\
                        2 rows/s, 4000 ms left\nrow 4 is bad";
        assert_eq!(describe(&batch), expected);
    }
}
