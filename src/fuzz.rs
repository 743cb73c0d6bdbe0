//! Entrances for the fuzz targets in `fuzz/`: everything that a peer, the program or the user's files
//! can send. Each takes any bytes and panics when what must hold does not.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, path::Path, sync::OnceLock};

use crate::{
    cli, config as file,
    config::Keys,
    emul::{address as sockaddr, socket::Family},
    policy::{Choice, Rule, Rules},
    quic,
};

/// The start of a stream that a client opens.
pub fn preface(data: &[u8]) {
    quic::fuzz::preface(data);
}

/// The content of a known_hosts file.
pub fn known_hosts(data: &[u8]) {
    quic::fuzz::known_hosts(data);
}

/// Rules, a line each; those behind a `!` are `--quic`'s. What is shown of a rule is the rule, and the
/// one that decides is among them.
pub fn rule(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let (mut tcp, mut quic) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let (list, line) = match line.strip_prefix('!') {
            Some(line) => (&mut quic, line),
            None => (&mut tcp, line),
        };
        if let Ok(rule) = line.parse::<Rule>() {
            assert_eq!(rule.to_string().parse(), Ok(rule));
            list.push(rule);
        }
    }
    let Ok(rules) = Rules::new(&tcp, &quic) else {
        return;
    };
    for address in ["10.0.0.5:5432", "[2001:db8::1]:443", "0.0.0.0:22", "[::]:0"] {
        let address: SocketAddr = address.parse().expect("an address");
        if let Some(rule) = rules.decide(address).rule {
            assert!(tcp.contains(rule) || quic.contains(rule));
        }
    }
}

/// The content of a configuration file: what is wrong is on one of its lines, and what is not is taken
/// as options.
pub fn config(data: &[u8]) {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let keys = KEYS.get_or_init(cli::config_keys);
    if let Err((line, problem)) = file::read(text, Path::new("/directory"), keys) {
        assert!((1..=text.matches('\n').count() + 1).contains(&line));
        assert!(!problem.to_string().is_empty());
    }
}

/// A sockaddr of the program, behind a byte that says which kind of socket it is for.
pub fn address(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    let family = if choice == 0 { Family::V4 } else { Family::V6 };
    let Ok(address) = sockaddr::parse(bytes, family) else {
        return;
    };
    assert_eq!(
        sockaddr::parse(&sockaddr::encode(&address), family),
        Ok(address)
    );
    let plain = sockaddr::canonical(address);
    assert_eq!(sockaddr::canonical(plain), plain);
    assert_eq!(sockaddr::in_family(plain, family).port(), address.port());
}

/// A value of `--socket`.
pub fn socket(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(choice) = text.parse::<Choice>() {
        assert_eq!(choice.to_string().parse(), Ok(choice));
    }
}
