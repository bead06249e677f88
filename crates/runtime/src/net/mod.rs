//! The operating system: clock, randomness, sockets, routes, change notices. One folder for each platform.
//!
//! No protocol knowledge. Beside the C boundary (`src/`) the only place of the library that may hold `unsafe`.
//!
//! `udp`, `tcp` and `signals` are the same everywhere; what differs between systems is in `linux` (Android too), `bsd` (macOS
//! and iOS too), `windows` and `other` (what is portable), which have the same functions.
//!
//! The child of a fork is another process with a copy of this one's memory: `generation` distinguishes them,
//! `per_process` holds state that the child must not use, `descriptors` closes the child's copies.

// Other systems have no notices.
#[cfg(any(netlink, routing_sockets))]
mod arrival;
mod cancellation;
mod descriptors;
mod generation;
#[cfg(any(netlink, routing_sockets))]
mod interfaces;
// The conditions `netlink` and `routing_sockets`: build.rs.
#[cfg(not(any(netlink, windows)))]
mod multicast;
#[cfg(any(netlink, routing_sockets))]
mod notices;
mod output;
#[cfg(any(netlink, routing_sockets, windows))]
mod own_addresses;
mod per_process;
#[cfg(not(windows))]
mod portable;
// Here for its tests, which need no routing socket.
#[cfg(any(routing_sockets, test))]
mod route_message;
mod signals;
pub mod tcp;
pub mod thread_mark;
pub mod udp;
mod uplink;
// Where a clock has a number: clock_gettime(2).
#[cfg(any(netlink, routing_sockets))]
mod unix_clock;
mod wall_clock;

#[cfg(netlink)]
#[path = "linux/mod.rs"]
mod platform;
#[cfg(routing_sockets)]
#[path = "bsd/mod.rs"]
mod platform;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod platform;
#[cfg(not(any(netlink, routing_sockets, windows)))]
#[path = "other.rs"]
mod platform;

pub use cancellation::Uncancelled;
pub use descriptors::ClosedInChild;
pub use generation::generation;
pub use output::{output_is_terminal, write_output};
pub use per_process::{Inheritable, PerProcess};
pub use platform::{Watch, clock, environment};
#[cfg(unix)]
pub use signals::ignores_signal;
pub use signals::{end_thread_in_child, start_thread};
pub use uplink::{InterfaceError, Uplink};
pub use wall_clock::wall_clock;

#[cfg(not(netlink))]
use plum_engine::ipv6::NextHop;
use plum_engine::ipv6::{Choice, Ipv6Addresses, Ipv6Route, choose};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The route to an address, as the kernel would choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Next hop; `None`: on-link, or unknown (on systems where it cannot be looked up).
    pub gateway: Option<IpAddr>,
    /// Source address.
    pub local: IpAddr,
    /// Interface index; 0: unknown.
    pub interface: u32,
}

/// An Ethernet or Wi-Fi address.
pub type HardwareAddress = [u8; 6];

/// The result of reading the pending notices of a [`Watch`].
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notices {
    /// Links, or addresses or routes of IPv4 have changed, or notices were lost.
    pub changed: bool,
    /// Addresses or routes of IPv6 have changed.
    pub ipv6_changed: bool,
    /// There were too many to read at once: read again.
    pub more: bool,
    /// The watch is broken: open another.
    pub broken: bool,
}

/// Addresses that represent "the internet" in a route lookup. RFC 5737 §3: they are reserved for documentation
/// (TEST-NET-1, TEST-NET-2), and no packet is sent to them.
const INTERNET: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1)];

/// The same for IPv6: an address of RFC 3849's documentation prefix, and one of the global unicast addresses (RFC 4291 §2.4)
/// that is not assigned.
const INTERNET_IPV6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1)];

/// Fills `bytes` from the operating system's random number generator.
///
/// # Errors
///
/// The system has no source of randomness (no `getrandom` call and no `/dev/urandom`).
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code as _),
        None => io::Error::other("no source of randomness"),
    })
}

/// Whether the system is short of descriptors or memory, so that a retry may succeed.
pub fn is_shortage(error: &io::Error) -> bool {
    #[cfg(unix)]
    let shortages = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    #[cfg(windows)]
    let shortages = platform::SHORTAGES;
    error.raw_os_error().is_some_and(|code| shortages.contains(&code))
}

/// Whether a socket could not be opened because its address is no longer one of this machine, or its interface is gone.
pub fn is_address_gone(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_gone = error.raw_os_error() == Some(libc::ENODEV);
    #[cfg(not(unix))]
    let is_gone = false;
    is_gone || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Looks up the route toward an address, or toward the internet, as the system would choose it. No packet is sent. `None`: there
/// is none.
///
/// Takes some 100 microseconds, two seconds at the very most.
///
/// # Errors
///
/// The lookup failed: it is unknown whether there is a route.
pub fn find_route(toward: Option<IpAddr>) -> io::Result<Option<Route>> {
    find_route_with(toward, platform::find_route)
}

fn find_route_with(
    toward: Option<IpAddr>,
    find: impl Fn(IpAddr) -> io::Result<Option<Route>>,
) -> io::Result<Option<Route>> {
    if let Some(address) = toward {
        return find(address);
    }
    // The first may be on-link (some networks do use 192.0.2.0/24) or blackholed, which says nothing about the route to
    // the internet. Then the second decides, even if it has no route.
    match find(INTERNET[0].into())? {
        Some(route) if route.gateway.is_some() => Ok(Some(route)),
        _ => find(INTERNET[1].into()),
    }
}

/// The IPv6 addresses of this machine, but those of the loopback interface and those that failed duplicate address detection,
/// and the interface of the route to the internet (2001:db8::1, else 2000::1), or the one that `zone` names, by name or number.
/// No packet is sent.
///
/// # Errors
///
/// The system could not be asked.
pub fn find_ipv6_addresses(zone: Option<&str>) -> io::Result<Ipv6Addresses> {
    platform::find_ipv6_addresses(zone)
}

/// The route from an address of ours on an interface toward an address, or toward the internet. No packet is sent. `None`:
/// there is none, or the address is not ours.
///
/// # Errors
///
/// The lookup failed: it is unknown whether there is a route.
pub fn find_ipv6_route(
    source: Ipv6Addr,
    interface: u32,
    toward: Option<Ipv6Addr>,
) -> io::Result<Option<Ipv6Route>> {
    platform::find_ipv6_route(source, interface, toward)
}

/// The hardware address of a host on the link of an interface, from the neighbour table. No packet is sent. `None`: the
/// table has none, or cannot be read.
pub fn find_hardware_address(interface: u32, address: IpAddr) -> Option<HardwareAddress> {
    #[cfg(netlink)]
    return platform::find_hardware_address(interface, address);
    #[cfg(not(netlink))]
    {
        let _ = (interface, address);
        None
    }
}

/// The prefix length of an IPv4 address of this machine; `None`: unknown.
pub fn find_prefix(local: IpAddr) -> Option<u8> {
    #[cfg(any(netlink, routing_sockets))]
    return arrival::prefix(local);
    #[cfg(windows)]
    return platform::find_prefix(local);
    #[cfg(not(any(netlink, routing_sockets, windows)))]
    {
        let _ = local;
        None
    }
}

/// Whether the route from an address of ours to another has no next hop, on this interface.
fn is_on_link(source: Ipv6Addr, interface: u32, other: Ipv6Addr) -> bool {
    #[cfg(netlink)]
    return platform::is_on_link(source, interface, other);
    #[cfg(not(netlink))]
    {
        let route = find_ipv6_route(source, interface, Some(other)).ok().flatten();
        route.is_some_and(|route| {
            route.interface == interface && matches!(route.next_hop, NextHop::OnLink | NextHop::PointToPoint)
        })
    }
}

/// [`find_route`], without a distinction of failures.
pub fn look_up_route(toward: Option<IpAddr>) -> Option<Route> {
    find_route(toward).ok().flatten()
}

/// The address that this machine would use toward the internet: by IPv4, or without a route there the IPv6 address that
/// mappings lead to; `None` without a route at all. No packet is sent.
pub fn local_address() -> Option<IpAddr> {
    if let Some(route) = look_up_route(None) {
        return Some(route.local);
    }
    match choose(&find_ipv6_addresses(None).ok()?, None) {
        Choice::Address(source) => Some(source.address.into()),
        Choice::Wait | Choice::None => None,
    }
}
