//! The messages of rtnetlink about IPv6 addresses and routes, and about links.

#![forbid(unsafe_code)]

use super::super::netlink::{question, read};
use netlink_packet_core::{NlasIterator, parse_u32};
use plum_engine::ipv6::LocalAddress;
use std::io;
use std::net::Ipv6Addr;

/// `struct ifaddrmsg` of linux/if_addr.h: family, prefix length, flags, scope, interface.
pub const ADDRESS_HEADER_LEN: usize = 8;
const ADDRESS_FLAGS: usize = 2;
const ADDRESS_INTERFACE: usize = 4;

/// linux/if_addr.h. (The libc crate does not name all of them for Android.)
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
pub const IFA_F_PERMANENT: u32 = 0x80;

/// `struct rtmsg` of linux/rtnetlink.h: family, lengths, tos, table, protocol, scope, type, flags.
pub const ROUTE_HEADER_LEN: usize = 12;
const ROUTE_DESTINATION_LEN: usize = 1;
const ROUTE_SOURCE_LEN: usize = 2;
const ROUTE_TYPE: usize = 7;

/// `struct rtnexthop` of linux/rtnetlink.h: length, flags, hops, interface.
const NEXT_HOP_HEADER_LEN: usize = 8;
const NEXT_HOP_INTERFACE: usize = 4;

/// `struct ifinfomsg` of linux/rtnetlink.h: family, padding, type, interface, flags, mask of changes.
const LINK_HEADER_LEN: usize = 16;
const LINK_INTERFACE: usize = 4;
const LINK_FLAGS: usize = 8;

const ADDRESS_BITS: u8 = 128;

/// What a route is: to hosts or to this machine; other types drop or refuse packets, or are of no single host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unicast,
    Local,
}

/// A route that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    pub gateway: Option<Ipv6Addr>,
    pub interface: u32,
}

/// A default router of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Router {
    pub address: Ipv6Addr,
    pub interface: u32,
    pub metric: u32,
}

/// The request for all IPv6 addresses.
pub fn addresses_question() -> Vec<u8> {
    let mut header = [0; ADDRESS_HEADER_LEN];
    header[0] = libc::AF_INET6 as u8;
    question(libc::RTM_GETADDR, &header, &[])
}

/// Where the packets come from that a route is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Anywhere,
    /// An address on an interface. Routes by other interfaces are found too.
    Address(Ipv6Addr, u32),
    /// Any address: the route is by this interface. (net/ipv6/route.c, ip6_route_output_flags(): RT6_LOOKUP_F_IFACE.)
    Interface(u32),
}

/// The request for the route toward an address.
pub fn route_question(toward: Ipv6Addr, origin: Origin) -> Vec<u8> {
    let mut header = [0; ROUTE_HEADER_LEN];
    header[0] = libc::AF_INET6 as u8;
    header[ROUTE_DESTINATION_LEN] = ADDRESS_BITS;
    let toward = (libc::RTA_DST, &toward.octets()[..]);
    let oif = |interface: u32| interface.to_ne_bytes();
    let ask = |header: &[u8], attributes: &[_]| question(libc::RTM_GETROUTE, header, attributes);
    match origin {
        Origin::Anywhere => ask(&header, &[toward]),
        Origin::Interface(interface) => ask(&header, &[toward, (libc::RTA_OIF, &oif(interface))]),
        Origin::Address(source, interface) => {
            header[ROUTE_SOURCE_LEN] = ADDRESS_BITS;
            let source = (libc::RTA_SRC, &source.octets()[..]);
            ask(&header, &[toward, source, (libc::RTA_OIF, &oif(interface))])
        }
    }
}

/// The request for all IPv6 routes.
pub fn routes_question() -> Vec<u8> {
    let mut header = [0; ROUTE_HEADER_LEN];
    header[0] = libc::AF_INET6 as u8;
    question(libc::RTM_GETROUTE, &header, &[])
}

/// The request for a link.
pub fn link_question(interface: u32) -> Vec<u8> {
    let mut header = [0; LINK_HEADER_LEN];
    header[LINK_INTERFACE..LINK_FLAGS].copy_from_slice(&interface.to_ne_bytes());
    question(libc::RTM_GETLINK, &header, &[])
}

/// An entry of the table of addresses; `None`: of another family, unusable, or of the loopback interface.
pub fn read_address(header: &[u8], attributes: &[u8]) -> Option<LocalAddress> {
    let interface = u32_at(header, ADDRESS_INTERFACE)?;
    if i32::from(*header.first()?) != libc::AF_INET6 {
        return None;
    }
    let (mut address, mut peer, mut preferred_secs) = (None, None, 0);
    let mut flags = u32::from(*header.get(ADDRESS_FLAGS)?);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            // Where there is a peer, IFA_ADDRESS is that.
            IFA_LOCAL => address = parse_ipv6(value),
            IFA_ADDRESS => peer = parse_ipv6(value),
            IFA_FLAGS => flags = parse_u32(value).ok()?,
            // `struct ifa_cacheinfo` begins with the preferred lifetime.
            IFA_CACHEINFO => preferred_secs = u32_at(value, 0)?,
            _ => {}
        }
    }
    local_address(address.or(peer)?, interface, flags, preferred_secs)
}

/// An address with the flags of linux/if_addr.h; `None`: it failed duplicate address detection, or is of the loopback interface.
pub fn local_address(
    address: Ipv6Addr,
    interface: u32,
    flags: u32,
    preferred_secs: u32,
) -> Option<LocalAddress> {
    if flags & IFA_F_DADFAILED != 0 || interface == LOOPBACK {
        return None;
    }
    Some(LocalAddress {
        address,
        interface,
        is_temporary: flags & IFA_F_TEMPORARY != 0,
        is_deprecated: flags & IFA_F_DEPRECATED != 0,
        is_tentative: flags & (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC) == IFA_F_TENTATIVE,
        preferred_secs,
    })
}

/// include/net/flow.h: LOOPBACK_IFINDEX.
const LOOPBACK: u32 = 1;

/// The answer to [`route_question`]; `None`: it is another message.
pub fn read_route(bytes: &[u8]) -> Option<io::Result<Found>> {
    read(bytes, libc::RTM_NEWROUTE, ROUTE_HEADER_LEN, |header, attributes| {
        let kind = match header.get(ROUTE_TYPE) {
            Some(&libc::RTN_UNICAST) => Kind::Unicast,
            Some(&libc::RTN_LOCAL) => Kind::Local,
            _ => return Err(io::ErrorKind::NetworkUnreachable.into()),
        };
        let (mut gateway, mut interface) = (None, None);
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.map_err(|_| io::ErrorKind::InvalidData)?;
            match attribute.kind() {
                libc::RTA_GATEWAY => gateway = parse_ipv6(attribute.value()),
                libc::RTA_OIF => interface = parse_u32(attribute.value()).ok(),
                // RTA_PREFSRC is the kernel's own choice, often a temporary address.
                _ => {}
            }
        }
        let interface = interface.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Found { kind, gateway: gateway.filter(|hop| !hop.is_unspecified()), interface })
    })
}

/// The flags of a link (IFF_...), in the answer to [`link_question`]; `None`: it is another message.
pub fn read_link_flags(bytes: &[u8]) -> Option<io::Result<u32>> {
    read(bytes, libc::RTM_NEWLINK, LINK_HEADER_LEN, |header, _| {
        u32_at(header, LINK_FLAGS).ok_or_else(|| io::ErrorKind::InvalidData.into())
    })
}

/// The routers of an entry of the table of routes, if it is a default route that is used for packets from `source`.
pub fn read_routers(header: &[u8], attributes: &[u8], source: Ipv6Addr) -> Vec<Router> {
    let is_default = |at: usize| header.get(at) == Some(&0);
    if header.first() != Some(&(libc::AF_INET6 as u8))
        || !is_default(ROUTE_DESTINATION_LEN)
        || header.get(ROUTE_TYPE) != Some(&libc::RTN_UNICAST)
    {
        return Vec::new();
    }
    let (mut gateway, mut interface, mut metric, mut of_prefix) = (None, None, 0, None);
    let mut routers = Vec::new();
    for attribute in NlasIterator::new(attributes).flatten() {
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_GATEWAY => gateway = parse_ipv6(value),
            libc::RTA_OIF => interface = parse_u32(value).ok(),
            libc::RTA_PRIORITY => metric = parse_u32(value).unwrap_or(u32::MAX),
            libc::RTA_SRC => of_prefix = parse_ipv6(value),
            libc::RTA_MULTIPATH => routers = read_next_hops(value),
            _ => {}
        }
    }
    let source_len = header.get(ROUTE_SOURCE_LEN).copied().unwrap_or(ADDRESS_BITS);
    if !is_in_prefix(source, of_prefix.unwrap_or(Ipv6Addr::UNSPECIFIED), source_len) {
        return Vec::new();
    }
    routers.extend(gateway.zip(interface));
    routers.into_iter().map(|(address, interface)| Router { address, interface, metric }).collect()
}

/// Router and interface of each next hop of RTA_MULTIPATH that has a router.
fn read_next_hops(value: &[u8]) -> Vec<(Ipv6Addr, u32)> {
    let mut hops = Vec::new();
    let mut rest = value;
    while let Some(len) = rest.first_chunk().map(|len| usize::from(u16::from_ne_bytes(*len))) {
        let Some((header, attributes)) =
            rest.get(..len).and_then(|hop| hop.split_at_checked(NEXT_HOP_HEADER_LEN))
        else {
            break;
        };
        let gateway = NlasIterator::new(attributes)
            .flatten()
            .find(|attribute| attribute.kind() == libc::RTA_GATEWAY)
            .and_then(|attribute| parse_ipv6(attribute.value()));
        hops.extend(gateway.zip(u32_at(header, NEXT_HOP_INTERFACE)));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

/// Whether an address begins with the first `len` bits of a prefix.
pub fn is_in_prefix(address: Ipv6Addr, prefix: Ipv6Addr, len: u8) -> bool {
    let differing = address.to_bits() ^ prefix.to_bits();
    differing.leading_zeros() >= u32::from(len)
}

fn parse_ipv6(value: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(value).ok().map(Ipv6Addr::from)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = 4 + value.len() as u16;
        [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    }

    /// 2600::1/64 on an interface, with flags in the header and as an attribute.
    fn address(interface: u32, flags: u32) -> Option<LocalAddress> {
        let header = [&[10, 64, flags as u8, 0][..], &interface.to_ne_bytes()].concat();
        let times = [1800u32, 3600, 0, 0].map(u32::to_ne_bytes).concat();
        let attributes = [
            attribute(IFA_ADDRESS, &ip("2600::1").octets()),
            attribute(IFA_CACHEINFO, &times),
            attribute(IFA_FLAGS, &flags.to_ne_bytes()),
        ];
        read_address(&header, &attributes.concat())
    }

    #[test]
    fn reads_an_address_with_its_flags_and_lifetime() {
        let plain = address(2, 0x200).unwrap();
        let expected = LocalAddress {
            address: ip("2600::1"),
            interface: 2,
            is_temporary: false,
            is_deprecated: false,
            is_tentative: false,
            preferred_secs: 1800,
        };
        assert_eq!(plain, expected);
        assert!(address(2, IFA_F_TEMPORARY).unwrap().is_temporary);
        assert!(address(2, IFA_F_DEPRECATED).unwrap().is_deprecated);
        assert!(address(2, IFA_F_TENTATIVE).unwrap().is_tentative);
        assert!(!address(2, IFA_F_TENTATIVE | IFA_F_OPTIMISTIC).unwrap().is_tentative);
        assert_eq!(address(2, IFA_F_TENTATIVE | IFA_F_DADFAILED), None);
        assert_eq!(address(LOOPBACK, 0), None);
    }

    #[test]
    fn an_address_with_a_peer_is_the_local_one() {
        let header = [&[10, 128, 0, 0][..], &3u32.to_ne_bytes()].concat();
        let attributes =
            [attribute(IFA_LOCAL, &ip("2600::2").octets()), attribute(IFA_ADDRESS, &ip("2600::9").octets())];
        assert_eq!(read_address(&header, &attributes.concat()).unwrap().address, ip("2600::2"));
        let ipv4 = [&[2, 24, 0, 0][..], &3u32.to_ne_bytes()].concat();
        assert_eq!(read_address(&ipv4, &attributes.concat()), None);
    }

    /// An answer: header with this type, and attributes.
    fn answer(kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = [10, 128, 0, 0, 254, 2, 0, kind, 0, 0, 0, 0];
        let mut bytes = question(libc::RTM_NEWROUTE, &header, &[]);
        bytes.extend(attributes.concat());
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    #[test]
    fn reads_the_next_hop_and_the_interface_but_not_the_kernels_source() {
        let oif = attribute(libc::RTA_OIF, &2u32.to_ne_bytes());
        let gateway = attribute(libc::RTA_GATEWAY, &ip("fe80::1").octets());
        let source = attribute(libc::RTA_PREFSRC, &ip("2600::7").octets());
        let found = |kind: u8, attributes: &[Vec<u8>]| read_route(&answer(kind, attributes)).unwrap().ok();
        let unicast = Found { kind: Kind::Unicast, gateway: Some(ip("fe80::1")), interface: 2 };
        assert_eq!(found(libc::RTN_UNICAST, &[oif.clone(), gateway, source]), Some(unicast));
        let on_link = Found { gateway: None, ..unicast };
        assert_eq!(found(libc::RTN_UNICAST, std::slice::from_ref(&oif)), Some(on_link));
        assert_eq!(
            found(libc::RTN_LOCAL, std::slice::from_ref(&oif)),
            Some(Found { kind: Kind::Local, ..on_link })
        );
        for kind in [libc::RTN_BLACKHOLE, libc::RTN_UNREACHABLE, libc::RTN_PROHIBIT, libc::RTN_MULTICAST] {
            assert_eq!(found(kind, std::slice::from_ref(&oif)), None, "{kind}");
        }
        assert_eq!(found(libc::RTN_UNICAST, &[]), None, "no interface");
    }

    fn routers(header: [u8; ROUTE_HEADER_LEN], attributes: &[Vec<u8>], source: &str) -> Vec<(Ipv6Addr, u32)> {
        let routers = read_routers(&header, &attributes.concat(), ip(source));
        routers.into_iter().map(|router| (router.address, router.interface)).collect()
    }

    #[test]
    fn reads_the_routers_of_default_routes_alone() {
        let default = [10, 0, 0, 0, 254, 9, 0, 1, 0, 0, 0, 0];
        let attributes = [
            attribute(libc::RTA_OIF, &2u32.to_ne_bytes()),
            attribute(libc::RTA_GATEWAY, &ip("fe80::1").octets()),
        ];
        assert_eq!(routers(default, &attributes, "2600::1"), [(ip("fe80::1"), 2)]);
        for (at, value) in [(0, 2), (1, 64), (7, libc::RTN_UNREACHABLE)] {
            let mut other = default;
            other[at] = value;
            assert_eq!(routers(other, &attributes, "2600::1"), []);
        }
    }

    #[test]
    fn a_default_route_of_a_source_prefix_is_for_its_addresses() {
        let header = [10, 0, 64, 0, 254, 9, 0, 1, 0, 0, 0, 0];
        let attributes = [
            attribute(libc::RTA_SRC, &ip("2600:0:0:7::").octets()),
            attribute(libc::RTA_OIF, &2u32.to_ne_bytes()),
            attribute(libc::RTA_GATEWAY, &ip("fe80::1").octets()),
        ];
        assert_eq!(routers(header, &attributes, "2600:0:0:7::1"), [(ip("fe80::1"), 2)]);
        assert_eq!(routers(header, &attributes, "2600:0:0:8::1"), []);
    }

    /// Two next hops, the second of which has no router.
    fn multipath() -> Vec<u8> {
        let gateway = attribute(libc::RTA_GATEWAY, &ip("fe80::1").octets());
        let hop = |interface: u32, attributes: &[u8]| {
            let len = 8 + attributes.len() as u16;
            [&len.to_ne_bytes()[..], &[0, 0], &interface.to_ne_bytes(), attributes].concat()
        };
        [hop(2, &gateway), hop(3, &[]), hop(4, &gateway)].concat()
    }

    #[test]
    fn reads_the_routers_of_several_next_hops() {
        let default = [10, 0, 0, 0, 254, 9, 0, 1, 0, 0, 0, 0];
        let attributes = [attribute(libc::RTA_MULTIPATH, &multipath())];
        assert_eq!(routers(default, &attributes, "2600::1"), [(ip("fe80::1"), 2), (ip("fe80::1"), 4)]);
    }

    #[test]
    fn a_prefix_of_any_length_is_compared() {
        let (one, two) = (ip("2600::1"), ip("2600::3"));
        assert!(is_in_prefix(one, two, 0) && is_in_prefix(one, two, 126) && is_in_prefix(one, one, 128));
        assert!(!is_in_prefix(one, two, 127) && !is_in_prefix(one, one, 129));
    }

    proptest! {
        #[test]
        fn survives_any_bytes(header in proptest::collection::vec(any::<u8>(), 0..20),
                              attributes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read_address(&header, &attributes);
            let _ = read_routers(&header, &attributes, Ipv6Addr::LOCALHOST);
            let _ = read_next_hops(&attributes);
            let _ = (read_route(&attributes), read_link_flags(&attributes));
        }

        #[test]
        fn survives_damage(position in 0usize..64, value: u8) {
            let mut hops = multipath();
            hops[position] = value;
            let _ = read_next_hops(&hops);
            let oif = attribute(libc::RTA_OIF, &2u32.to_ne_bytes());
            let gateway = attribute(libc::RTA_GATEWAY, &ip("fe80::1").octets());
            let mut bytes = answer(libc::RTN_UNICAST, &[oif, gateway]);
            if let Some(byte) = bytes.get_mut(position) {
                *byte = value;
            }
            let _ = read_route(&bytes);
        }
    }
}
