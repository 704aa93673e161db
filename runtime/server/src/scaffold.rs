//! The files of a new project: a scaffold with its name filled in, and the SDK with the contract,
//! so that it builds without anything from elsewhere. Never overwrites a file.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
};

use quern_types::Name;

/// Every embedded file by its path in Quern's repository; made by build.rs.
static EMBEDDED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Where a project keeps the SDK and the contract, side by side as in the repository.
const LIBRARY: &str = "quern";
/// Stands for the project's name in a scaffold.
const NAME: &str = "{{name}}";
/// The end of file names that would mean something to Cargo or git in the repository.
const TEMPLATE: &str = ".template";

/// What a new function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Answers HTTP requests
    Http,
    /// Turns tensors into tensors
    Inference,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Http => "runtime/server/scaffold/http/",
            Self::Inference => "runtime/server/scaffold/inference/",
        }
    }
}

/// One file of a new project.
#[derive(Debug)]
pub(crate) struct File {
    /// Below the project's folder.
    pub(crate) path: PathBuf,
    pub(crate) content: Cow<'static, [u8]>,
}

/// All files of a new project.
pub(crate) fn expand(name: &Name, kind: Kind) -> Vec<File> {
    let file = |(path, content): &(&'static str, &'static [u8])| {
        if let Some(path) = path.strip_prefix(kind.folder()) {
            let path = path.strip_suffix(TEMPLATE).unwrap_or(path).into();
            return Some(File { path, content: fill_in(content, name) });
        }
        let library = path.starts_with("sdk/") || path.starts_with("wit/");
        let path = Path::new(LIBRARY).join(path);
        library.then_some(File { path, content: Cow::Borrowed(content) })
    };
    EMBEDDED.iter().filter_map(file).collect()
}

/// Writes a project into a folder that is empty or does not exist.
pub(crate) fn write(folder: &Path, files: &[File]) -> io::Result<()> {
    if folder.exists() && fs::read_dir(folder)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty"));
    }
    for file in files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut target = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        io::Write::write_all(&mut target, &file.content)?;
    }
    Ok(())
}

fn fill_in(content: &'static [u8], name: &Name) -> Cow<'static, [u8]> {
    match std::str::from_utf8(content) {
        Ok(text) if text.contains(NAME) => {
            Cow::Owned(text.replace(NAME, name.as_str()).into_bytes())
        }
        _ => Cow::Borrowed(content),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use quern_types::FunctionManifest;

    use super::*;

    fn text<'a>(files: &'a [File], path: &str) -> &'a str {
        let file = files.iter().find(|file| file.path == Path::new(path)).expect(path);
        std::str::from_utf8(&file.content).expect("text")
    }

    #[test]
    fn every_kind_is_a_whole_project_of_its_name() {
        let name: Name = "my-function".parse().expect("a name");
        for kind in Kind::value_variants() {
            let files = expand(&name, *kind);
            let manifest = text(&files, "quern.toml");
            let manifest = FunctionManifest::parse(manifest).expect("a manifest");
            assert_eq!(manifest.name, name);
            let expected = kind.to_possible_value().expect("a name");
            assert_eq!(manifest.spec.kind.as_str(), expected.get_name());
            assert!(text(&files, "Cargo.toml").contains("my-function"), "{kind:?}");
            assert!(text(&files, "src/lib.rs").contains("quern_sdk"), "{kind:?}");
            assert!(text(&files, "quern/sdk/Cargo.toml").contains("quern-sdk"));
            assert!(text(&files, "quern/wit/tensors.wit").contains("quern:ml"));
            for file in &files {
                let shown = String::from_utf8_lossy(&file.content);
                assert!(!shown.contains(NAME), "{} has a gap", file.path.display());
                let made = file.path.iter().any(|part| part == "target" || part == "Cargo.lock");
                assert!(!made, "{} was made by a build", file.path.display());
            }
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = expand(&"a".parse().expect("a name"), Kind::Http);
        let project = folder.path().join("a");
        write(&project, &files).expect("written");
        assert!(project.join("quern/sdk/src/lib.rs").is_file());
        let again = write(&project, &files).expect_err("refused");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
