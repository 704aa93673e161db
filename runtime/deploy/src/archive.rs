//! Models as tar archives: an ONNX file, and beside or below it the files that hold its weights.
//! They are looked at where they lie in the upload; nothing is ever unpacked to the disk.

use std::collections::HashMap;

use quern_host_gpu::{MergeError, merge};
use quern_types::ByteSize;
use tar::EntryType;

/// Most files of an archive: exporters may write one for each tensor.
const MOST_FILES: usize = 10_000;
/// Longest path that an error shows.
const SHOWN: usize = 200;

/// Why an archive is not a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It is no tar archive, or breaks off.
    #[error("this is not a tar archive: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It has too many files.
    #[error("the archive has more than {limit} files")]
    TooMany {
        /// The most that it may have.
        limit: usize,
    },
    /// A path leads out of the archive, or is no text.
    #[error("the archive has the path {path:?}: only names below its root are allowed")]
    Path {
        /// The path.
        path: String,
    },
    /// Something else than files and folders.
    #[error("{path:?} in the archive is {found}: only files and folders are allowed")]
    Kind {
        /// Its path.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// A path stands twice.
    #[error("{path:?} is in the archive more than once")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// No model at the root.
    #[error(
        "the archive has no .onnx file at its root: pack the content of the model's folder, as `tar -C FOLDER -cf model.tar .` does"
    )]
    NoModel,
    /// More than one model at the root.
    #[error("the archive has several .onnx files at its root, {first:?} and {second:?}")]
    SeveralModels {
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// Model and weights don't fit together.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// The files of an archive by their paths, which have `/` between names and no `.` or `..`.
#[derive(Debug)]
struct Archive<'a> {
    model: &'a [u8],
    files: HashMap<String, &'a [u8]>,
}

/// The ONNX file of an archive with the weights of the others inside. Files that it does not refer
/// to are left aside.
pub(crate) fn to_onnx(archive: &[u8], limit: ByteSize) -> Result<Vec<u8>, ArchiveError> {
    let Archive { model, files } = read(archive)?;
    Ok(merge(model, |path| files.get(path).copied(), limit.0)?)
}

fn read(archive: &[u8]) -> Result<Archive<'_>, ArchiveError> {
    let mut files = HashMap::new();
    let mut reader = tar::Archive::new(archive);
    for entry in reader.entries().map_err(malformed)? {
        let entry = entry.map_err(malformed)?;
        let kind = entry.header().entry_type();
        // Remarks about the archive, such as `git archive` leaves.
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let path = path(&entry.path_bytes())?;
        match kind {
            EntryType::Directory => continue,
            EntryType::Regular | EntryType::Continuous => {}
            other => return Err(ArchiveError::Kind { path, found: word(other) }),
        }
        let start = usize::try_from(entry.raw_file_position()).ok();
        let rest = start.and_then(|start| archive.get(start..));
        let length = usize::try_from(entry.size()).ok();
        let content = rest.zip(length).and_then(|(rest, length)| rest.get(..length));
        let content = content.ok_or_else(|| ArchiveError::Malformed {
            reason: format!("it breaks off in {path:?}"),
        })?;
        if files.len() == MOST_FILES {
            return Err(ArchiveError::TooMany { limit: MOST_FILES });
        }
        if files.insert(path.clone(), content).is_some() {
            return Err(ArchiveError::Duplicate { path });
        }
    }
    let mut models: Vec<&String> = files.keys().filter(|path| is_model(path)).collect();
    models.sort_unstable();
    match models[..] {
        [] => Err(ArchiveError::NoModel),
        [path] => Ok(Archive { model: files[path], files }),
        [first, second, ..] => {
            Err(ArchiveError::SeveralModels { first: first.clone(), second: second.clone() })
        }
    }
}

/// A path without `.`, unless it leads out of the archive. That of the root itself is empty.
fn path(bytes: &[u8]) -> Result<String, ArchiveError> {
    let refused = || ArchiveError::Path {
        path: String::from_utf8_lossy(bytes).chars().take(SHOWN).collect(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| refused())?;
    let names: Vec<_> = text.trim_end_matches('/').split('/').collect();
    let names: Vec<_> = names.into_iter().filter(|name| *name != ".").collect();
    let odd = |name: &&str| name.is_empty() || *name == ".." || name.contains(['\\', '\0']);
    if text.is_empty() || names.iter().any(odd) {
        return Err(refused());
    }
    Ok(names.join("/"))
}

fn is_model(path: &str) -> bool {
    !path.contains('/') && path.ends_with(".onnx")
}

fn word(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "a hard link",
        EntryType::Symlink => "a symbolic link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "of a kind that is not known here",
    }
}

fn malformed(error: std::io::Error) -> ArchiveError {
    ArchiveError::Malformed { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;

    /// Appends an entry without any check of its path.
    fn append(archive: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, content).expect("memory");
    }

    fn packed(entries: &[(EntryType, &str, &[u8])]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (kind, path, content) in entries {
            append(&mut archive, *kind, path, content);
        }
        archive.into_inner().expect("memory")
    }

    const FILE: EntryType = EntryType::Regular;

    #[test]
    fn the_model_stands_at_the_root_and_its_files_anywhere() {
        let archive = packed(&[
            (EntryType::XGlobalHeader, "pax_global_header", b"19 comment=nothing\n"),
            (EntryType::Directory, "./", b""),
            (FILE, "./model.onnx", b"model"),
            (EntryType::Directory, "weights/", b""),
            (FILE, "weights/a.bin", b"abc"),
            (FILE, "weights/other.onnx", b"no model"),
            (FILE, "README", b""),
        ]);
        let Archive { model, files } = read(&archive).expect("a model");
        assert_eq!(model, b"model");
        assert_eq!(files["weights/a.bin"], b"abc");
        assert_eq!(files.len(), 4);
    }

    #[test]
    fn paths_may_be_long() {
        let long = format!("{}/weights.bin", "folder".repeat(40));
        let mut archive = Builder::new(packed(&[(FILE, "m.onnx", b"")])[..512].to_vec());
        let mut header = Header::new_gnu();
        header.set_size(3);
        archive.append_data(&mut header, &long, &b"abc"[..]).expect("memory");
        let archive = archive.into_inner().expect("memory");
        assert_eq!(read(&archive).expect("a model").files[&long], b"abc");
    }

    #[test]
    fn what_an_archive_must_not_have_is_named() {
        let model = (FILE, "m.onnx", &b"m"[..]);
        let cases = [
            (packed(&[]), "no .onnx file at its root"),
            (packed(&[(FILE, "folder/m.onnx", b"m")]), "no .onnx file at its root"),
            (
                packed(&[model, (FILE, "n.onnx", b"n")]),
                "several .onnx files at its root, \"m.onnx\" and \"n.onnx\"",
            ),
            (
                packed(&[model, (FILE, "./m.onnx", b"m")]),
                "\"m.onnx\" is in the archive more than once",
            ),
            (packed(&[model, (FILE, "../w", b"")]), "has the path \"../w\""),
            (packed(&[model, (FILE, "a/../../w", b"")]), "has the path \"a/../../w\""),
            (packed(&[model, (FILE, "/etc/w", b"")]), "has the path \"/etc/w\""),
            (packed(&[model, (FILE, "a\\w", b"")]), "has the path"),
            (packed(&[model, (EntryType::Directory, "../", b"")]), "has the path \"../\""),
            (
                packed(&[model, (EntryType::Symlink, "w", b"")]),
                "\"w\" in the archive is a symbolic link",
            ),
            (packed(&[model, (EntryType::Link, "w", b"")]), "\"w\" in the archive is a hard link"),
            (packed(&[model, (EntryType::Fifo, "w", b"")]), "a pipe"),
            (packed(&[model, (EntryType::Block, "w", b"")]), "a device"),
            (packed(&[model, (EntryType::new(b'V'), "w", b"")]), "not known here"),
            (b"no archive".to_vec(), "this is not a tar archive: "),
            (vec![1; 4096], "this is not a tar archive: "),
        ];
        for (archive, expected) in cases {
            let error = read(&archive).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }

    #[test]
    fn an_archive_that_breaks_off_is_refused() {
        let archive = packed(&[(FILE, "m.onnx", &[1; 2000])]);
        for end in [1, 511, 513, 600, 2511] {
            assert!(read(&archive[..end]).is_err(), "cut at {end}");
        }
        // A file that claims more than there is.
        let mut header = Header::new_gnu();
        header.set_path("m.onnx").expect("a path");
        header.set_size(u64::MAX / 2);
        header.set_cksum();
        assert!(read(header.as_bytes()).is_err());
    }

    #[test]
    fn the_number_of_files_is_limited() {
        let mut archive = Builder::new(Vec::new());
        for number in 0..=MOST_FILES {
            append(&mut archive, FILE, &format!("{number}.bin"), b"");
        }
        let archive = archive.into_inner().expect("memory");
        assert_eq!(read(&archive).map(|_| ()), Err(ArchiveError::TooMany { limit: MOST_FILES }));
    }

    #[test]
    fn truncated_and_mutated_archives_are_refused_or_read_and_never_panic() {
        // A model with one tensor, whose data are in `w/x.bin`: graph.initializer.external_data.
        let model = b"\x3a\x1b\x2a\x19\x6a\x13\x0a\x08location\x12\x07w/x.bin\x70\x01\x10\x01";
        let archive = packed(&[(FILE, "m.onnx", model), (FILE, "w/x.bin", b"1234")]);
        let limit = ByteSize::mib(1);
        to_onnx(&archive, limit).expect("whole");
        let mut random = 0x5eed_u64;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % below
        };
        let (mut refused, mut read) = (0, 0);
        for _ in 0..5000 {
            let mut mutated = archive.clone();
            for _ in 0..1 + next(3) {
                let at = next(mutated.len());
                match next(3) {
                    0 => mutated[at] = next(256) as u8,
                    1 => mutated[at] ^= 1 << next(8),
                    _ => mutated.truncate(at.max(1)),
                }
            }
            match to_onnx(&mutated, limit) {
                Ok(_) => read += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
        assert!(refused > 500 && read > 50, "{refused} refused, {read} read");
    }

    #[test]
    fn a_model_that_lacks_a_file_or_is_none_is_refused() {
        let limit = ByteSize::mib(1);
        let refused = to_onnx(&packed(&[(FILE, "m.onnx", b"no model")]), limit);
        assert!(matches!(refused, Err(ArchiveError::Merge(MergeError::Inspect(_)))), "{refused:?}");
    }
}
