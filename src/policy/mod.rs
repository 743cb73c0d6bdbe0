//! Which sockets are emulated (`--socket`), and which of their connections are carried by QUIC and
//! which stay on TCP (`--tcp` and `--quic`).
//!
//! A rule is about addresses alone, for a connect(2) or bind(2) names nothing else. The same rules
//! hold for destinations and for the addresses that listeners are bound to.
#![forbid(unsafe_code)]

mod explain;
mod rule;
mod sockets;

use std::{cmp::Reverse, fmt, net::SocketAddr};

pub(crate) use explain::explain;
pub(crate) use rule::Rule;
pub(crate) use sockets::{Choice, Sockets, TooMany, Triple};

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// A stream of a QUIC connection.
    Quic,
    /// TCP, as without quicwrap.
    Tcp,
}

impl Carrier {
    /// The option that makes rules for this carrier, without dashes.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "QUIC",
            Self::Tcp => "TCP",
        })
    }
}

/// The rules of one run. By default everything is QUIC.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// The most specific first: the first that matches decides.
    ordered: Vec<(Rule, Carrier)>,
    /// Whether there is a rule for QUIC, so that the rest is TCP.
    limited: bool,
}

/// What the rules say about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision<'a> {
    /// What carries the connection.
    pub(crate) carrier: Carrier,
    /// The rule that says so; none for what no rule matches.
    pub(crate) rule: Option<&'a Rule>,
}

/// Why rules do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    /// A connection would have to be both.
    #[error(
        "--tcp {tcp} and --quic {quic} match the same connections, and neither is more specific (a \
         longer address prefix, then fewer ports); change or remove one of them"
    )]
    Conflict {
        /// What `--tcp` says.
        tcp: Rule,
        /// What `--quic` says.
        quic: Rule,
    },
}

impl Rules {
    /// Orders the rules of `--tcp` and `--quic`.
    ///
    /// # Errors
    /// Two rules claim a connection for different carriers with the same right.
    pub(crate) fn new(tcp: &[Rule], quic: &[Rule]) -> Result<Self, RuleError> {
        for &tcp in tcp {
            if let Some(&quic) = quic.iter().find(|quic| tcp.conflicts(quic)) {
                return Err(RuleError::Conflict { tcp, quic });
            }
        }
        let tcp_rules = tcp.iter().map(|&rule| (rule, Carrier::Tcp));
        let quic_rules = quic.iter().map(|&rule| (rule, Carrier::Quic));
        let mut ordered: Vec<_> = tcp_rules.chain(quic_rules).collect();
        ordered.sort_by_key(|(rule, _)| Reverse(rule.specificity()));
        Ok(Self {
            ordered,
            limited: !quic.is_empty(),
        })
    }

    /// The same carrier for everything.
    pub(crate) fn all(carrier: Carrier) -> Self {
        Self {
            ordered: Vec::new(),
            limited: carrier == Carrier::Tcp,
        }
    }

    /// What carries a connection to `address`, or a listener that is bound to it.
    pub(crate) fn decide(&self, address: SocketAddr) -> Decision<'_> {
        let decisive = self.ordered.iter().find(|(rule, _)| rule.matches(address));
        match decisive {
            Some((rule, carrier)) => Decision {
                carrier: *carrier,
                rule: Some(rule),
            },
            None => Decision {
                carrier: if self.limited {
                    Carrier::Tcp
                } else {
                    Carrier::Quic
                },
                rule: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(tcp: &[&str], quic: &[&str]) -> Result<Rules, RuleError> {
        let parsed = |texts: &[&str]| -> Vec<Rule> {
            texts
                .iter()
                .map(|text| text.parse().expect("a rule"))
                .collect()
        };
        Rules::new(&parsed(tcp), &parsed(quic))
    }

    /// The carrier, and the rule that decides or `default`.
    fn decided(rules: &Rules, address: &str) -> String {
        let decision = rules.decide(address.parse().unwrap());
        let rule = decision.rule.map_or("default".to_owned(), Rule::to_string);
        format!("{} {rule}", decision.carrier)
    }

    #[test]
    fn without_rules_everything_is_quic() {
        let none = Rules::default();
        assert_eq!(decided(&none, "10.0.0.1:22"), "QUIC default");
        assert_eq!(decided(&none, "[::]:0"), "QUIC default");
    }

    #[test]
    fn the_rest_is_quic_unless_quic_is_limited() {
        let tcp = rules(&[":22"], &[]).unwrap();
        assert_eq!(decided(&tcp, "10.0.0.1:22"), "TCP :22");
        assert_eq!(decided(&tcp, "10.0.0.1:80"), "QUIC default");
        let both = rules(&[":22"], &["10.0.0.0/8"]).unwrap();
        assert_eq!(decided(&both, "192.0.2.1:80"), "TCP default");
        assert_eq!(decided(&both, "10.0.0.1:80"), "QUIC 10.0.0.0/8");
    }

    #[test]
    fn the_longer_prefix_wins_then_the_fewer_ports() {
        let rules = rules(
            &["10.0.0.0/8", "10.1.0.0/16:1-1023", "[2001:db8::]/32:443"],
            &["10.1.0.0/16", ":22", "10.1.0.0/16:80", "2001:db8::/48"],
        )
        .unwrap();
        for (address, expected) in [
            ("10.2.0.1:80", "TCP 10.0.0.0/8"),
            // An address says more than a port.
            ("10.2.0.1:22", "TCP 10.0.0.0/8"),
            ("192.0.2.1:22", "QUIC :22"),
            ("10.1.0.1:2000", "QUIC 10.1.0.0/16"),
            ("10.1.0.1:81", "TCP 10.1.0.0/16:1-1023"),
            ("10.1.0.1:80", "QUIC 10.1.0.0/16:80"),
            ("[2001:db8::1]:443", "QUIC 2001:db8::/48"),
            ("[2001:db8:1::1]:443", "TCP [2001:db8::]/32:443"),
            ("[2001:db8:1::1]:444", "TCP default"),
        ] {
            assert_eq!(decided(&rules, address), expected, "{address}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let rules = rules(&["10.0.0.0/8", "::ffff:192.0.2.7"], &["::/0"]).unwrap();
        assert_eq!(decided(&rules, "[::ffff:10.0.0.1]:80"), "TCP 10.0.0.0/8");
        assert_eq!(decided(&rules, "192.0.2.7:80"), "TCP 192.0.2.7");
        assert_eq!(decided(&rules, "[::ffff:192.0.2.8]:80"), "TCP default");
        assert_eq!(decided(&rules, "[2001:db8::1]:80"), "QUIC ::/0");
    }

    #[test]
    fn a_wildcard_is_matched_by_rules_about_every_address() {
        let rules = rules(&["0.0.0.0/8", "::/64", ":22"], &["0.0.0.0/0:80"]).unwrap();
        assert_eq!(decided(&rules, "0.0.0.0:443"), "TCP default");
        assert_eq!(decided(&rules, "0.0.0.0:80"), "QUIC 0.0.0.0/0:80");
        assert_eq!(decided(&rules, "[::]:22"), "TCP :22");
        assert_eq!(decided(&rules, "[::1]:443"), "TCP ::/64");
        assert_eq!(decided(&rules, "[::ffff:0.0.0.0]:22"), "TCP :22");
    }

    #[test]
    fn opposite_rules_of_one_right_are_refused() {
        for (tcp, quic) in [
            (":22", ":22"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            (":8000-8010", ":8005-8015"),
            ("[::1]:80", "[::1]:80-80"),
        ] {
            let error = rules(&["192.0.2.0/24", tcp], &[":1", quic]).unwrap_err();
            let RuleError::Conflict { tcp: a, quic: b } = error;
            let expected = (tcp.parse::<Rule>().unwrap(), quic.parse::<Rule>().unwrap());
            assert_eq!((a, b), expected);
        }
        for (tcp, quic) in [
            (":22", ":23"),
            (":22", "0.0.0.0/0:22"),
            ("10.0.0.0/8", "10.0.0.0/9"),
            ("10.0.0.0/8", "11.0.0.0/8"),
            ("0.0.0.0/0", "::/0"),
            (":8000-8010", ":8005-8014"),
        ] {
            assert!(rules(&[tcp], &[quic]).is_ok(), "{tcp} {quic}");
        }
    }

    proptest! {
        /// In whatever order rules are given, they decide alike, and by a rule that matches.
        #[test]
        fn the_order_of_rules_does_not_matter(
            pool in prop::collection::vec((0u8..4, 8u8..12, 0u16..4, any::<bool>()), 0..8),
            address in 0u8..4,
            port in 1u16..5,
        ) {
            let text = |(net, length, port, _): &(u8, u8, u16, bool)| {
                let net = ipnet::Ipv4Net::new([10, net << 4, 0, 0].into(), *length).unwrap().trunc();
                match port {
                    0 => net.to_string(),
                    port => format!("{net}:{port}"),
                }
            };
            let split = |pool: &[(u8, u8, u16, bool)], tcp| -> Vec<Rule> {
                let chosen = pool.iter().filter(|entry| entry.3 == tcp);
                chosen.map(|entry| text(entry).parse().unwrap()).collect()
            };
            let backwards: Vec<_> = pool.iter().rev().copied().collect();
            let one = Rules::new(&split(&pool, true), &split(&pool, false));
            let other = Rules::new(&split(&backwards, true), &split(&backwards, false));
            prop_assert_eq!(one.is_err(), other.is_err());
            if let (Ok(one), Ok(other)) = (one, other) {
                let address = SocketAddr::from(([10, address << 4, 0, 1], port));
                let decision = one.decide(address);
                prop_assert_eq!(decision.carrier, other.decide(address).carrier);
                prop_assert!(decision.rule.is_none_or(|rule| rule.matches(address)));
            }
        }
    }
}
