//! What a process is kept from once it has what it needs: files, the network, other programs. Says
//! of each measure whether it is in force, which it tries where it can; a system without one is
//! never passed over in silence.

mod driver;

use std::{collections::BTreeMap, fs::File, io};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetError, RulesetStatus,
};
use quern_types::Confinement;
use rustix::{
    net::{AddressFamily, SocketType, socket},
    process::{Resource, Rlimit, setrlimit},
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter_all_threads,
};

pub use driver::{confine_driver, leave_files_but_drivers};

/// What landlock is asked for; older systems give what they have.
const LANDLOCK: ABI = ABI::V5;

/// The system calls that computing needs, beside those in [`conditional`]: memory, threads, time,
/// and reading and writing what is open. All others fail, among them opening a file, making a
/// socket or a process, and running or tracing a program.
const ALLOWED: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    // Refused by a filter of its own, in another way.
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Whether this process can open no file any more, by landlock.
#[derive(Debug)]
pub struct Files(Result<(), String>);

/// Takes away the files from this thread and all that it starts, where the system has landlock.
pub fn leave_files() -> Files {
    let restrict = || -> Result<RulesetStatus, RulesetError> {
        let ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(LANDLOCK))?
            .handle_access(AccessNet::from_all(LANDLOCK))?;
        Ok(ruleset.create()?.restrict_self()?.ruleset)
    };
    landlocked(restrict())
}

fn landlocked(restricted: Result<RulesetStatus, RulesetError>) -> Files {
    Files(match restricted {
        Ok(RulesetStatus::NotEnforced) => Err("this kernel has no landlock".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("landlock: {error}")),
    })
}

/// Confines all threads of this process, and reports what it is kept from.
pub fn confine(files: &Files, memory_bytes: Option<u64>) -> Vec<Confinement> {
    let dumps = no_dumps();
    let memory = memory_bytes.map(|bytes| limit(Resource::Data, bytes));
    let calls = filters().and_then(|programs| {
        let mut programs = programs.iter();
        let applied = programs.try_for_each(|program| apply_filter_all_threads(program));
        applied.map_err(|error| format!("seccomp: {error}"))
    });
    let files = [("landlock", &files.0), ("seccomp", &calls)];
    let calls = [("seccomp", &calls)];
    let mut measures = vec![
        measure("files", &files, Some(File::open("/").map(drop))),
        measure("network", &calls, Some(open_socket())),
        measure("programs", &calls, None),
        measure("core dumps", &[("a limit", &dumps)], None),
    ];
    if let Some(limited) = &memory {
        measures.push(measure("more memory", &[("a limit", limited)], None));
    }
    measures
}

fn limit(resource: Resource, bytes: u64) -> Result<(), String> {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(resource, limit).map_err(|error| error.to_string())
}

fn no_dumps() -> Result<(), String> {
    limit(Resource::Core, 0)
}

fn open_socket() -> io::Result<()> {
    socket(AddressFamily::INET, SocketType::STREAM, None)?;
    Ok(())
}

/// One line of the report: what of the system keeps the process from something, unless an attempt
/// at it succeeded.
fn measure(
    name: &str,
    means: &[(&str, &Result<(), String>)],
    attempt: Option<io::Result<()>>,
) -> Confinement {
    let in_force = means.iter().filter(|(_, applied)| applied.is_ok()).map(|(name, _)| *name);
    let in_force = in_force.collect::<Vec<_>>().join(" and ");
    let measure = name.to_owned();
    if in_force.is_empty() {
        let reasons = means.iter().filter_map(|(_, applied)| applied.as_ref().err());
        let reasons = reasons.cloned().collect::<Vec<_>>().join("; ");
        return Confinement { measure, by: None, absent: Some(reasons) };
    }
    if attempt.is_some_and(|attempt| attempt.is_ok()) {
        let reason = format!("{in_force} should, but an attempt succeeded");
        return Confinement { measure, by: None, absent: Some(reason) };
    }
    Confinement { measure, by: Some(in_force), absent: None }
}

/// The filters of system calls, in the order in which they have to be applied. What they do not
/// allow fails with `EPERM`, which libraries handle, rather than end the process; but `clone3` is
/// not there, so that threads are started by `clone`, whose arguments a filter can look at.
fn filters() -> Result<[BpfProgram; 2], String> {
    let build = || -> Result<[BpfProgram; 2], BackendError> {
        let architecture = std::env::consts::ARCH.try_into()?;
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            ALLOWED.iter().map(|call| (*call, vec![])).collect();
        for (call, conditions) in conditional()? {
            rules.entry(call).or_default().push(SeccompRule::new(conditions)?);
        }
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let others = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?;
        Ok([absent_clone3()?, others.try_into()?])
    };
    build().map_err(|error| format!("seccomp: {error}"))
}

/// A filter that makes `clone3` absent.
fn absent_clone3() -> Result<BpfProgram, BackendError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let clone3 = [(libc::SYS_clone3, vec![])].into();
    SeccompFilter::new(clone3, SeccompAction::Allow, absent, architecture)?.try_into()
}

/// System calls that are allowed with these arguments only; several rules of one are alternatives.
fn conditional() -> Result<Vec<(i64, Vec<SeccompCondition>)>, BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    // Of an argument that is an `int`, the system looks at the lower half alone.
    let is = |argument, value: i32| {
        SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, u64::from(value as u32))
    };
    let has = |argument, flag: i32| {
        let flag = u64::from(flag as u32);
        SeccompCondition::new(argument, Dword, SeccompCmpOp::MaskedEq(flag), flag)
    };
    let null = |argument| SeccompCondition::new(argument, Qword, SeccompCmpOp::Eq, 0);
    Ok(vec![
        // Threads, which are confined as whoever starts them, and no processes.
        (libc::SYS_clone, vec![has(0, libc::CLONE_THREAD)?, has(0, libc::CLONE_VM)?]),
        // How this process itself ends when it aborts.
        (libc::SYS_tgkill, vec![is(0, std::process::id() as i32)?]),
        // What is known of a file that is open.
        (libc::SYS_statx, vec![has(2, libc::AT_EMPTY_PATH)?]),
        (libc::SYS_newfstatat, vec![has(3, libc::AT_EMPTY_PATH)?]),
        (libc::SYS_fcntl, vec![is(1, libc::F_GETFD)?]),
        (libc::SYS_fcntl, vec![is(1, libc::F_GETFL)?]),
        (libc::SYS_fcntl, vec![is(1, libc::F_GET_SEALS)?]),
        // Its own limits, to be read, and the names of its threads.
        (libc::SYS_prlimit64, vec![is(0, 0)?, null(2)?]),
        (libc::SYS_prctl, vec![is(0, libc::PR_SET_NAME)?]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_is_in_force_if_anything_enforces_it_and_no_attempt_succeeds() {
        let (works, fails) = (Ok(()), Err("not here".to_owned()));
        let refused = || Some(Err(io::ErrorKind::PermissionDenied.into()));
        let report = |means: &[_], attempt| {
            let Confinement { by, absent, .. } = measure("files", means, attempt);
            by.or(absent).expect("one of both")
        };
        assert_eq!(report(&[("a", &works), ("b", &works)], refused()), "a and b");
        assert_eq!(report(&[("a", &fails), ("b", &works)], refused()), "b");
        assert_eq!(report(&[("a", &fails), ("b", &fails)], refused()), "not here; not here");
        let ineffective = "a should, but an attempt succeeded";
        assert_eq!(report(&[("a", &works)], Some(Ok(()))), ineffective);
        assert_eq!(report(&[("a", &works)], None), "a");
    }

    #[test]
    fn the_filters_can_be_built_here() {
        assert!(filters().expect("programs").iter().all(|program| !program.is_empty()));
    }
}
