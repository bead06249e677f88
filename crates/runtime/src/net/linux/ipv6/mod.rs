//! IPv6 addresses, and routes that depend on the source (RFC 8028), by rtnetlink, or from /proc.

#![forbid(unsafe_code)]

mod messages;
mod proc_tables;

use super::super::own_addresses::{self, has, link_local, sorted};
use super::super::{INTERNET_IPV6, interfaces, is_shortage, portable};
use super::netlink::{dump, exchange};
use messages::{ADDRESS_HEADER_LEN, Found, Kind, Origin, ROUTE_HEADER_LEN};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, LocalAddress, NextHop};
use std::io;
use std::net::Ipv6Addr;

/// The addresses of this machine, and the interface of the route to the internet or of a zone.
///
/// # Errors
///
/// The kernel could not be asked, or has no memory.
pub fn find_ipv6_addresses(zone: Option<&str>) -> io::Result<Ipv6Addresses> {
    find_addresses(zone.map(interfaces::of_zone))
}

/// The addresses of this machine, and an interface that is known.
///
/// # Errors
///
/// The kernel could not be asked, or has no memory.
pub fn find_ipv6_addresses_beside(interface: Option<u32>) -> io::Result<Ipv6Addresses> {
    find_addresses(Some(interface))
}

/// `known`: the interface, if it is not that of the route to the internet.
fn find_addresses(known: Option<Option<u32>>) -> io::Result<Ipv6Addresses> {
    let found = addresses().and_then(|list| {
        let interface = match known {
            Some(known) => known,
            None => internet_interface(&list)?,
        };
        Ok(Ipv6Addresses { list, interface })
    });
    match found {
        // A sandbox refuses netlink.
        Err(error) if !is_shortage(&error) => find_ipv6_addresses_without_netlink(known),
        other => other,
    }
}

/// The route from an address of ours on an interface. `None`: there is none, or the address is not ours.
///
/// # Errors
///
/// The kernel could not be asked, or has no memory.
pub fn find_ipv6_route(
    source: Ipv6Addr,
    interface: u32,
    toward: Option<Ipv6Addr>,
) -> io::Result<Option<Ipv6Route>> {
    find_route(source, interface, toward, |toward| ask_toward(toward, Origin::Address(source, interface)))
}

/// The same, but by that interface alone.
///
/// # Errors
///
/// Those.
pub fn find_ipv6_route_by(
    source: Ipv6Addr,
    interface: u32,
    toward: Option<Ipv6Addr>,
) -> io::Result<Option<Ipv6Route>> {
    let is_by_it = |found: &Found| found.kind == Kind::Local || found.interface == interface;
    find_route(source, interface, toward, |toward| {
        // The first has the routes that depend on the source, and may be by another interface.
        match ask_toward(toward, Origin::Address(source, interface))?.filter(is_by_it) {
            None => ask_toward(toward, Origin::Interface(interface)),
            found => Ok(found),
        }
    })
}

fn find_route(
    source: Ipv6Addr,
    interface: u32,
    toward: Option<Ipv6Addr>,
    ask: impl Fn(Option<Ipv6Addr>) -> io::Result<Option<Found>>,
) -> io::Result<Option<Ipv6Route>> {
    match find_route_by_netlink(source, interface, toward, ask) {
        Err(error) if !is_shortage(&error) => find_route_without_netlink(source, interface, toward),
        other => other,
    }
}

/// Whether the route from an address of ours to another has no next hop, on this interface.
pub fn is_on_link(source: Ipv6Addr, interface: u32, other: Ipv6Addr) -> bool {
    let found = ask(other, Origin::Address(source, interface)).ok().flatten();
    found.is_some_and(|found| {
        found.kind == Kind::Local || found.gateway.is_none() && found.interface == interface
    })
}

/// All addresses, in an order that does not depend on when they were added.
fn addresses() -> io::Result<Vec<LocalAddress>> {
    let question = messages::addresses_question();
    let list = dump(&question, libc::RTM_NEWADDR, ADDRESS_HEADER_LEN, messages::read_address)?;
    Ok(sorted(list))
}

/// The interface of the route to the internet: that without a source, or where all routes depend on it, that of the first
/// address that has one.
fn internet_interface(list: &[LocalAddress]) -> io::Result<Option<u32>> {
    if let Some(found) = ask_for_internet(Origin::Anywhere)? {
        return Ok(Some(found.interface));
    }
    for known in list.iter().filter(|known| !known.address.is_unicast_link_local()) {
        if let Some(found) = ask_for_internet(Origin::Address(known.address, known.interface))? {
            return Ok(Some(found.interface));
        }
    }
    Ok(None)
}

/// The route to the internet.
fn ask_for_internet(origin: Origin) -> io::Result<Option<Found>> {
    let of_others = |found: &Found| found.kind == Kind::Unicast;
    let [first, second] = INTERNET_IPV6;
    // As in `net::find_route`: the first address may be on-link, or refused.
    match ask(first, origin)?.filter(of_others) {
        Some(found) if found.gateway.is_some() => Ok(Some(found)),
        _ => Ok(ask(second, origin)?.filter(of_others)),
    }
}

fn ask(toward: Ipv6Addr, origin: Origin) -> io::Result<Option<Found>> {
    exchange(&messages::route_question(toward, origin), messages::read_route)
}

/// The route to an address, or to the internet.
fn ask_toward(toward: Option<Ipv6Addr>, origin: Origin) -> io::Result<Option<Found>> {
    match toward {
        Some(toward) => ask(toward, origin),
        None => ask_for_internet(origin),
    }
}

fn find_route_by_netlink(
    source: Ipv6Addr,
    interface: u32,
    toward: Option<Ipv6Addr>,
    ask: impl Fn(Option<Ipv6Addr>) -> io::Result<Option<Found>>,
) -> io::Result<Option<Ipv6Route>> {
    let list = addresses()?;
    if !has(&list, source, interface) {
        return Ok(None);
    }
    let Some(found) = ask(toward)? else { return Ok(None) };
    // A route to this very machine is by the loopback interface.
    let interface = if found.kind == Kind::Local { interface } else { found.interface };
    let next_hop = match found.gateway {
        Some(router) => NextHop::Router(router),
        None => next_hop_of_link(interface),
    };
    let other_routers = match (toward, next_hop) {
        (None, NextHop::Router(router)) => other_routers(source, interface, router)?,
        _ => Vec::new(),
    };
    Ok(Some(Ipv6Route { next_hop, interface, link_local: link_local(&list, interface), other_routers }))
}

/// What a route without a next hop leads to.
fn next_hop_of_link(interface: u32) -> NextHop {
    match exchange(&messages::link_question(interface), messages::read_link_flags) {
        Ok(Some(flags)) if flags & libc::IFF_POINTOPOINT as u32 != 0 => NextHop::PointToPoint,
        Ok(Some(_)) => NextHop::OnLink,
        // To apps, Android since 11 does not tell of links.
        Ok(None) | Err(_) => NextHop::Unknown,
    }
}

/// The other default routers of an interface, those of the lowest metric first.
fn other_routers(source: Ipv6Addr, interface: u32, chosen: Ipv6Addr) -> io::Result<Vec<Ipv6Addr>> {
    let question = messages::routes_question();
    let mut routers = dump(&question, libc::RTM_NEWROUTE, ROUTE_HEADER_LEN, |header, attributes| {
        messages::read_routers(header, attributes, source)
    })?;
    routers.sort_by_key(|router| (router.metric, router.address));
    let on_interface = routers.iter().filter(|router| router.interface == interface);
    Ok(own_addresses::other_routers(on_interface.map(|router| router.address), chosen))
}

/// As [`find_addresses`].
fn find_ipv6_addresses_without_netlink(known: Option<Option<u32>>) -> io::Result<Ipv6Addresses> {
    let Some(list) = proc_tables::addresses() else { return portable::find_ipv6_addresses() };
    let list = sorted(list);
    let interface = match known {
        Some(known) => known,
        // A rule may select another table: then it is the interface of the address that the kernel chooses.
        None => portable::internet_source()?.and_then(|chosen| {
            list.iter().find(|known| known.address == chosen).map(|known| known.interface)
        }),
    };
    Ok(Ipv6Addresses { list, interface })
}

/// The next hop is that of the table of routes, if it has one on the interface; else it is unknown.
fn find_route_without_netlink(
    source: Ipv6Addr,
    interface: u32,
    toward: Option<Ipv6Addr>,
) -> io::Result<Option<Ipv6Route>> {
    let list = proc_tables::addresses().unwrap_or_default();
    if !list.is_empty() && !has(&list, source, interface)
        || !portable::has_route(source, interface, toward.unwrap_or(INTERNET_IPV6[1]))?
    {
        return Ok(None);
    }
    let entries = proc_tables::routes(toward.unwrap_or(INTERNET_IPV6[1]), Some(source));
    let on_interface = |entry: &&proc_tables::Entry| interfaces::of_zone(&entry.interface) == Some(interface);
    let gateways: Vec<_> = entries.iter().filter(on_interface).map(|entry| entry.gateway).collect();
    let (next_hop, other_routers) = match (gateways.first(), toward) {
        (Some(&Some(router)), None) => {
            (NextHop::Router(router), own_addresses::other_routers(gateways.into_iter().flatten(), router))
        }
        (Some(&Some(router)), Some(_)) => (NextHop::Router(router), Vec::new()),
        (Some(None) | None, _) => (NextHop::Unknown, Vec::new()),
    };
    Ok(Some(Ipv6Route { next_hop, interface, link_local: link_local(&list, interface), other_routers }))
}
