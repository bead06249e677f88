//! A route lookup for every system with sockets, also the fallback of the others.

#![forbid(unsafe_code)]

use super::udp::scoped;
use super::{INTERNET_IPV6, Route, is_shortage};
use plum_engine::ipv6::{Ipv6Addresses, LocalAddress};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The port of the discard service (RFC 863). Nothing is ever sent to it.
const DISCARD_PORT: u16 = 9;

/// Looks up the source address toward an address; next hop and interface stay unknown. No packet is sent. `None`: no route.
///
/// # Errors
///
/// No socket can be opened.
pub fn find_route(address: IpAddr) -> io::Result<Option<Route>> {
    let local = source_toward(&open(address)?, address)?;
    Ok(local.map(|local| Route { gateway: None, local, interface: 0 }))
}

/// A socket of the family of an address.
pub(super) fn open(family_of: IpAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if family_of.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind(SocketAddr::new(any, 0))
}

/// The source address that the kernel would choose toward an address for a new socket; `None`: it has no route there.
pub(super) fn source_toward(socket: &UdpSocket, address: IpAddr) -> io::Result<Option<IpAddr>> {
    // Connecting a UDP socket selects the route and sends nothing.
    match socket.connect(SocketAddr::new(address, DISCARD_PORT)) {
        Ok(()) => Ok(Some(socket.local_addr()?.ip())),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The IPv6 source address that the kernel would choose toward the internet; `None`: it has no route there, or no IPv6.
///
/// # Errors
///
/// The system has no descriptor or no memory.
pub fn internet_source() -> io::Result<Option<Ipv6Addr>> {
    let toward = IpAddr::from(INTERNET_IPV6[1]);
    match open(toward).and_then(|socket| source_toward(&socket, toward)) {
        Ok(Some(IpAddr::V6(source))) => Ok(Some(source)),
        Err(error) if is_shortage(&error) => Err(error),
        _ => Ok(None),
    }
}

/// That address as the only one. Its interface is not known.
///
/// # Errors
///
/// The system has no descriptor or no memory.
pub fn find_ipv6_addresses() -> io::Result<Ipv6Addresses> {
    let list = internet_source()?.into_iter().map(|address| LocalAddress {
        address,
        interface: 0,
        is_temporary: false,
        is_deprecated: false,
        is_tentative: false,
        preferred_secs: 0,
    });
    let list: Vec<_> = list.collect();
    Ok(Ipv6Addresses { interface: list.first().map(|_| 0), list })
}

/// Whether the kernel has a route from an address of ours, where link-local addresses are those of an interface; `false` also if
/// it is not ours.
///
/// # Errors
///
/// The system has no descriptor or no memory.
pub fn has_route(source: Ipv6Addr, interface: u32, toward: Ipv6Addr) -> io::Result<bool> {
    let at = |address: Ipv6Addr, port| scoped(SocketAddr::new(address.into(), port), interface);
    let result = UdpSocket::bind(at(source, 0)).and_then(|socket| socket.connect(at(toward, DISCARD_PORT)));
    match result {
        Err(error) if is_shortage(&error) => Err(error),
        other => Ok(other.is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_source_address_without_a_next_hop() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let route = find_route(loopback).unwrap();
        assert_eq!(route, Some(Route { gateway: None, local: loopback, interface: 0 }));
    }

    #[test]
    fn finds_no_source_address_where_the_kernel_refuses_the_way() {
        // ip(7): to a broadcast address only sockets with SO_BROADCAST connect.
        let broadcast = Ipv4Addr::BROADCAST.into();
        assert_eq!(source_toward(&open(broadcast).unwrap(), broadcast).unwrap(), None);
    }
}
