//! The first look at a file, before there is a batch of it: what makes all of it meaningless is
//! refused at once. Files of Parquet take a process each, so that only a few are looked at together.

use std::{path::Path, sync::Arc, time::Duration};

use quern_parquet::{ReadError, ReaderConfig, Stop};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    CreateError,
    plan::Plan,
    request::Format,
    rows::Position,
    source::{self, Opening, SourceError},
};

/// Files of Parquet that are looked at at a time.
const MOST: usize = 2;
/// How long a file waits for its turn, and then for its columns.
const WAIT: Duration = Duration::from_secs(10);

/// Who may look at files of Parquet.
pub(crate) struct Looks {
    turns: Arc<Semaphore>,
    /// How long one waits for its turn.
    wait: Duration,
}

/// A look at one file.
pub(crate) struct Look {
    pub(crate) format: Format,
    /// Ends it.
    pub(crate) stop: Stop,
    /// Held while a process looks.
    _turn: Option<OwnedSemaphorePermit>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(MOST)), wait: WAIT }
    }
}

impl Looks {
    /// Waits until a file of this format may be looked at.
    pub(crate) async fn begin(&self, format: Format) -> Result<Look, CreateError> {
        let turn = match format {
            Format::Csv | Format::Ndjson => None,
            Format::Parquet => {
                let turn =
                    tokio::time::timeout(self.wait, self.turns.clone().acquire_owned()).await;
                turn.map_err(|_| CreateError::Busy { limit: MOST })?.ok()
            }
        };
        Ok(Look { format, stop: Stop::default(), _turn: turn })
    }
}

impl Look {
    /// Checks that a file has what the plan uses.
    pub(crate) fn at(
        self,
        path: &Path,
        plan: &Plan,
        reader: &ReaderConfig,
    ) -> Result<(), CreateError> {
        let opening = Opening {
            path,
            format: self.format,
            plan,
            at: Position::default(),
            reader: &ReaderConfig { patience: WAIT, ..reader.clone() },
            stop: &self.stop,
        };
        match source::open(&opening) {
            Ok(_) => Ok(()),
            Err(SourceError::Parquet(ReadError::Stopped)) => Err(CreateError::ShuttingDown),
            Err(error) => Err(CreateError::File(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_so_many_files_of_parquet_are_looked_at_together() {
        let looks = Looks { wait: Duration::ZERO, ..Looks::default() };
        let mut held = Vec::new();
        for _ in 0..MOST {
            held.push(looks.begin(Format::Parquet).await.expect("has room"));
        }
        let refused = looks.begin(Format::Parquet).await;
        assert!(matches!(refused, Err(CreateError::Busy { limit: MOST })));
        assert!(looks.begin(Format::Csv).await.is_ok());
        held.pop();
        assert!(looks.begin(Format::Parquet).await.is_ok());
    }
}
