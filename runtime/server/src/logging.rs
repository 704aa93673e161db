//! The log of the server: where it goes, how it looks, and what is in it, which can be changed
//! while it runs. What is logged is decided where it happens.

use std::{io::IsTerminal as _, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::{config::LogFormat, failure::UsageError};

/// What is logged, as in `info` or `warn,quern_gateway=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter(String);

impl LogFilter {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".into())
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(format!("{text:?} is not a filter: {error}")),
        }
    }
}

impl<'de> Deserialize<'de> for LogFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The log, once it has begun.
#[derive(Debug)]
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    /// Whether the environment says what is logged.
    is_fixed: bool,
}

impl Log {
    /// Begins to log to standard error. The variable `QUERN_LOG` has precedence.
    pub(crate) fn start(format: LogFormat, filter: &LogFilter) -> Result<Self, UsageError> {
        let variable = std::env::var("QUERN_LOG").ok().map(|text| text.parse::<LogFilter>());
        let variable =
            variable.transpose().map_err(|error| UsageError(format!("QUERN_LOG={error}")))?;
        let chosen = variable.as_ref().unwrap_or(filter).filter();
        let (layer, filter) = reload::Layer::new(chosen);
        let log = tracing_subscriber::registry().with(layer);
        let lines = fmt::layer().with_writer(std::io::stderr);
        match format {
            LogFormat::Text => log.with(lines.with_ansi(std::io::stderr().is_terminal())).init(),
            LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
        }
        Ok(Self { filter, is_fixed: variable.is_some() })
    }

    /// Changes what is logged from now on, unless the variable says it.
    pub(crate) fn set_filter(&self, filter: &LogFilter) {
        if self.is_fixed {
            let filter = filter.as_str();
            tracing::warn!(filter, "QUERN_LOG says what is logged: the configuration can't");
        } else if let Err(error) = self.filter.reload(filter.filter()) {
            tracing::error!(%error, "what is logged can't be changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_filter_is_refused() {
        for good in ["info", "warn,quern_gateway=debug", "off"] {
            assert_eq!(good.parse::<LogFilter>().expect(good).as_str(), good);
        }
        let refused = "info,quern=loud".parse::<LogFilter>().expect_err("no level");
        assert!(refused.contains("\"info,quern=loud\" is not a filter"), "{refused}");
    }
}
