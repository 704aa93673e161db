//! The data folder: made durably, and locked so that two servers can't share it. Never knows what
//! lies in it.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::OpenError;

/// Where a backup is unpacked, below the data folder that it becomes. While it exists, that is none.
pub(crate) const RESTORING: &str = "restoring";

/// Keeps other processes out of a data folder for as long as it lives.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks a folder that has a catalog already.
    pub(crate) fn take_existing(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join("catalog.sqlite");
        match std::fs::metadata(&path) {
            Ok(_) => Self::take(directory),
            Err(cause) => Err(OpenError::Folder { action: "find", path, cause }),
        }
    }

    /// Makes the folder where it is missing, and locks it.
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        create_synced(directory).map_err(|cause| OpenError::Folder {
            action: "make",
            path: directory.to_owned(),
            cause,
        })?;
        let path = directory.join("lock");
        let failed = |cause| OpenError::Folder { action: "lock", path: path.clone(), cause };
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) if directory.join(RESTORING).exists() => {
                Err(OpenError::HalfRestored { directory: directory.to_owned() })
            }
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                Err(OpenError::Locked { directory: directory.to_owned() })
            }
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }
}

/// Makes a folder with its parents; each new name is on the disk when this returns.
pub(crate) fn create_synced(directory: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .map(Path::to_owned)
        .collect();
    std::fs::create_dir_all(directory)?;
    for made in missing {
        match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync(parent)?,
            _ => sync(Path::new("."))?,
        }
    }
    sync(directory)
}

/// Brings a folder's names to the disk.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_until_its_owner_lets_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let nested = folder.path().join("a/b");
        let lock = FolderLock::take(&nested).expect("free");
        let refused = FolderLock::take(&nested).expect_err("taken");
        assert!(matches!(&refused, OpenError::Locked { directory } if *directory == nested));
        drop(lock);
        FolderLock::take(&nested).expect("free again");
    }

    #[test]
    fn a_folder_that_is_half_restored_is_nobodys() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(RESTORING)).expect("made");
        let refused = FolderLock::take(folder.path()).expect_err("not whole");
        assert!(matches!(refused, OpenError::HalfRestored { .. }), "{refused}");
        assert!(refused.to_string().contains("restore the backup again"), "{refused}");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        std::fs::write(&path, "in the way").expect("written");
        let refused = FolderLock::take(&path).expect_err("not a folder").to_string();
        assert!(refused.contains("can't make") && refused.contains("data"), "{refused}");
    }
}
