//! What is registered and what is not, with real objects.

use std::{fs, path::PathBuf};

use quern_types::ByteSize;

use super::*;
use crate::{EdgeLimits, collect::BodyRoom};

/// An object of these bytes, with a name of its own, until it is dropped.
struct Shared {
    key: String,
}

impl Shared {
    fn new(content: &[u8]) -> Self {
        let shared = Self { key: format!("/quern-unit-{}", uuid::Uuid::now_v7()) };
        fs::write(shared.path(), content).expect("is written");
        shared
    }

    fn path(&self) -> PathBuf {
        format!("/dev/shm{}", self.key).into()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A test may have removed it.
        let _ = fs::remove_file(self.path());
    }
}

fn regions() -> Regions {
    let config = SharedMemoryConfig {
        prefix: Some("/quern-unit-".parse().expect("a prefix")),
        regions: 2,
        region_bytes: ByteSize(1000),
    };
    Regions::new(config, &Registry::new()).expect("registers")
}

fn room() -> BodyRoom {
    BodyRoom::new(&EdgeLimits { body_memory: ByteSize(64 << 10), ..EdgeLimits::default() })
}

fn wish(name: &str, key: &str, offset: u64, byte_size: u64) -> Registration {
    Registration { name: name.into(), key: key.into(), offset, byte_size }
}

fn place(region: &str, offset: u64, byte_size: u64) -> Placement {
    Placement { region: region.into(), offset, byte_size }
}

#[test]
fn what_is_registered_is_shown_until_it_is_not() {
    let (regions, shared) = (regions(), Shared::new(&[7; 100]));
    let (a, b) = (wish("a", &shared.key, 0, 100), wish("b", &shared.key, 96, 4));
    for region in [&b, &a] {
        regions.register(region.clone()).expect("is allowed");
    }
    assert_eq!(regions.status(None), Ok(vec![a.clone(), b.clone()]));
    assert_eq!((regions.status(Some("b")), regions.registered.get()), (Ok(vec![b]), 2));
    regions.unregister(Some("b"));
    regions.unregister(Some("b"));
    let gone = RegionError::NotFound { region: "b".into() };
    assert_eq!(regions.status(Some("b")), Err(gone));
    regions.unregister(None);
    assert_eq!((regions.status(None), regions.registered.get()), (Ok(vec![]), 0));
}

#[test]
fn what_can_not_be_registered_says_why() {
    let (regions, shared, other) = (regions(), Shared::new(&[7; 100]), Shared::new(&[7; 100]));
    let (linked, folder, twin) =
        (Shared::new(b""), Shared::new(b""), format!("{}-twin", other.key));
    for shared in [&linked, &folder] {
        fs::remove_file(shared.path()).expect("is there");
    }
    std::os::unix::fs::symlink(shared.path(), linked.path()).expect("links");
    fs::create_dir(folder.path()).expect("a folder");
    let twin_path = format!("/dev/shm{twin}");
    fs::hard_link(other.path(), &twin_path).expect("links");
    regions.register(wish("taken", &shared.key, 0, 100)).expect("is allowed");
    let key = &*shared.key;
    let (long, absent) = ("x".repeat(256), format!("{key}-absent"));
    for (name, key, offset, byte_size, message) in [
        ("taken", key, 0, 100, "\"taken\" is registered already: unregister it first"),
        ("", key, 0, 100, "has 0 bytes: use 1 to 255"),
        (&long, key, 0, 100, "has 256 bytes: use 1 to 255"),
        ("a", "quern-unit-a", 0, 1, "\"quern-unit-a\" is no name of shared memory: use a slash"),
        ("a", "/quern-unit-/../../etc/passwd", 0, 1, "is no name of shared memory"),
        ("a", "/other-a", 0, 1, "is not allowed on this server: use one that begins with"),
        ("a", "/quern-unit", 0, 1, "is not allowed on this server: use one that begins with"),
        ("a", &absent, 0, 1, "can't be opened as shared memory: No such file"),
        ("a", &linked.key, 0, 1, "can't be opened as shared memory: Too many levels"),
        ("a", &folder.key, 0, 1, "can't be opened as shared memory: Is a directory"),
        ("a", &other.key, 0, 1, "can't be opened as shared memory: it is no object of its own"),
        ("a", &twin, 0, 1, "can't be opened as shared memory: it is no object of its own"),
        ("a", key, 0, 0, "byte_size is 0: a region has 1 to 1000 bytes"),
        ("a", key, 0, 1001, "byte_size is 1001: a region has 1 to 1000 bytes"),
        ("a", key, 0, 101, "offset 0 and byte_size 101 reach beyond key"),
        ("a", key, 100, 1, "offset 100 and byte_size 1 reach beyond key"),
        ("a", key, u64::MAX, 1, "offset 18446744073709551615 and byte_size 1 reach beyond key"),
    ] {
        let error = regions.register(wish(name, key, offset, byte_size)).expect_err(message);
        assert!(error.to_string().contains(message), "{error} should contain {message}");
    }
    regions.register(wish("a", key, 0, 1)).expect("there is room for one more");
    let full = regions.register(wish("b", key, 0, 1));
    assert_eq!(full, Err(RegionError::Full { most: 2 }));
    fs::remove_file(twin_path).expect("is there");
    fs::remove_dir(folder.path()).expect("is empty");
}

#[test]
fn nothing_is_registered_or_found_where_it_is_not_allowed() {
    let regions = Regions::new(SharedMemoryConfig::default(), &Registry::new()).expect("registers");
    let shared = Shared::new(b"abcd");
    let refused = regions.register(wish("a", &shared.key, 0, 4));
    assert_eq!(refused, Err(RegionError::NotAllowed));
    assert_eq!(regions.slot(&place("a", 0, 4)), Err(RegionError::NotAllowed));
    assert_eq!(regions.status(None), Ok(vec![]));
}

#[test]
fn a_slot_is_within_its_region() {
    let (regions, shared) = (regions(), Shared::new(b"0123456789"));
    regions.register(wish("a", &shared.key, 2, 6)).expect("is allowed");
    for (offset, byte_size, content) in [(0, 6, "234567"), (1, 2, "34"), (6, 0, ""), (5, 1, "7")] {
        let slot = regions.slot(&place("a", offset, byte_size)).expect("is inside");
        assert_eq!(slot.read(&room()).expect("is there"), content);
    }
    for (offset, byte_size) in [(0, 7), (6, 1), (7, 0), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        let outside = RegionError::Outside { region: "a".into(), offset, byte_size, size: 6 };
        assert_eq!(regions.slot(&place("a", offset, byte_size)), Err(outside));
    }
    let absent = RegionError::NotFound { region: "b".into() };
    assert_eq!(regions.slot(&place("b", 0, 1)), Err(absent));
    let slot = regions.slot(&place("a", 1, 3)).expect("is inside");
    slot.write(b"xyz and more").expect("is written");
    assert_eq!(fs::read(shared.path()).expect("is there"), b"012xyz6789");
}

#[test]
fn a_slot_outlives_its_registration_and_its_objects_name() {
    let (regions, shared) = (regions(), Shared::new(b"abcd"));
    regions.register(wish("a", &shared.key, 0, 4)).expect("is allowed");
    let slot = regions.slot(&place("a", 0, 4)).expect("is inside");
    fs::remove_file(shared.path()).expect("is there");
    fs::write(shared.path(), b"ABCD").expect("another of the name");
    regions.unregister(None);
    assert_eq!(slot.read(&room()).expect("is open"), "abcd");
}

#[test]
fn a_copy_is_what_was_there_and_has_room_until_it_is_dropped() {
    let (regions, shared) = (regions(), Shared::new(&[1; 100]));
    regions.register(wish("a", &shared.key, 0, 100)).expect("is allowed");
    let (room, slot) = (room(), regions.slot(&place("a", 0, 100)).expect("is inside"));
    let copy = slot.read(&room).expect("has room");
    fs::write(shared.path(), [2; 100]).expect("is written");
    assert_eq!(copy[..], [1; 100]);
    assert!(matches!(slot.read(&room), Err(RegionError::Read(ReadError::NoRoom { .. }))));
    drop(copy);
    assert_eq!(slot.read(&room).expect("has room again")[..], [2; 100]);
}

#[test]
fn an_object_that_was_cut_short_is_named_and_never_made_longer() {
    let (regions, shared) = (regions(), Shared::new(&[1; 100]));
    regions.register(wish("a", &shared.key, 0, 100)).expect("is allowed");
    let slot = regions.slot(&place("a", 0, 100)).expect("is inside");
    fs::write(shared.path(), [1; 99]).expect("is cut short");
    let shrunk = || RegionError::Shrunk { region: "a".into() };
    assert_eq!(slot.read(&room()), Err(shrunk()));
    assert_eq!((slot.has_room(100), slot.has_room(99)), (Err(shrunk()), Ok(())));
    assert_eq!(fs::read(shared.path()).expect("is there").len(), 99);
}
