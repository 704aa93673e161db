//! What the machine has, as far as this process may use it. Only reads.

use std::fs;

use quern_types::ByteSize;

/// Where Linux tells the machine's memory.
const MACHINE: &str = "/proc/meminfo";
/// Where it tells the limit of the control group that the process runs in, as a container has one.
const CONTAINER: &str = "/sys/fs/cgroup/memory.max";

/// The machine's memory, or the container's where that is less; none on systems that don't say.
pub(crate) fn memory() -> Option<ByteSize> {
    let machine = fs::read_to_string(MACHINE).ok().and_then(|text| total(&text));
    let container = fs::read_to_string(CONTAINER).ok().and_then(|text| limit(&text));
    machine.into_iter().chain(container).min().map(ByteSize)
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
}
