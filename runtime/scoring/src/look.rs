//! The first look at a file, before there is a batch of it: what makes all of it meaningless is
//! refused at once. Files of Parquet take a process each, so that only a few are looked at together.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use quern_parquet::{ReadError, ReaderConfig, Stop};
use quern_types::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    CreateError,
    plan::Plan,
    request::Format,
    rows::Position,
    source::{self, Opening, SourceError},
};

/// Files of Parquet that are looked at at a time; one of each tenant.
const MOST: usize = 4;
/// How long a file waits for its turn, and then for its columns.
const WAIT: Duration = Duration::from_secs(10);

/// Who may look at files of Parquet.
pub(crate) struct Looks {
    turns: Arc<Semaphore>,
    /// One turn for each tenant that looks or waits.
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
    /// How long one waits for its turn.
    wait: Duration,
}

/// A look at one file.
pub(crate) struct Look {
    pub(crate) format: Format,
    /// Ends it.
    pub(crate) stop: Stop,
    /// Held while a process looks.
    _turn: Option<Turn>,
}

/// The turn of a tenant, among its own files and among others.
struct Turn {
    _own: OwnedSemaphorePermit,
    _among_all: OwnedSemaphorePermit,
}

impl Default for Looks {
    fn default() -> Self {
        let turns = Arc::new(Semaphore::new(MOST));
        Self { turns, tenants: Mutex::default(), wait: WAIT }
    }
}

impl Looks {
    /// Waits until a tenant's file of this format may be looked at.
    pub(crate) async fn begin(
        &self,
        tenant: &TenantId,
        format: Format,
    ) -> Result<Look, CreateError> {
        let turn = match format {
            Format::Csv | Format::Ndjson => None,
            Format::Parquet => {
                let turn = tokio::time::timeout(self.wait, self.turn(tenant)).await;
                Some(turn.ok().flatten().ok_or(CreateError::Busy { limit: MOST })?)
            }
        };
        Ok(Look { format, stop: Stop::default(), _turn: turn })
    }

    /// The tenant's turn first: whoever waits for that takes no turn from others.
    async fn turn(&self, tenant: &TenantId) -> Option<Turn> {
        let own = self.of(tenant).acquire_owned().await.ok()?;
        let among_all = self.turns.clone().acquire_owned().await.ok()?;
        Some(Turn { _own: own, _among_all: among_all })
    }

    fn of(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = tenants.get(tenant).and_then(Weak::upgrade) {
            return own;
        }
        tenants.retain(|_, other| other.strong_count() > 0);
        let own = Arc::new(Semaphore::new(1));
        tenants.insert(tenant.clone(), Arc::downgrade(&own));
        own
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
    async fn each_tenant_looks_at_one_file_of_parquet_and_all_at_so_many() {
        let looks = Looks { wait: Duration::ZERO, ..Looks::default() };
        let tenant = |number: usize| TenantId::new(&format!("t{number}"));
        let mut held = Vec::new();
        for number in 0..MOST {
            held.push(looks.begin(&tenant(number), Format::Parquet).await.expect("has room"));
            let again = looks.begin(&tenant(number), Format::Parquet).await;
            assert!(matches!(again, Err(CreateError::Busy { limit: MOST })));
        }
        let refused = looks.begin(&tenant(MOST), Format::Parquet).await;
        assert!(matches!(refused, Err(CreateError::Busy { limit: MOST })));
        assert!(looks.begin(&tenant(0), Format::Csv).await.is_ok());
        held.pop();
        assert!(looks.begin(&tenant(MOST), Format::Parquet).await.is_ok());
        held.clear();
        assert!(looks.begin(&tenant(0), Format::Parquet).await.is_ok());
        assert_eq!(looks.tenants.lock().expect("is whole").len(), 1);
    }
}
