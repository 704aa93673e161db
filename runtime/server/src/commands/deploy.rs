//! `quern deploy`: builds and uploads a function.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quern_types::{FunctionKind, FunctionManifest, Name};

use super::Session;
use crate::{
    client::{Answer, Client, Deployment, FunctionUpload},
    failure::UsageError,
    inputs, output,
    project::Project,
};

/// Deploy a function: a folder with quern.toml, or a component
#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// A folder with quern.toml, built with Cargo if it has a Cargo.toml; or a component (.wasm)
    path: PathBuf,

    /// The name to deploy under; for a component only, since quern.toml has one
    #[arg(long)]
    name: Option<Name>,

    /// The kind of a component without quern.toml [default: http]
    #[arg(long, value_parser = ["http", "inference"])]
    kind: Option<String>,

    /// Don't give it any requests yet but those that ask for it; see `quern canary` and `quern
    /// traffic`
    #[arg(long)]
    no_traffic: bool,
}

/// A manifest as text, and the component that it describes.
pub(crate) struct Upload {
    pub(crate) name: Name,
    pub(crate) manifest: String,
    pub(crate) component: PathBuf,
}

pub(crate) async fn run(session: &Session, command: Deploy) -> Result<()> {
    let upload = match command.path.is_dir() {
        true => from_folder(&command).await?,
        false => from_file(&command)?,
    };
    let answer = send(&session.client, &upload, !command.no_traffic).await?;
    if session.json {
        output::json(&answer.json)?;
    } else {
        print(session, &upload, &answer.parsed)?;
    }
    Ok(())
}

/// Uploads a function under a progress bar.
pub(crate) async fn send(
    client: &Client,
    upload: &Upload,
    live: bool,
) -> Result<Answer<Deployment>> {
    let progress = output::byte_progress(0, format!("uploading {}", upload.name));
    let Upload { name, manifest, component } = upload;
    let form = FunctionUpload { manifest: manifest.clone(), component, live };
    let answer = client.deploy_function(name, form, &progress).await;
    progress.finish_and_clear();
    Ok(answer?)
}

/// Builds the project in a folder.
pub(crate) async fn build(folder: &Path) -> Result<Upload> {
    let project = Project::open(folder)?;
    let component = project.build().await?;
    let name = project.manifest().name.clone();
    Ok(Upload { name, manifest: project.manifest_text().to_owned(), component })
}

async fn from_folder(command: &Deploy) -> Result<Upload> {
    if command.name.is_some() || command.kind.is_some() {
        let reason = "--name and --kind are for a component without quern.toml: for a folder, \
                      change its quern.toml";
        return Err(UsageError(reason.into()).into());
    }
    build(&command.path).await
}

fn from_file(command: &Deploy) -> Result<Upload> {
    std::fs::metadata(&command.path)
        .with_context(|| format!("can't read {}", command.path.display()))?;
    if command.path.extension().is_some_and(|extension| extension == "onnx") {
        let path = command.path.display();
        let reason = format!("this is a model: quern model deploy {path} --name NAME");
        return Err(UsageError(reason).into());
    }
    let name = command
        .name
        .clone()
        .ok_or_else(|| UsageError("a component needs a name: add --name NAME".into()))?;
    let manifest = default_manifest(&name, command.kind.as_deref().unwrap_or("http"))?;
    Ok(Upload { name, manifest, component: command.path.clone() })
}

/// The manifest of a component that comes without one: defaults for all but name and kind.
fn default_manifest(name: &Name, kind: &str) -> Result<String> {
    if kind == "inference" {
        let reason = "an inference function needs its signature: put a quern.toml with [[inputs]] \
                      and [[outputs]] beside the component, and deploy the folder";
        return Err(UsageError(reason.into()).into());
    }
    let manifest = format!("name = \"{name}\"\nkind = \"{kind}\"\n");
    FunctionManifest::parse(&manifest)?;
    Ok(manifest)
}

fn print(session: &Session, upload: &Upload, deployment: &Deployment) -> Result<()> {
    let Deployment { name, version, kind, digest, .. } = deployment;
    let note = match (deployment.created, deployment.live) {
        (true, true) => "",
        (true, false) => ", which gets no requests yet",
        (false, true) => " (these bytes were deployed before)",
        (false, false) => " (these bytes were deployed before), which gets no requests yet",
    };
    output::line(format_args!("{kind} function {name} version {version}{note}"))?;
    output::line(format_args!("  digest  {digest}"))?;
    if let Some(compile_ms) = deployment.compile_ms {
        output::line(format_args!("  compile {compile_ms:.0} ms"))?;
    }
    let url = session.client.url().join(&deployment.url);
    output::line(format_args!("  url     {url}"))?;
    let manifest = FunctionManifest::parse(&upload.manifest)?;
    let example = match manifest.spec.kind {
        FunctionKind::Http => format!("curl -i {url}   # or: quern call {name}"),
        FunctionKind::Inference(signature) => {
            inputs::example(name, signature.inputs().iter().map(|input| &*input.name))
        }
    };
    output::line(format_args!("  try     {example}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use quern_types::Limits;

    use super::*;

    fn command(path: &Path, name: Option<&str>, kind: Option<&str>) -> Deploy {
        let name = name.map(|name| name.parse().expect("a name"));
        let kind = kind.map(str::to_owned);
        Deploy { path: path.to_owned(), name, kind, no_traffic: false }
    }

    #[test]
    fn a_bare_component_gets_a_default_manifest() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let upload = from_file(&command(file.path(), Some("hello"), None)).expect("an upload");
        let manifest = FunctionManifest::parse(&upload.manifest).expect("a manifest");
        assert_eq!(manifest.name, upload.name);
        assert_eq!(manifest.spec.kind, FunctionKind::Http);
        assert_eq!(manifest.spec.limits, Limits::default());
    }

    #[test]
    fn what_a_bare_component_lacks_is_said() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let cases = [(None, None, "--name NAME"), (Some("a"), Some("inference"), "[[inputs]]")];
        for (name, kind, expected) in cases {
            let error = from_file(&command(file.path(), name, kind)).err().expect(expected);
            assert!(error.is::<UsageError>() && error.to_string().contains(expected), "{error}");
        }
        let model = tempfile::Builder::new().suffix(".onnx").tempfile().expect("a file");
        let error = from_file(&command(model.path(), Some("a"), None)).err().expect("a model");
        assert!(error.to_string().contains("quern model deploy"), "{error}");
        let error = from_file(&command(Path::new("/nowhere.wasm"), Some("a"), None)).err();
        assert!(error.expect("no file").to_string().contains("/nowhere.wasm"));
    }

    #[tokio::test]
    async fn a_folder_has_its_name_in_its_manifest() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = from_folder(&command(folder.path(), Some("a"), None)).await.err();
        assert!(error.expect("a usage error").is::<UsageError>());
    }
}
