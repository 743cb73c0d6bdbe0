//! socket(2): the socket object and its states.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use super::{
    address,
    options::{Options, name},
    transport::PathInfo,
};

/// A socket's identity: a SO_COOKIE, which survives dup, fork, exec and SCM_RIGHTS and is never used
/// twice. It is that of the program's end, or of our end if accept(2) made the program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SocketId(pub(crate) u64);

/// Address family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// AF_INET, ip(7).
    V4,
    /// AF_INET6, ipv6(7).
    V6,
}

impl Family {
    /// The AF_* number, as SO_DOMAIN reports it.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }

    /// The wildcard address with port 0: what getsockname(2) gives for an unbound socket.
    pub(crate) fn unspecified(self) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Self::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }
}

/// Where a socket stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Neither connected nor listening (TCP_CLOSE), bound or not.
    Idle,
    /// connect(2) has begun (TCP_SYN_SENT).
    Connecting {
        /// Where to.
        peer: SocketAddr,
    },
    /// Established. `announced`: a connect(2) call has returned 0, so that the next one is EISCONN.
    Connected {
        /// The other end.
        peer: SocketAddr,
        /// Whether connect(2) has told the program.
        announced: bool,
    },
    /// A non-blocking connect has failed, or its connection is over again, which connect(2) has not
    /// said yet; the pair shows it by hanging up.
    Failed,
    /// listen(2) was called.
    Listening {
        /// Connections that may wait for accept(2).
        backlog: usize,
    },
    /// The connection is over (TCP_CLOSE): ended by both sides, reset, or lost.
    Closed,
}

/// An emulated TCP socket.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    /// AF_INET or AF_INET6.
    pub(crate) family: Family,
    /// What SO_PROTOCOL reports: the number that socket(2) was called with, IPPROTO_TCP for 0.
    pub(crate) protocol: i32,
    /// Values that setsockopt(2) stored.
    pub(crate) options: Options,
    /// The local address: from bind(2), or chosen by connect(2), listen(2) or accept(2).
    pub(crate) local: Option<SocketAddr>,
    /// Whether its port is the socket's (the kernel's inet_num). getsockname(2) goes on showing a port
    /// that was given back.
    pub(crate) has_port: bool,
    /// What of the local address outlives the end of a connection.
    pub(crate) bound: Bound,
    /// Where the socket stands.
    pub(crate) state: State,
    /// The error that SO_ERROR returns, once.
    pub(crate) error: Option<Errno>,
    /// Directions of the connection that have ended.
    pub(crate) ends: Ends,
    /// The connection's path as it was told last, which is asked for before the network knows it and after it does.
    pub(crate) path: Option<Box<PathInfo>>,
}

/// What bind(2) fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bound {
    /// An address other than the wildcard (SOCK_BINDADDR_LOCK).
    pub(crate) address: bool,
    /// A port other than 0 (SOCK_BINDPORT_LOCK).
    pub(crate) port: bool,
}

/// Which directions of a connection have ended, while it is still established.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ends {
    /// The program has called shutdown(2) for reading.
    pub(crate) shut_read: bool,
    /// The program has called shutdown(2) for writing: FIN was sent.
    pub(crate) shut_write: bool,
    /// The peer's FIN was shown.
    pub(crate) peer_finished: bool,
}

impl Socket {
    /// A new socket for the triple that socket(2) was called with; flags in `kind` do not matter.
    ///
    /// # Errors
    /// EAFNOSUPPORT, ESOCKTNOSUPPORT: socket(2).
    pub(crate) fn new(domain: i32, kind: i32, protocol: i32) -> Result<Self, Errno> {
        let family = match domain {
            libc::AF_INET => Family::V4,
            libc::AF_INET6 => Family::V6,
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        if kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != libc::SOCK_STREAM {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        // IPPROTO_IP asks for the protocol of the type. Other numbers, known to the kernel or not, are
        // those that were chosen to be emulated.
        let protocol = match protocol {
            libc::IPPROTO_IP => libc::IPPROTO_TCP,
            chosen => chosen,
        };
        Ok(Self {
            family,
            protocol,
            options: Options::default(),
            local: None,
            has_port: false,
            bound: Bound::default(),
            state: State::Idle,
            error: None,
            ends: Ends::default(),
            path: None,
        })
    }

    /// The socket that accept(2) returns for a connection to `self`: options are inherited, tcp(7).
    pub(crate) fn accepted(&self, local: SocketAddr, peer: SocketAddr) -> Self {
        let mut options = self.options.clone();
        options.unset(name::SO_INCOMING_CPU);
        Self {
            family: self.family,
            protocol: self.protocol,
            options,
            local: Some(local),
            has_port: true,
            bound: Bound::default(),
            state: State::Connected {
                peer,
                announced: true,
            },
            error: None,
            ends: Ends::default(),
            path: None,
        }
    }

    /// Records that the connection is established, from this local address.
    ///
    /// Returns false when the program has given up meanwhile.
    pub(crate) fn established(&mut self, local: SocketAddr) -> bool {
        match self.state {
            State::Connecting { peer } => {
                self.local = Some(address::in_family(local, self.family));
                self.state = State::Connected {
                    peer,
                    announced: false,
                };
                self.ends = Ends::default();
                self.options.unset(name::SO_INCOMING_CPU);
                true
            }
            _ => false,
        }
    }

    /// Records that the connection attempt has failed, so that the next SO_ERROR or connect(2)
    /// returns `error`.
    pub(crate) fn failed(&mut self, error: Errno) {
        if matches!(self.state, State::Connecting { .. }) {
            self.state = State::Failed;
            self.error = Some(error);
            self.give_port_back();
        }
    }

    /// A connect(2) that waited returns why the attempt has failed: the socket can serve another one.
    pub(crate) fn failure_told(&mut self) {
        self.disconnected();
        self.error = None;
    }

    /// Goes back to unconnected (tcp_disconnect): after a failure that connect(2) has told, or when
    /// shutdown(2) ends an attempt or a listener.
    pub(crate) fn disconnected(&mut self) {
        self.state = State::Idle;
        self.path = None;
        self.give_port_back();
        if !self.bound.address
            && let Some(local) = &mut self.local
        {
            local.set_ip(self.family.unspecified().ip());
        }
    }

    /// Records that the connection was lost: SO_ERROR gives `error`, or what tcp_reset makes of it when
    /// the peer had sent FIN (CLOSE_WAIT).
    pub(crate) fn reset(&mut self, error: Errno) {
        let close_wait = self.ends.peer_finished && !self.ends.shut_write;
        self.finished();
        self.error = Some(match error {
            Errno::ECONNRESET if close_wait => Errno::EPIPE,
            error => error,
        });
    }

    /// Records that both sides have ended the connection in order. If connect(2) has not told of it
    /// yet, the next one tells that it is over.
    pub(crate) fn finished(&mut self) {
        let State::Connected { announced, .. } = self.state else {
            return;
        };
        self.state = if announced {
            State::Closed
        } else {
            State::Failed
        };
        self.give_port_back();
    }

    /// Whether connect(2) has yet to say what has become of a connection, if it has not elsewhere.
    pub(crate) fn is_untold(&self) -> bool {
        matches!(
            self.state,
            State::Connected {
                announced: false,
                ..
            } | State::Failed
        )
    }

    /// Records that connect(2) has told of the connection without being asked here; it may be over since.
    pub(crate) fn announced(&mut self) {
        match &mut self.state {
            State::Connected { announced, .. } => *announced = true,
            State::Failed => self.state = State::Closed,
            _ => {}
        }
    }

    /// Whether TCP's own state is CLOSE (or TIME_WAIT, where the socket itself is closed) after a
    /// connection. The network may not have said so yet when both FINs are known here.
    pub(crate) fn is_over(&self) -> bool {
        match self.state {
            State::Closed => true,
            State::Connected { .. } => self.ends.shut_write && self.ends.peer_finished,
            _ => false,
        }
    }

    /// Whether both directions of the pair are shut down while the program may still hold it: AF_UNIX
    /// then hangs up as it does for close(2).
    pub(crate) fn hangs_up_while_open(&self) -> bool {
        self.ends.shut_write && (self.ends.shut_read || self.ends.peer_finished)
    }

    /// tcp_set_state(TCP_CLOSE) gives back a port that bind(2) has not fixed.
    fn give_port_back(&mut self) {
        self.has_port &= self.bound.port;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emul::testing::{LOCAL, PEER, tcp};

    #[test]
    fn only_stream_sockets_of_the_internet_families_exist() {
        let nonblock = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
        assert!(Socket::new(libc::AF_INET6, nonblock, libc::IPPROTO_MPTCP).is_ok());
        let errno = |domain, kind, protocol| Socket::new(domain, kind, protocol).unwrap_err();
        assert_eq!(
            errno(libc::AF_UNIX, libc::SOCK_STREAM, 0),
            Errno::EAFNOSUPPORT
        );
        assert_eq!(
            errno(libc::AF_INET, libc::SOCK_DGRAM, 0),
            Errno::ESOCKTNOSUPPORT
        );
    }

    #[test]
    fn the_protocol_is_the_chosen_one() {
        for (protocol, shown) in [(0, 6), (6, 6), (262, 262), (123_456, 123_456)] {
            let socket = Socket::new(libc::AF_INET, libc::SOCK_STREAM, protocol).unwrap();
            assert_eq!(socket.protocol, shown);
            let local = socket.family.unspecified();
            assert_eq!(socket.accepted(local, PEER).protocol, shown);
        }
    }

    #[test]
    fn an_established_event_counts_only_while_connecting() {
        let mut socket = tcp();
        assert!(!socket.established(LOCAL));
        socket.state = State::Connecting { peer: PEER };
        assert!(socket.established(LOCAL));
        assert_eq!(
            socket.state,
            State::Connected {
                peer: PEER,
                announced: false
            }
        );
    }

    #[test]
    fn a_failure_gives_back_a_port_that_bind_did_not_fix_but_shows_it() {
        let mut socket = tcp();
        socket.local = Some("127.0.0.1:40000".parse().unwrap());
        socket.has_port = true;
        socket.state = State::Connecting { peer: PEER };
        socket.failed(Errno::ECONNREFUSED);
        assert_eq!(socket.error, Some(Errno::ECONNREFUSED));
        assert!(!socket.has_port);
        assert_eq!(socket.local, Some("127.0.0.1:40000".parse().unwrap()));
        socket.disconnected();
        assert_eq!(socket.local, Some("0.0.0.0:40000".parse().unwrap()));
    }

    #[test]
    fn a_bound_address_outlives_a_failure() {
        let mut socket = tcp();
        socket.local = Some("127.0.0.2:80".parse().unwrap());
        socket.has_port = true;
        socket.bound = Bound {
            address: true,
            port: true,
        };
        socket.state = State::Connecting { peer: PEER };
        socket.failed(Errno::ECONNREFUSED);
        socket.disconnected();
        assert!(socket.has_port);
        assert_eq!(socket.local, Some("127.0.0.2:80".parse().unwrap()));
    }

    #[test]
    fn a_connection_is_over_when_both_fins_are_known() {
        let mut socket = tcp();
        socket.state = State::Connected {
            peer: PEER,
            announced: true,
        };
        socket.ends.shut_write = true;
        assert!(!socket.is_over());
        socket.ends.peer_finished = true;
        assert!(socket.is_over());
    }
}
