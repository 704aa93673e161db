//! What is wrong with the data folder: a disk that is almost full or takes no writes, and writers
//! whose commits fail. Repairs nothing.

use std::path::{Path, PathBuf};

use quern_types::{Concern, HealthSource};
use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};

use crate::{Store, metrics::StoreMetrics};

/// Free bytes below which a disk is almost full, however small it is.
const LEAST_FREE: u64 = 256 << 20;
/// Free bytes that are enough, however large it is.
const ENOUGH_FREE: u64 = 2 << 30;

/// Looks after the data folder.
#[derive(Debug)]
pub(crate) struct FolderHealth {
    pub(crate) directory: PathBuf,
    pub(crate) metrics: StoreMetrics,
}

impl HealthSource for Store {
    fn codes(&self) -> &'static [&'static str] {
        &["disk-almost-full", "disk-read-only", "disk-unreadable", "writes-failing"]
    }

    fn concerns(&self) -> Vec<Concern> {
        let FolderHealth { directory, metrics } = &self.health;
        let writers = [
            (&metrics.catalog_failing, "what is deployed can't be changed"),
            (&metrics.keyvalue_failing, "functions can't keep their pairs of keys and values"),
            (&metrics.queue_failing, "asynchronous calls can't be taken in or carried out"),
            (&metrics.logs_failing, "what functions print is lost"),
        ];
        let failing = writers.into_iter().filter(|(failing, _)| failing.get() != 0);
        let failing = failing.map(|(_, effect)| Concern {
            code: "writes-failing",
            detail: format!("the last write failed, so that {effect}: the server's log has why"),
        });
        disk(directory).into_iter().chain(failing).collect()
    }
}

fn disk(directory: &Path) -> Option<Concern> {
    match statvfs(directory) {
        Ok(disk) => judge(&disk),
        Err(error) => Some(Concern {
            code: "disk-unreadable",
            detail: format!("the disk of the data folder can't be looked at: {error}"),
        }),
    }
}

/// What is wrong with a disk. One with room for a twentieth of itself is well, within bounds.
fn judge(disk: &StatVfs) -> Option<Concern> {
    if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let detail = "the disk of the data folder takes no writes".into();
        return Some(Concern { code: "disk-read-only", detail });
    }
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let (free, all) = (bytes(disk.f_bavail), bytes(disk.f_blocks));
    let needed = (all / 20).clamp(LEAST_FREE, ENOUGH_FREE);
    let concern = || Concern {
        code: "disk-almost-full",
        detail: "the disk of the data folder is almost full: make room, or deployments fail".into(),
    };
    (free < needed).then(concern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_judged_by_its_room_and_by_whether_it_takes_writes() {
        let mut disk = statvfs(".").expect("there is a disk");
        disk.f_frsize = 4_096;
        let blocks = |mib: u64| mib << 8;
        for (all, free, flags, code) in [
            (1_000, 255, StatVfsMountFlags::empty(), Some("disk-almost-full")),
            (1_000, 256, StatVfsMountFlags::empty(), None),
            (20_000, 999, StatVfsMountFlags::empty(), Some("disk-almost-full")),
            (20_000, 1_000, StatVfsMountFlags::empty(), None),
            (1_000_000, 2_048, StatVfsMountFlags::empty(), None),
            (1_000_000, 2_047, StatVfsMountFlags::empty(), Some("disk-almost-full")),
            (20_000, 10_000, StatVfsMountFlags::RDONLY, Some("disk-read-only")),
        ] {
            (disk.f_blocks, disk.f_bavail, disk.f_flag) = (blocks(all), blocks(free), flags);
            assert_eq!(judge(&disk).map(|concern| concern.code), code, "{free} of {all} MiB");
        }
        let missing = disk_of_nothing().expect("it is not there");
        assert_eq!(missing.code, "disk-unreadable");
    }

    fn disk_of_nothing() -> Option<Concern> {
        disk(Path::new("/no/such/folder"))
    }
}
