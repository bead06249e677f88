//! IPv6 addresses with their states, and routes from one of them.

use super::super::own_addresses::{has, internet_interface, link_local, other_routers, sorted};
use super::super::{INTERNET_IPV6, is_shortage};
use super::route::{addresses, decode, encode, is_gateway};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, LocalAddress, NextHop};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::ptr::{null, null_mut};
use std::slice;
use windows_sys::Win32::Foundation::{ERROR_NOT_FOUND, ERROR_NOT_SUPPORTED, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    ConvertInterfaceAliasToLuid, ConvertInterfaceLuidToIndex, FreeMibTable, GetBestRoute2,
    GetIpForwardTable2, IF_TYPE_ETHERNET_CSMACD, IF_TYPE_IEEE80211, IF_TYPE_SOFTWARE_LOOPBACK,
    MIB_IPFORWARD_ROW2, MIB_UNICASTIPADDRESS_ROW,
};
use windows_sys::Win32::NetworkManagement::Ndis::NET_LUID_LH;
use windows_sys::Win32::Networking::WinSock::{
    AF_INET6, IpDadStateDeprecated, IpDadStatePreferred, IpDadStateTentative, IpSuffixOriginRandom,
    SOCKADDR_INET,
};

/// ifdef.h: the type of an interface is in the upper 16 bits of its NET_LUID.
const INTERFACE_TYPE_SHIFT: u32 = 48;

/// The addresses of this machine, and the interface of the route to the internet or of a zone.
///
/// # Errors
///
/// The system could not be asked.
pub fn find_ipv6_addresses(zone: Option<&str>) -> io::Result<Ipv6Addresses> {
    let list = sorted(addresses(AF_INET6)?.iter().filter_map(read_address).collect());
    let interface = match zone {
        Some(zone) => interface_of(zone),
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
    let list: Vec<_> = addresses(AF_INET6)?.iter().filter_map(read_address).collect();
    if !has(&list, source, interface) {
        return Ok(None);
    }
    let [first, second] = INTERNET_IPV6;
    let best = match toward {
        Some(toward) => best_route(source, interface, toward),
        // As in `net::find_route`: the first address may be on-link, or refused.
        None => match best_route(source, interface, first) {
            Ok(Some(found)) if matches!(found.0, NextHop::Router(_)) => Ok(Some(found)),
            _ => best_route(source, interface, second),
        },
    };
    let routers = if toward.is_none() { routers(interface)? } else { Vec::new() };
    let (next_hop, interface) = match best {
        Ok(None) => return Ok(None),
        Ok(Some(found)) => found,
        Err(error) if error.raw_os_error() == Some(ERROR_NOT_SUPPORTED.cast_signed()) => {
            (routers.first().map_or(NextHop::Unknown, |&router| NextHop::Router(router)), interface)
        }
        Err(error) => return Err(error),
    };
    let other_routers =
        next_hop.router().map_or_else(Vec::new, |chosen| other_routers(routers.into_iter(), chosen));
    Ok(Some(Ipv6Route { next_hop, interface, link_local: link_local(&list, interface), other_routers }))
}

/// An address that can be used, now or later, and is not of loopback.
fn read_address(row: &MIB_UNICASTIPADDRESS_ROW) -> Option<LocalAddress> {
    let IpAddr::V6(address) = decode(&row.Address)? else { return None };
    // The others: it is invalid, or another host has it.
    if ![IpDadStatePreferred, IpDadStateDeprecated, IpDadStateTentative].contains(&row.DadState)
        || interface_type(row.InterfaceLuid) == IF_TYPE_SOFTWARE_LOOPBACK
    {
        return None;
    }
    Some(LocalAddress {
        address,
        interface: row.InterfaceIndex,
        is_temporary: row.SuffixOrigin == IpSuffixOriginRandom,
        is_deprecated: row.DadState == IpDadStateDeprecated,
        is_tentative: row.DadState == IpDadStateTentative,
        preferred_secs: row.PreferredLifetime,
    })
}

fn interface_type(luid: NET_LUID_LH) -> u32 {
    // SAFETY: both variants have the same 64 bits.
    let value = unsafe { luid.Value };
    (value >> INTERFACE_TYPE_SHIFT) as u32
}

/// The interface that a zone names: by the name that Windows shows for it, or by number.
fn interface_of(zone: &str) -> Option<u32> {
    let alias: Vec<u16> = zone.encode_utf16().chain([0]).collect();
    let (mut luid, mut index) = (NET_LUID_LH::default(), 0);
    // SAFETY: ConvertInterfaceAliasToLuid reads the name, which ends in 0, and writes a NET_LUID to the pointer, which is valid for
    // that.
    let mut result = unsafe { ConvertInterfaceAliasToLuid(alias.as_ptr(), &raw mut luid) };
    if result == NO_ERROR {
        // SAFETY: ConvertInterfaceLuidToIndex reads the one pointer and writes a number to the other, which are valid for that.
        result = unsafe { ConvertInterfaceLuidToIndex(&raw const luid, &raw mut index) };
    }
    let number = if result == NO_ERROR { Some(index) } else { zone.parse().ok() };
    number.filter(|&number| number != 0)
}

/// The next hop and the interface of the best route from an address; `None`: there is none.
fn best_route(source: Ipv6Addr, interface: u32, toward: Ipv6Addr) -> io::Result<Option<(NextHop, u32)>> {
    let (mut row, mut chosen) = (MIB_IPFORWARD_ROW2::default(), SOCKADDR_INET::default());
    let (from, mut to) = (encode(source.into()), encode(toward.into()));
    if toward.is_unicast_link_local() {
        to.Ipv6.Anonymous.sin6_scope_id = interface;
    }
    // SAFETY: GetBestRoute2 reads source and destination and writes the row and the source that it chooses; all four pointers are
    // valid for that. It takes null for the interface, which the index names.
    let result = unsafe {
        GetBestRoute2(null(), interface, &raw const from, &raw const to, 0, &raw mut row, &raw mut chosen)
    };
    match result {
        NO_ERROR => {}
        ERROR_NOT_SUPPORTED => return Err(io::Error::from_raw_os_error(result.cast_signed())),
        code => {
            let error = io::Error::from_raw_os_error(code.cast_signed());
            return if is_shortage(&error) { Err(error) } else { Ok(None) };
        }
    }
    let next_hop = match decode(&row.NextHop).filter(|hop| is_gateway(*hop, source.into())) {
        Some(IpAddr::V6(router)) => NextHop::Router(router),
        _ => match interface_type(row.InterfaceLuid) {
            IF_TYPE_ETHERNET_CSMACD | IF_TYPE_IEEE80211 => NextHop::OnLink,
            // Modems and tunnels, some of which say that they are something else.
            _ => NextHop::PointToPoint,
        },
    };
    Ok(Some((next_hop, row.InterfaceIndex)))
}

/// The next hops of the default routes of an interface, those of the lowest metric first.
fn routers(interface: u32) -> io::Result<Vec<Ipv6Addr>> {
    let mut table = null_mut();
    // SAFETY: GetIpForwardTable2 writes a pointer.
    match unsafe { GetIpForwardTable2(AF_INET6, &raw mut table) } {
        NO_ERROR => {}
        ERROR_NOT_FOUND | ERROR_NOT_SUPPORTED => return Ok(Vec::new()),
        code => return Err(io::Error::from_raw_os_error(code.cast_signed())),
    }
    // SAFETY: the table is there until it is freed.
    let count = unsafe { (*table).NumEntries } as usize;
    // SAFETY: as above.
    let first = unsafe { &raw const (*table).Table }.cast::<MIB_IPFORWARD_ROW2>();
    // SAFETY: it has as many rows as it says.
    let rows = unsafe { slice::from_raw_parts(first, count) };
    let is_default = |row: &&MIB_IPFORWARD_ROW2| {
        row.DestinationPrefix.PrefixLength == 0 && row.InterfaceIndex == interface
    };
    let mut routers: Vec<(u32, Ipv6Addr)> = Vec::new();
    for row in rows.iter().filter(is_default) {
        if let Some(IpAddr::V6(router)) = decode(&row.NextHop)
            && !router.is_unspecified()
        {
            routers.push((row.Metric, router));
        }
    }
    // SAFETY: the table of GetIpForwardTable2, of which no reference is left.
    unsafe { FreeMibTable(table.cast_const().cast()) };
    routers.sort_unstable();
    Ok(routers.into_iter().map(|(_, router)| router).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: i32, suffix: i32, kind: u32) -> MIB_UNICASTIPADDRESS_ROW {
        MIB_UNICASTIPADDRESS_ROW {
            Address: encode("2600::1".parse().unwrap()),
            InterfaceLuid: NET_LUID_LH { Value: u64::from(kind) << INTERFACE_TYPE_SHIFT | 7 },
            InterfaceIndex: 4,
            DadState: state,
            SuffixOrigin: suffix,
            PreferredLifetime: 1800,
            ..Default::default()
        }
    }

    #[test]
    fn reads_an_address_with_its_state() {
        let stable = read_address(&row(IpDadStatePreferred, 0, IF_TYPE_IEEE80211)).unwrap();
        assert_eq!((stable.interface, stable.preferred_secs), (4, 1800));
        assert!(!stable.is_temporary && !stable.is_deprecated && !stable.is_tentative);
        let state = |state| read_address(&row(state, 0, IF_TYPE_ETHERNET_CSMACD));
        assert!(state(IpDadStateDeprecated).unwrap().is_deprecated);
        assert!(state(IpDadStateTentative).unwrap().is_tentative);
        assert_eq!((state(0), state(2)), (None, None), "invalid; another host has it");
        assert!(read_address(&row(IpDadStatePreferred, IpSuffixOriginRandom, 6)).unwrap().is_temporary);
        assert_eq!(read_address(&row(IpDadStatePreferred, 0, IF_TYPE_SOFTWARE_LOOPBACK)), None);
    }

    #[test]
    fn a_zone_is_a_number_or_a_name() {
        assert_eq!(interface_of("7"), Some(7));
        assert_eq!(
            (interface_of("0"), interface_of("no such interface"), interface_of("")),
            (None, None, None)
        );
    }

    /// A machine may have no IPv6.
    #[test]
    fn what_is_not_ours_has_no_route() {
        let found = find_ipv6_addresses(None).unwrap();
        assert!(found.list.is_sorted_by_key(|known| (known.interface, known.address)));
        assert!(found.list.iter().all(|known| !known.address.is_loopback()));
        assert_eq!(find_ipv6_route("2600::1".parse().unwrap(), 1, None).unwrap(), None);
    }
}
