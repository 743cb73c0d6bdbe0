//! The integer options of socket(7), tcp(7), ip(7) and ipv6(7): what may be stored, and defaults.
//!
//! To add one, name it in [`name`], give it a row in [`SPECS`] and a probe. Options with a form of
//! their own are in getsockopt.rs and setsockopt.rs.
#![forbid(unsafe_code)]

use super::socket::Family;

/// Level and name of an option, as setsockopt(2) takes them.
pub(crate) type Name = (i32, i32);

/// The options that something here asks for by name.
pub(crate) mod name {
    use super::Name;

    pub(crate) const SO_REUSEADDR: Name = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
    pub(crate) const SO_REUSEPORT: Name = (libc::SOL_SOCKET, libc::SO_REUSEPORT);
    pub(crate) const SO_BUF_LOCK: Name = (libc::SOL_SOCKET, libc::SO_BUF_LOCK);
    pub(crate) const SO_LINGER: Name = (libc::SOL_SOCKET, libc::SO_LINGER);
    pub(crate) const SO_SNDBUF: Name = (libc::SOL_SOCKET, libc::SO_SNDBUF);
    pub(crate) const SO_RCVBUF: Name = (libc::SOL_SOCKET, libc::SO_RCVBUF);
    pub(crate) const SO_MAX_PACING_RATE: Name = (libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE);
    pub(crate) const SO_INCOMING_CPU: Name = (libc::SOL_SOCKET, libc::SO_INCOMING_CPU);
    pub(crate) const TCP_NODELAY: Name = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
    pub(crate) const TCP_MAXSEG: Name = (libc::IPPROTO_TCP, libc::TCP_MAXSEG);
    pub(crate) const TCP_SYNCNT: Name = (libc::IPPROTO_TCP, libc::TCP_SYNCNT);
    pub(crate) const TCP_USER_TIMEOUT: Name = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
    pub(crate) const TCP_FASTOPEN: Name = (libc::IPPROTO_TCP, libc::TCP_FASTOPEN);
    pub(crate) const IP_TOS: Name = (libc::IPPROTO_IP, libc::IP_TOS);
    pub(crate) const IP_BIND_ADDRESS_NO_PORT: Name =
        (libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    pub(crate) const IPV6_V6ONLY: Name = (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
}

/// `TCP_IS_MPTCP` and others that libc does not name are left out on purpose: a kernel without them
/// says ENOPROTOOPT, and so do we.
const SPECS: &[(Name, Spec)] = &[
    (name::SO_REUSEADDR, Spec::Flag(false)),
    (name::SO_REUSEPORT, Spec::Flag(false)),
    (
        name::SO_BUF_LOCK,
        Spec::Range {
            min: 0,
            max: 3,
            default: 0,
        },
    ),
    (
        name::SO_INCOMING_CPU,
        Spec::Range {
            min: i32::MIN,
            max: i32::MAX,
            default: -1,
        },
    ),
    (
        (libc::SOL_SOCKET, libc::SO_TXREHASH),
        Spec::Range {
            min: -1,
            max: 1,
            default: 1,
        },
    ),
    (
        name::TCP_SYNCNT,
        Spec::Range {
            min: 1,
            max: 127,
            default: 0,
        },
    ),
    (
        name::TCP_USER_TIMEOUT,
        Spec::Range {
            min: 0,
            max: i32::MAX,
            default: 0,
        },
    ),
    (name::TCP_NODELAY, Spec::Flag(false)),
    ((libc::IPPROTO_TCP, libc::TCP_CORK), Spec::Flag(false)),
    ((libc::IPPROTO_TCP, libc::TCP_QUICKACK), Spec::Flag(true)),
    (
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        Spec::Range {
            min: 1,
            max: 32_767,
            default: 7200,
        },
    ),
    (
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        Spec::Range {
            min: 1,
            max: 32_767,
            default: 75,
        },
    ),
    (
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        Spec::Range {
            min: 1,
            max: 127,
            default: 9,
        },
    ),
    ((libc::IPPROTO_TCP, libc::TCP_LINGER2), Spec::FinTimeout),
    (
        (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
        Spec::Retransmissions,
    ),
    (
        name::TCP_FASTOPEN,
        Spec::Range {
            min: 0,
            max: i32::MAX,
            default: 0,
        },
    ),
    (
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT),
        Spec::Range {
            min: i32::MIN,
            max: i32::MAX,
            default: 0,
        },
    ),
    (name::IP_TOS, Spec::Tos),
    ((libc::IPPROTO_IP, libc::IP_TTL), Spec::Hops { min: 1 }),
    (
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        Spec::Range {
            min: 0,
            max: 5,
            default: 1,
        },
    ),
    ((libc::IPPROTO_IP, libc::IP_RECVERR), Spec::Flag(false)),
    ((libc::IPPROTO_IP, libc::IP_FREEBIND), Spec::Flag(false)),
    (name::IP_BIND_ADDRESS_NO_PORT, Spec::Flag(false)),
    (name::IPV6_V6ONLY, Spec::Flag(false)),
    (
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        Spec::Hops { min: 0 },
    ),
    ((libc::IPPROTO_IPV6, libc::IPV6_TCLASS), Spec::TrafficClass),
    ((libc::IPPROTO_IPV6, libc::IPV6_RECVERR), Spec::Flag(false)),
    (
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
        Spec::Range {
            min: 0,
            max: 5,
            default: 1,
        },
    ),
];

/// IPDEFTTL, RFC 1700; IPv6's current hop limit.
const DEFAULT_HOPS: i32 = 64;

/// net.ipv4.tcp_fin_timeout's default, in seconds.
const FIN_TIMEOUT: i32 = 60;
/// TCP_FIN_TIMEOUT_MAX, in seconds.
const LONGEST_FIN_TIMEOUT: i32 = 120;
/// TCP_RTO_MAX, in seconds: the pause between retransmissions grows no further.
const LONGEST_PAUSE: i32 = 120;
/// Retransmissions that the kernel counts in a byte.
const MOST_RETRANSMISSIONS: usize = 255;

/// secs_to_retrans and retrans_to_secs: the time in which so many retransmissions take place that it
/// is `seconds` or more.
fn retransmissions(seconds: i32) -> i32 {
    let pauses = std::iter::successors(Some(1), |pause| Some((pause * 2).min(LONGEST_PAUSE)));
    let times = pauses.scan(0, |time: &mut i32, pause| {
        *time = time.saturating_add(pause);
        Some(*time)
    });
    let mut times = times.take(MOST_RETRANSMISSIONS);
    match seconds {
        ..=0 => 0,
        _ => times.find(|&time| time >= seconds).unwrap_or(i32::MAX),
    }
}

/// What an integer option accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spec {
    /// Any number, kept as 0 or 1.
    Flag(bool),
    /// Numbers from `min` to `max`; others are EINVAL. `default` may lie outside: "not set".
    Range {
        /// Smallest number taken.
        min: i32,
        /// Largest number taken.
        max: i32,
        /// What getsockopt(2) gives before it is set.
        default: i32,
    },
    /// A hop limit: −1 means the default.
    Hops {
        /// Smallest limit taken.
        min: i32,
    },
    /// A type-of-service byte, whatever the number: the two ECN bits are the protocol's own (RFC 3168).
    Tos,
    /// The same for IPv6, where other numbers are EINVAL, and −1 means 0.
    TrafficClass,
    /// Seconds in FIN-WAIT-2: 0 means the default, a negative number none, and there is a longest.
    FinTimeout,
    /// Seconds, kept as those that the next number of retransmissions takes: 1, 3, 7, 15 …
    Retransmissions,
}

impl Spec {
    /// The specification of an option for a socket of `family`; none if there is no such option.
    pub(crate) fn of(name: Name, family: Family) -> Option<Self> {
        if name.0 == libc::IPPROTO_IPV6 && family == Family::V4 {
            return None;
        }
        SPECS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, spec)| *spec)
    }

    fn default(self) -> i32 {
        match self {
            Self::Flag(on) => i32::from(on),
            Self::Range { default, .. } => default,
            Self::Hops { .. } => DEFAULT_HOPS,
            Self::FinTimeout => FIN_TIMEOUT,
            Self::Tos | Self::TrafficClass | Self::Retransmissions => 0,
        }
    }

    /// The value that is kept when `value` is set; none if that is EINVAL.
    pub(crate) fn accept(self, value: i32) -> Option<i32> {
        const TOS_BITS: i32 = 0xfc;
        match self {
            Self::Flag(_) => Some(i32::from(value != 0)),
            Self::Range { min, max, .. } => (min..=max).contains(&value).then_some(value),
            Self::Hops { .. } if value == -1 => Some(DEFAULT_HOPS),
            Self::Hops { min } => (min..=255).contains(&value).then_some(value),
            Self::Tos => Some(value & TOS_BITS),
            Self::TrafficClass if value == -1 => Some(0),
            Self::TrafficClass => (0..=255).contains(&value).then_some(value & TOS_BITS),
            Self::FinTimeout if value == 0 => Some(FIN_TIMEOUT),
            Self::FinTimeout => Some(value.clamp(-1, LONGEST_FIN_TIMEOUT)),
            Self::Retransmissions => Some(retransmissions(value)),
        }
    }
}

/// The option values a program has set; all others have their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Few options are ever set, so a list is smaller and quicker than a map.
    set: Vec<(Name, i32)>,
    /// SO_LINGER, if it was set.
    pub(crate) linger: Option<Linger>,
    /// SO_MAX_PACING_RATE in bytes a second, if it was set.
    pub(crate) pacing_rate: Option<u64>,
}

/// struct linger, socket(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Linger {
    /// l_onoff.
    pub(crate) on: bool,
    /// l_linger, in seconds.
    pub(crate) seconds: i32,
}

impl Options {
    /// The value of an integer option: what was set, or its default.
    pub(crate) fn value(&self, name: Name) -> i32 {
        self.get(name).unwrap_or_else(|| {
            SPECS
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(0, |(_, spec)| spec.default())
        })
    }

    /// The value that was set, if any.
    pub(crate) fn get(&self, name: Name) -> Option<i32> {
        self.set
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    /// Whether a flag is on.
    pub(crate) fn flag(&self, name: Name) -> bool {
        self.value(name) != 0
    }

    /// Forgets a value.
    pub(crate) fn unset(&mut self, name: Name) {
        self.set.retain(|(known, _)| *known != name);
    }

    /// Keeps a value.
    pub(crate) fn set(&mut self, name: Name, value: i32) {
        match self.set.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.set.push((name, value)),
        }
    }
}

/// The system's own limits that TCP obeys, tcp(7) /proc interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// net.core.somaxconn.
    pub(crate) somaxconn: usize,
    /// net.core.wmem_max, in bytes.
    pub(crate) wmem_max: i32,
    /// net.core.rmem_max, in bytes.
    pub(crate) rmem_max: i32,
    /// Middle value of net.ipv4.tcp_wmem, in bytes: SO_SNDBUF of a new socket.
    pub(crate) wmem_default: i32,
    /// Middle value of net.ipv4.tcp_rmem, in bytes: SO_RCVBUF of a new socket.
    pub(crate) rmem_default: i32,
    /// net.ipv4.tcp_syn_retries.
    pub(crate) syn_retries: u32,
    /// net.ipv4.ip_unprivileged_port_start: lower ports need CAP_NET_BIND_SERVICE.
    pub(crate) unprivileged_ports: u16,
}

impl Default for Limits {
    /// The kernel's own defaults.
    fn default() -> Self {
        Self {
            somaxconn: 4096,
            wmem_max: 212_992,
            rmem_max: 212_992,
            wmem_default: 16_384,
            rmem_default: 131_072,
            syn_retries: 6,
            unprivileged_ports: 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_until_a_value_is_set() {
        let mut options = Options::default();
        assert!(options.flag((libc::IPPROTO_TCP, libc::TCP_QUICKACK)));
        assert_eq!(options.value((libc::IPPROTO_TCP, libc::TCP_KEEPIDLE)), 7200);
        options.set(name::SO_REUSEADDR, 1);
        options.set(name::SO_REUSEADDR, 0);
        assert_eq!(options.get(name::SO_REUSEADDR), Some(0));
    }

    #[test]
    fn ranges_and_flags_are_the_kernels() {
        let keepcnt = Spec::of((libc::IPPROTO_TCP, libc::TCP_KEEPCNT), Family::V4).unwrap();
        assert_eq!(keepcnt.accept(127), Some(127));
        assert_eq!(keepcnt.accept(128), None);
        let nodelay = Spec::of((libc::IPPROTO_TCP, libc::TCP_NODELAY), Family::V6).unwrap();
        assert_eq!(nodelay.accept(-7), Some(1));
        assert_eq!(Spec::Tos.accept(0x13), Some(0x10));
        assert_eq!(Spec::Tos.accept(-1), Some(0xfc));
        assert_eq!(Spec::TrafficClass.accept(-1), Some(0));
        assert_eq!(Spec::TrafficClass.accept(256), None);
        assert_eq!(Spec::FinTimeout.accept(500), Some(120));
        let seconds = [-1, 0, 1, 2, 5, 8].map(|seconds| Spec::Retransmissions.accept(seconds));
        assert_eq!(seconds, [0, 0, 1, 3, 7, 15].map(Some));
    }

    #[test]
    fn ipv6_options_do_not_exist_on_ipv4_sockets() {
        assert_eq!(Spec::of(name::IPV6_V6ONLY, Family::V4), None);
        assert!(Spec::of(name::IP_TOS, Family::V6).is_some());
    }
}
