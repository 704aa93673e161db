//! What a restore does to the folder that it is given, and what it leaves alone.

use std::{io, path::PathBuf};

use prometheus::Registry;
use quern_store::{OpenError, RestoreError, Store, restore_backup};

use crate::{
    backup::some_backup,
    common::{blob_files, config},
};

#[tokio::test]
async fn only_an_empty_folder_becomes_a_data_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = some_backup(folder.path(), 9).await;
    let data = folder.path().join("data");
    let before = blob_files(&data);
    let refused = restore_backup(&*archive, &data).expect_err("there is something");
    assert!(matches!(refused, RestoreError::Occupied { .. }), "{refused}");
    assert_eq!(blob_files(&data), before);
    let file = data.join("lock");
    let refused = restore_backup(&*archive, &file).expect_err("a file");
    assert!(matches!(refused, RestoreError::Folder { .. }), "{refused}");
    let refused = restore_backup(&*archive, &file.join("x")).expect_err("below a file");
    assert!(matches!(refused, RestoreError::Folder { .. } | RestoreError::Open(_)), "{refused}");

    // As a disk of its own that was just mounted.
    let place = folder.path().join("place");
    std::fs::create_dir_all(place.join("lost+found")).expect("made");
    restore_backup(&archive[..archive.len() / 2], &place).expect_err("cut");
    let left: Vec<_> = std::fs::read_dir(&place).expect("is there").collect();
    assert_eq!(left.len(), 1, "{left:?}");
    restore_backup(&*archive, &place).expect("an empty folder takes it");
    assert!(!place.join("restoring").exists());
    // As a kill in the middle would leave it.
    std::fs::create_dir(place.join("restoring")).expect("made");
    let refused = Store::open(config(&place, 2), &Registry::new()).await.expect_err("half");
    assert!(matches!(refused, OpenError::HalfRestored { .. }), "{refused}");
}

/// A backup whose reader finds something else in the folder by the time that it is read.
struct Meddled<'a> {
    backup: &'a [u8],
    file: PathBuf,
}

impl io::Read for Meddled<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.file.exists() {
            std::fs::write(&self.file, "theirs")?;
        }
        self.backup.read(into)
    }
}

#[tokio::test]
async fn what_others_put_into_the_folder_meanwhile_is_neither_removed_nor_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = some_backup(folder.path(), 9).await;
    for (number, exists) in [false, true].into_iter().enumerate() {
        let place = folder.path().join(format!("place-{number}"));
        if exists {
            std::fs::create_dir(&place).expect("made");
        }
        // One of another name, while the backup breaks off; and one that is in the way.
        for (name, backup) in
            [("notes.txt", &archive[..archive.len() / 2]), ("catalog.sqlite", &archive[..])]
        {
            let file = place.join(name);
            restore_backup(Meddled { backup, file: file.clone() }, &place).expect_err("fails");
            assert_eq!(std::fs::read_to_string(&file).expect("is there"), "theirs");
            assert_eq!(std::fs::read_dir(&place).expect("a folder").count(), 1, "and nothing else");
            std::fs::remove_file(&file).expect("removed");
        }
        // What is not in the way stays beside what is restored.
        let file = place.join("notes.txt");
        restore_backup(Meddled { backup: &archive, file: file.clone() }, &place).expect("restored");
        assert_eq!(std::fs::read_to_string(&file).expect("is there"), "theirs");
    }
}
