//! What is the same on all systems that list the IPv6 addresses of this machine, and its routers.

#![forbid(unsafe_code)]

use plum_engine::ipv6::LocalAddress;
use std::net::Ipv6Addr;

/// How many routers are told beside that of the route.
const OTHER_ROUTERS_MAX: usize = 4;

/// In an order that does not depend on when they were added.
pub fn sorted(mut list: Vec<LocalAddress>) -> Vec<LocalAddress> {
    list.sort_by_key(|known| (known.interface, known.address));
    list
}

/// Whether an interface has this address.
pub fn has(list: &[LocalAddress], address: Ipv6Addr, interface: u32) -> bool {
    list.iter().any(|known| known.address == address && known.interface == interface)
}

/// Our address of fe80::/10 on an interface, if it can be used already.
pub fn link_local(list: &[LocalAddress], interface: u32) -> Option<Ipv6Addr> {
    let of_link = |known: &&LocalAddress| {
        known.interface == interface && known.address.is_unicast_link_local() && !known.is_tentative
    };
    let best = list.iter().filter(of_link).min_by_key(|known| (known.is_deprecated, known.address));
    best.map(|known| known.address)
}

/// Each router but the chosen one, once, in this order, not too many.
pub fn other_routers(routers: impl Iterator<Item = Ipv6Addr>, chosen: Ipv6Addr) -> Vec<Ipv6Addr> {
    let mut others = Vec::new();
    for router in routers {
        if router != chosen && !others.contains(&router) && others.len() < OTHER_ROUTERS_MAX {
            others.push(router);
        }
    }
    others
}

/// The interface of the route to the internet, where the system looks up none without a source or tells it.
#[cfg(any(routing_sockets, windows))]
pub fn internet_interface(list: &[LocalAddress]) -> std::io::Result<Option<u32>> {
    use super::{INTERNET_IPV6, platform};
    let [first, second] = INTERNET_IPV6.map(std::net::IpAddr::from);
    // As in `net::find_route`: the first address may be on-link, or refused.
    let route = match platform::find_route(first)? {
        Some(route) if route.gateway.is_some() => Some(route),
        _ => platform::find_route(second)?,
    };
    let Some(route) = route else { return Ok(None) };
    let of_address = || list.iter().find(|known| known.address == route.local).map(|known| known.interface);
    Ok(if route.interface != 0 { Some(route.interface) } else { of_address() })
}
