//! Socket addresses as the program passes and receives them, ip(7), ipv6(7).
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::errno::Errno;

use super::socket::Family;

/// Bytes of a sockaddr_in.
const V4_BYTES: usize = 16;
/// Bytes of a sockaddr_in6 without its scope id, which RFC 2133 did not have and Linux still takes.
const V6_BYTES_RFC2133: usize = 24;
/// Bytes of a sockaddr_in6.
const V6_BYTES: usize = 28;
/// Largest sockaddr the kernel copies in (sockaddr_storage).
pub(crate) const MAX_BYTES: usize = 128;

/// Reads an address for a socket of `family`.
///
/// # Errors
/// EINVAL: too short. EAFNOSUPPORT: of another family. bind(2), connect(2).
pub(crate) fn parse(bytes: &[u8], family: Family) -> Result<SocketAddr, Errno> {
    match family {
        Family::V4 => parse_v4(bytes),
        Family::V6 => parse_v6(bytes),
    }
}

/// The address family in front of a sockaddr, if it is long enough to have one.
pub(crate) fn family_of(bytes: &[u8]) -> Option<i32> {
    let family = bytes.first_chunk::<2>()?;
    Some(i32::from(u16::from_ne_bytes(*family)))
}

fn parse_v4(bytes: &[u8]) -> Result<SocketAddr, Errno> {
    if bytes.len() < V4_BYTES {
        return Err(Errno::EINVAL);
    }
    if family_of(bytes) != Some(libc::AF_INET) {
        return Err(Errno::EAFNOSUPPORT);
    }
    let ip: [u8; 4] = field(bytes, 4)?;
    Ok(SocketAddr::from((ip, u16::from_be_bytes(field(bytes, 2)?))))
}

fn parse_v6(bytes: &[u8]) -> Result<SocketAddr, Errno> {
    if bytes.len() < V6_BYTES_RFC2133 {
        return Err(Errno::EINVAL);
    }
    if family_of(bytes) != Some(libc::AF_INET6) {
        return Err(Errno::EAFNOSUPPORT);
    }
    let ip: [u8; 16] = field(bytes, 8)?;
    let port = u16::from_be_bytes(field(bytes, 2)?);
    let scope = field(bytes, 24).map_or(0, u32::from_ne_bytes);
    let ip = Ipv6Addr::from(ip);
    // A scope id is for link-local addresses, and left alone with others (ipv6(7)).
    let scope = if ip.is_unicast_link_local() { scope } else { 0 };
    // The flow label names no endpoint, and without IPV6_FLOWINFO_SEND Linux drops it too.
    Ok(SocketAddrV6::new(ip, port, 0, scope).into())
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Errno> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(Errno::EINVAL)
}

/// Writes an address as the kernel would: sockaddr_in or sockaddr_in6 by its kind.
pub(crate) fn encode(address: &SocketAddr) -> Vec<u8> {
    match address {
        SocketAddr::V4(v4) => {
            let mut bytes = Vec::with_capacity(V4_BYTES);
            bytes.extend((libc::AF_INET as u16).to_ne_bytes());
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.resize(V4_BYTES, 0);
            bytes
        }
        SocketAddr::V6(v6) => {
            let mut bytes = Vec::with_capacity(V6_BYTES);
            bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_ne_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
            bytes
        }
    }
}

/// The address in the form a socket of `family` shows: an IPv6 socket shows IPv4 as v4-mapped,
/// ipv6(7).
pub(crate) fn in_family(address: SocketAddr, family: Family) -> SocketAddr {
    match (address, family) {
        (SocketAddr::V4(v4), Family::V6) => {
            SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
        }
        _ => address,
    }
}

/// The address without the v4-mapped form.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => (v4, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// Whether this is an IPv4 address in IPv6 clothes.
pub(crate) fn is_mapped(ip: Ipv6Addr) -> bool {
    ip.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_parsed_again() {
        for (text, family) in [
            ("10.1.2.3:4567", Family::V4),
            ("[2001:db8::1]:80", Family::V6),
            ("[fe80::1%3]:80", Family::V6),
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(parse(&encode(&address), family), Ok(address));
        }
    }

    #[test]
    fn short_and_foreign_addresses_are_refused_as_the_kernel_does() {
        let v4 = encode(&"1.2.3.4:5".parse().unwrap());
        let v6 = encode(&"[::1]:5".parse().unwrap());
        assert_eq!(parse(&v4[..15], Family::V4), Err(Errno::EINVAL));
        assert_eq!(parse(&v6[..23], Family::V6), Err(Errno::EINVAL));
        assert!(parse(&v6[..24], Family::V6).is_ok());
        assert_eq!(parse(&v6, Family::V4), Err(Errno::EAFNOSUPPORT));
        assert_eq!(parse(&v4, Family::V6), Err(Errno::EINVAL));
        assert_eq!(parse(&[], Family::V4), Err(Errno::EINVAL));
    }

    #[test]
    fn ipv6_sockets_show_ipv4_as_mapped() {
        let v4: SocketAddr = "10.0.0.1:9".parse().unwrap();
        let mapped = in_family(v4, Family::V6);
        assert_eq!(mapped, "[::ffff:10.0.0.1]:9".parse().unwrap());
        assert_eq!(canonical(mapped), v4);
    }
}
