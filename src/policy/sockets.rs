//! Which calls of socket(2) make emulated sockets: `--socket`.
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

/// Most triples that are taken: each is some instructions of the filter that every socket(2) runs
/// through.
const MOST: usize = 64;

/// A domain, SOCK_STREAM, and a protocol, as socket(2) takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Triple {
    /// AF_INET or AF_INET6.
    pub(crate) domain: i32,
    /// Any number that is not negative.
    pub(crate) protocol: i32,
}

/// One value of `--socket`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// `tcp`: what is emulated without the option.
    Tcp,
    /// One triple.
    Triple(Triple),
}

/// The triples of one run. By default those of TCP: AF_INET and AF_INET6, and the protocols 0,
/// IPPROTO_TCP and IPPROTO_MPTCP (Go listens with MPTCP since 1.24).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sockets(Vec<Triple>);

/// Why a text names no sockets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSocket {
    /// Not three fields.
    #[error(
        "write DOMAIN,TYPE,PROTOCOL as in socket(2), such as AF_INET,SOCK_STREAM,123456; or tcp, for the \
         sockets that are emulated without this option"
    )]
    Form,
    /// Another domain.
    #[error(
        "the domain \"{0}\" cannot be emulated: connections are between internet addresses, so it must be \
         AF_INET or AF_INET6"
    )]
    Domain(String),
    /// Another type.
    #[error(
        "the type \"{0}\" cannot be emulated: a connection carries a stream of bytes, so it must be \
         SOCK_STREAM, without flags (they do not matter)"
    )]
    Type(String),
    /// Neither the name nor the number of a protocol.
    #[error(
        "\"{0}\" is not a protocol: write a number from 0 to 2147483647, made up or not, or a name \
         such as IPPROTO_TCP"
    )]
    Protocol(String),
}

/// More than the filter has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "--socket: {0} kinds of sockets are more than the {MOST} there is room for; leave some out"
)]
pub(crate) struct TooMany(usize);

impl Default for Sockets {
    fn default() -> Self {
        Self(tcp().collect())
    }
}

fn tcp() -> impl Iterator<Item = Triple> {
    let protocols = [0, libc::IPPROTO_TCP, libc::IPPROTO_MPTCP];
    let of = move |domain| protocols.map(|protocol| Triple { domain, protocol });
    [libc::AF_INET, libc::AF_INET6].into_iter().flat_map(of)
}

impl Sockets {
    /// What the values of `--socket` come to; none of them are the default.
    ///
    /// # Errors
    /// More triples than the filter has room for.
    pub(crate) fn new(choices: &[Choice]) -> Result<Self, TooMany> {
        if choices.is_empty() {
            return Ok(Self::default());
        }
        let mut triples = Vec::new();
        for choice in choices {
            match choice {
                Choice::Tcp => triples.extend(tcp()),
                Choice::Triple(triple) => triples.push(*triple),
            }
        }
        triples.sort_by_key(|triple| (triple.domain, triple.protocol));
        triples.dedup();
        match triples.len() {
            0..=MOST => Ok(Self(triples)),
            many => Err(TooMany(many)),
        }
    }

    /// Each of them.
    pub(crate) fn triples(&self) -> &[Triple] {
        &self.0
    }
}

impl FromStr for Choice {
    type Err = BadSocket;

    fn from_str(text: &str) -> Result<Self, BadSocket> {
        if text.eq_ignore_ascii_case("tcp") {
            return Ok(Self::Tcp);
        }
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        let &[domain, kind, protocol] = fields.as_slice() else {
            return Err(BadSocket::Form);
        };
        let domain = match named(domain, &["AF_", "PF_"], DOMAINS) {
            Some(number @ (libc::AF_INET | libc::AF_INET6)) => number,
            _ => return Err(BadSocket::Domain(domain.to_owned())),
        };
        if named(kind, &["SOCK_"], TYPES) != Some(libc::SOCK_STREAM) {
            return Err(BadSocket::Type(kind.to_owned()));
        }
        let protocol = named(protocol, &["IPPROTO_"], PROTOCOLS)
            .ok_or_else(|| BadSocket::Protocol(protocol.to_owned()))?;
        Ok(Self::Triple(Triple { domain, protocol }))
    }
}

/// Names without their prefixes, and numbers.
type Names = &'static [(&'static str, i32)];

const DOMAINS: Names = &[("INET", libc::AF_INET), ("INET6", libc::AF_INET6)];
const TYPES: Names = &[("STREAM", libc::SOCK_STREAM)];
/// Those of netinet/in.h that have streams, or could be asked for by mistake.
const PROTOCOLS: Names = &[
    ("IP", libc::IPPROTO_IP),
    ("TCP", libc::IPPROTO_TCP),
    ("UDP", libc::IPPROTO_UDP),
    ("DCCP", libc::IPPROTO_DCCP),
    ("SCTP", libc::IPPROTO_SCTP),
    ("MPTCP", libc::IPPROTO_MPTCP),
];

/// The number that a field stands for: a name of any case, with or without one of `prefixes`; or a
/// decimal number.
fn named(field: &str, prefixes: &[&str], names: Names) -> Option<i32> {
    if !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit()) {
        return field.parse().ok();
    }
    let upper = field.to_ascii_uppercase();
    let bare = prefixes
        .iter()
        .find_map(|prefix| upper.strip_prefix(prefix));
    let bare = bare.unwrap_or(&upper);
    let found = names.iter().find(|(name, _)| *name == bare);
    found.map(|(_, number)| *number)
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Triple(Triple { domain, protocol }) => {
                let domain = if *domain == libc::AF_INET {
                    "AF_INET"
                } else {
                    "AF_INET6"
                };
                write!(f, "{domain},SOCK_STREAM,{protocol}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triple(domain: i32, protocol: i32) -> Choice {
        Choice::Triple(Triple { domain, protocol })
    }

    #[test]
    fn names_and_numbers_are_understood() {
        for (text, expected) in [
            ("AF_INET,SOCK_STREAM,123456", triple(2, 123_456)),
            ("inet6,stream,0", triple(10, 0)),
            ("pf_inet , Sock_Stream , IPPROTO_SCTP", triple(2, 132)),
            ("2,1,2147483647", triple(2, i32::MAX)),
            ("10,1,mptcp", triple(10, 262)),
            ("tcp", Choice::Tcp),
            ("TCP", Choice::Tcp),
        ] {
            let found: Choice = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(found, expected, "{text}");
            assert_eq!(found.to_string().parse(), Ok(expected));
        }
    }

    #[test]
    fn what_cannot_be_emulated_is_said_with_the_reason() {
        for (text, words) in [
            ("", "write DOMAIN,TYPE,PROTOCOL"),
            ("inet,stream", "write DOMAIN,TYPE,PROTOCOL"),
            ("inet,stream,1,2", "write DOMAIN,TYPE,PROTOCOL"),
            ("AF_UNIX,SOCK_STREAM,0", "between internet addresses"),
            ("1,1,0", "\"1\" cannot be emulated"),
            ("inet,SOCK_DGRAM,0", "a stream of bytes"),
            ("inet,2049,0", "without flags"),
            ("inet,stream,-1", "\"-1\" is not a protocol"),
            ("inet,stream,2147483648", "is not a protocol"),
            ("inet,stream,", "\"\" is not a protocol"),
            ("inet,stream,+6", "is not a protocol"),
        ] {
            let error = text.parse::<Choice>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_chosen_takes_the_place_of_tcp() {
        let default = Sockets::default();
        assert_eq!(default.triples().len(), 6);
        assert_eq!(Sockets::new(&[]), Ok(default.clone()));
        assert_eq!(Sockets::new(&[Choice::Tcp, triple(10, 6)]), Ok(default));
        let made_up = Sockets::new(&[triple(2, 7)]).unwrap();
        assert_eq!(
            made_up.triples(),
            [Triple {
                domain: 2,
                protocol: 7
            }]
        );
        let both = Sockets::new(&[triple(2, 7), Choice::Tcp]).unwrap();
        assert_eq!(both.triples().len(), 7);
        let many: Vec<_> = (0..65).map(|protocol| triple(2, protocol)).collect();
        assert!(Sockets::new(&many[..64]).is_ok());
        assert_eq!(Sockets::new(&many), Err(TooMany(65)));
    }
}
