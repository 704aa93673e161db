//! The list of functions that were in use, for the next start to load ahead of calls. It may be
//! lost or damaged at any time: it never fails a start, and never says what is deployed.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use quern_types::{ByteSize, Name, TenantId};
use serde::{Deserialize, Serialize};

/// Largest file that is read.
const MOST: ByteSize = ByteSize::mib(8);

/// The list of one data folder.
#[derive(Debug, Clone)]
pub struct RecentFunctions {
    path: Arc<PathBuf>,
}

/// A function that was in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecentFunction {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: Name,
}

impl RecentFunctions {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path: Arc::new(path) }
    }

    /// The list, the most recently used function first; empty if there is none, or, with a warning,
    /// if it can't be read or understood.
    pub async fn read(&self) -> Vec<RecentFunction> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            File::open(&*path)?.take(MOST.0).read_to_end(&mut text)?;
            Ok::<_, io::Error>(serde_json::from_slice(&text)?)
        });
        match read.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(recent) => recent,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "list of recent functions is damaged: ignored");
                Vec::new()
            }
        }
    }

    /// Replaces the list, the most recently used function first. A failure is logged: only speed
    /// after the next start depends on it.
    pub async fn write(&self, recent: Vec<RecentFunction>) {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || {
            let staged = path.with_extension("tmp");
            fs::write(&staged, serde_json::to_vec(&recent)?)?;
            fs::rename(&staged, &*path)
        });
        if let Err(error) = written.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "list of recent functions can't be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_list_survives_and_a_damaged_one_is_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recent.json");
        let recent = RecentFunctions::new(path.clone());
        assert_eq!(recent.read().await, [], "there is none yet");
        let function = |name: &str| RecentFunction {
            tenant: TenantId::default(),
            name: name.parse().expect("a name"),
        };
        let functions = [function("b"), function("a")];
        recent.write(functions.to_vec()).await;
        assert_eq!(recent.read().await, functions);
        for damaged in ["", "[", "{}", r#"[{"tenant":"a","name":"../b"}]"#, "[{\"name\":\"b\"}]"] {
            fs::write(&path, damaged).expect("written");
            assert_eq!(recent.read().await, [], "{damaged}");
        }
    }

    #[tokio::test]
    async fn a_list_that_can_not_be_written_is_no_failure() {
        let folder = tempfile::tempdir().expect("a folder");
        let recent = RecentFunctions::new(folder.path().join("absent/recent.json"));
        recent.write(Vec::new()).await;
        assert_eq!(recent.read().await, []);
    }
}
