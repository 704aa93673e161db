//! `quern dev`: builds and deploys a project, again on every change, and follows its logs.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use quern_types::Name;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Session, deploy, logs};
use crate::{failure, output};

/// A change is acted on once nothing has changed for this long.
const QUIET: Duration = Duration::from_millis(200);

/// Build and deploy a project, again on every change, and follow its logs
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// A folder with quern.toml
    #[arg(default_value = ".")]
    folder: PathBuf,
}

pub(crate) async fn run(session: &Session, command: Dev) -> Result<()> {
    session.client.ready().await?;
    tokio::select! {
        ended = watch(session, &command.folder) => ended,
        stopped = tokio::signal::ctrl_c() => Ok(stopped?),
    }
}

async fn watch(session: &Session, folder: &Path) -> Result<()> {
    let (_watcher, mut changes) = watch_files(folder)?;
    let mut followed = Followed::default();
    loop {
        if let Err(error) = deploy_once(session, folder, &mut followed).await {
            // It goes on, for the next change may mend it.
            failure::report(&error, session.json);
        }
        eprintln!("watching {}; Ctrl-C stops", folder.display());
        changes.recv().await.context("files are watched no longer")?;
        settle(&mut changes).await;
    }
}

async fn deploy_once(session: &Session, folder: &Path, followed: &mut Followed) -> Result<()> {
    let upload = deploy::build(folder).await?;
    let answer = deploy::send(&session.client, &upload, true).await?;
    // Before the deployment is announced, so that nothing printed after it is missed.
    followed.follow(session, upload.name).await?;
    if session.json {
        output::json(&answer.json)?;
    } else {
        let url = session.client.url().join(&answer.parsed.url);
        let state = if answer.parsed.created { "deployed" } else { "unchanged" };
        output::line(format_args!(
            "{state}: {} version {} at {url}",
            answer.parsed.name, answer.parsed.version
        ))?;
    }
    Ok(())
}

/// Follows the logs of the function that was deployed last; stops when dropped.
#[derive(Default)]
struct Followed {
    current: Option<(Name, JoinHandle<()>)>,
}

impl Followed {
    async fn follow(&mut self, session: &Session, name: Name) -> Result<()> {
        let current = self.current.as_ref();
        if current.is_some_and(|(current, task)| *current == name && !task.is_finished()) {
            return Ok(());
        }
        self.stop();
        let (lines, json) =
            (session.client.logs(&name, &logs::Logs::from_now_on()).await?, session.json);
        let task = tokio::spawn(async move {
            if let Err(error) = logs::print(lines, json).await {
                failure::report(&error, json);
            }
        });
        self.current = Some((name, task));
        Ok(())
    }

    fn stop(&mut self) {
        if let Some((_, task)) = self.current.take() {
            task.abort();
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Watches a folder. Changes that come faster than they are taken are one change.
fn watch_files(folder: &Path) -> Result<(RecommendedWatcher, mpsc::Receiver<()>)> {
    let root = std::fs::canonicalize(folder)
        .with_context(|| format!("can't watch {}", folder.display()))?;
    let (sender, receiver) = mpsc::channel(1);
    let below = root.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| is_change(&event, &below)) {
            // Full: a change is waiting to be acted on already.
            let _ = sender.try_send(());
        }
    })?;
    watcher
        .watch(&root, RecursiveMode::Recursive)
        .with_context(|| format!("can't watch {}", folder.display()))?;
    Ok((watcher, receiver))
}

/// Whether an event is a change of something that is built from.
fn is_change(event: &Event, root: &Path) -> bool {
    let matters = |path: &PathBuf| {
        let below = path.strip_prefix(root).unwrap_or(path);
        below.iter().all(|part| {
            part != "target" && part != ".git" && !part.to_string_lossy().ends_with('~')
        })
    };
    !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(matters)
}

/// Waits until nothing has changed for a while.
async fn settle(changes: &mut mpsc::Receiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(QUIET, changes.recv()).await {}
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, ModifyKind};

    use super::*;

    #[test]
    fn only_changes_of_sources_count() {
        let root = Path::new("/home/target/project");
        let modified = EventKind::Modify(ModifyKind::Any);
        let cases = [
            (modified, "src/lib.rs", true),
            (EventKind::Create(CreateKind::File), "quern.toml", true),
            (EventKind::Access(AccessKind::Any), "src/lib.rs", false),
            (modified, "target/release/a.wasm", false),
            (modified, ".git/index", false),
            (modified, "src/lib.rs~", false),
        ];
        for (kind, path, expected) in cases {
            let event = Event::new(kind).add_path(root.join(path));
            assert_eq!(is_change(&event, root), expected, "{path} {kind:?}");
        }
    }

    #[tokio::test]
    async fn changes_that_wait_are_taken_as_one() {
        let (sender, mut changes) = mpsc::channel(1);
        assert!(sender.try_send(()).is_ok());
        assert!(sender.try_send(()).is_err(), "a change is waiting to be acted on already");
        drop(sender);
        settle(&mut changes).await;
        assert!(changes.try_recv().is_err());
    }
}
