//! A route lookup for every system with sockets, also the fallback of the others.

#![forbid(unsafe_code)]

use super::{Route, is_shortage};
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
    let local = source_toward(address)?;
    Ok(local.map(|local| Route { gateway: None, local, interface: 0 }))
}

/// The source address that the kernel would choose toward an address; `None`: it has no route there.
fn source_toward(address: IpAddr) -> io::Result<Option<IpAddr>> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    // Connecting a UDP socket selects the route and sends nothing.
    match socket.connect(SocketAddr::new(address, DISCARD_PORT)) {
        Ok(()) => Ok(Some(socket.local_addr()?.ip())),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(None),
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
        assert_eq!(source_toward(Ipv4Addr::BROADCAST.into()).unwrap(), None);
    }
}
