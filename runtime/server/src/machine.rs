//! What the machine has, as far as this process may use it. Only reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use quern_types::ByteSize;

/// Where Linux tells the machine's memory.
const MACHINE: &str = "/proc/meminfo";
/// Where it tells which control group the process is in: a container has one, a service too.
const GROUP: &str = "/proc/self/cgroup";
/// Where control groups have their limits.
const GROUPS: &str = "/sys/fs/cgroup";

/// The machine's memory, or the container's where that is less; none on systems that don't say.
pub(crate) fn memory() -> Option<ByteSize> {
    let machine = fs::read_to_string(MACHINE).ok().and_then(|text| total(&text));
    let group = fs::read_to_string(GROUP).unwrap_or_default();
    let read = |file: PathBuf| limit(&fs::read_to_string(file).ok()?);
    machine.into_iter().chain(limits(&group).filter_map(read)).min().map(ByteSize)
}

/// The files with the limits of a process's control group and of all that it is in. The outermost is
/// read in any case: in a container the rest of the path may be the machine's, and not be there.
fn limits(text: &str) -> impl Iterator<Item = PathBuf> {
    let group = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Path::new(group).ancestors().map(|group| Path::new(GROUPS).join(group).join("memory.max"))
}

/// The bytes of a machine, which says `MemTotal:  16318480 kB`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes << 10)
}

/// The bytes of a container; none where it says `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_machine_and_of_a_container_are_read() {
        assert_eq!(total("MemTotal:       16318480 kB\nMemFree: 1 kB\n"), Some(16_318_480 << 10));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(limit("1073741824\n"), Some(1 << 30));
        assert_eq!(limit("max\n"), None);
    }

    #[test]
    fn the_limits_of_all_control_groups_are_read_that_the_process_is_in() {
        for (text, expected) in [
            ("0::/\n", &["/sys/fs/cgroup/memory.max"][..]),
            ("", &["/sys/fs/cgroup/memory.max"]),
            (
                "1:name=systemd:/x\n0::/system.slice/quern.service\n",
                &[
                    "/sys/fs/cgroup/system.slice/quern.service/memory.max",
                    "/sys/fs/cgroup/system.slice/memory.max",
                    "/sys/fs/cgroup/memory.max",
                ],
            ),
        ] {
            let files: Vec<_> = limits(text).collect();
            assert_eq!(files, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{text:?}");
        }
    }
}
