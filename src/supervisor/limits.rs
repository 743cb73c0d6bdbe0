//! The system's limits that TCP obeys, read from /proc/sys.
#![forbid(unsafe_code)]

use std::{fs, str::FromStr};

use crate::emul::options::Limits;

/// Reads the limits; what cannot be read has the kernel's default.
pub(crate) fn read() -> Limits {
    let default = Limits::default();
    Limits {
        somaxconn: sysctl("net/core/somaxconn", 0).unwrap_or(default.somaxconn),
        wmem_max: sysctl("net/core/wmem_max", 0).unwrap_or(default.wmem_max),
        rmem_max: sysctl("net/core/rmem_max", 0).unwrap_or(default.rmem_max),
        wmem_default: sysctl("net/ipv4/tcp_wmem", 1).unwrap_or(default.wmem_default),
        rmem_default: sysctl("net/ipv4/tcp_rmem", 1).unwrap_or(default.rmem_default),
        syn_retries: sysctl("net/ipv4/tcp_syn_retries", 0).unwrap_or(default.syn_retries),
        unprivileged_ports: sysctl("net/ipv4/ip_unprivileged_port_start", 0)
            .unwrap_or(default.unprivileged_ports),
    }
}

/// Word `index` of a file below /proc/sys.
pub(crate) fn sysctl<T: FromStr>(name: &str, index: usize) -> Option<T> {
    let text = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
    text.split_whitespace().nth(index)?.parse().ok()
}
