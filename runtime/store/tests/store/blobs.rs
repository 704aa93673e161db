//! Uploads and blobs.

use std::io;

use bytes::Bytes;
use futures::stream;
use quern_store::{BlobError, StageError};
use quern_types::{ByteSize, Digest};

use crate::common::{blob_files, keep, open, stage, upload_files};

#[tokio::test]
async fn content_comes_back_under_its_digest_whatever_the_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let content: Vec<u8> = (0..(9u32 << 20)).map(|i| (i ^ (i >> 11)) as u8).collect();
    for part in [content.len(), (4 << 20) + 1, 70_001] {
        let parts =
            content.chunks(part).map(|part| Ok::<_, io::Error>(Bytes::copy_from_slice(part)));
        let parts = stream::iter(parts.collect::<Vec<_>>());
        let staged = store.blobs().stage(parts, ByteSize(content.len() as u64)).await;
        let staged = staged.expect("exactly the limit");
        assert_eq!((staged.digest(), staged.size()), (Digest::of(&content), 9 << 20));
        assert_eq!(store.blobs().read_staged(&staged).await.expect("readable"), content);
        let digest = store.blobs().keep(staged).await.expect("kept");
        assert_eq!(store.blobs().read(&digest).await.expect("readable"), content);
    }
    let empty = keep(&store, b"").await;
    assert_eq!(store.blobs().read(&empty).await.expect("readable"), Bytes::new());
    assert_eq!(upload_files(folder.path()).len(), 0);
    assert_eq!(blob_files(folder.path()).len(), 2);
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let parts = (0..20).map(|_| Ok::<_, io::Error>(Bytes::from(vec![7; 1 << 20])));
    let limit = ByteSize::mib(10);
    let refused = store.blobs().stage(stream::iter(parts.collect::<Vec<_>>()), limit).await;
    let refused = refused.expect_err("too large");
    assert_eq!(refused, StageError::TooLarge { limit });
    assert_eq!(refused.to_string(), "upload is larger than the server's limit of 10.0 MiB");
    assert_eq!(upload_files(folder.path()).len(), 0);
}

#[tokio::test]
async fn a_broken_upload_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let parts = stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("reset"))]);
    let refused = store.blobs().stage(parts, ByteSize::mib(1)).await.expect_err("broken");
    assert_eq!(refused, StageError::Body { reason: "reset".into() });
    assert_eq!(upload_files(folder.path()).len(), 0);
}

#[tokio::test]
async fn a_dropped_upload_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let staged = stage(&store, b"never kept").await;
    assert_eq!(upload_files(folder.path()).len(), 1);
    drop(staged);
    store.close().await;
    assert_eq!(upload_files(folder.path()).len(), 0);
}

#[tokio::test]
async fn an_upload_that_can_not_be_written_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let uploads = folder.path().join("blobs/uploads");
    std::fs::remove_dir(&uploads).expect("empty");
    std::fs::write(&uploads, "in the way").expect("written");
    let parts = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"x"))]);
    let refused = store.blobs().stage(parts, ByteSize::mib(1)).await.expect_err("no folder");
    assert!(matches!(refused, StageError::Storage { .. }), "{refused}");
}

#[tokio::test]
async fn a_corrupt_blob_is_never_returned() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let digest = keep(&store, b"what was written").await;
    let hex = digest.hex();
    let path = folder.path().join("blobs/sha256").join(&hex[..2]).join(&hex);
    std::fs::write(&path, b"what was read").expect("written");
    let actual = Digest::of(b"what was read");
    assert_eq!(store.blobs().read(&digest).await, Err(BlobError::Corrupt { digest, actual }));
    keep(&store, b"what was written").await;
    assert!(store.blobs().read(&digest).await.is_ok(), "another upload heals it");
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path(), 2).await;
    let digest = Digest::of(b"never stored");
    assert_eq!(store.blobs().read(&digest).await, Err(BlobError::Missing { digest }));
    let shelf = folder.path().join("blobs/sha256").join(&digest.hex()[..2]);
    std::fs::remove_dir(&shelf).expect("empty");
    std::fs::write(&shelf, "in the way").expect("written");
    let failed = store.blobs().read(&digest).await.expect_err("not a folder");
    assert!(matches!(failed, BlobError::Storage { .. }), "{failed}");
}
