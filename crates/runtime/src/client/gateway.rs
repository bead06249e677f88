//! The gateway that a user names, as text.

use std::net::{IpAddr, Ipv6Addr};

/// A gateway that is named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedGateway {
    pub address: IpAddr,
    /// The UDP port of PCP and NAT-PMP; `None`: the standard one.
    pub port: Option<u16>,
    /// The interface of a link-local IPv6 address, by name or number; `None`: that of the default route.
    pub zone: Option<String>,
}

/// The text is not a gateway.
#[derive(Debug, PartialEq, Eq)]
pub struct BadGateway;

impl NamedGateway {
    /// Whether a host can have this address and port: not an unspecified, multicast or broadcast address. (RFC 1112 §4:
    /// 240.0.0.0/4 is reserved.) A zone belongs to a link-local address (RFC 4007 §11).
    pub fn is_possible(&self) -> bool {
        let address = self.address.to_canonical();
        let is_reserved = matches!(address, IpAddr::V4(v4) if v4.octets()[0] >= 240);
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let is_zone_possible = self.zone.as_ref().is_none_or(|zone| is_link_local && is_zone(zone));
        let is_host = !(address.is_unspecified() || address.is_multicast() || is_reserved);
        is_host && self.port != Some(0) && is_zone_possible
    }
}

/// Whether a text can name an interface. 0 is the number of none.
fn is_zone(text: &str) -> bool {
    let is_wrong = |c: char| c.is_control() || matches!(c, '%' | '[' | ']' | ':' | '/');
    !text.is_empty() && !text.contains(is_wrong) && text.parse() != Ok(0_u32)
}

/// `ADDR`, `ADDR:PORT`, `[ADDR]` or `[ADDR]:PORT`, where a bare IPv6 address has no port; a link-local one may have a zone, as in
/// `fe80::1%eth0`.
///
/// # Errors
///
/// The text has another form, or no host can have that address.
pub fn parse_gateway(text: &str) -> Result<NamedGateway, BadGateway> {
    let (address, zone, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']').ok_or(BadGateway)?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(BadGateway)?) };
            let (address, zone) = scoped(inner)?;
            (address.into(), zone, port)
        }
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => {
                (IpAddr::V4(address.parse().map_err(|_| BadGateway)?), None, Some(port))
            }
            Some(_) => {
                let (address, zone) = scoped(text)?;
                (address.into(), zone, None)
            }
            None => (IpAddr::V4(text.parse().map_err(|_| BadGateway)?), None, None),
        },
    };
    let port = port.map(parse_port).transpose()?;
    let gateway = NamedGateway { address, port, zone: zone.map(str::to_owned) };
    if gateway.is_possible() { Ok(gateway) } else { Err(BadGateway) }
}

/// An IPv6 address and its zone.
fn scoped(text: &str) -> Result<(Ipv6Addr, Option<&str>), BadGateway> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    Ok((address.parse().map_err(|_| BadGateway)?, zone))
}

/// Digits alone: no sign.
fn parse_port(text: &str) -> Result<u16, BadGateway> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or(BadGateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, Option<u16>, Option<String>)> {
        let gateway = parse_gateway(text).ok()?;
        Some((gateway.address.to_string(), gateway.port, gateway.zone))
    }

    #[test]
    fn reads_a_gateway_with_and_without_port() {
        let is_read_as = |text, address: &str, port| {
            assert_eq!(read(text), Some((address.to_owned(), port, None)), "{text}");
        };
        is_read_as("192.168.1.1", "192.168.1.1", None);
        is_read_as("192.168.1.1:5351", "192.168.1.1", Some(5351));
        is_read_as("fd00::1", "fd00::1", None);
        is_read_as("[fd00::1]", "fd00::1", None);
        is_read_as("[fd00::1]:15351", "fd00::1", Some(15351));
        is_read_as("fe80::1", "fe80::1", None);
        is_read_as("::ffff:192.168.1.1", "::ffff:192.168.1.1", None);
    }

    #[test]
    fn a_link_local_gateway_may_have_a_zone() {
        for (text, port, zone) in [
            ("[fe80::1%eth0]", None, "eth0"),
            ("fe80::1%eth0", None, "eth0"),
            ("fe80::1%2", None, "2"),
            ("[fe80::1%2]:5351", Some(5351), "2"),
            ("[fe80::1%eth0]:5351", Some(5351), "eth0"),
            ("[fe80::1%Ethernet 2]", None, "Ethernet 2"),
            ("fe80::1%br-lan.10", None, "br-lan.10"),
        ] {
            assert_eq!(read(text), Some(("fe80::1".into(), port, Some(zone.into()))), "{text}");
        }
    }

    #[test]
    fn a_zone_beside_another_address_is_refused() {
        for text in [
            "[fd00::1%eth0]",
            "fd00::1%2",
            "[fd00::1%2]:5351",
            "2600::1%eth0",
            "::ffff:192.168.1.1%eth0",
            "192.168.1.1%eth0",
            "192.168.1.1%eth0:5351",
        ] {
            assert_eq!(parse_gateway(text), Err(BadGateway), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_no_gateway() {
        for text in [
            " ",
            "gateway",
            "192.168.1",
            "192.168.1.1:",
            "192.168.1.1:0",
            "192.168.1.1:+80",
            "192.168.1.1:65536",
            "192.168.1.1 ",
            "[192.168.1.1]",
            "[fd00::1]:",
            "[fd00::1]:+80",
            "[fd00::1]5351",
            "[fd00::1",
            "fe80::1%",
            "[fe80::1%]",
            "fe80::1%0",
            "fe80::1%eth0%1",
            "fe80::1%eth0:5351",
            "[fe80::1]%eth0",
            "[fe80::1%eth0]:0",
            "%eth0",
            "0.0.0.0",
            "[::]:5351",
            "224.0.0.1",
            "[ff02::1]:5351",
            "240.0.0.1",
            "255.255.255.255",
            "255.255.255.255:5351",
            "::ffff:255.255.255.255",
            "::ffff:224.0.0.1",
            "[::ffff:0.0.0.0]:5351",
            "http://192.168.1.1",
        ] {
            assert_eq!(parse_gateway(text), Err(BadGateway), "{text:?}");
        }
    }
}
