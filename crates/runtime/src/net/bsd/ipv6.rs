//! IPv6 addresses with their flags, and routes on an interface.

use super::super::interfaces::{self, Entry, visit_addresses};
use super::super::own_addresses::{has, internet_interface, link_local, other_routers, sorted};
use super::super::route_message::{HERE, Hop};
use super::super::{INTERNET_IPV6, is_shortage, portable};
use super::dump::gateway_routes;
use super::route::ask;
use libc::{c_int, c_ulong};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, LocalAddress, NextHop};
use socket2::{Domain, Socket, Type};
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsRawFd;

// netinet6/in6_var.h, the same on all systems (OpenBSD has no IN6_IFF_DETACHED).
const IN6_IFF_TENTATIVE: u32 = 0x02;
const IN6_IFF_DUPLICATED: u32 = 0x04;
const IN6_IFF_DETACHED: u32 = 0x08;
const IN6_IFF_DEPRECATED: u32 = 0x10;
const IN6_IFF_TEMPORARY: u32 = 0x80;
/// IN6_IFF_CLAT46 of macOS: an address that translates IPv4 packets, and takes no others.
const TRANSLATOR: u32 = if cfg!(target_vendor = "apple") { 0x1000 } else { 0 };

/// The numbers of SIOCGIFAFLAG_IN6 and SIOCGIFALIFETIME_IN6.
const GET_FLAGS: c_ulong = 73;
const GET_LIFETIMES: c_ulong = 81;

/// `struct in6_ifreq`: a name, then a union, whose longest member are the counters of ICMPv6: 34 of 64 bits.
const REQUEST_LEN: usize = VALUE_AT + 34 * 8;
const VALUE_AT: usize = libc::IFNAMSIZ;

/// The lengths of the structure, which are part of a request's number. OpenBSD had the counters in it; without them the longest
/// members are a sockaddr_in6, and what has the alignment of a pointer.
const REQUEST_LENS: &[usize] = if cfg!(target_os = "openbsd") {
    &[REQUEST_LEN, VALUE_AT + 28_usize.next_multiple_of(align_of::<usize>())]
} else {
    &[REQUEST_LEN]
};

/// `struct in6_addrlifetime`: two times, then the valid and the preferred lifetime.
const PREFERRED_LIFETIME_AT: usize = VALUE_AT + 2 * size_of::<libc::time_t>() + 4;

/// The request's memory, aligned as the structure has to be.
#[repr(C, align(8))]
struct Request([u8; REQUEST_LEN]);

/// The addresses of this machine, and the interface of the route to the internet or of a zone.
///
/// # Errors
///
/// The system could not be asked.
pub fn find_ipv6_addresses(zone: Option<&str>) -> io::Result<Ipv6Addresses> {
    let list = match addresses() {
        Err(error) if is_shortage(&error) => return Err(error),
        Err(_) => return portable::find_ipv6_addresses(),
        Ok(list) => list,
    };
    let interface = match zone {
        Some(zone) => interfaces::of_zone(zone),
        None if list.is_empty() => None,
        None => internet_interface(&list)?,
    };
    Ok(Ipv6Addresses { list, interface })
}

/// The route from an address of ours on an interface. `None`: there is none, or the address is not ours.
///
/// # Errors
///
/// The system could not be asked.
pub fn find_ipv6_route(
    source: Ipv6Addr,
    interface: u32,
    toward: Option<Ipv6Addr>,
) -> io::Result<Option<Ipv6Route>> {
    let list = addresses().unwrap_or_default();
    if !list.is_empty() && !has(&list, source, interface)
        || !portable::has_route(source, interface, toward.unwrap_or(INTERNET_IPV6[1]))?
    {
        return Ok(None);
    }
    let asked = match toward {
        // A question would need the interface inside the address.
        Some(toward) if toward.is_unicast_link_local() => Ok(Some(Hop { gateway: None, interface })),
        Some(toward) => ask(toward.into(), Some(interface)),
        None => ask_for_internet(interface),
    };
    let hop = match asked {
        Err(error) if is_shortage(&error) => return Err(error),
        Ok(None) => return Ok(None),
        Ok(Some(hop)) => Some(hop),
        // A sandbox; or there is no route on this interface.
        Err(_) => None,
    };
    let routers = match toward {
        None => gateway_routes(true).map_or_else(Vec::new, |dump| HERE.find_routers(&dump, interface)),
        Some(_) => Vec::new(),
    };
    let (next_hop, interface) = match (hop, routers.first()) {
        (Some(Hop { gateway: Some(IpAddr::V6(router)), interface: found }), _) if found == interface => {
            (NextHop::Router(router), found)
        }
        (Some(Hop { gateway: None, interface: found }), _) if found == interface => {
            (next_hop_of_link(found), found)
        }
        // The kernel prefers another interface for all sources.
        (_, Some(&router)) => (NextHop::Router(router), interface),
        (Some(Hop { gateway: Some(IpAddr::V6(router)), interface }), None) => {
            (NextHop::Router(router), interface)
        }
        (Some(Hop { gateway: None, interface }), None) if interface != 0 => {
            (next_hop_of_link(interface), interface)
        }
        _ => (NextHop::Unknown, interface),
    };
    let other_routers =
        next_hop.router().map_or_else(Vec::new, |chosen| other_routers(routers.into_iter(), chosen));
    Ok(Some(Ipv6Route { next_hop, interface, link_local: link_local(&list, interface), other_routers }))
}

/// The first address may be on-link, or refused.
fn ask_for_internet(interface: u32) -> io::Result<Option<Hop>> {
    let [first, second] = INTERNET_IPV6;
    match ask(first.into(), Some(interface)) {
        Ok(Some(hop)) if hop.gateway.is_some() => Ok(Some(hop)),
        _ => ask(second.into(), Some(interface)),
    }
}

/// What a route without a next hop leads to.
fn next_hop_of_link(interface: u32) -> NextHop {
    let mut found = None;
    let visited = visit_addresses(|entry| {
        if found.is_none() && interfaces::index_of(entry.name) == Some(interface) {
            found = Some(entry.flags);
        }
    });
    match visited.ok().and(found) {
        Some(flags) if flags & libc::IFF_POINTOPOINT as u32 != 0 => NextHop::PointToPoint,
        Some(_) => NextHop::OnLink,
        None => NextHop::Unknown,
    }
}

/// All addresses that can be used, now or later.
fn addresses() -> io::Result<Vec<LocalAddress>> {
    // A kernel without IPv6 has none.
    let socket = match Socket::new(Domain::IPV6, Type::DGRAM, None) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(Vec::new()),
        other => other?,
    };
    let mut list = Vec::new();
    visit_addresses(|entry| list.extend(read_address(&socket, entry)))?;
    Ok(sorted(list))
}

fn read_address(socket: &Socket, entry: &Entry<'_>) -> Option<LocalAddress> {
    let Some(IpAddr::V6(address)) = HERE.read_address(entry.address) else { return None };
    if entry.flags & libc::IFF_LOOPBACK as u32 != 0 {
        return None;
    }
    let flags = match ask_for_value(socket, GET_FLAGS, entry.name, entry.address, VALUE_AT) {
        Ok(flags) => flags,
        // It is gone.
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => return None,
        Err(_) => 0,
    };
    if flags & (IN6_IFF_DUPLICATED | IN6_IFF_DETACHED | TRANSLATOR) != 0 {
        return None;
    }
    // The whole of it, as it was told last.
    let lifetime = ask_for_value(socket, GET_LIFETIMES, entry.name, entry.address, PREFERRED_LIFETIME_AT);
    Some(LocalAddress {
        address,
        interface: interfaces::index_of(entry.name)?,
        is_temporary: flags & IN6_IFF_TEMPORARY != 0,
        is_deprecated: flags & IN6_IFF_DEPRECATED != 0,
        is_tentative: flags & IN6_IFF_TENTATIVE != 0,
        preferred_secs: lifetime.unwrap_or(0),
    })
}

/// A number that the kernel writes into the structure of a request about an address of an interface.
fn ask_for_value(
    socket: &Socket,
    number: c_ulong,
    name: &CStr,
    address: &[u8],
    value_at: usize,
) -> io::Result<u32> {
    let mut result = Err(io::ErrorKind::Unsupported.into());
    for len in REQUEST_LENS {
        let mut request = Request([0; REQUEST_LEN]);
        let (names, values) = request.0.split_at_mut(VALUE_AT);
        // The name ends in NUL, and the rest is zero.
        names.iter_mut().zip(name.to_bytes().iter().take(VALUE_AT - 1)).for_each(|(to, from)| *to = *from);
        values.iter_mut().zip(address).for_each(|(to, from)| *to = *from);
        // sys/ioccom.h: _IOWR('i', number, struct in6_ifreq).
        let code = 0xc000_0000 | (*len as c_ulong) << 16 | c_ulong::from(b'i') << 8 | number;
        // SAFETY: ioctl(2) reads and writes as many octets as its number says, which the request has; the descriptor is open.
        let answer: c_int = unsafe { libc::ioctl(socket.as_raw_fd(), code, request.0.as_mut_ptr()) };
        if answer == 0 {
            let value = request.0.get(value_at..).and_then(<[u8]>::first_chunk);
            return value
                .map(|octets| u32::from_ne_bytes(*octets))
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        result = Err(io::Error::last_os_error());
        // Another error than that the number is unknown.
        if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EADDRNOTAVAIL)) {
            break;
        }
    }
    result
}
