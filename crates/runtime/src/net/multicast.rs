//! Multicast on systems that identify an interface by its address.

#![forbid(unsafe_code)]

use socket2::Socket;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// Lets the port be shared with other programs.
pub fn prepare_listener(socket: &Socket, _group: SocketAddr) -> io::Result<()> {
    #[cfg(unix)]
    let _ = socket.set_reuse_port(true);
    socket.set_reuse_address(true)
}

/// Joins an IPv4 group on the interface that has the local address.
pub fn join_v4(socket: &Socket, group: Ipv4Addr, local: Ipv4Addr, _interface: u32) -> io::Result<()> {
    socket.join_multicast_v4(&group, &local)
}

/// Sends IPv4 multicasts from this socket out of the interface that has the local address.
pub fn set_multicast_interface_v4(socket: &Socket, local: Ipv4Addr, _interface: u32) -> io::Result<()> {
    socket.set_multicast_if_v4(&local)
}
