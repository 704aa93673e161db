//! Where the key for secrets comes from: a file that others can't read, or the environment. Never
//! quotes what it reads.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use quern_store::{InvalidSecretsKey, SecretsKey};
use zeroize::Zeroizing;

/// The variable that may have the key itself.
pub(crate) const VARIABLE: &str = "QUERN_SECRETS_KEY";

/// Most bytes of a file with a key.
const MOST_BYTES: u64 = 4096;

/// Why there is no usable key where one is given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretsKeyError {
    #[error("the key for secrets in {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error(
        "the key for secrets in {} can be read by everybody on this machine: take that from \
         others with chmod o= {}",
        path.display(),
        path.display()
    )]
    Readable { path: PathBuf },
    #[error("the key for secrets in {place}: {cause}")]
    Invalid { place: String, cause: InvalidSecretsKey },
    #[error(
        "a key for secrets is given twice, in {} and in {VARIABLE}: leave one of them out",
        path.display()
    )]
    Twice { path: PathBuf },
    #[error("can't write the key to {}: {cause}", path.display())]
    Unwritable { path: PathBuf, cause: io::Error },
}

/// The key that is given, if one is: in this file, or in the environment.
pub(crate) fn find(file: Option<&Path>) -> Result<Option<SecretsKey>, SecretsKeyError> {
    let variable = std::env::var(VARIABLE).ok().map(Zeroizing::new);
    match (file, variable.filter(|text| !text.is_empty())) {
        (None, None) => Ok(None),
        (Some(path), None) => read(path).map(Some),
        (None, Some(text)) => parse(&text, || VARIABLE.to_owned()).map(Some),
        (Some(path), Some(_)) => Err(SecretsKeyError::Twice { path: path.to_owned() }),
    }
}

/// The key in a file that others can't read.
pub(crate) fn read(path: &Path) -> Result<SecretsKey, SecretsKeyError> {
    let unreadable = |cause| SecretsKeyError::Unreadable { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    // Of the file that is open: another may have its name by now.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(SecretsKeyError::Readable { path: path.to_owned() });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    parse(&text, || path.display().to_string())
}

/// Writes a key to a new file that its owner alone can read.
pub(crate) fn write(path: &Path, key: &SecretsKey) -> Result<(), SecretsKeyError> {
    let write = || {
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(key.reveal().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|cause| SecretsKeyError::Unwritable { path: path.to_owned(), cause })
}

fn parse(text: &str, place: impl FnOnce() -> String) -> Result<SecretsKey, SecretsKeyError> {
    text.parse().map_err(|cause| SecretsKeyError::Invalid { place: place(), cause })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_key_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let key = SecretsKey::generate().expect("random");
        write(&path, &key).expect("written");
        assert_eq!(read(&path).expect("a key").id(), key.id());
        let again = write(&path, &key).expect_err("it is there").to_string();
        assert!(again.contains("can't write the key to"), "{again}");
        for (mode, allowed) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            assert_eq!(read(&path).is_ok(), allowed, "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_key_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        let missing = read(&path).expect_err("missing").to_string();
        assert!(missing.contains(&*path.to_string_lossy()), "{missing}");
        std::fs::write(&path, "correct horse").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("changed");
        let invalid = read(&path).expect_err("no key").to_string();
        assert!(
            invalid.contains("64 hexadecimal digits") && !invalid.contains("horse"),
            "{invalid}"
        );
    }
}
