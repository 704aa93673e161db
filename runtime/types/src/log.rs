//! The levels of log messages. What is logged where is not decided here.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a message of a function matters, as `wasi:logging` has it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Values of variables, and the flow of control.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// For whoever watches.
    Info,
    /// Something that may become a fault.
    Warn,
    /// A fault.
    Error,
    /// A fault that the function can't go on after.
    Critical,
}

/// A text is not a [`LogLevel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("log level is none of trace, debug, info, warn, error and critical")]
pub struct UnknownLevel;

impl LogLevel {
    /// Every level, the least first.
    pub const ALL: [Self; 6] =
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Critical];

    /// The word of the interface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or(UnknownLevel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_one_word_everywhere() {
        for level in LogLevel::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
            let json = serde_json::to_string(&level).expect("serialises");
            assert_eq!(json, format!("\"{level}\""));
        }
        assert_eq!("fatal".parse::<LogLevel>(), Err(UnknownLevel));
        assert!(LogLevel::Trace < LogLevel::Critical);
    }
}
