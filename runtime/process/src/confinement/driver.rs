//! What a process is kept from that uses a device by a driver: less than others, for what drivers
//! ask of a system is theirs to change. It keeps the devices' files and the system's libraries, and
//! may call the system as it likes but for what leads out of the process.

use std::{collections::BTreeMap, fs, fs::File, path::PathBuf};

use landlock::{
    Access as _, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, path_beneath_rules,
};
use quern_types::Confinement;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};

use super::{Files, LANDLOCK, absent_clone3, landlocked, measure, no_dumps, open_socket};

/// What drivers read: libraries, what the loader knows of them, and what the system says of itself.
/// Not all of `/proc`, where other processes are, nor of `/etc`, where secrets may be.
const READ: [&str; 15] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/nvidia",
    "/run/nvidia",
    "/sys",
    "/proc/self",
    "/proc/driver",
    "/proc/devices",
    "/proc/modules",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
];

/// Files below `/dev` that a driver may write to, by how their names begin.
const DEVICES: [&str; 4] = ["nvidia", "null", "zero", "urandom"];

/// Commands of `fcntl` that the C library's crate does not name everywhere.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// System calls that lead out of the process: to the network, to other programs and processes, and
/// into the system itself.
const REFUSED: &[i64] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_add_key,
    libc::SYS_bind,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_connect,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_kill,
    libc::SYS_listen,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setns,
    libc::SYS_socket,
    libc::SYS_tkill,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Takes away the files from this thread and all that it starts, but for the devices', the system's
/// libraries, and folders where libraries are looked for.
pub fn leave_files_but_drivers() -> Files {
    let restrict = || -> Result<RulesetStatus, RulesetError> {
        let device: BitFlags<AccessFs> =
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::IoctlDev;
        let ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?
            .create()?
            .add_rules(path_beneath_rules(libraries(), AccessFs::from_read(LANDLOCK)))?
            .add_rules(path_beneath_rules(devices(), device))?;
        Ok(ruleset.restrict_self()?.ruleset)
    };
    landlocked(restrict())
}

/// Confines all threads of this process, and reports what it is kept from.
pub fn confine_driver(files: &Files) -> Vec<Confinement> {
    let dumps = no_dumps();
    let calls = filters().and_then(|programs| {
        let mut programs = programs.iter();
        let applied = programs.try_for_each(|program| apply_filter_all_threads(program));
        applied.map_err(|error| format!("seccomp: {error}"))
    });
    let (files, calls) = ([("landlock", &files.0)], [("seccomp", &calls)]);
    vec![
        measure("files but the driver's", &files, Some(File::open("/").map(drop))),
        measure("network", &calls, Some(open_socket())),
        measure("programs", &calls, None),
        measure("core dumps", &[("a limit", &dumps)], None),
    ]
}

fn libraries() -> Vec<PathBuf> {
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let given = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    READ.iter().map(PathBuf::from).chain(given).collect()
}

fn devices() -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_device = |name: &str| DEVICES.iter().any(|device| name.starts_with(device));
    let devices = entries.filter(|entry| is_device(&entry.file_name().to_string_lossy()));
    devices.map(|entry| entry.path()).collect()
}

/// The filters of system calls, in the order in which they have to be applied. What is refused
/// fails with `EPERM`, which libraries handle.
fn filters() -> Result<[BpfProgram; 2], String> {
    let build = || -> Result<[BpfProgram; 2], BackendError> {
        let architecture = std::env::consts::ARCH.try_into()?;
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            REFUSED.iter().map(|call| (*call, vec![])).collect();
        #[cfg(target_arch = "x86_64")]
        rules.extend([(libc::SYS_fork, vec![]), (libc::SYS_vfork, vec![])]);
        let dword = || SeccompCmpArgLen::Dword;
        // Threads, which are confined as whoever starts them, and no processes.
        let thread = u64::from(libc::CLONE_THREAD as u32);
        let process = SeccompCondition::new(0, dword(), SeccompCmpOp::MaskedEq(thread), 0)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![process])?]);
        // How this process itself ends when it aborts.
        let own = u64::from(std::process::id());
        let other = SeccompCondition::new(0, dword(), SeccompCmpOp::Ne, own)?;
        rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![other])?]);
        // Its own limits, by no name of a process.
        let another = SeccompCondition::new(0, dword(), SeccompCmpOp::Ne, 0)?;
        rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![another])?]);
        // Nobody is sent a signal when something happens to a file.
        let signals = [libc::F_SETOWN, F_SETSIG, F_SETOWN_EX].map(|command| {
            let is = SeccompCondition::new(1, dword(), SeccompCmpOp::Eq, command as u64)?;
            SeccompRule::new(vec![is])
        });
        rules.insert(libc::SYS_fcntl, signals.into_iter().collect::<Result<_, _>>()?);
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture)?;
        Ok([absent_clone3()?, filter.try_into()?])
    };
    build().map_err(|error| format!("seccomp: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_can_be_built_here() {
        assert!(filters().expect("programs").iter().all(|program| !program.is_empty()));
    }

    #[test]
    fn no_folder_is_allowed_that_holds_more_than_the_systems() {
        let libraries = libraries();
        for secret in ["/", "/home", "/etc", "/proc", "/var", "/tmp", "/root"] {
            assert!(!libraries.contains(&PathBuf::from(secret)), "{secret}");
        }
        assert!(devices().iter().all(|device| device.starts_with("/dev")));
    }
}
