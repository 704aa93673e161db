//! A function's project folder: reads its manifest, has Cargo build it, and finds the component.
//! Never talks to a server.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use quern_types::{FunctionManifest, ManifestError};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

const MANIFEST: &str = "quern.toml";
const TARGET: &str = "wasm32-wasip2";

/// A folder with a `quern.toml`.
#[derive(Debug)]
pub(crate) struct Project {
    folder: PathBuf,
    text: String,
    manifest: FunctionManifest,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    #[error("{} has no quern.toml", folder.display())]
    NoManifest { folder: PathBuf },
    #[error("can't read {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Manifest { path: PathBuf, error: ManifestError },
    #[error("can't run cargo: {error}")]
    NoCargo { error: io::Error },
    #[error("cargo can't build for {TARGET}: that target is not installed")]
    NoTarget,
    #[error("cargo could not build {}", folder.display())]
    Build { folder: PathBuf },
    #[error("component {} does not exist", path.display())]
    NoComponent { path: PathBuf },
    #[error("{} does not say which component is the function's: {found}", path.display())]
    WhichComponent { path: PathBuf, found: String },
}

impl ProjectError {
    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoManifest { .. } => "create a project with: quern new NAME; or deploy a \
                                        component with: quern deploy FILE.wasm --name NAME"
                .into(),
            Self::NoCargo { .. } => "install Rust from https://rustup.rs, or build the component \
                                     another way and deploy the file"
                .into(),
            Self::NoTarget => format!("install it with: rustup target add {TARGET}"),
            Self::Build { .. } => "the compiler's messages are above".into(),
            Self::NoComponent { .. } => {
                "build it first, or correct component = \"…\" in quern.toml".into()
            }
            Self::WhichComponent { .. } => {
                "write component = \"FILE.wasm\" into quern.toml, relative to its folder".into()
            }
            Self::Unreadable { .. } | Self::Manifest { .. } => return None,
        })
    }
}

impl Project {
    /// Reads the manifest of a folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, ProjectError> {
        let path = folder.join(MANIFEST);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ProjectError::NoManifest { folder: folder.to_owned() });
            }
            Err(error) => return Err(ProjectError::Unreadable { path, error }),
        };
        let manifest = FunctionManifest::parse(&text)
            .map_err(|error| ProjectError::Manifest { path, error })?;
        Ok(Self { folder: folder.to_owned(), text, manifest })
    }

    /// Its manifest.
    pub(crate) fn manifest(&self) -> &FunctionManifest {
        &self.manifest
    }

    /// Its manifest as it is written.
    pub(crate) fn manifest_text(&self) -> &str {
        &self.text
    }

    /// Builds the component if the folder is a Cargo project, and finds it. Cargo's messages go
    /// to standard error.
    pub(crate) async fn build(&self) -> Result<PathBuf, ProjectError> {
        let built = match self.folder.join("Cargo.toml").is_file() {
            true => cargo_build(&self.folder).await?,
            false => Vec::new(),
        };
        let named = self.manifest.component.as_deref();
        let component = choose(&self.folder.join(MANIFEST), named, &built)?;
        if component.is_file() {
            Ok(component)
        } else {
            Err(ProjectError::NoComponent { path: component })
        }
    }
}

/// Which file is the component: the one that Cargo says it built, wherever its target folder is;
/// or else the one that the manifest names.
fn choose(
    manifest: &Path,
    named: Option<&str>,
    built: &[PathBuf],
) -> Result<PathBuf, ProjectError> {
    let unclear = |found| ProjectError::WhichComponent { path: manifest.to_owned(), found };
    match (named.map(Path::new), built) {
        (Some(named), built) => {
            let same_name = built.iter().find(|built| built.file_name() == named.file_name());
            Ok(same_name.cloned().unwrap_or_else(|| manifest.with_file_name("").join(named)))
        }
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(unclear("nothing was built".into())),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(unclear(format!("Cargo built {}", names.join(", "))))
        }
    }
}

async fn cargo_build(folder: &Path) -> Result<Vec<PathBuf>, ProjectError> {
    let no_cargo = |error| ProjectError::NoCargo { error };
    // Run in the folder, so that its .cargo/config.toml and toolchain file apply.
    let mut cargo = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(no_cargo)?;
    let stdout = cargo.stdout.take().expect("stdout is piped");
    let mut lines = BufReader::new(stdout).lines();
    let own_manifest = std::fs::canonicalize(folder.join("Cargo.toml")).map_err(no_cargo)?;
    let mut built = Vec::new();
    while let Some(line) = lines.next_line().await.map_err(no_cargo)? {
        built.extend(components_of(&line, &own_manifest));
    }
    if cargo.wait().await.map_err(no_cargo)?.success() {
        Ok(built)
    } else if target_is_missing(folder).await {
        Err(ProjectError::NoTarget)
    } else {
        Err(ProjectError::Build { folder: folder.to_owned() })
    }
}

/// One of Cargo's messages; only those of artifacts have these fields.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The components that a message of Cargo says it built for a package.
fn components_of(line: &str, package_manifest: &Path) -> Vec<PathBuf> {
    match serde_json::from_str::<Message>(line) {
        Ok(message)
            if message.reason == "compiler-artifact"
                && message.manifest_path.as_deref() == Some(package_manifest) =>
        {
            let is_component = |path: &PathBuf| path.extension().is_some_and(|end| end == "wasm");
            message.filenames.into_iter().filter(is_component).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether the toolchain of a folder lacks the standard library of the target. A toolchain that
/// can't be asked is not the reason.
async fn target_is_missing(folder: &Path) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .stderr(Stdio::null())
        .output()
        .await;
    let Ok(output) = output else { return false };
    let folder = String::from_utf8_lossy(&output.stdout);
    output.status.success() && !Path::new(folder.trim()).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(texts: &[&str]) -> Vec<PathBuf> {
        texts.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_component_is_what_cargo_built_or_what_the_manifest_names() {
        let manifest = Path::new("/p/quern.toml");
        let one = paths(&["/elsewhere/release/a.wasm"]);
        let two = paths(&["/t/a.wasm", "/t/b.wasm"]);
        let cases = [
            (None, &one[..], Some("/elsewhere/release/a.wasm")),
            (Some("target/a.wasm"), &one[..], Some("/elsewhere/release/a.wasm")),
            (Some("b.wasm"), &two[..], Some("/t/b.wasm")),
            (Some("made/c.wasm"), &two[..], Some("/p/made/c.wasm")),
            (Some("c.wasm"), &[], Some("/p/c.wasm")),
            (None, &two[..], None),
            (None, &[], None),
        ];
        for (named, built, expected) in cases {
            let chosen = choose(manifest, named, built).ok();
            assert_eq!(chosen, expected.map(PathBuf::from), "{named:?} {built:?}");
        }
    }

    #[test]
    fn only_components_of_the_package_count() {
        let own = Path::new("/p/Cargo.toml");
        let artifact = |manifest: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","filenames":["{file}"]}}"#
            )
        };
        assert_eq!(
            components_of(&artifact("/p/Cargo.toml", "/t/a.wasm"), own),
            paths(&["/t/a.wasm"])
        );
        for other in [
            artifact("/q/Cargo.toml", "/t/a.wasm"),
            artifact("/p/Cargo.toml", "/t/liba.rlib"),
            r#"{"reason":"build-finished","success":true}"#.into(),
            "not JSON".into(),
        ] {
            assert_eq!(components_of(&other, own), paths(&[]), "{other}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_no_project_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = Project::open(folder.path()).expect_err("no manifest");
        assert!(matches!(missing, ProjectError::NoManifest { .. }), "{missing}");

        let manifest = folder.path().join(MANIFEST);
        std::fs::write(&manifest, "name = 'a'\nkind = 'cron'").expect("written");
        let wrong = Project::open(folder.path()).expect_err("bad manifest");
        assert!(wrong.to_string().contains("quern.toml: line 2"), "{wrong}");

        std::fs::write(&manifest, "name = 'a'\nkind = 'http'").expect("written");
        let project = Project::open(folder.path()).expect("a manifest");
        let unclear = project.build().await.expect_err("no component");
        assert!(matches!(unclear, ProjectError::WhichComponent { .. }), "{unclear}");

        std::fs::write(&manifest, "name = 'a'\nkind = 'http'\ncomponent = 'a.wasm'")
            .expect("written");
        let project = Project::open(folder.path()).expect("a manifest");
        let absent = project.build().await.expect_err("no component");
        assert!(matches!(absent, ProjectError::NoComponent { .. }), "{absent}");
    }
}
