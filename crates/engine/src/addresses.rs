//! Which addresses are reachable from the internet, and which external addresses are usable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks that are not globally reachable (IANA special-purpose registry, RFC 6890 and later).
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // RFC 6598, carrier-grade NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // IETF protocol assignments (DS-Lite among them)
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // TEST-NET-1
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // deprecated 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // RFC 1918
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking
    (Ipv4Addr::new(198, 51, 100, 0), 24), // TEST-NET-2
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // TEST-NET-3
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, broadcast
];

/// IPv6 blocks inside 2000::/3 that are not globally reachable, or not natively.
const SPECIAL_V6: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF protocol assignments, Teredo among them
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112
];

/// Whether `address` is globally reachable, firewalls aside.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !SPECIAL_V4.iter().any(|&(block, bits)| in_v4(v4, block, bits)),
        IpAddr::V6(v6) => {
            v6.segments()[0] >> 13 == 1 && !SPECIAL_V6.iter().any(|&(block, bits)| in_v6(v6, block, bits))
        }
    }
}

fn in_v4(address: Ipv4Addr, block: Ipv4Addr, bits: u32) -> bool {
    (address.to_bits() ^ block.to_bits()) >> (32 - bits) == 0
}

fn in_v6(address: Ipv6Addr, block: Ipv6Addr, bits: u32) -> bool {
    (address.to_bits() ^ block.to_bits()) >> (128 - bits) == 0
}

/// From where an external address is reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// From the internet, as far as the address shows.
    Public,
    /// Private: another NAT stands beyond the gateway.
    Private,
    /// The shared address space of a carrier-grade NAT (RFC 6598), or the inner side of DS-Lite (RFC 6333 §5.7).
    CarrierNat,
    /// Not an address of a host: the gateway has no connection.
    Unusable,
}

/// Classifies an external address.
pub fn scope_of(address: IpAddr) -> Scope {
    match address.to_canonical() {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Scope::Unusable,
        address if address.is_unspecified() || address.is_multicast() || address.is_loopback() => {
            Scope::Unusable
        }
        IpAddr::V4(v4) if in_v4(v4, Ipv4Addr::new(100, 64, 0, 0), 10) => Scope::CarrierNat,
        IpAddr::V4(v4) if in_v4(v4, Ipv4Addr::new(192, 0, 0, 0), 29) => Scope::CarrierNat,
        IpAddr::V4(v4) if v4.is_private() || v4.is_link_local() => Scope::Private,
        IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() => Scope::Private,
        _ => Scope::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn special_purpose_blocks_are_not_public() {
        for text in [
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.19.0.1",
            "203.0.113.5",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
            "2002:c000:204::1",
            "::ffff:192.168.1.1",
            "ff02::1",
        ] {
            assert!(!is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn the_neighbours_of_special_blocks_are_public() {
        for text in [
            "1.2.3.4",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2a00:1450:4001::1",
            "2600::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn external_addresses_are_judged() {
        for (text, expected) in [
            ("0.0.0.0", Scope::Unusable),
            ("127.0.0.1", Scope::Unusable),
            ("224.0.0.1", Scope::Unusable),
            ("255.255.255.255", Scope::Unusable),
            ("::", Scope::Unusable),
            ("::ffff:0.0.0.0", Scope::Unusable),
            ("192.168.178.2", Scope::Private),
            ("100.64.3.4", Scope::CarrierNat),
            ("192.0.0.2", Scope::CarrierNat),
            ("192.0.0.9", Scope::Public),
            ("fd00::1", Scope::Private),
            ("1.2.3.4", Scope::Public),
            ("203.0.113.7", Scope::Public),
            ("2a00:1450:4001::1", Scope::Public),
        ] {
            assert_eq!(scope_of(address(text)), expected, "{text}");
        }
    }
}
