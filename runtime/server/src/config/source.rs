//! The text of a configuration file: parses it, and finds the line of a key and the key of a
//! place. It knows no option.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// It is no TOML, or an option is unknown or has a value that it can't have.
    #[error("{place}: {problem}")]
    Invalid {
        /// Where in the file.
        place: Place,
        /// What is wrong there.
        problem: String,
    },
}

/// A place in a configuration file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    path: PathBuf,
    line: Option<usize>,
    key: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        match &self.key {
            Some(key) => write!(f, ", {key}"),
            None => Ok(()),
        }
    }
}

/// A configuration file, or the absence of one.
#[derive(Debug, Default)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        Ok(Self { path: path.to_owned(), text })
    }

    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self { path: "test.toml".into(), text: text.to_owned() }
    }

    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let problem = error.message().trim_end().to_owned();
            let start = error.span().map(|span| span.start);
            let key = start.and_then(|start| self.find(&mut |_, span| span.contains(&start)));
            let line = start.map(|start| self.line(start));
            let place = Place { path: self.path.clone(), line, key: key.map(|(key, _)| key) };
            ConfigError::Invalid { place, problem }
        })
    }

    /// Whether the file has the key, such as `"http.max_head"`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(&mut |found, _| found == key).is_some()
    }

    /// That the value of a key can't be used. Without the key in the file, it has no line.
    pub(crate) fn refuse(&self, key: &str, problem: String) -> ConfigError {
        let found = self.find(&mut |found, _| found == key);
        let line = found.map(|(_, start)| self.line(start));
        let place = Place { path: self.path.clone(), line, key: Some(key.to_owned()) };
        ConfigError::Invalid { place, problem }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).unwrap_or(&self.text).matches('\n').count() + 1
    }

    /// The first key for which `fits` says so of its path and of a span that it or its value has,
    /// and where the key begins.
    fn find(&self, fits: &mut Fits<'_>) -> Option<(String, usize)> {
        let table = DeTable::parse(&self.text).ok()?;
        find_in(table.get_ref(), "", fits)
    }
}

type Fits<'a> = dyn FnMut(&str, std::ops::Range<usize>) -> bool + 'a;

fn find_in(table: &DeTable<'_>, above: &str, fits: &mut Fits<'_>) -> Option<(String, usize)> {
    for (key, value) in table {
        let path = match above {
            "" => key.get_ref().to_string(),
            _ => format!("{above}.{}", key.get_ref()),
        };
        let inner = match value.get_ref() {
            DeValue::Table(inner) => find_in(inner, &path, fits),
            _ if fits(&path, value.span()) => Some((path.clone(), key.span().start)),
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
        if fits(&path, key.span()) {
            return Some((path, key.span().start));
        }
    }
    None
}
