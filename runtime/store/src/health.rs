//! What is wrong with the data folder: a disk that is full, almost full or takes no writes, and writers
//! whose commits fail. Repairs nothing.

use std::path::{Path, PathBuf};

use quern_types::{Concern, HealthSource, StorageFault};
use rustix::fs::{StatVfs, statvfs};

use crate::{Store, fault, metrics::StoreMetrics};

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
        &["disk-full", "disk-almost-full", "disk-read-only", "disk-unreadable", "writes-failing"]
    }

    fn concerns(&self) -> Vec<Concern> {
        let FolderHealth { directory, metrics } = &self.health;
        let writers = [
            (&metrics.catalog_failing, "what is deployed can't be changed"),
            (&metrics.keyvalue_failing, "functions can't keep their pairs of keys and values"),
            (&metrics.queue_failing, "asynchronous calls can't be taken in or carried out"),
            (&metrics.logs_failing, "what functions print is lost"),
        ];
        let failed: Vec<_> = writers
            .into_iter()
            .filter_map(|(last, effect)| last.fault().map(|fault| (fault, effect)))
            .collect();
        // A writer may have nothing to write for long after there is room again, and not every disk
        // that takes no writes says so.
        let probe = (!failed.is_empty()).then(|| fault::probe(directory));
        let is_over = probe.as_ref().is_some_and(Result::is_ok);
        let refusal = probe.and_then(Result::err).and_then(|error| refuses(error.kind().into()));
        let failing = failed.into_iter().filter_map(|(fault, effect)| {
            let why = match fault {
                StorageFault::Full | StorageFault::ReadOnly if is_over => return None,
                StorageFault::Full => " because the disk is full",
                StorageFault::ReadOnly => " because the disk takes no writes",
                StorageFault::Other => "",
            };
            let detail =
                format!("the last write failed{why}, so that {effect}: the server's log has why");
            Some(Concern { code: "writes-failing", detail })
        });
        refusal.or_else(|| disk(directory)).into_iter().chain(failing).collect()
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
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let (free, all) = (bytes(disk.f_bavail), bytes(disk.f_blocks));
    let needed = (all / 20).clamp(LEAST_FREE, ENOUGH_FREE);
    let almost =
        "the disk of the data folder is almost full: make room, or changes will be refused";
    let is_almost_full = || Concern { code: "disk-almost-full", detail: almost.into() };
    refuses(fault::of_disk(disk)).or_else(|| (free < needed).then(is_almost_full))
}

/// What is wrong with a disk that refuses writes.
fn refuses(fault: StorageFault) -> Option<Concern> {
    let (code, detail) = match fault {
        StorageFault::ReadOnly => ("disk-read-only", "takes no writes"),
        StorageFault::Full => ("disk-full", "is full: make room, for changes are refused"),
        StorageFault::Other => return None,
    };
    Some(Concern { code, detail: format!("the disk of the data folder {detail}") })
}

#[cfg(test)]
mod tests {
    use rustix::fs::StatVfsMountFlags;

    use super::*;

    #[test]
    fn a_disk_is_judged_by_its_room_and_by_whether_it_takes_writes() {
        let mut disk = statvfs(".").expect("there is a disk");
        disk.f_frsize = 4_096;
        let blocks = |mib: u64| mib << 8;
        for (all, free, flags, code) in [
            (1_000, 0, StatVfsMountFlags::empty(), Some("disk-full")),
            (1_000, 1, StatVfsMountFlags::empty(), Some("disk-almost-full")),
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
