//! Route lookups: next hop, interface and source address together, as the system would choose them.

use super::super::{Route, is_shortage};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ptr::{null, null_mut};
use std::slice;
use windows_sys::Win32::Foundation::{ERROR_NOT_FOUND, ERROR_NOT_SUPPORTED, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    FreeMibTable, GetBestRoute, GetBestRoute2, GetUnicastIpAddressTable, MIB_IPFORWARD_ROW2,
    MIB_IPFORWARDROW, MIB_UNICASTIPADDRESS_ROW,
};
use windows_sys::Win32::Networking::WinSock::{
    AF_INET, AF_INET6, IN_ADDR, IN_ADDR_0, IN6_ADDR, IN6_ADDR_0, SOCKADDR_IN, SOCKADDR_IN6, SOCKADDR_INET,
};

/// The UDP port of the discard service; nothing is sent to it.
const DISCARD: u16 = 9;

/// Looks up the route toward an address. No packet is sent. `None`: there is none.
///
/// # Errors
///
/// The system could not be asked, or had no memory for an answer: whether there is a route is not known.
pub fn find_route(toward: IpAddr) -> io::Result<Option<Route>> {
    let (mut row, mut source) = (MIB_IPFORWARD_ROW2::default(), SOCKADDR_INET::default());
    let destination = encode(toward);
    // SAFETY: GetBestRoute2 reads the destination and writes the row and the source; all three pointers are valid for that. It takes
    // null for an interface and for a source that it shall choose.
    let result =
        unsafe { GetBestRoute2(null(), 0, null(), &raw const destination, 0, &raw mut row, &raw mut source) };
    match result {
        NO_ERROR => {}
        ERROR_NOT_SUPPORTED => return ask_as_before(toward),
        code => {
            let error = io::Error::from_raw_os_error(code.cast_signed());
            // The others are of an address that cannot be reached (ERROR_NETWORK_UNREACHABLE, ERROR_NOT_FOUND and so on).
            return if is_shortage(&error) { Err(error) } else { Ok(None) };
        }
    }
    Ok(decode(&source).map(|local| Route {
        gateway: decode(&row.NextHop).filter(|hop| is_gateway(*hop, local)),
        local,
        interface: row.InterfaceIndex,
    }))
}

/// Whether the next hop of a route is another machine. For on-link routes Windows reports no address or its own. (For
/// loopback, Wine's GetBestRoute reports the default route.)
pub fn is_gateway(next_hop: IpAddr, local: IpAddr) -> bool {
    !next_hop.is_unspecified() && next_hop != local && !local.is_loopback()
}

/// The same without GetBestRoute2, which Wine lacks (as of 8.0): the source is that of a connected socket, which sends
/// nothing; the next hop is from GetBestRoute, for IPv4 only.
fn ask_as_before(toward: IpAddr) -> io::Result<Option<Route>> {
    let any: IpAddr =
        if toward.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    match socket.connect(SocketAddr::new(toward, DISCARD)) {
        Ok(()) => {}
        Err(error) if is_shortage(&error) => return Err(error),
        Err(_) => return Ok(None),
    }
    let local = socket.local_addr()?.ip();
    let IpAddr::V4(toward) = toward else { return Ok(Some(Route { gateway: None, local, interface: 0 })) };
    let mut row = MIB_IPFORWARDROW::default();
    // SAFETY: GetBestRoute writes a row to the pointer, which is valid for that. Addresses are in network byte order; 0 is any source.
    let result = unsafe { GetBestRoute(u32::from_ne_bytes(toward.octets()), 0, &raw mut row) };
    if result != NO_ERROR {
        return Ok(Some(Route { gateway: None, local, interface: 0 }));
    }
    let next_hop = IpAddr::from(row.dwForwardNextHop.to_ne_bytes());
    Ok(Some(Route {
        gateway: Some(next_hop).filter(|hop| is_gateway(*hop, local)),
        local,
        interface: row.dwForwardIfIndex,
    }))
}

/// The prefix length of an IPv4 address of this machine; `None`: it has no such address, or the system does not tell.
pub fn find_prefix(local: IpAddr) -> Option<u8> {
    let rows = addresses(AF_INET).ok()?;
    rows.iter().find(|row| decode(&row.Address) == Some(local)).map(|row| row.OnLinkPrefixLength)
}

/// The addresses of this machine of a family.
pub fn addresses(family: u16) -> io::Result<Vec<MIB_UNICASTIPADDRESS_ROW>> {
    let mut table = null_mut();
    // SAFETY: GetUnicastIpAddressTable writes a pointer.
    match unsafe { GetUnicastIpAddressTable(family, &raw mut table) } {
        NO_ERROR => {}
        ERROR_NOT_FOUND => return Ok(Vec::new()),
        code => return Err(io::Error::from_raw_os_error(code.cast_signed())),
    }
    // SAFETY: the table is there until it is freed.
    let count = unsafe { (*table).NumEntries } as usize;
    // SAFETY: as above.
    let first = unsafe { &raw const (*table).Table }.cast::<MIB_UNICASTIPADDRESS_ROW>();
    // SAFETY: it has as many rows as it says.
    let rows = unsafe { slice::from_raw_parts(first, count) }.to_vec();
    // SAFETY: the table of GetUnicastIpAddressTable, of which no reference is left.
    unsafe { FreeMibTable(table.cast_const().cast()) };
    Ok(rows)
}

pub fn encode(address: IpAddr) -> SOCKADDR_INET {
    match address {
        IpAddr::V4(address) => SOCKADDR_INET {
            Ipv4: SOCKADDR_IN {
                sin_family: AF_INET,
                sin_addr: IN_ADDR { S_un: IN_ADDR_0 { S_addr: u32::from_ne_bytes(address.octets()) } },
                ..Default::default()
            },
        },
        IpAddr::V6(address) => SOCKADDR_INET {
            Ipv6: SOCKADDR_IN6 {
                sin6_family: AF_INET6,
                sin6_addr: IN6_ADDR { u: IN6_ADDR_0 { Byte: address.octets() } },
                ..Default::default()
            },
        },
    }
}

/// The address; `None`: of another family.
pub fn decode(address: &SOCKADDR_INET) -> Option<IpAddr> {
    // SAFETY: the union is larger than its family, which every variant begins with, and was set as a whole.
    match unsafe { address.si_family } {
        AF_INET => {
            // SAFETY: the family says that it is this variant, which is made of integers.
            let address = unsafe { address.Ipv4.sin_addr.S_un.S_addr };
            Some(IpAddr::from(address.to_ne_bytes()))
        }
        AF_INET6 => {
            // SAFETY: as above.
            let octets = unsafe { address.Ipv6.sin6_addr.u.Byte };
            Some(IpAddr::from(octets))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{INTERNET, look_up_route};
    use super::*;

    #[test]
    fn an_address_survives_the_way_to_the_system_and_back() {
        for text in ["192.0.2.1", "2001:db8::7"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(decode(&encode(address)), Some(address));
        }
        assert_eq!(decode(&SOCKADDR_INET::default()), None);
    }

    #[test]
    fn only_another_machine_is_a_gateway() {
        let [local, gateway] = ["192.168.7.20", "192.168.7.1"].map(|text| text.parse().unwrap());
        assert!(is_gateway(gateway, local));
        assert!(!is_gateway(local, local));
        assert!(!is_gateway(Ipv4Addr::UNSPECIFIED.into(), local));
        assert!(!is_gateway(gateway, Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn loopback_is_reached_from_loopback_without_a_gateway() {
        for ask in [find_route, ask_as_before] {
            let route = ask(Ipv4Addr::LOCALHOST.into()).unwrap().unwrap();
            assert_eq!((route.gateway, route.local), (None, Ipv4Addr::LOCALHOST.into()));
        }
    }

    #[test]
    fn an_address_of_this_machine_has_a_prefix() {
        assert_eq!(find_prefix(Ipv4Addr::LOCALHOST.into()), Some(8));
        assert_eq!(find_prefix(Ipv4Addr::new(192, 0, 2, 99).into()), None);
    }

    /// A machine may have no way to the internet; where it has one, both ways to look it up find it.
    #[test]
    fn finds_the_way_to_the_internet_also_without_its_newest_function() {
        let (now, before) = (look_up_route(None), ask_as_before(INTERNET[1].into()).unwrap());
        assert_eq!(now.map(|route| route.local), before.map(|route| route.local));
        if let Some(route) = now {
            assert!(!route.local.is_unspecified() && !route.local.is_loopback(), "{route:?}");
            assert!(route.interface != 0, "{route:?}");
        }
    }
}
