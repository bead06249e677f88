//! macOS and iOS, FreeBSD, OpenBSD, NetBSD: what has routing sockets (route(4)).

pub mod clock;
mod dump;
mod ipv6;
mod route;
mod watch;

pub(super) use super::multicast::{join_v4, prepare_listener, set_multicast_interface_v4};
pub use ipv6::{find_ipv6_addresses, find_ipv6_route};
pub use route::find_route;
pub use watch::Watch;

use socket2::{Domain, Socket, Type};
use std::ffi::CStr;
use std::io;
use std::net::SocketAddr;

/// The value of an environment variable, unless this process runs with rights its caller does not have.
/// Bytes that are not UTF-8 become U+FFFD.
pub fn environment(name: &CStr) -> Option<String> {
    // SAFETY: issetugid(2) takes nothing and cannot fail.
    if unsafe { libc::issetugid() } != 0 {
        return None;
    }
    Some(std::env::var_os(name.to_str().ok()?)?.to_string_lossy().into_owned())
}

/// Where a listener for `group` is bound: to the group itself, or it would take other programs' unicast.
pub(super) fn listening_address(group: SocketAddr) -> SocketAddr {
    group
}

/// The number of this process's routing table, which OpenBSD requires (sys/net/rtsock.c: answers for a table reach only
/// sockets of processes that use it). On other systems it is a property of the socket.
#[cfg(target_os = "openbsd")]
fn table() -> u16 {
    // sys/socket.h, since OpenBSD 4.8; the libc crate does not name it.
    unsafe extern "C" {
        safe fn getrtable() -> libc::c_int;
    }
    // sys/socket.h: RT_TABLEID_MAX is 255.
    u16::try_from(getrtable()).unwrap_or(0)
}
#[cfg(not(target_os = "openbsd"))]
fn table() -> u16 {
    0
}

/// A routing socket. Needs no privilege to ask (RTM_GET alone) and to listen; net/rtsock.c.
fn open_routing_socket() -> io::Result<Socket> {
    Socket::new(Domain::from(libc::PF_ROUTE), Type::RAW, None)
}
