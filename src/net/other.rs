//! Systems whose own ways are still to come: what is portable.
//!
//! A route has a source address but no next hop (so only UPnP is asked), and changes are seen by the
//! periodic recheck alone.

#![forbid(unsafe_code)]

use super::{INTERNET, Notices, Route};
use mio::event::Source;
use mio::{Interest, Registry, Token};
use socket2::Socket;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The clocks.
pub mod clock {
    use crate::time::Time;
    use std::sync::OnceLock;
    use std::time::Instant;

    /// Now. Whether it counts the time the machine sleeps is up to the system here.
    pub fn now() -> Time {
        static START: OnceLock<Instant> = OnceLock::new();
        Time::ZERO + START.get_or_init(Instant::now).elapsed()
    }

    /// The same clock: no sleep is seen.
    pub fn monotonic() -> Time {
        now()
    }
}

/// The value of an environment variable. Text that is not Unicode becomes U+FFFD.
pub fn environment(name: &CStr) -> Option<String> {
    Some(std::env::var_os(name.to_str().ok()?)?.to_string_lossy().into_owned())
}

/// Looks up the source address toward an address, or toward the internet. No packet is sent. `None`: no route.
///
/// # Errors
///
/// The system has no socket to ask with.
pub fn find_route(toward: Option<IpAddr>) -> io::Result<Option<Route>> {
    // Connecting a UDP socket chooses the route and sends nothing; the port is that of discard.
    let toward = SocketAddr::new(toward.unwrap_or(INTERNET[0].into()), 9);
    let any: IpAddr =
        if toward.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    Ok(match socket.connect(toward) {
        Ok(()) => Some(Route { gateway: None, local: socket.local_addr()?.ip(), interface: 0 }),
        Err(_) => None,
    })
}

/// Never tells anything.
pub struct Watch {}

impl Watch {
    /// Watches nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn open() -> io::Result<Watch> {
        Ok(Watch {})
    }

    /// There is nothing to read.
    pub fn drain(&mut self) -> Notices {
        Notices { changed: false, more: false, broken: false }
    }
}

impl Source for Watch {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

/// Where a listener for `group` is bound: to the group itself, or it would take other programs' unicast.
pub(super) fn listening_address(group: SocketAddr) -> SocketAddr {
    group
}

/// Lets the port be shared with other programs.
pub(super) fn prepare_listener(socket: &Socket, _group: SocketAddr) -> io::Result<()> {
    #[cfg(unix)]
    let _ = socket.set_reuse_port(true);
    socket.set_reuse_address(true)
}

/// Joins an IPv4 group on the interface that has the local address.
pub(super) fn join_v4(socket: &Socket, group: Ipv4Addr, local: Ipv4Addr, _interface: u32) -> io::Result<()> {
    socket.join_multicast_v4(&group, &local)
}

/// Sends IPv4 multicasts from this socket out of the interface that has the local address.
pub(super) fn set_multicast_interface_v4(
    socket: &Socket,
    local: Ipv4Addr,
    _interface: u32,
) -> io::Result<()> {
    socket.set_multicast_if_v4(&local)
}
