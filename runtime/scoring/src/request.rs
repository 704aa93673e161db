//! What a batch is asked for with: what scores it, and how its file is read and written. Never
//! looks at the file itself.

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use quern_types::{Name, VersionNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a file of rows is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values, RFC 4180; the first line names the columns.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    const ALL: [Self; 3] = [Self::Csv, Self::Ndjson, Self::Parquet];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }

    /// The media type of such a file.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The format that a media type is of.
    pub fn of_media_type(text: &str) -> Option<Self> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|format| essence.eq_ignore_ascii_case(format.media_type()))
    }

    /// The format that the ending of a file's name stands for.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "csv" => Some(Self::Csv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// The format that a file begins like, where one begins like no other.
    pub fn of_beginning(bytes: &[u8]) -> Option<Self> {
        bytes.starts_with(b"PAR1").then_some(Self::Parquet)
    }

    /// The format that results have unless another is asked for.
    pub fn of_results(self) -> ResultFormat {
        match self {
            Self::Csv => ResultFormat::Csv,
            Self::Ndjson | Self::Parquet => ResultFormat::Ndjson,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResultFormat {
    /// Comma-separated values, RFC 4180; the first line names the columns.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

impl ResultFormat {
    /// The format that files have which are written like that.
    fn of_files(self) -> Format {
        match self {
            Self::Csv => Format::Csv,
            Self::Ndjson => Format::Ndjson,
        }
    }

    /// The media type of such results.
    pub fn media_type(self) -> &'static str {
        self.of_files().media_type()
    }

    /// The format that the ending of a file's name stands for.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match Format::of_extension(extension)? {
            Format::Csv => Some(Self::Csv),
            Format::Ndjson => Some(Self::Ndjson),
            Format::Parquet => None,
        }
    }
}

/// What becomes of a batch when a row can't be scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It fails there, and keeps the results of the rows before.
    #[default]
    Stop,
    /// The row's place in the results says what was wrong, and the batch goes on.
    Record,
}

/// Which columns of the file an input is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ColumnNames {
    /// One column, or the columns `NAME.0`, `NAME.1`, …, where no column has the name; with `{}`
    /// in it, the columns in whose names the numbers 0, 1, … stand in its place.
    One(String),
    /// These columns, one for each element.
    Many(Vec<String>),
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// A model or an inference function.
    pub model: Name,
    /// Its version; none: the one that is live now.
    pub version: Option<VersionNumber>,
    /// The format of the file; none: as the media type of the upload says.
    pub format: Option<Format>,
    /// The format of the results; none: that of the file, and NDJSON for one of Parquet.
    pub output_format: Option<ResultFormat>,
    /// The columns of inputs, by input; an input that is not here has the columns of its own name.
    #[serde(default)]
    pub columns: BTreeMap<String, ColumnNames>,
    /// Columns of the file that are passed on into the results.
    #[serde(default)]
    pub keep: Vec<String>,
    /// What to do about a row that can't be scored.
    #[serde(default)]
    pub on_error: OnError,
    /// Most rows in one call; none: as many as the model takes in one run, and one of a function.
    pub rows_per_call: Option<NonZeroU32>,
}

/// What a batch is, with nothing left open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchSpec {
    /// A model or an inference function.
    pub model: Name,
    /// The version that scores all rows, whatever is deployed meanwhile.
    pub version: VersionNumber,
    /// The format of the file.
    pub format: Format,
    /// The format of the results.
    pub output_format: ResultFormat,
    /// As asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, ColumnNames>,
    /// As asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// As asked for.
    pub on_error: OnError,
    /// As asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_per_call: Option<NonZeroU32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_a_media_type_and_an_extension() {
        for format in Format::ALL {
            assert_eq!(Format::of_media_type(format.media_type()), Some(format));
            assert_eq!(Format::of_extension(format.as_str()), Some(format));
        }
        assert_eq!(Format::of_media_type("Text/CSV; charset=utf-8"), Some(Format::Csv));
        assert_eq!(Format::of_media_type("application/octet-stream"), None);
        assert_eq!(
            (Format::of_extension("jsonl"), Format::of_extension("txt")),
            (Some(Format::Ndjson), None)
        );
        assert_eq!(Format::of_beginning(b"PAR1\x15"), Some(Format::Parquet));
        assert_eq!(Format::of_beginning(b"PAR"), None);
        assert_eq!(ResultFormat::of_extension("csv"), Some(ResultFormat::Csv));
        assert_eq!(ResultFormat::of_extension("parquet"), None);
        assert_eq!(Format::Parquet.of_results().media_type(), "application/x-ndjson");
    }

    #[test]
    fn a_request_says_only_what_is_not_usual() {
        let short: BatchRequest = serde_json::from_str(r#"{"model": "m"}"#).expect("a request");
        assert_eq!((short.version, short.on_error), (None, OnError::Stop));
        let long = r#"{"model": "m", "version": 2, "format": "csv", "output_format": "ndjson",
            "columns": {"x": "pixel{}", "y": ["a", "b"]}, "keep": ["id"], "on_error": "record",
            "rows_per_call": 8}"#;
        let long: BatchRequest = serde_json::from_str(long).expect("a request");
        assert_eq!(long.columns["x"], ColumnNames::One("pixel{}".into()));
        assert_eq!(long.columns["y"], ColumnNames::Many(vec!["a".into(), "b".into()]));
        for bad in [
            r#"{}"#,
            r#"{"model": "m", "rows_per_call": 0}"#,
            r#"{"model": "m", "mode": 1}"#,
            r#"{"model": "m", "output_format": "parquet"}"#,
        ] {
            assert!(serde_json::from_str::<BatchRequest>(bad).is_err(), "{bad}");
        }
    }
}
