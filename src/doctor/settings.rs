//! The system's settings that bear on wrapping, and what to change.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd,
};

use nix::{
    errno::Errno,
    libc,
    sys::resource::{Resource, getrlimit},
};

use super::{
    finding::{
        Finding,
        Verdict::{Limited, Missing, Ok as Fine, Slow},
    },
    trial::{Obstacle, Trial},
};
use crate::{
    supervisor::limits::sysctl,
    sys::{probe, socket::set_option},
    zpoline,
};

/// What QUIC endpoints ask for (quic/udp.rs), in bytes.
const UDP_BUFFER: u64 = 8_388_608;
/// Fewer open files than this are soon used up: a connection takes one.
const FEW_OPEN_FILES: u64 = 16_384;
/// An ordinary Ethernet's segment, to try segmentation offload with.
const SEGMENT: libc::c_int = 1452;
/// CAP_NET_BIND_SERVICE, capabilities(7).
const CAP_NET_BIND_SERVICE: u32 = 10;

/// All that concerns settings.
pub(super) fn findings(trial: &Result<Trial, Obstacle>) -> Vec<Finding> {
    let copied = trial.as_ref().ok().map(|trial| trial.copy_descriptor);
    let ports = sysctl("net/ipv4/ip_unprivileged_port_start", 0);
    let open_files = getrlimit(Resource::RLIMIT_NOFILE).map(|(_, hard)| hard);
    vec![
        yama(sysctl("kernel/yama/ptrace_scope", 0), copied),
        buffer(
            "UDP receive buffer",
            "net.core.rmem_max",
            "bursts beyond that are lost and sent again",
            sysctl("net/core/rmem_max", 0),
        ),
        buffer(
            "UDP send buffer",
            "net.core.wmem_max",
            "the sender waits more often",
            sysctl("net/core/wmem_max", 0),
        ),
        offload("UDP GSO", libc::UDP_SEGMENT, SEGMENT, "4.18"),
        offload("UDP GRO", libc::UDP_GRO, 1, "5.0"),
        limit_of_open_files(open_files),
        lowest_port(ports, has_capability(CAP_NET_BIND_SERVICE)),
        fast_path(
            zpoline::available(),
            probe::page_zero(),
            zpoline::has_protection_keys(),
        ),
    ]
}

/// `copied` is how the trial of pidfd_getfd(2) went, which is what Yama might forbid.
fn yama(scope: Option<u32>, copied: Option<Result<(), Errno>>) -> Finding {
    let name = "Yama";
    let setting = |scope| format!("kernel.yama.ptrace_scope is {scope}");
    match (scope, copied) {
        (None, _) => Finding::new(name, Fine, "this kernel is without it"),
        (Some(scope @ (0 | 1)), _) => Finding::new(
            name,
            Fine,
            format!("{}: parents may look into their children", setting(scope)),
        ),
        (Some(scope), Some(Ok(()))) => Finding::new(
            name,
            Fine,
            format!(
                "{}: this user may look into programs all the same",
                setting(scope)
            ),
        ),
        (Some(2), _) => Finding::new(
            name,
            Missing,
            format!("{}: only root may look into programs", setting(2)),
        )
        .mend("sysctl -w kernel.yama.ptrace_scope=1, or run quicwrap as root"),
        (Some(scope), _) => Finding::new(
            name,
            Missing,
            format!(
                "{}: nobody may look into programs, and it stays so until the next boot",
                setting(scope)
            ),
        )
        .mend("set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and reboot"),
    }
}

/// `bytes` is the limit that `setting` sets, `loss` what it costs to have less than is asked for.
fn buffer(facility: &'static str, setting: &str, loss: &str, bytes: Option<u64>) -> Finding {
    match bytes {
        Some(bytes) if bytes >= UDP_BUFFER => {
            Finding::new(facility, Fine, format!("{setting} is {bytes}"))
        }
        Some(bytes) => Finding::new(facility, Slow, format!("{setting} is {bytes}: {loss}"))
            .mend(format!("sysctl -w {setting}={UDP_BUFFER}")),
        None => {
            Finding::new(facility, Limited, format!("{setting} cannot be read")).mend("mount /proc")
        }
    }
}

/// Whether one system call can carry many packets.
fn offload(
    facility: &'static str,
    option: libc::c_int,
    value: libc::c_int,
    since: &str,
) -> Finding {
    let tried = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| {
        set_option(socket.as_fd(), libc::SOL_UDP, option, value).map_err(io::Error::from)
    });
    match tried {
        Ok(()) => Finding::new(facility, Fine, "one system call carries many packets"),
        Err(error) => Finding::new(facility, Slow, format!("{error}: one system call a packet"))
            .mend(format!("boot Linux {since} or later")),
    }
}

fn limit_of_open_files(hard: nix::Result<u64>) -> Finding {
    let name = "open files";
    match hard {
        Ok(hard) if hard >= FEW_OPEN_FILES => Finding::new(
            name,
            Fine,
            format!("the hard limit is {hard}: about as many connections at once"),
        ),
        Ok(hard) => Finding::new(
            name,
            Limited,
            format!("the hard limit is {hard}: no more connections at once than that"),
        )
        .mend("raise it: ulimit -Hn as root, nofile in /etc/security/limits.conf, LimitNOFILE= of systemd"),
        Err(error) => Finding::new(name, Limited, format!("the limit cannot be read: {error}")),
    }
}

fn lowest_port(start: Option<u32>, privileged: bool) -> Finding {
    let name = "ports";
    match start {
        Some(start) if start > 1 && !privileged => Finding::new(
            name,
            Fine,
            format!(
                "this user may listen from port {start} on, as with TCP (net.ipv4.ip_unprivileged_port_start)"
            ),
        ),
        _ => Finding::new(name, Fine, "this user may listen on all of them"),
    }
}

/// `--mode zpoline`.
fn fast_path(
    available: Result<(), zpoline::Unavailable>,
    page_zero: nix::Result<()>,
    keys: bool,
) -> Finding {
    let name = "zpoline";
    match (available, page_zero) {
        (Err(why), _) => Finding::new(name, Limited, why.to_string())
            .mend("--mode seccomp, the default, works without"),
        (Ok(()), Ok(())) if keys => Finding::new(name, Fine, "--mode zpoline serves all programs"),
        (Ok(()), Ok(())) => Finding::new(
            name,
            Fine,
            "--mode zpoline serves all programs; without protection keys (pku) reads through null pointers do not fail in some, such as Go's, and --mode auto leaves those alone",
        ),
        (Ok(()), Err(error)) => Finding::new(
            name,
            Slow,
            format!("--mode zpoline serves programs of the C library; Go's stay as slow as with --mode seccomp: no memory at address 0 ({error})"),
        )
        .mend("sysctl -w vm.mmap_min_addr=0, or CAP_SYS_RAWIO"),
    }
}

/// Whether this process has a capability, by /proc/self/status: proc_pid_status(5).
fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 << number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yama_matters_where_it_forbids() {
        let verdict = |scope, copied| yama(scope, copied).verdict;
        assert_eq!(verdict(None, None), Fine);
        assert_eq!(verdict(Some(1), Some(Ok(()))), Fine);
        assert_eq!(verdict(Some(2), Some(Ok(()))), Fine);
        assert_eq!(verdict(Some(2), Some(Err(Errno::EPERM))), Missing);
        assert_eq!(verdict(Some(3), None), Missing);
    }

    #[test]
    fn small_buffers_come_with_the_command_to_type() {
        let small = buffer(
            "UDP receive buffer",
            "net.core.rmem_max",
            "lost",
            Some(212_992),
        );
        assert_eq!(small.verdict, Slow);
        assert_eq!(
            small.mend.as_deref(),
            Some("sysctl -w net.core.rmem_max=8388608")
        );
        let large = buffer(
            "UDP receive buffer",
            "net.core.rmem_max",
            "lost",
            Some(UDP_BUFFER),
        );
        assert_eq!((large.verdict, large.mend), (Fine, None));
    }

    #[test]
    fn the_fast_path_is_never_missing() {
        let verdict = |available, page, keys| fast_path(available, page, keys).verdict;
        assert_eq!(verdict(Ok(()), Ok(()), true), Fine);
        assert_eq!(verdict(Ok(()), Ok(()), false), Fine);
        assert_eq!(verdict(Ok(()), Err(Errno::EPERM), true), Slow);
        let traced = Err(zpoline::Unavailable::Traced(7));
        assert_eq!(verdict(traced, Ok(()), true), Limited);
    }

    #[test]
    fn limits_of_files_and_ports() {
        assert_eq!(limit_of_open_files(Ok(4096)).verdict, Limited);
        assert_eq!(limit_of_open_files(Ok(1 << 20)).verdict, Fine);
        assert!(lowest_port(Some(1024), false).meaning.contains("1024"));
        assert!(lowest_port(Some(1024), true).meaning.contains("all"));
    }
}
