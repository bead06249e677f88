//! Systems without an implementation of their own: portable functions only.
//!
//! A route has a source address but no next hop (so only UPnP is used), and changes are seen by rechecks only.

#![forbid(unsafe_code)]

pub(super) use super::multicast::{join_v4, prepare_listener, set_multicast_interface_v4};
pub use super::portable::find_route;

use super::{INTERNET_IPV6, Notices, portable};
use mio::event::Source;
use mio::{Interest, Registry, Token};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, NextHop};
use std::ffi::CStr;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};

/// The clocks.
pub mod clock {
    use plum_engine::time::Time;
    use std::sync::OnceLock;
    use std::time::Instant;

    /// Now. Whether it counts the time that the machine sleeps depends on the system.
    pub fn now() -> Time {
        static START: OnceLock<Instant> = OnceLock::new();
        Time::ZERO + START.get_or_init(Instant::now).elapsed()
    }

    /// The same clock: no sleep is detected.
    pub fn monotonic() -> Time {
        now()
    }
}

/// The value of an environment variable. Text that is not Unicode becomes U+FFFD.
pub fn environment(name: &CStr) -> Option<String> {
    Some(std::env::var_os(name.to_str().ok()?)?.to_string_lossy().into_owned())
}

/// The address that the kernel would choose; interfaces are not known.
///
/// # Errors
///
/// The system has no descriptor or no memory.
pub fn find_ipv6_addresses(_zone: Option<&str>) -> io::Result<Ipv6Addresses> {
    portable::find_ipv6_addresses()
}

/// A route without a known next hop.
///
/// # Errors
///
/// The system has no descriptor or no memory.
pub fn find_ipv6_route(
    source: Ipv6Addr,
    interface: u32,
    toward: Option<Ipv6Addr>,
) -> io::Result<Option<Ipv6Route>> {
    let has_route = portable::has_route(source, interface, toward.unwrap_or(INTERNET_IPV6[1]))?;
    Ok(has_route.then(|| Ipv6Route {
        next_hop: NextHop::Unknown,
        interface,
        link_local: None,
        other_routers: Vec::new(),
    }))
}

/// A watch without notices.
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

    /// Nothing was refused.
    pub fn take_obstacle(&mut self) -> Option<io::Error> {
        None
    }

    /// There is nothing to read.
    pub fn drain(&mut self) -> Notices {
        Notices::default()
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
