//! `--explain`: which rule decides about an address, and what follows.
#![forbid(unsafe_code)]

use std::{
    fmt::Write as _,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use super::{Carrier, Rules};

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    /// Not `HOST:PORT`.
    #[error(
        "--explain {0}: not HOST:PORT, with an IPv6 address in brackets: 10.0.0.5:5432, [2001:db8::5]:443, db.example:5432"
    )]
    Target(String),
    /// The name has no address, or cannot be looked up.
    #[error(
        "--explain {name}: {source}; check the name, or give the address (getent ahosts {name})"
    )]
    Name {
        /// The host.
        name: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The name exists and has no address.
    #[error("--explain {0}: the name has no address (getent ahosts {0})")]
    NoAddress(String),
}

/// Explains what `rules` say about `target`, a line for each address it stands for. `origin` says where
/// the rules of an option come from.
///
/// # Errors
/// `target` is no host and port, or a name without an address.
pub(crate) fn explain(
    rules: &Rules,
    target: &str,
    origin: impl Fn(Carrier) -> String,
) -> Result<String, ExplainError> {
    let (name, addresses) = resolve(target)?;
    let mut text = String::new();
    for address in addresses {
        let named = name.map_or(String::new(), |name| format!(" ({name})"));
        let decision = rules.decide(address);
        let carrier = decision.carrier;
        let reason = match decision.rule {
            Some(rule) => format!("--{} {rule}, {}", carrier.option(), origin(carrier)),
            None if carrier == Carrier::Tcp => format!(
                "no rule matches, and --quic, {}, limits QUIC to what its rules match",
                origin(Carrier::Quic)
            ),
            None => "no rule matches, and QUIC is the default".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}{named}: {carrier}: {reason}");
    }
    Ok(text)
}

/// The name, if it is one, and the addresses it stands for, without repetition.
fn resolve(target: &str) -> Result<(Option<&str>, Vec<SocketAddr>), ExplainError> {
    if let Ok(address) = target.parse() {
        return Ok((None, vec![address]));
    }
    let malformed = || ExplainError::Target(target.to_owned());
    let (name, port) = target.rsplit_once(':').ok_or_else(malformed)?;
    let port: u16 = port.parse().map_err(|_| malformed())?;
    let is_address = name.parse::<IpAddr>().is_ok();
    if name.is_empty() || is_address || name.contains([':', '[', ']']) {
        return Err(malformed());
    }
    let found = (name, port).to_socket_addrs();
    let found = found.map_err(|source| ExplainError::Name {
        name: name.to_owned(),
        source,
    })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(ExplainError::NoAddress(name.to_owned()));
    }
    Ok((Some(name), addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(tcp: &[&str], quic: &[&str], target: &str) -> String {
        let parsed =
            |texts: &[&str]| -> Vec<_> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let rules = Rules::new(&parsed(tcp), &parsed(quic)).unwrap();
        let origin = |carrier: Carrier| format!("the {} place", carrier.option());
        explain(&rules, target, origin).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn the_rule_and_its_origin_are_said() {
        assert_eq!(
            explained(&["10.0.0.0/8"], &[], "10.1.2.3:80"),
            "10.1.2.3:80: TCP: --tcp 10.0.0.0/8, the tcp place\n"
        );
        assert_eq!(
            explained(&["10.0.0.0/8"], &[], "[::1]:80"),
            "[::1]:80: QUIC: no rule matches, and QUIC is the default\n"
        );
        assert_eq!(
            explained(&[], &[":443"], "[::1]:80"),
            "[::1]:80: TCP: no rule matches, and --quic, the quic place, limits QUIC to what its rules match\n"
        );
    }

    #[test]
    fn a_name_is_each_of_its_addresses() {
        let text = explained(&["127.0.0.0/8"], &[], "localhost:80");
        let line = "127.0.0.1:80 (localhost): TCP: --tcp 127.0.0.0/8, the tcp place";
        assert!(text.lines().any(|found| found == line), "{text}");
    }

    #[test]
    fn what_is_no_target_is_said() {
        for target in [
            "",
            ":80",
            "host",
            "host:http",
            "::1:80",
            "[::1]",
            "10.0.0.1",
            "[x]:80",
        ] {
            let error = explain(&Rules::default(), target, |_| String::new()).unwrap_err();
            assert!(
                matches!(error, ExplainError::Target(_)),
                "{target}: {error}"
            );
        }
    }
}
