//! Models in folders: the ONNX file, and where its weights lie in others, those with it, as an
//! archive to upload or as one file. Uploads nothing.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
    path::{Path, PathBuf},
};

use tar::{Builder, HeaderMode};
use tempfile::NamedTempFile;

/// Why a folder can't be uploaded as a model.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    #[error("can't read {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{} has no .onnx file", folder.display())]
    NoModel { folder: PathBuf },
    #[error("{} has several .onnx files, such as {first:?} and {second:?}: give the file itself, unless its weights lie in others", folder.display())]
    SeveralModels { folder: PathBuf, first: String, second: String },
    #[error("{}: {error}", path.display())]
    Model { path: PathBuf, error: quern_host_gpu::MergeError },
    #[error("the archive can't be written: {0}")]
    Archive(io::Error),
}

/// What is uploaded of a model.
#[derive(Debug)]
pub(crate) enum Packed {
    /// One file with everything in it.
    File(PathBuf),
    /// An archive, removed with this.
    Archive(NamedTempFile),
}

impl Packed {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Archive(archive) => archive.path(),
        }
    }

    /// The media type that the server knows it by.
    pub(crate) fn media_type(&self) -> &'static str {
        match self {
            Self::File(_) => "application/octet-stream",
            Self::Archive(_) => "application/x-tar",
        }
    }
}

/// What has to be uploaded of a file or folder. Blocks on the disk.
pub(crate) fn pack(path: &Path) -> Result<Packed, PackError> {
    if !path.is_dir() {
        return Ok(Packed::File(path.to_owned()));
    }
    let name = model_of(path)?;
    let model = path.join(&name);
    let onnx = std::fs::read(&model).map_err(unreadable(&model))?;
    let files = quern_host_gpu::external_files(&onnx)
        .map_err(|error| PackError::Model { path: model.clone(), error })?;
    if files.is_empty() {
        return Ok(Packed::File(model));
    }
    archive(path, &name, &files).map(Packed::Archive)
}

/// The whole model of a file or folder, as a server would make it of the upload. Blocks on the
/// disk.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PackError> {
    if !path.is_dir() {
        return std::fs::read(path).map_err(unreadable(path));
    }
    let model = path.join(model_of(path)?);
    let onnx = std::fs::read(&model).map_err(unreadable(&model))?;
    let wrong = |error| PackError::Model { path: model.clone(), error };
    let mut files = HashMap::new();
    for name in quern_host_gpu::external_files(&onnx).map_err(wrong)? {
        let file = path.join(&name);
        files.insert(name, std::fs::read(&file).map_err(unreadable(&file))?);
    }
    let file = |name: &str| files.get(name).map(Vec::as_slice);
    quern_host_gpu::merge(&onnx, file, u64::MAX).map_err(wrong)
}

/// The name of the only ONNX file in a folder.
fn model_of(folder: &Path) -> Result<String, PackError> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".onnx") && path.is_file() {
            found.insert(name.to_owned());
        }
    }
    let mut found = found.into_iter();
    let folder = folder.to_owned();
    match (found.next(), found.next()) {
        (Some(first), Some(second)) => Err(PackError::SeveralModels { folder, first, second }),
        (Some(name), None) => Ok(name),
        (None, _) => Err(PackError::NoModel { folder }),
    }
}

/// Archives the model and its files, and nothing else: folders of models hold much besides.
fn archive(
    folder: &Path,
    model: &str,
    files: &BTreeSet<String>,
) -> Result<NamedTempFile, PackError> {
    let mut archive = Builder::new(NamedTempFile::new().map_err(PackError::Archive)?);
    archive.mode(HeaderMode::Deterministic);
    for name in std::iter::once(model).chain(files.iter().map(String::as_str)) {
        let path = folder.join(name);
        let mut file = File::open(&path).map_err(unreadable(&path))?;
        if file.metadata().map_err(unreadable(&path))?.is_dir() {
            return Err(unreadable(&path)(io::Error::other("it is a folder")));
        }
        archive.append_file(name, &mut file).map_err(PackError::Archive)?;
    }
    archive.into_inner().map_err(PackError::Archive)
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> PackError {
    let path = path.to_owned();
    move |error| PackError::File { path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            std::fs::write(path, content).expect("written");
        }
        folder
    }

    /// A model with one tensor, whose data are in `w/x.bin`: ModelProto.graph.initializer
    /// .external_data { key: "location" value: "w/x.bin" }.
    const EXTERNAL: &[u8] = b"\x3a\x19\x2a\x17\x6a\x13\x0a\x08location\x12\x07w/x.bin\x70\x01";

    #[test]
    fn a_model_is_packed_with_its_files_and_nothing_else() {
        let folder = folder(&[("m.onnx", EXTERNAL), ("w/x.bin", b"1234"), ("README", b"")]);
        let packed = pack(folder.path()).expect("a model");
        assert_eq!(packed.media_type(), "application/x-tar");
        let mut archive = tar::Archive::new(File::open(packed.path()).expect("written"));
        let entries = archive.entries().expect("an archive").map(|entry| {
            let entry = entry.expect("an entry");
            (entry.path().expect("a path").to_string_lossy().into_owned(), entry.size())
        });
        let expected = [("m.onnx".to_owned(), EXTERNAL.len() as u64), ("w/x.bin".to_owned(), 4)];
        assert_eq!(Vec::from_iter(entries), expected);
    }

    #[test]
    fn one_file_is_uploaded_as_it_is() {
        let folder = folder(&[("m.onnx", b"\x08\x08"), ("README", b"")]);
        for path in [folder.path().to_owned(), folder.path().join("m.onnx")] {
            let packed = pack(&path).expect("a model");
            assert_eq!(packed.path(), folder.path().join("m.onnx"));
            assert_eq!(packed.media_type(), "application/octet-stream");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        type Files<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(Files, &str); 5] = [
            (&[], "has no .onnx file"),
            (&[("a.onnx", b""), ("b.onnx", b"")], "several .onnx files, such as \"a.onnx\""),
            (&[("a.onnx", b"no model")], "this is not an ONNX file"),
            (&[("a.onnx", EXTERNAL)], "can't read "),
            (&[("a.onnx", EXTERNAL), ("w/x.bin/y", b"")], "it is a folder"),
        ];
        for (files, expected) in cases {
            let error = pack(folder(files).path()).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
