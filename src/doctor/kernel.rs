//! What the kernel must offer for system calls to be answered in its place, seccomp_unotify(2).
#![forbid(unsafe_code)]

use std::fs;

use nix::{errno::Errno, libc};

use super::{
    finding::{
        Finding,
        Verdict::{self, Limited, Missing, Ok as Fine, Slow, Untried},
    },
    trial::{Failed, Obstacle, Trial},
};
use crate::sys::probe;

/// What every mend of a kernel too old says.
const NEWER: &str = "boot Linux 5.19 or later with CONFIG_SECCOMP_FILTER (6.9 or later is best)";

/// What the kernel says it offers, without a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    release: String,
    filter: bool,
    notification: bool,
    listener: bool,
    wait_killable: bool,
}

impl Offer {
    /// Asks the kernel.
    pub(super) fn read() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        Self {
            release: release.trim().to_owned(),
            filter: probe::filter_flags(0),
            notification: probe::user_notification(),
            listener: probe::filter_flags(listener),
            wait_killable: probe::filter_flags(
                listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
            ),
        }
    }
}

/// All that concerns the kernel.
pub(super) fn findings(offer: &Offer, trial: &Result<Trial, Obstacle>) -> Vec<Finding> {
    let mut findings = vec![
        release(&offer.release),
        offered("seccomp filter", offer.filter, "filters can be installed"),
        offered(
            "user notification",
            offer.notification,
            "a filter can hand calls to another process",
        ),
        offered(
            "NEW_LISTENER",
            offer.listener,
            "trapped calls arrive on a descriptor",
        ),
        offered(
            "WAIT_KILLABLE_RECV",
            offer.wait_killable,
            "signals do not tear calls that are being answered",
        ),
        listener(trial),
    ];
    match trial {
        Ok(trial) => findings.extend(tried(trial)),
        Err(_) => findings.extend(
            TRIED
                .iter()
                .map(|facility| Finding::new(facility, Untried, "needs a listener")),
        ),
    }
    findings
}

fn release(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    let meaning = format!("Linux {release}");
    match (next(), next()) {
        (Some(major), Some(minor)) if (major, minor) < (5, 19) => {
            Finding::new("kernel", Missing, format!("{meaning} is too old")).mend(NEWER)
        }
        (Some(_), Some(_)) => Finding::new("kernel", Fine, meaning),
        _ => Finding::new(
            "kernel",
            Limited,
            format!("the release '{release}' is of no known form"),
        )
        .mend("mount /proc"),
    }
}

fn offered(facility: &'static str, offered: bool, meaning: &str) -> Finding {
    if offered {
        Finding::new(facility, Fine, meaning)
    } else {
        let lack = format!(
            "this kernel, or the container's own filter, refuses it: {meaning} only with it"
        );
        Finding::new(facility, Missing, lack).mend(NEWER)
    }
}

/// Whether this very process can have a listener.
fn listener(trial: &Result<Trial, Obstacle>) -> Finding {
    let name = "listener";
    match trial {
        Ok(trial) if trial.no_new_privs => Finding::new(
            name,
            Fine,
            "granted to an ordinary user; set-user-ID programs (sudo, ping) run wrapped without their privilege",
        ),
        Ok(_) => Finding::new(name, Fine, "granted"),
        Err(Obstacle::AlreadyWrapped) => Finding::new(
            name,
            Missing,
            "already wrapped: this process runs under quicwrap, or in a container whose manager watches its system calls, and the kernel allows one such watcher",
        )
        .mend("run quicwrap outside of that"),
        Err(Obstacle::Install(error)) => {
            Finding::new(name, Missing, format!("the filter is refused: {error}")).mend(NEWER)
        }
        Err(Obstacle::System(error)) => {
            Finding::new(name, Missing, format!("it could not be tried: {error}"))
                .mend("look at the limits of processes and memory (ulimit -a)")
        }
    }
}

/// The facilities that [`tried`] tells of, in that order.
const TRIED: &[&str] = &[
    "ADDFD",
    "ADDFD_FLAG_SETFD",
    "SYNC_WAKE_UP",
    "PIDFD_THREAD",
    "pidfd_getfd",
    "process_vm_readv",
    "io_uring",
    "trapped calls",
];

fn tried(trial: &Trial) -> Vec<Finding> {
    vec![
        result("ADDFD", trial.inject, "socket() was answered with an injected descriptor"),
        result("ADDFD_FLAG_SETFD", trial.replace, "a descriptor was replaced under its program"),
        match trial.sync_wake_up {
            Ok(()) => Finding::new("SYNC_WAKE_UP", Fine, "an answer wakes its caller at once"),
            Err(error) => Finding::new("SYNC_WAKE_UP", Slow, format!("{error}: a trapped call takes 40 to 60 µs instead of 6"))
                .mend("boot Linux 6.6 or later"),
        },
        match trial.thread_handle {
            Ok(()) => Finding::new("PIDFD_THREAD", Fine, "threads with descriptors of their own are told apart"),
            Err(error) => Finding::new("PIDFD_THREAD", Limited, format!("{error}: the sockets of a thread that has unshared its descriptors are not found"))
                .mend("boot Linux 6.9 or later"),
        },
        copy_descriptor(trial.copy_descriptor),
        read_memory(trial),
        io_uring(trial.program),
        program(trial.program),
    ]
}

fn result(facility: &'static str, result: Result<(), Errno>, meaning: &str) -> Finding {
    match result {
        Ok(()) => Finding::new(facility, Fine, meaning),
        Err(Errno::ECANCELED) => Finding::new(facility, Untried, "the trial ended before"),
        Err(error) => {
            Finding::new(facility, Missing, format!("{error} (not so: {meaning})")).mend(NEWER)
        }
    }
}

fn copy_descriptor(copied: Result<(), Errno>) -> Finding {
    let name = "pidfd_getfd";
    match copied {
        Err(Errno::EPERM) => Finding::new(name, Missing, "a program's descriptors may not be copied, not even a child's")
            .mend("see Yama below; in a container, grant the capability SYS_PTRACE (docker run --cap-add SYS_PTRACE)"),
        other => result(name, other, "a program's descriptor was copied and recognised"),
    }
}

fn read_memory(trial: &Trial) -> Finding {
    let name = "process_vm_readv";
    match trial.read_memory {
        Err(error) if error != Errno::ECANCELED && trial.memory_file => Finding::new(
            name,
            Slow,
            format!("{error}: /proc/PID/mem serves in its place"),
        )
        .mend("in a container, grant the capability SYS_PTRACE"),
        other => result(name, other, "a program's memory was read"),
    }
}

fn io_uring(program: Result<(), Failed>) -> Finding {
    let name = "io_uring";
    match program {
        Ok(()) => Finding::new(
            name,
            Fine,
            "wrapped programs are told ENOSYS, and use epoll",
        ),
        Err(Failed::IoUring) => Finding::new(
            name,
            Limited,
            "something above the filter answers otherwise than ENOSYS, and programs may give up",
        )
        .mend("sysctl -w kernel.io_uring_disabled=0, or configure the program for epoll"),
        Err(_) => Finding::new(name, Untried, "the trial ended before"),
    }
}

/// What the wrapped child says of it all.
fn program(program: Result<(), Failed>) -> Finding {
    let name = "trapped calls";
    let (verdict, meaning): (Verdict, &str) = match program {
        Ok(()) | Err(Failed::IoUring) => (
            Fine,
            "a wrapped child saw socket() and bind() answered from outside",
        ),
        Err(Failed::Inject) => (
            Missing,
            "the child cannot use the descriptor that socket() was answered with",
        ),
        Err(Failed::Answer) => (
            Missing,
            "the child's bind() failed although it was answered",
        ),
        Err(Failed::Replace) => (
            Missing,
            "the child cannot use the descriptor that was replaced",
        ),
        Err(Failed::Lost) => (Missing, "the wrapped child did not come to its end"),
    };
    let finding = Finding::new(name, verdict, meaning);
    if verdict == Missing {
        finding.mend(NEWER)
    } else {
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Trial {
        Trial {
            no_new_privs: false,
            sync_wake_up: Ok(()),
            inject: Ok(()),
            replace: Ok(()),
            thread_handle: Ok(()),
            copy_descriptor: Ok(()),
            read_memory: Ok(()),
            memory_file: true,
            program: Ok(()),
        }
    }

    fn offer() -> Offer {
        Offer {
            release: "6.18.44-custom".to_owned(),
            filter: true,
            notification: true,
            listener: true,
            wait_killable: true,
        }
    }

    fn verdict(findings: &[Finding], facility: &str) -> Verdict {
        let found = findings.iter().find(|finding| finding.facility == facility);
        found.unwrap().verdict
    }

    #[test]
    fn all_is_well() {
        let findings = findings(&offer(), &Ok(good()));
        assert!(
            findings
                .iter()
                .all(|finding| finding.verdict == Fine && finding.mend.is_none())
        );
        let names: Vec<_> = findings
            .iter()
            .rev()
            .take(TRIED.len())
            .rev()
            .map(|f| f.facility)
            .collect();
        assert_eq!(names, TRIED);
    }

    #[test]
    fn old_kernels_are_told_apart() {
        for (name, expected) in [
            ("5.15.0-91-generic", Missing),
            ("5.19.0", Fine),
            ("6.1", Fine),
            ("", Limited),
        ] {
            assert_eq!(release(name).verdict, expected, "{name}");
        }
        let mut trial = good();
        (trial.sync_wake_up, trial.thread_handle) = (Err(Errno::EINVAL), Err(Errno::EINVAL));
        let findings = findings(&offer(), &Ok(trial));
        assert_eq!(verdict(&findings, "SYNC_WAKE_UP"), Slow);
        assert_eq!(verdict(&findings, "PIDFD_THREAD"), Limited);
    }

    #[test]
    fn memory_has_a_second_way() {
        let mut trial = good();
        trial.read_memory = Err(Errno::EPERM);
        assert_eq!(read_memory(&trial).verdict, Slow);
        trial.memory_file = false;
        assert_eq!(read_memory(&trial).verdict, Missing);
    }

    #[test]
    fn nested_is_said_so() {
        let findings = findings(&offer(), &Err(Obstacle::AlreadyWrapped));
        assert_eq!(verdict(&findings, "listener"), Missing);
        assert_eq!(verdict(&findings, "pidfd_getfd"), Untried);
        assert!(
            findings
                .iter()
                .any(|finding| finding.meaning.contains("already wrapped"))
        );
    }
}
