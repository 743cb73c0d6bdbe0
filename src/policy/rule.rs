//! One rule: an address range, a range of ports, or both.
#![forbid(unsafe_code)]

use std::{
    cmp::Reverse,
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};

/// Bits in front of the IPv4 address in a v4-mapped one, RFC 4291 section 2.5.5.2.
const MAPPED_BITS: u8 = 96;

/// `10.0.0.0/8`, `10.0.0.5:5432`, `[2001:db8::]/32:443`, `:8000-8999` and their like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Without one, every address of both families. Never a v4-mapped one.
    net: Option<IpNet>,
    /// Without them, all.
    ports: Option<Ports>,
}

/// The ports from the first to the second, 1 at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports(u16, u16);

/// How much a rule says: prefix bits, then how few ports, then whether it has an address at all.
pub(super) type Specificity = (u8, Reverse<u32>, bool);

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRule {
    /// Nothing at all, or neither address nor port.
    #[error(
        "a rule is an address, a port or both: 10.0.0.0/8, 10.0.0.5:5432, [2001:db8::]/32:443, :22, :8000-8999"
    )]
    Empty,
    /// The address part is something else; perhaps a name.
    #[error(
        "\"{0}\" is not an IP address, and rules are about addresses, for that is what a program \
         connects to; write the addresses that a name stands for (getent ahosts NAME)"
    )]
    Address(String),
    /// An IPv6 address, without brackets, and more.
    #[error(
        "\"{0}\" is not an IPv6 address; with a port the address stands in brackets: [2001:db8::]/32:443"
    )]
    Brackets(String),
    /// `[` without `]`.
    #[error("the bracket before the IPv6 address is not closed")]
    Unclosed,
    /// An interface behind `%`.
    #[error("\"{0}\" names an interface, which rules do not know; leave out what follows %")]
    Scope(String),
    /// The number behind the slash.
    #[error("\"{text}\" is not a prefix length; it is a number from 0 to {max}")]
    Prefix {
        /// What stands there.
        text: String,
        /// Bits of an address of this family.
        max: u8,
    },
    /// Bits behind the prefix are set.
    #[error("{address} has bits set behind the prefix of {length}: write {right}")]
    HostBits {
        /// The address as it was written.
        address: IpAddr,
        /// The prefix length, in bits.
        length: u8,
        /// What the rule would match.
        right: IpNet,
    },
    /// The wildcard as one address.
    #[error(
        "{0} is no address of a connection, but the wildcard that listeners are bound to; write \
         {0}/0, or leave the address out, for every address"
    )]
    Wildcard(IpAddr),
    /// The number behind the colon.
    #[error(
        "\"{0}\" is not a port or a range of ports; ports are numbers from 1 to 65535: 5432, 8000-8999"
    )]
    Port(String),
    /// A range that ends before it begins.
    #[error("the ports {first}-{last} are none: the lower one comes first")]
    Reversed {
        /// What stands first.
        first: u16,
        /// What stands last.
        last: u16,
    },
}

impl Rule {
    /// Whether this is a rule about `address`, be it a destination's or a listener's.
    pub(super) fn matches(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let ports = self
            .ports
            .is_none_or(|ports| ports.range().contains(&address.port()));
        ports && self.net.is_none_or(|net| covers(&net, ip))
    }

    /// How specific the rule is: the greater of two wins.
    pub(super) fn specificity(&self) -> Specificity {
        let bits = self.net.map_or(0, |net| net.prefix_len());
        let ports = self.ports.map_or(u32::from(u16::MAX) + 1, Ports::count);
        (bits, Reverse(ports), self.net.is_some())
    }

    /// Whether an address may match both with neither being more specific.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        let ports = match (self.ports, other.ports) {
            (Some(one), Some(other)) => one.0 <= other.1 && other.0 <= one.1,
            _ => true,
        };
        // Of two prefixes of one length, each matches the other's addresses only if they are the same.
        ports && self.net == other.net && self.specificity() == other.specificity()
    }
}

/// The wildcard is in 0.0.0.0/8 by its bits, and yet a listener on every address is not what that means.
fn covers(net: &IpNet, ip: IpAddr) -> bool {
    net.contains(&ip) && (net.prefix_len() == 0 || !ip.is_unspecified())
}

impl Ports {
    fn range(self) -> RangeInclusive<u16> {
        self.0..=self.1
    }

    fn count(self) -> u32 {
        u32::from(self.1) - u32::from(self.0) + 1
    }
}

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let (address, length, ports) = split(text.trim())?;
        if address.is_none() && ports.is_none() {
            return Err(BadRule::Empty);
        }
        Ok(Self {
            net: address.map(|address| net(address, length)).transpose()?,
            ports: ports.map(str::parse).transpose()?,
        })
    }
}

/// Address, prefix length and ports, as texts.
type Parts<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

/// Takes a rule apart.
fn split(text: &str) -> Result<Parts<'_>, BadRule> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(BadRule::Unclosed)?;
        let (length, ports) = match rest.split_once(':') {
            Some((length, ports)) => (length, Some(ports)),
            None => (rest, None),
        };
        let length = match length {
            "" => None,
            length => Some(
                length
                    .strip_prefix('/')
                    .ok_or_else(|| BadRule::Brackets(text.to_owned()))?,
            ),
        };
        return Ok((Some(address), length, ports));
    }
    // More than one colon is IPv6 without brackets, which leaves no room for a port.
    let (front, ports) = match text.split_once(':') {
        Some((front, ports)) if !ports.contains(':') => (front, Some(ports)),
        _ => (text, None),
    };
    let (address, length) = match front.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (front, None),
    };
    match (address, length) {
        ("", None) => Ok((None, None, ports)),
        _ => Ok((Some(address), length, ports)),
    }
}

/// The network that an address and a prefix length stand for.
fn net(text: &str, length: Option<&str>) -> Result<IpNet, BadRule> {
    let address = address(text)?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => prefix_length(length, max)?,
        None => max,
    };
    let prefix = |text: &str| BadRule::Prefix {
        text: text.to_owned(),
        max,
    };
    let net = IpNet::new(address, length).map_err(|_| prefix(&length.to_string()))?;
    if net.addr() != net.network() {
        return Err(BadRule::HostBits {
            address,
            length,
            right: net.trunc(),
        });
    }
    let net = unmapped(net);
    if net.addr().is_unspecified() && net.prefix_len() == net.max_prefix_len() {
        return Err(BadRule::Wildcard(net.addr()));
    }
    Ok(net)
}

fn address(text: &str) -> Result<IpAddr, BadRule> {
    text.parse().map_err(|_| {
        let text = text.to_owned();
        if text.contains('%') {
            BadRule::Scope(text)
        } else if text.contains(':') {
            BadRule::Brackets(text)
        } else {
            BadRule::Address(text)
        }
    })
}

fn prefix_length(text: &str, max: u8) -> Result<u8, BadRule> {
    number(text)
        .and_then(|length| u8::try_from(length).ok())
        .filter(|length| *length <= max)
        .ok_or_else(|| match text.split_once(':') {
            Some(_) => BadRule::Brackets(text.to_owned()),
            None => BadRule::Prefix {
                text: text.to_owned(),
                max,
            },
        })
}

/// A decimal number without a sign, which `parse` would take.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// IPv4 in IPv6 clothes is IPv4, as it is where sockets are concerned.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let (Some(v4), Some(length)) = (
        v6.addr().to_ipv4_mapped(),
        v6.prefix_len().checked_sub(MAPPED_BITS),
    ) else {
        return net;
    };
    Ipv4Net::new(v4, length).map_or(net, IpNet::V4)
}

impl FromStr for Ports {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let port = |part: &str| {
            let port = number(part).filter(|port| *port != 0);
            port.ok_or_else(|| BadRule::Port(text.to_owned()))
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(BadRule::Reversed { first, last });
        }
        Ok(Self(first, last))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(net) = &self.net {
            match (net.addr(), self.ports) {
                (IpAddr::V6(address), Some(_)) => write!(f, "[{address}]")?,
                (address, _) => write!(f, "{address}")?,
            }
            if net.prefix_len() != net.max_prefix_len() {
                write!(f, "/{}", net.prefix_len())?;
            }
        }
        match self.ports {
            None => Ok(()),
            Some(Ports(first, last)) if first == last => write!(f, ":{first}"),
            Some(Ports(first, last)) => write!(f, ":{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let rule = text.parse::<Rule>().map(|rule| rule.to_string());
        rule.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_form_is_understood() {
        for text in [
            "10.0.0.0/8",
            "10.0.0.5",
            "10.0.0.5:5432",
            "10.0.0.0/8:1024-2047",
            ":5432",
            ":8000-8999",
            "[2001:db8::]/32:443",
            "[::1]:80",
            "2001:db8::/32",
            "::1",
            "::/0",
            "0.0.0.0/0:80",
        ] {
            assert_eq!(shown(text), text);
        }
        for (text, plain) in [
            ("[2001:db8::]/32", "2001:db8::/32"),
            ("10.0.0.5/32:80-80", "10.0.0.5:80"),
            ("::ffff:10.0.0.5", "10.0.0.5"),
            ("[::ffff:10.0.0.0]/104:80", "10.0.0.0/8:80"),
            ("  :22 ", ":22"),
        ] {
            assert_eq!(shown(text), plain, "{text}");
        }
    }

    #[test]
    fn what_is_no_rule_is_named_with_its_cause() {
        for (text, words) in [
            ("", "a rule is an address, a port or both"),
            (":", "\"\" is not a port"),
            ("example.org", "\"example.org\" is not an IP address"),
            ("example.org:443", "addresses that a name stands for"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("[2001:db8::1]/32:443", "write 2001:db8::/32"),
            ("10.0.0.0/33", "\"33\" is not a prefix length"),
            ("[::1]/129", "0 to 128"),
            ("10.0.0.0/", "\"\" is not a prefix length"),
            ("10.0.0.0/+8", "\"+8\" is not a prefix length"),
            ("/8", "\"\" is not an IP address"),
            ("2001:db8::/32:443", "stands in brackets"),
            ("2001:db8::1::80", "stands in brackets"),
            ("[::1", "not closed"),
            ("[::1]80", "stands in brackets"),
            ("[fe80::1%eth0]:80", "leave out what follows %"),
            (":0", "\"0\" is not a port"),
            (":65536", "\"65536\" is not a port"),
            (":+22", "\"+22\" is not a port"),
            (":http", "\"http\" is not a port"),
            (":1-2-3", "\"1-2-3\" is not a port"),
            (":9-8", "the lower one comes first"),
            ("0.0.0.0:22", "write 0.0.0.0/0"),
            ("::", "write ::/0"),
            ("::ffff:0.0.0.0", "write 0.0.0.0/0"),
        ] {
            let error = text.parse::<Rule>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_understood_again(
            v6 in any::<bool>(), bits in any::<u128>(), length in 0u8..=128,
            some in any::<bool>(), ports in prop::option::of((1u16.., 1u16..)),
        ) {
            let net = if v6 {
                ipnet::Ipv6Net::new(bits.into(), length).unwrap().trunc().to_string()
            } else {
                Ipv4Net::new((bits as u32).into(), length % 33).unwrap().trunc().to_string()
            };
            let ports = ports.map(|(a, b)| format!(":{}-{}", a.min(b), a.max(b)));
            prop_assume!(some || ports.is_some());
            let (address, length) = net.split_once('/').unwrap();
            let address = if v6 { format!("[{address}]/{length}") } else { net.clone() };
            let text = format!("{}{}", if some { &address } else { "" }, ports.unwrap_or_default());
            prop_assume!(!some || !net.ends_with("::/128") && net != "0.0.0.0/32");
            let rule: Rule = text.parse().unwrap();
            prop_assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}|[0-9a-f:./\\[\\]-]{0,40}") {
            let _ = text.parse::<Rule>();
        }
    }
}
