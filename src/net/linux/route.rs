//! Route lookups, as `ip route get` does them: one rtnetlink question, policy routing and metrics honoured.

#![forbid(unsafe_code)]

use super::super::{Route, is_shortage};
use netlink_packet_core::{
    ErrorBuffer, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlaBuffer, NlasIterator, parse_ip, parse_u32,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use socket2::SockRef;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// The kernel answers while it takes the question, so this is only ever used up where netlink is broken.
const REPLY_TIMEOUT: Duration = Duration::from_millis(250);

/// Messages read for one reply, foreign ones (of privileged processes) included.
const MESSAGES_MAX: usize = 4;

/// A reply to a lookup has some 100 bytes.
const REPLY_LEN_MAX: usize = 4096;

const NETLINK_HEADER_LEN: usize = 16;

/// `struct rtmsg` of linux/rtnetlink.h: family, lengths, tos, table, protocol, scope, type, flags.
const ROUTE_HEADER_LEN: usize = 12;
const ROUTE_FAMILY: usize = 0;
const ROUTE_DESTINATION_LEN: usize = 1;
const ROUTE_TYPE: usize = 7;
const ROUTE_FLAGS: usize = 8;

/// linux/rtnetlink.h: the answer is the matching entry of the table of routes. Kernels before 4.13 ignore it.
const RTM_F_FIB_MATCH: u32 = 0x2000;

const ATTRIBUTE_HEADER_LEN: usize = 4;

/// One question a socket, so any number will do.
const SEQUENCE_NUMBER: u32 = 1;

/// What the kernel says of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    gateway: Option<IpAddr>,
    local: Option<IpAddr>,
    interface: Option<u32>,
}

/// Looks up the route toward an address. No packet is sent. `None`: there is none.
///
/// Takes some 50 to 100 microseconds, twice as long without a next hop, two seconds at the very most.
///
/// # Errors
///
/// The kernel could not be asked, or had no memory for an answer: whether there is a route is not known.
pub fn find_route(address: IpAddr) -> io::Result<Option<Route>> {
    let Some(Answer { mut gateway, local: Some(local), interface: Some(interface) }) = ask(address, 0)?
    else {
        return Ok(None);
    };
    if gateway.is_none() {
        // A next hop that is an address of this machine is no next hop for packets, so the kernel leaves it out. The
        // entry of its table names it: the gateway may run on this very machine.
        gateway = ask(address, RTM_F_FIB_MATCH)?.and_then(|entry| entry.gateway);
    }
    Ok(Some(Route { gateway, local, interface }))
}

/// Asks one question; `None`: there is no route.
fn ask(address: IpAddr, flags: u32) -> io::Result<Option<Answer>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    SockRef::from(&socket).set_read_timeout(Some(REPLY_TIMEOUT))?;
    socket.send_to(&question(address, flags), &SocketAddr::new(0, 0), 0)?;
    for _ in 0..MESSAGES_MAX {
        let mut buffer = [0; REPLY_LEN_MAX];
        // With MSG_TRUNC the length is the message's, also where that exceeds the buffer.
        let (len, from) = match socket.recv_from(&mut &mut buffer[..], libc::MSG_TRUNC) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if from.port_number() != 0 {
            continue; // not the kernel
        }
        match buffer.get(..len).and_then(read_reply) {
            Some(Ok(answer)) => return Ok(Some(answer)),
            Some(Err(error)) if is_shortage(&error) => return Err(error),
            // Unreachable, prohibited, or (EINVAL) a blackhole.
            Some(Err(_)) => return Ok(None),
            None => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// RTM_GETROUTE with the destination as its only attribute.
fn question(address: IpAddr, flags: u32) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let attribute_len = ATTRIBUTE_HEADER_LEN + octets.len();
    let len = NETLINK_HEADER_LEN + ROUTE_HEADER_LEN + attribute_len;
    let mut bytes = vec![0; len];
    let mut message = NetlinkBuffer::new(&mut bytes[..]);
    // The lengths here are at most 48.
    message.set_length(len as u32);
    message.set_message_type(libc::RTM_GETROUTE);
    message.set_flags(NLM_F_REQUEST);
    message.set_sequence_number(SEQUENCE_NUMBER);
    let payload = message.payload_mut();
    payload[ROUTE_FAMILY] = family as u8;
    payload[ROUTE_DESTINATION_LEN] = 8 * octets.len() as u8;
    payload[ROUTE_FLAGS..ROUTE_HEADER_LEN].copy_from_slice(&flags.to_ne_bytes());
    let mut attribute = NlaBuffer::new(&mut payload[ROUTE_HEADER_LEN..]);
    attribute.set_kind(libc::RTA_DST);
    attribute.set_length(attribute_len as u16);
    attribute.value_mut().copy_from_slice(&octets);
    bytes
}

/// What a message of the kernel says; `None`: it is not the answer to [`question`].
fn read_reply(bytes: &[u8]) -> Option<io::Result<Answer>> {
    let message = NetlinkBuffer::new_checked(bytes).ok()?;
    if message.sequence_number() != SEQUENCE_NUMBER {
        return None;
    }
    match message.message_type() {
        NLMSG_ERROR => {
            let code = ErrorBuffer::new_checked(message.payload()).ok()?.code()?;
            Some(Err(io::Error::from_raw_os_error(code.get().saturating_abs())))
        }
        libc::RTM_NEWROUTE => {
            let (header, attributes) = message.payload().split_at_checked(ROUTE_HEADER_LEN)?;
            Some(read_route(header[ROUTE_TYPE], attributes))
        }
        _ => None,
    }
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
    fn takes_a_blackhole_for_no_route() {
        let mut bytes = answer();
        bytes[NETLINK_HEADER_LEN + ROUTE_TYPE] = libc::RTN_BLACKHOLE;
        assert!(read_reply(&bytes).unwrap().is_err());
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
