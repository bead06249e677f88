//! IPv6: what the system says of addresses and routes, which address is used, and the mappings that lead to one.
//!
//! Each local address in use has an engine of its own ([`crate::Engine`], with `Config::source`). `choice` chooses the
//! address, `pinholes` has the program's mappings and moves them from one engine to another.

pub(crate) mod address_engines;
mod choice;
mod connections;
mod listeners;
pub(crate) mod pinholes;

pub use choice::{Choice, choose, is_usable_target};

use std::net::Ipv6Addr;

/// An IPv6 address of this machine, without those that failed duplicate address detection (RFC 4862 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    pub address: Ipv6Addr,
    /// The index of its interface.
    pub interface: u32,
    /// RFC 8981: it is replaced after some time.
    pub is_temporary: bool,
    /// RFC 4862 §5.5.4: its preferred lifetime has ended.
    pub is_deprecated: bool,
    /// Duplicate address detection goes on, and the address must not be used yet.
    pub is_tentative: bool,
    /// The rest of its preferred lifetime, in seconds; `u32::MAX`: without end.
    pub preferred_secs: u32,
}

/// What the system says of its IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipv6Addresses {
    /// All but those of the loopback interface.
    pub list: Vec<LocalAddress>,
    /// The interface of the route to the internet, or the one that PLUM_GATEWAY names; `None`: there is none.
    pub interface: Option<u32>,
}

impl Ipv6Addresses {
    /// Whether they are the same but for the rest of their lifetimes.
    pub(crate) fn are_same(&self, other: &Ipv6Addresses) -> bool {
        let without_time = |address: &LocalAddress| LocalAddress { preferred_secs: 0, ..*address };
        self.interface == other.interface
            && self.list.len() == other.list.len()
            && self.list.iter().zip(&other.list).all(|(one, two)| without_time(one) == without_time(two))
    }

    /// The entry of an address.
    pub(crate) fn get(&self, address: Ipv6Addr) -> Option<&LocalAddress> {
        self.list.iter().find(|known| known.address == address)
    }
}

/// The next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    Router(Ipv6Addr),
    /// The kernel says that there is none, on a link with other hosts.
    OnLink,
    /// There is none on a point-to-point link.
    PointToPoint,
    /// The system could not be asked.
    Unknown,
}

impl NextHop {
    /// The address of the router, if there is one.
    pub fn router(self) -> Option<Ipv6Addr> {
        match self {
            NextHop::Router(address) => Some(address),
            NextHop::OnLink | NextHop::PointToPoint | NextHop::Unknown => None,
        }
    }
}

impl std::fmt::Display for NextHop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NextHop::Router(address) => write!(f, "by {address}"),
            NextHop::OnLink => f.write_str("on-link"),
            NextHop::PointToPoint => f.write_str("on a point-to-point link"),
            NextHop::Unknown => f.write_str("with an unknown next hop"),
        }
    }
}

/// The route from one of our addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6Route {
    pub next_hop: NextHop,
    /// The index of the interface.
    pub interface: u32,
    /// Our link-local address there.
    pub link_local: Option<Ipv6Addr>,
    /// The other default routers of the interface.
    pub other_routers: Vec<Ipv6Addr>,
}
