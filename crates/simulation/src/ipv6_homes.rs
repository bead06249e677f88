//! Random homes of IPv6: the machine's addresses and routes there, and what happens to them.

use crate::gateways::percent;
use crate::world::{INTERFACE, Ipv6Home, LINK_LOCAL, ROUTER, stable};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, LocalAddress, NextHop};
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// Which families a story has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    Ipv4,
    /// Both.
    Both,
    /// IPv6 alone.
    Ipv6,
}

impl Families {
    /// Those of a story.
    pub fn draw(rng: &mut fastrand::Rng) -> Families {
        match rng.u32(0..20) {
            0..4 => Families::Ipv4,
            4..7 => Families::Ipv6,
            _ => Families::Both,
        }
    }
}

/// The second router of a link.
pub const SECOND_ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The machine's second link, on which the router has the same address as on the first.
pub const SECOND_INTERFACE: u32 = 3;
const SECOND_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x300);

/// Addresses of other machines, and such that no pinhole can lead to.
pub const FOREIGN: [Ipv6Addr; 6] = [
    Ipv6Addr::new(0x2600, 0x99, 0, 0, 0, 0, 0, 5),
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 5),
    Ipv6Addr::LOCALHOST,
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5),
    Ipv6Addr::new(0x2002, 0xc000, 0x204, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 1),
];

/// An address of a home: by its provider's prefix, the number of that prefix, and its host part.
pub fn address(provider: u16, prefix: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(provider, prefix, 0, 1, 0, 0, 0, host)
}

/// RFC 8981: replaced after a time.
pub fn temporary(address: Ipv6Addr, interface: u32) -> LocalAddress {
    LocalAddress { is_temporary: true, preferred_secs: 900, ..stable(address, interface) }
}

fn route(next_hop: NextHop, interface: u32, link_local: Ipv6Addr) -> Ipv6Route {
    Ipv6Route { next_hop, interface, link_local: Some(link_local), other_routers: Vec::new() }
}

/// The providers of a home: of the first router, of the second one, of the second link.
pub fn providers(home: usize) -> [u16; 3] {
    [0x2600, 0x2610, 0x2620].map(|first| first + home as u16)
}

/// A home in which nothing is wrong.
pub fn home(rng: &mut fastrand::Rng, number: usize, has_two_routers: bool, has_two_links: bool) -> Ipv6Home {
    if number > 0 && percent(rng, 20) {
        return Ipv6Home::default();
    }
    let [first, second, third] = providers(number);
    let mut list = vec![stable(address(first, 1, 0x100), INTERFACE)];
    if percent(rng, 10) {
        // Privacy addresses alone.
        list[0] = temporary(address(first, 1, 0x101), INTERFACE);
    }
    if percent(rng, 50) {
        list.push(temporary(address(first, 1, 0x201), INTERFACE));
    }
    if percent(rng, 30) {
        list.push(stable(Ipv6Addr::new(0xfd00, number as u16, 0, 1, 0, 0, 0, 0x100), INTERFACE));
    }
    let next_hop = match rng.u32(0..40) {
        0 => NextHop::OnLink,
        1 => NextHop::PointToPoint,
        2 => NextHop::Unknown,
        _ => NextHop::Router(ROUTER),
    };
    let mut usual = route(next_hop, INTERFACE, LINK_LOCAL);
    let mut routes_from = BTreeMap::new();
    if percent(rng, 25) {
        let router = if has_two_routers { SECOND_ROUTER } else { ROUTER };
        let other = address(second, 1, 0x100);
        list.push(stable(other, INTERFACE));
        routes_from.insert(other, Some(route(NextHop::Router(router), INTERFACE, LINK_LOCAL)));
    }
    if has_two_routers && rng.bool() {
        usual.other_routers.push(SECOND_ROUTER);
    }
    if has_two_links {
        let other = address(third, 1, 0x100);
        list.push(stable(other, SECOND_INTERFACE));
        let route = route(NextHop::Router(ROUTER), SECOND_INTERFACE, SECOND_LINK_LOCAL);
        routes_from.insert(other, Some(route));
    }
    let addresses = Ipv6Addresses { list, interface: Some(INTERFACE) };
    Ipv6Home { addresses, route: Some(usual), routes_from, ..Ipv6Home::default() }
}

/// Whether an address is reachable from everywhere by the standards, as far as stories have such.
pub fn is_global(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    first >> 13 == 1 && first != 0x2002 && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
}

/// Whether an address is one that lasts and may be used now.
pub fn is_lasting(known: &LocalAddress) -> bool {
    !known.is_temporary && !known.is_deprecated && !known.is_tentative && is_global(known.address)
}

/// Deprecates an address: nothing new is to use it.
pub fn deprecate(known: &mut LocalAddress) {
    (known.is_deprecated, known.preferred_secs) = (true, 0);
}
