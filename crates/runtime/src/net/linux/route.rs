//! Lookups of routes (as `ip route get` does, with policy routing and metrics) and of neighbours: one rtnetlink request
//! each.

#![forbid(unsafe_code)]

use super::super::{HardwareAddress, Route};
use super::netlink::{exchange, question, read};
use netlink_packet_core::{NlasIterator, parse_ip, parse_u32};
use std::io;
use std::net::IpAddr;

/// `struct rtmsg` of linux/rtnetlink.h: family, lengths, tos, table, protocol, scope, type, flags.
const HEADER_LEN: usize = 12;
const FAMILY: usize = 0;
const ROUTE_DESTINATION_LEN: usize = 1;
const ROUTE_TYPE: usize = 7;
const ROUTE_FLAGS: usize = 8;

/// `struct ndmsg` of linux/neighbour.h, which is as long: family, padding, interface, state, flags, type.
const NEIGHBOUR_INTERFACE: usize = 4;
const NEIGHBOUR_STATE: usize = 8;

/// linux/neighbour.h: NUD_REACHABLE, _STALE, _DELAY, _PROBE, _PERMANENT. In other states there is no address, or an old one.
const STATES_WITH_ADDRESS: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;

/// linux/rtnetlink.h: the answer is the matching entry of the table of routes. Kernels before 4.13 ignore it.
const RTM_F_FIB_MATCH: u32 = 0x2000;

/// The kernel's answer about a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    gateway: Option<IpAddr>,
    local: Option<IpAddr>,
    interface: Option<u32>,
}

/// Looks up the route toward an address. No packet is sent. `None`: there is none.
///
/// Takes about 50 to 100 microseconds, twice as long without a next hop, and never more than two seconds.
///
/// # Errors
///
/// The kernel could not be asked, or had no memory for an answer: whether there is a route is not known.
pub fn find_route(address: IpAddr) -> io::Result<Option<Route>> {
    let Some(Answer { mut gateway, local: Some(local), interface: Some(interface) }) = ask(address, 0, &[])?
    else {
        return Ok(None);
    };
    if gateway.is_none() {
        // The kernel omits a next hop that is an address of this machine. The entry of its table has it: the gateway
        // may run on this machine.
        gateway = ask(address, RTM_F_FIB_MATCH, &[])?.and_then(|entry| entry.gateway);
    }
    Ok(Some(Route { gateway, local, interface }))
}

/// The same by one interface.
///
/// # Errors
///
/// Those.
pub fn find_route_by(interface: u32, address: IpAddr) -> io::Result<Option<Route>> {
    let by = (libc::RTA_OIF, &interface.to_ne_bytes()[..]);
    let Some(Answer { gateway, local: Some(local), interface: Some(interface) }) = ask(address, 0, &[by])?
    else {
        return Ok(None);
    };
    let route = Route { gateway, local, interface };
    if gateway.is_some() {
        return Ok(Some(route));
    }
    // net/ipv4/route.c, ip_route_output_key_hash_rcu(): where no entry is by the interface, the kernel assumes that the address is
    // on-link.
    if let Some(entry) = ask(address, RTM_F_FIB_MATCH, &[by])? {
        return Ok(Some(Route { gateway: entry.gateway, ..route }));
    }
    // A rule may select a table by the address of the interface.
    let source = octets(local);
    let all = [by, (libc::RTA_SRC, &source[..])];
    let Some(entry) = ask(address, RTM_F_FIB_MATCH, &all)? else { return Ok(None) };
    let chosen = ask(address, 0, &all)?.and_then(|answer| answer.gateway);
    Ok(Some(Route { gateway: chosen.or(entry.gateway), ..route }))
}

/// The hardware address of a neighbour on an interface; `None`: unknown, or not reported (before Linux 5.0, and to apps
/// since Android 11).
pub fn find_hardware_address(interface: u32, address: IpAddr) -> Option<HardwareAddress> {
    let mut header = header(address);
    header[NEIGHBOUR_INTERFACE..NEIGHBOUR_STATE].copy_from_slice(&interface.to_ne_bytes());
    let question = question(libc::RTM_GETNEIGH, &header, &[(libc::NDA_DST, &octets(address))]);
    exchange(&question, read_neighbour).ok()?
}

/// Asks for a route, with more attributes than the destination; `None`: there is none.
fn ask(address: IpAddr, flags: u32, attributes: &[(u16, &[u8])]) -> io::Result<Option<Answer>> {
    exchange(&route_question(address, flags, attributes), read_reply)
}

fn route_question(address: IpAddr, flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut header = header(address);
    header[ROUTE_DESTINATION_LEN] = if address.is_ipv4() { 32 } else { 128 };
    header[ROUTE_FLAGS..].copy_from_slice(&flags.to_ne_bytes());
    let destination = octets(address);
    let mut all = vec![(libc::RTA_DST, &destination[..])];
    all.extend_from_slice(attributes);
    question(libc::RTM_GETROUTE, &header, &all)
}

/// A header with nothing but the family of an address.
fn header(address: IpAddr) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[FAMILY] = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    header
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The route in a message of the kernel; `None`: it is not the answer to the request.
fn read_reply(bytes: &[u8]) -> Option<io::Result<Answer>> {
    read(bytes, libc::RTM_NEWROUTE, HEADER_LEN, |header, attributes| {
        read_route(header[ROUTE_TYPE], attributes)
    })
}

/// The neighbour in a message of the kernel; `None`: it is not the answer to the request.
fn read_neighbour(bytes: &[u8]) -> Option<io::Result<HardwareAddress>> {
    read(bytes, libc::RTM_NEWNEIGH, HEADER_LEN, |header, attributes| {
        let state = u16::from_ne_bytes([header[NEIGHBOUR_STATE], header[NEIGHBOUR_STATE + 1]]);
        NlasIterator::new(attributes)
            .flatten()
            .filter(|attribute| attribute.kind() == libc::NDA_LLADDR && state & STATES_WITH_ADDRESS != 0)
            .find_map(|attribute| attribute.value().try_into().ok())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

fn read_route(kind: u8, attributes: &[u8]) -> io::Result<Answer> {
    // The types left out drop or refuse packets, or are broadcasts and multicasts.
    if !matches!(kind, libc::RTN_UNICAST | libc::RTN_LOCAL) {
        return Err(io::ErrorKind::NetworkUnreachable.into());
    }
    let mut answer = Answer::default();
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| io::ErrorKind::InvalidData)?;
        let value = attribute.value();
        match attribute.kind() {
            // An IPv4 route by an IPv6 next hop has RTA_VIA instead. We do not read it: a gateway that
            // has no IPv4 address on our link cannot be asked, as if there were none.
            libc::RTA_GATEWAY => answer.gateway = parse_ip(value).ok(),
            libc::RTA_PREFSRC => answer.local = parse_ip(value).ok(),
            libc::RTA_OIF => answer.interface = parse_u32(value).ok(),
            _ => {}
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::super::netlink::NETLINK_HEADER_LEN;
    use super::*;
    use proptest::prelude::*;

    /// An answer as the kernel gives it: default via 192.0.2.1 on interface 2, source 192.0.2.2.
    #[rustfmt::skip]
    fn answer() -> Vec<u8> {
        let head = |len: u32, kind: u16| {
            [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0, 0], &1u32.to_ne_bytes(), &77u32.to_ne_bytes()].concat()
        };
        let attribute = |kind: u16, value: &[u8]| {
            [&(4 + value.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
        };
        let body = [
            // family, destination length, source length, tos, table, protocol, scope, type
            vec![2, 32, 0, 0, 254, 0, 0, 1],
            vec![0, 0, 0, 0], // flags
            attribute(1, &[198, 51, 100, 1]), // RTA_DST
            attribute(4, &2u32.to_ne_bytes()), // RTA_OIF
            attribute(7, &[192, 0, 2, 2]), // RTA_PREFSRC
            attribute(5, &[192, 0, 2, 1]), // RTA_GATEWAY
        ].concat();
        [head(16 + body.len() as u32, 24), body].concat()
    }

    #[test]
    fn reads_the_next_hop_the_source_and_the_interface() {
        let route = read_reply(&answer()).unwrap().unwrap();
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        assert_eq!(route, Answer { gateway: address(1), local: address(2), interface: Some(2) });
    }

    #[test]
    fn a_question_has_the_attributes_that_are_given_behind_the_destination() {
        let address = IpAddr::from([198, 51, 100, 1]);
        let body = NETLINK_HEADER_LEN;
        let attributes = |bytes: &[u8]| -> Vec<(u16, Vec<u8>)> {
            let attributes = NlasIterator::new(&bytes[body + HEADER_LEN..]).map(|found| found.unwrap());
            attributes.map(|found| (found.kind(), found.value().to_vec())).collect()
        };
        let plain = route_question(address, RTM_F_FIB_MATCH, &[]);
        assert_eq!(plain[body..body + 8], [2, 32, 0, 0, 0, 0, 0, 0]);
        assert_eq!(plain[body + ROUTE_FLAGS..body + HEADER_LEN], RTM_F_FIB_MATCH.to_ne_bytes());
        let destination = (libc::RTA_DST, vec![198, 51, 100, 1]);
        assert_eq!(attributes(&plain), std::slice::from_ref(&destination));
        let by = (libc::RTA_OIF, &7u32.to_ne_bytes()[..]);
        let from = (libc::RTA_SRC, &[192, 0, 2, 2][..]);
        let whole = route_question(address, 0, &[by, from]);
        let [by, from] = [by, from].map(|(kind, value)| (kind, value.to_vec()));
        assert_eq!(attributes(&whole), [destination, by, from]);
        assert_eq!(whole.len(), u32::from_ne_bytes(*whole.first_chunk().unwrap()) as usize);
    }

    #[test]
    fn takes_a_blackhole_for_no_route() {
        let mut bytes = answer();
        bytes[NETLINK_HEADER_LEN + ROUTE_TYPE] = libc::RTN_BLACKHOLE;
        assert!(read_reply(&bytes).unwrap().is_err());
    }

    #[test]
    fn reads_a_hardware_address_unless_it_is_of_the_past() {
        let message = |state: u8| {
            let head = [&40u32.to_ne_bytes()[..], &libc::RTM_NEWNEIGH.to_ne_bytes(), &[0; 2]].concat();
            let numbers = [1u32.to_ne_bytes(), 77u32.to_ne_bytes()].concat();
            let interface_and_state = [&3i32.to_ne_bytes()[..], &u16::from(state).to_ne_bytes()].concat();
            let neighbour = [&[2, 0, 0, 0][..], &interface_and_state, &[0, 1]].concat();
            let attribute =
                [&10u16.to_ne_bytes()[..], &libc::NDA_LLADDR.to_ne_bytes(), &[2, 0, 0, 0, 0, 9]].concat();
            let mut bytes = [head, numbers, neighbour, attribute, vec![0; 2]].concat();
            bytes[..4].copy_from_slice(&38u32.to_ne_bytes());
            bytes
        };
        assert_eq!(read_neighbour(&message(0x02)).unwrap().unwrap(), [2, 0, 0, 0, 0, 9]);
        assert_eq!(read_neighbour(&message(0x04)).unwrap().unwrap(), [2, 0, 0, 0, 0, 9]);
        assert!(read_neighbour(&message(0x20)).unwrap().is_err(), "FAILED");
        assert!(read_reply(&message(0x02)).is_none(), "no route");
    }

    #[test]
    fn ignores_an_answer_to_another_question() {
        let mut bytes = answer();
        bytes[8..12].copy_from_slice(&2u32.to_ne_bytes());
        assert!(read_reply(&bytes).is_none());
    }

    #[test]
    fn survives_every_prefix_of_an_answer() {
        let bytes = answer();
        for end in 0..bytes.len() {
            // As cut off, and with a length field that fits the cut.
            assert!(read_reply(&bytes[..end]).is_none());
            let mut cut = bytes[..end].to_vec();
            if end >= NETLINK_HEADER_LEN {
                cut[..4].copy_from_slice(&(end as u32).to_ne_bytes());
            }
            // Before its last attribute, the gateway, it may well be an answer.
            if let Some(Ok(route)) = read_reply(&cut) {
                assert_eq!(route.gateway, None);
            }
        }
    }

    proptest! {
        #[test]
        fn survives_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_reply(&bytes);
        }

        #[test]
        fn survives_damage(position in 0usize..60, value: u8) {
            let mut bytes = answer();
            if let Some(byte) = bytes.get_mut(position) {
                *byte = value;
            }
            let _ = read_reply(&bytes);
        }
    }
}
