//! The filter of system calls.
//!
//! An allow-list: what a loaded model was seen to need (memory, threads, clocks, the channel), and what the C library
//! does on its way out. Everything else fails with EPERM, so that a library which looks for a file that it can do without
//! does without it; and what only somebody who has taken the process over would try ends it at once.
//!
//! Always holds: a call is allowed with harmless arguments only, where arguments can be looked at: no memory that is
//! written to and run, no process beside the threads, no signal to anybody else (`fcntl` can have the kernel send one),
//! no hand on another process's scheduling, no socket of its own.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Allowed with any arguments.
const ALLOWED: &[c_long] = &[
    // The channel, and messages to standard error.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Clocks.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    // Signals of its own.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // What libraries ask about the machine.
    libc::SYS_getrandom,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Nothing that computes has use for these: they end the process.
const FATAL: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_personality,
];

/// Puts the filter on all threads.
pub(super) fn filter() -> Result<(), seccompiler::Error> {
    // Of several filters the sternest answer counts.
    for program in programs()? {
        apply_filter_all_threads(&program)?;
    }
    Ok(())
}

fn programs() -> Result<[BpfProgram; 3], seccompiler::Error> {
    let any = |calls: &[c_long]| calls.iter().map(|&call| (call, Vec::new())).collect::<BTreeMap<_, _>>();
    let mut allowed = any(ALLOWED);
    allowed.extend(checked()?);
    Ok([
        // Its flags lie in memory, where a filter cannot look: without it the C library takes the older call.
        program(
            any(&[libc::SYS_clone3]),
            SeccompAction::Allow,
            SeccompAction::Errno(errno(libc::ENOSYS)),
        )?,
        program(any(FATAL), SeccompAction::Allow, SeccompAction::KillProcess)?,
        // Last: it denies the calls that install a filter.
        program(allowed, SeccompAction::Errno(errno(libc::EPERM)), SeccompAction::Allow)?,
    ])
}

/// Allowed with some arguments. `clone3` is here because a filter of its own answers it.
fn checked() -> Result<Vec<(c_long, Vec<SeccompRule>)>, seccompiler::Error> {
    let is = |value: c_long| u64::try_from(value).unwrap_or_default();
    let without_exec = || rule(2, SeccompCmpOp::MaskedEq(is(libc::PROT_EXEC.into())), 0);
    let of_a_thread = is((libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND).into());
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    let itself = u64::from(std::process::id());
    Ok(vec![
        (libc::SYS_mmap, vec![without_exec()?]),
        (libc::SYS_mprotect, vec![without_exec()?]),
        (
            libc::SYS_clone,
            vec![rule(
                0,
                SeccompCmpOp::MaskedEq(of_a_thread | is(namespaces.into())),
                of_a_thread,
            )?],
        ),
        (libc::SYS_clone3, Vec::new()),
        // `abort` sends one to its own thread.
        (libc::SYS_tgkill, vec![rule(0, SeccompCmpOp::Eq, itself)?]),
        (
            libc::SYS_prctl,
            vec![
                rule(0, SeccompCmpOp::Eq, is(libc::PR_SET_NAME.into()))?,
                rule(0, SeccompCmpOp::Eq, is(libc::PR_SET_VMA.into()))?,
            ],
        ),
        // The end of a turn: a timer that the process interrupts itself with.
        (
            libc::SYS_setitimer,
            vec![rule(0, SeccompCmpOp::Eq, is(libc::ITIMER_REAL.into()))?],
        ),
        // The seals of the model's bytes, and what the standard library asks of a descriptor.
        (
            libc::SYS_fcntl,
            [libc::F_GET_SEALS, libc::F_GETFD, libc::F_GETFL, libc::F_DUPFD_CLOEXEC]
                .into_iter()
                .map(|command| rule(1, SeccompCmpOp::Eq, is(command.into())))
                .collect::<Result<_, _>>()?,
        ),
        // How the channel waits.
        (
            libc::SYS_setsockopt,
            vec![
                rule(2, SeccompCmpOp::Eq, is(libc::SO_RCVTIMEO.into()))?,
                rule(2, SeccompCmpOp::Eq, is(libc::SO_SNDTIMEO.into()))?,
            ],
        ),
    ])
}

fn rule(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::Error> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

fn program(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, seccompiler::Error> {
    let here = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, listed, here)?.try_into()?)
}

fn errno(number: libc::c_int) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_both_allowed_and_fatal() {
        assert!(programs().is_ok());
        let checked: Vec<c_long> = checked().unwrap().into_iter().map(|(call, _)| call).collect();
        for call in FATAL {
            assert!(!ALLOWED.contains(call) && !checked.contains(call), "{call}");
        }
    }
}
