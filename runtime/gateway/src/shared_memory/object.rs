//! One object of POSIX shared memory: its name, and copies out of it and into it. Never maps it:
//! whoever shares it may cut it short at any time, and that ends a process which touches a mapping.

use std::{
    fmt,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    str::FromStr,
};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

/// Where Linux keeps the objects, by their names.
const FOLDER: &str = "/dev/shm";
/// Longest name of an object, in bytes, with its slash.
const MAX_KEY: usize = 255;

/// Text that no object can have as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no name of shared memory: use a slash and up to {} more characters, none of which is a \
     slash",
    MAX_KEY - 1
)]
pub(crate) struct KeyError;

/// The name of an object: a slash, and something without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let name = text.strip_prefix('/').ok_or(KeyError)?;
        if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) || text.len() > MAX_KEY {
            return Err(KeyError);
        }
        Ok(Self(text.to_owned()))
    }
}

/// How the names of some objects begin: a slash, and at least one character of their own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyPrefix(Key);

impl KeyPrefix {
    pub(super) fn begins(&self, key: &Key) -> bool {
        key.0.starts_with(&self.0.0)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0.0
    }
}

impl FromStr for KeyPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = text.parse().map_err(|KeyError| {
            format!(
                "{text:?} is no beginning of names of shared memory: write a slash and at least one \
                 character of your own, such as \"/triton-\""
            )
        })?;
        Ok(Self(key))
    }
}

impl TryFrom<String> for KeyPrefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An open object.
#[derive(Debug)]
pub(super) struct Object(File);

impl Object {
    /// Opens an object for reading and writing. What is none, or has other names beside this one,
    /// is refused: an allowed name must not lead to what another one would not.
    /// It never waits, whatever lease somebody has on it.
    pub(super) fn open(key: &Key) -> io::Result<Self> {
        let flags =
            OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file =
            File::from(rustix::fs::open(format!("{FOLDER}{}", key.0), flags, Mode::empty())?);
        let about = file.metadata()?;
        if !about.is_file() || about.nlink() > 1 {
            return Err(io::Error::other("it is no object of its own"));
        }
        Ok(Self(file))
    }

    /// Bytes that it has now.
    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Copies bytes out of it. Where it ends too early, that is `UnexpectedEof`.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }

    /// Copies bytes into it.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_slash_and_a_name_without_one() {
        for text in ["/a", "/triton-x y", "/é", "/...", "/.a", &format!("/{}", "x".repeat(254))] {
            assert_eq!(text.parse(), Ok(Key(text.to_owned())));
        }
        for text in
            ["", "/", "a", "//a", "/a/", "/a/b", "/.", "/..", "/../etc/passwd", "/a\0b", "../a"]
        {
            assert_eq!(text.parse::<Key>(), Err(KeyError), "{text:?}");
        }
        assert_eq!(format!("/{}", "x".repeat(255)).parse::<Key>(), Err(KeyError));
    }

    #[test]
    fn a_prefix_is_the_beginning_of_a_key_and_never_of_all() {
        let prefix: KeyPrefix = "/triton-".parse().expect("a prefix");
        for (key, begins) in [("/triton-a", true), ("/triton-", true), ("/triton", false)] {
            assert_eq!(prefix.begins(&key.parse().expect("a key")), begins, "{key}");
        }
        for text in ["", "/", "triton", "/a/", "/.."] {
            let error = text.parse::<KeyPrefix>().expect_err(text);
            assert!(error.contains("such as \"/triton-\""), "{error}");
        }
    }
}
