//! IPv6 on the network: the machine's addresses, its routes by source, the gateways' addresses.

use super::{Network, Setup, World};
use crate::random::Seeded;
use plum_engine::Engines;
use plum_engine::io::{Arrival, MappingId, SocketId, Source, Suggestion};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, LocalAddress, NextHop};
use plum_engine::ledger::HardwareAddress;
use plum_engine::machine::Machine;
use plum_gateway::core as gateway;
use plum_wire::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The first gateway's address on the link.
pub const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// The machine's address.
pub const IPV6_LOCAL: Ipv6Addr = Ipv6Addr::new(0x2600, 1, 0, 0, 0, 0, 0, 0x100);
/// The machine's address on the link.
pub const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x100);

/// What the system says of IPv6.
#[derive(Clone, Debug, Default)]
pub struct Ipv6Home {
    pub addresses: Ipv6Addresses,
    /// The route from addresses that have none of their own.
    pub route: Option<Ipv6Route>,
    /// Other routes, by source.
    pub routes_from: BTreeMap<Ipv6Addr, Option<Ipv6Route>>,
    /// What is reached by the router only, though its gateway is on the link.
    pub off_link: BTreeSet<IpAddr>,
}

impl Ipv6Home {
    /// One stable address, and a route by [`ROUTER`].
    pub fn new(interface: u32) -> Ipv6Home {
        Ipv6Home {
            addresses: Ipv6Addresses {
                list: vec![stable(IPV6_LOCAL, interface)],
                interface: Some(interface),
            },
            route: Some(Ipv6Route {
                next_hop: NextHop::Router(ROUTER),
                interface,
                link_local: Some(LINK_LOCAL),
                other_routers: Vec::new(),
            }),
            routes_from: BTreeMap::new(),
            off_link: BTreeSet::new(),
        }
    }

    fn routes(&self) -> impl Iterator<Item = &Ipv6Route> {
        self.route.iter().chain(self.routes_from.values().flatten())
    }

    /// Whether the machine has an address.
    pub fn has(&self, address: Ipv6Addr) -> bool {
        let is_global = self.addresses.list.iter().any(|known| known.address == address);
        is_global || self.routes().any(|route| route.link_local == Some(address))
    }

    /// What a route lookup finds.
    pub fn look_up(&self, source: Source) -> Option<Ipv6Route> {
        if !self.has(source.address) {
            return None;
        }
        let route = self.routes_from.get(&source.address).unwrap_or(&self.route).clone()?;
        (route.interface == source.interface).then_some(route)
    }
}

/// An address that lasts.
pub fn stable(address: Ipv6Addr, interface: u32) -> LocalAddress {
    LocalAddress {
        address,
        interface,
        is_temporary: false,
        is_deprecated: false,
        is_tentative: false,
        preferred_secs: 1800,
    }
}

impl Network {
    /// What a lookup of the route from an address finds; one toward a gateway itself has no next hop.
    pub fn look_up_ipv6(&self, source: Source, toward: Option<Ipv6Addr>) -> Option<Ipv6Route> {
        let route = self.ipv6.look_up(source)?;
        let is_on_link = toward.is_some_and(|to| self.node_on(to.into(), source.interface).is_some());
        Some(if is_on_link { Ipv6Route { next_hop: NextHop::OnLink, ..route } } else { route })
    }

    /// The hardware address of the next hop, where the machine can tell.
    pub fn hardware_of(&self, route: &Ipv6Route, toward: Option<Ipv6Addr>) -> Option<HardwareAddress> {
        let next = route.next_hop.router().or(toward)?;
        self.hardware_at(self.node_on(next.into(), route.interface)?)
    }

    /// A datagram's origin, as the worker tells it.
    pub(super) fn arrival(&self, socket: SocketId, from: SocketAddr) -> Arrival {
        let IpAddr::V6(_) = from.ip() else { return from.into() };
        let interface = self.interface_of(socket).unwrap_or(0);
        let is_off_link = self.ipv6.off_link.contains(&from.ip());
        let is_on_link = !is_off_link && self.node_on(from.ip(), interface).is_some();
        Arrival { from, interface, prefix: None, is_on_link }
    }
}

impl World<Engines> {
    /// Both families: the engines, and one gateway with all protocols that is a firewall of IPv6 too.
    pub fn with_both() -> World<Engines> {
        World::set_up_both(|_| {})
    }

    /// A world with both families that begins otherwise.
    pub fn set_up_both(change: impl FnOnce(&mut Setup)) -> World<Engines> {
        let mut setup = Setup::default();
        setup.turn_on_ipv6();
        change(&mut setup);
        let engines = Engines::new(setup.engine.clone(), Box::new(Seeded::new(setup.seed)));
        World::with_engine(setup, engines)
    }
}

impl<E: Machine> World<E> {
    /// The program wants a mapping to an IPv6 address that the library chooses.
    pub fn create_pinhole(&mut self, transport: Transport, internal_port: u16) -> MappingId {
        self.create_pinhole_to(transport, internal_port, Ipv6Addr::UNSPECIFIED)
    }

    /// The program wants a mapping to an IPv6 address.
    pub fn create_pinhole_to(
        &mut self,
        transport: Transport,
        internal_port: u16,
        address: Ipv6Addr,
    ) -> MappingId {
        let wish = Suggestion { address: Some(address.into()), port: None, ..Suggestion::default() };
        self.create_wishing(transport, internal_port, wish)
    }

    /// Addresses or routes of IPv6 changed, and the system says so.
    pub fn change_ipv6(&mut self, change: impl FnOnce(&mut Ipv6Home)) {
        change(&mut self.network.ipv6);
        self.note(|| "IPv6 changed".into());
        self.engine.handle_ipv6_changed(self.now);
        self.carry_outputs();
    }

    /// The pinholes of a gateway that the engine made.
    pub fn pinholes_of(&mut self, node: usize) -> Vec<gateway::Pinhole> {
        let ours = |pinhole: &&gateway::Pinhole| pinhole.made_by != gateway::Protocol::Script;
        self.gateway_at(node).pinholes().iter().filter(ours).cloned().collect()
    }
}
