//! The route to the gateway, its sockets, and rechecks.

use super::addresses::is_public;
use super::announcement::Announcements;
use super::driver::Rung;
use super::io::{Output, Protocol, Route, Socket};
use super::ipv6::{Ipv6Route, NextHop};
use super::ladder::Ladder;
use super::ledger::{Gateway, HardwareAddress};
use super::mapping::MappingState;
use super::protocols::Protocols;
use super::reason::Reason;
use super::schedule::SHORTEST_REFUSAL;
use super::{Engine, Timer, with_driver};
use crate::log::log;
use crate::ordered::Set;
use crate::time::Time;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Change notices come in bursts (a link, its addresses, its routes): the gateway is checked at most this often because
/// of them.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The route is looked up at most this often because of notices, the first time at once.
const LOOK_UP_INTERVAL: Duration = Duration::from_millis(100);

/// The first retry after a shortage of descriptors or memory: programs usually run out of them for moments only.
/// Doubled each time, up to the recheck interval.
const FIRST_SHORTAGE_WAIT: Duration = Duration::from_secs(1);

/// Default routers that are asked beside that of the route, at most.
const MAX_OTHER_ROUTERS: usize = 4;

/// The present network.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// The route was looked up at least once.
    pub(super) known: bool,
    pub(super) route: Option<Route>,
    /// The PCP and NAT-PMP server: the next hop, or the gateway that PLUM_GATEWAY names.
    server: Option<SocketAddr>,
    /// The local address if it is public: no gateway is asked.
    pub(super) direct: Option<IpAddr>,
    pub(super) open_sockets: Set<Socket>,
    /// How to check the gateway when the open lookup is answered.
    check: Check,
    checked_at: Option<Time>,
    /// When the route was last looked up because of a notice.
    looked_up_at: Option<Time>,
    /// When the retry after a shortage is due, and its wait.
    shortage: Option<(Time, Duration)>,
    /// The gateway's hardware address is to be looked up after its next packet.
    pub(super) hardware_wanted: bool,
    /// When a NAT before the server was last detected.
    mismatch_at: Option<Time>,
}

/// How to check the gateway when a lookup is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    #[default]
    None,
    /// The recheck interval has passed.
    Periodic,
    /// The network has changed: silent protocols may answer now.
    Changed,
}

impl Network {
    pub(super) fn gateway(&self) -> Option<IpAddr> {
        self.server.map(|server| server.ip())
    }

    /// Whether the network is IPv4, as NAT-PMP and UPnP-IGD require.
    pub(super) fn is_ipv4(&self) -> bool {
        self.route.is_some_and(|route| route.local.is_ipv4())
            && self.server.is_none_or(|server| server.is_ipv4())
    }
}

impl Engine {
    /// Looks up the route toward the named gateway or the internet.
    pub(super) fn look_up_route(&mut self) {
        let toward = self.cx.config.gateway.map(|(address, _)| address);
        self.cx.outputs.push_back(match (self.cx.config.source, toward) {
            (None, toward) => Output::LookUpRoute { toward },
            (Some(source), Some(IpAddr::V6(toward))) => {
                Output::LookUpIpv6Route { source, toward: Some(toward) }
            }
            (Some(source), _) => Output::LookUpIpv6Route { source, toward: None },
        });
    }

    /// Links, addresses or routes have changed, or the machine has slept.
    pub fn handle_network_changed(&mut self, now: Time) {
        if !self.is_idle() {
            self.want_check(now);
            self.look_up_soon(now);
        }
    }

    /// Looks up the route now, or LOOK_UP_INTERVAL after the last lookup.
    pub(crate) fn look_up_soon(&mut self, now: Time) {
        match self.network.looked_up_at {
            Some(at) if now < at + LOOK_UP_INTERVAL => {
                self.timers.set_sooner(Timer::LookUp, at + LOOK_UP_INTERVAL);
            }
            _ => self.handle_look_up_timer(now),
        }
    }

    /// Looks up the route for a burst of notices, or for the retry after a shortage.
    pub(super) fn handle_look_up_timer(&mut self, now: Time) {
        self.network.looked_up_at = Some(now);
        self.look_up_route();
    }

    /// The system had no descriptor or memory: schedules a retry of everything that is missing, with the check that
    /// follows the next lookup. The wait starts again after a period without shortage.
    pub(super) fn note_shortage(&mut self, now: Time) {
        self.network.check = Check::Changed;
        if self.is_idle() || self.timers.get(Timer::LookUp).is_some() {
            return;
        }
        let last = self.network.shortage.filter(|&(at, wait)| now < at + 2 * wait);
        let wait = last.map_or(FIRST_SHORTAGE_WAIT, |(_, wait)| 2 * wait);
        let wait = wait.min(self.cx.config.recheck_interval);
        self.network.shortage = Some((now + wait, wait));
        self.timers.set(Timer::LookUp, now + wait);
    }

    /// Checks the gateway with the next lookup, or CHECK_INTERVAL after the last check.
    pub(super) fn want_check(&mut self, now: Time) {
        match self.network.checked_at {
            Some(at) if now < at + CHECK_INTERVAL => {
                self.timers.set_sooner(Timer::Recheck, at + CHECK_INTERVAL);
            }
            _ => self.network.check = Check::Changed,
        }
    }

    /// The recheck interval has passed, or the CHECK_INTERVAL after a burst of notices.
    pub(super) fn handle_recheck_timer(&mut self, now: Time) {
        if !self.mappings.by_key.is_empty() {
            self.timers.set(Timer::Recheck, now + self.cx.config.recheck_interval);
        }
        self.network.check = self.network.check.max(Check::Periodic);
        self.return_to_first_router(now);
        self.look_up_route();
    }

    /// The answer to `Output::LookUpRoute` if the lookup failed: the known route is kept, and looked up again soon.
    pub fn handle_route_unknown(&mut self, now: Time) {
        if self.cx.is_cleaning_up() {
            return;
        }
        self.note_shortage(now);
        if !self.network.known {
            for key in self.mappings.seeking.iter().collect::<Vec<_>>() {
                self.fail(now, key, None);
            }
        }
    }

    /// The answer to `Output::LookUpRoute`; `None`: no route. With the next hop's hardware address, if the neighbour table
    /// has it.
    pub fn handle_route_via(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>) {
        if self.cx.config.source.is_some() {
            // Only the search by IPv4 asks for such a route.
            return self.handle_ipv4_route(now, route);
        }
        self.take_route(now, route, hardware);
    }

    /// The search by IPv6 has found nothing: the IPv4 gateway is searched, which may be the same device.
    fn handle_ipv4_route(&mut self, now: Time, route: Option<Route>) {
        let Some(Route { gateway: Some(gateway), local, interface }) = route else { return };
        if self.drivers.upnp.takes_ipv4_gateway(gateway) && !self.cx.is_cleaning_up() {
            let socket = Socket::Ipv4Ssdp;
            self.network.open_sockets.insert(socket);
            self.cx.outputs.push_back(Output::Open { socket, local, interface, remote: None });
        }
        self.settle(now);
    }

    fn take_route(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>) {
        if self.cx.is_cleaning_up() {
            return;
        }
        let check = std::mem::take(&mut self.network.check);
        let known = self.cx.ledger.gateway().hardware;
        let is_replaced = known.is_some() && hardware.is_some() && known != hardware;
        if !self.network.known || self.network.route != route || is_replaced {
            self.move_to(now, route, hardware);
        } else {
            if let (Some(hardware), None) = (hardware, known) {
                self.cx.ledger.identify(hardware);
                self.delete_left_over(now);
            }
            if check != Check::None {
                self.network.hardware_wanted |= hardware.is_none();
                self.check_gateway(now, check);
            }
        }
        self.mappings.unsettled = true;
        self.settle(now);
    }

    /// The answer to `Output::LookUpIpv6Route`; `None`: no route.
    pub fn handle_ipv6_route(
        &mut self,
        now: Time,
        route: Option<Ipv6Route>,
        hardware: Option<HardwareAddress>,
    ) {
        let next_hop = |route: &Option<Ipv6Route>| route.as_ref().map(|route| route.next_hop);
        let before = self.link_local();
        if next_hop(&self.ipv6_route) != next_hop(&route) {
            self.network.known = false;
            self.other_router = None;
        }
        self.ipv6_route = route;
        let seen = self.route_by_router();
        // That of the first router.
        let hardware = hardware.filter(|_| self.other_router.is_none());
        let is_changed = self.link_local() != before;
        if is_changed {
            self.close(Socket::LinkSsdp);
            self.drivers.upnp.handle_link_opened(false);
        }
        self.take_route(now, seen, hardware);
        if is_changed && self.is_allowed(Protocol::UpnpIgd) {
            // The address may have been tentative before. Where the network has changed, too, the socket is open by now.
            self.open(Socket::LinkSsdp);
        }
    }

    /// The link-local address of the route's interface.
    fn link_local(&self) -> Option<Ipv6Addr> {
        self.ipv6_route.as_ref()?.link_local
    }

    /// The route by the router that is asked at present.
    fn route_by_router(&mut self) -> Option<Route> {
        let (source, route) = (self.cx.config.source?, self.ipv6_route.as_ref()?);
        let other = self.other_router.and_then(|index| route.other_routers.get(index)).copied();
        if other.is_none() {
            self.other_router = None;
        }
        let gateway = other.or(route.next_hop.router()).map(IpAddr::V6);
        Some(Route { gateway, local: source.address.into(), interface: route.interface })
    }

    /// The router that was asked grants nothing: another default router of the interface may. Returns whether there is
    /// one that was not asked yet.
    pub(super) fn try_other_router(&mut self, now: Time) -> bool {
        let is_held = self.has_made_any();
        let routers =
            self.ipv6_route.as_ref().map_or(0, |route| route.other_routers.len().min(MAX_OTHER_ROUTERS));
        let next = self.other_router.map_or(0, |index| index + 1);
        if is_held || next >= routers || self.cx.config.gateway.is_some() {
            return false;
        }
        self.other_router = Some(next);
        let route = self.route_by_router();
        self.move_to(now, route, None);
        true
    }

    /// Whether any mapping is made, or needs no pinhole.
    fn has_made_any(&self) -> bool {
        self.mappings.by_key.values().any(|mapping| mapping.held_by().is_some() || mapping.is_direct())
    }

    /// All routers were asked in vain: the first is asked again.
    fn return_to_first_router(&mut self, now: Time) {
        if !self.has_made_any() && self.other_router.take().is_some() {
            let route = self.route_by_router();
            self.move_to(now, route, None);
        }
    }

    /// The local address, if hosts on the internet reach it and no firewall of a gateway stands in the way.
    fn direct_address(&self, route: Option<Route>) -> Option<IpAddr> {
        let local = route?.local;
        let is_named = self.cx.config.gateway.is_some();
        // A global address alone proves nothing: there may be a firewall on the next hop.
        let is_on_link = self.ipv6_route.as_ref().is_some_and(|route| route.next_hop == NextHop::OnLink);
        (!is_named && is_public(local) && (local.is_ipv4() || is_on_link)).then_some(local)
    }

    /// Moves to another network, or none: all mappings are made again. The ledger keeps the entries of the old gateway.
    fn move_to(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>) {
        let server = route.and_then(|route| self.cx.config.server(route));
        match (route, server) {
            (Some(Route { local, .. }), Some(server)) => {
                log!(Info, "network: local address {local}, gateway {}", server.ip());
            }
            (Some(Route { local, .. }), None) => log!(Info, "network: local address {local}, no next hop"),
            (None, _) if self.cx.config.source.is_some() => {
                log!(Warn, "network: no IPv6 route to the internet")
            }
            (None, _) => log!(Warn, "network: no IPv4 route to the internet"),
        }
        self.abandon_destructions();
        self.close_sockets();
        self.network = Network {
            known: true,
            route,
            server,
            direct: self.direct_address(route),
            checked_at: Some(now),
            looked_up_at: self.network.looked_up_at,
            hardware_wanted: hardware.is_none(),
            ..Network::default()
        };
        if route.is_some() {
            let address = server.map(|server| server.ip());
            self.cx.ledger.arrive(now, Gateway { address, hardware });
            self.delete_left_over(now);
        }
        self.cx.protocols = Protocols::default();
        self.announcements = Announcements::default();
        self.timers.cancel(Timer::RenewAll);
        for key in self.mappings.by_key.keys() {
            self.lose(key);
            if let Some(mapping) = self.mappings.by_key.get_mut(&key) {
                mapping.ladder = Ladder::default();
                mapping.state = MappingState::SEEKING;
            }
        }
        self.start_drivers(now);
        self.mappings.unsettled = true;
    }

    /// Starts the drivers of the present network, if there is one.
    pub(super) fn start_drivers(&mut self, now: Time) {
        let route = self.network.route.filter(|_| self.network.direct.is_none());
        let server = self.network.server.filter(|_| route.is_some());
        self.drivers.start(self.cx.at(now), route, server);
        self.open_missing();
    }

    /// Opens the needed sockets that are not open.
    fn open_missing(&mut self) {
        for (protocol, socket) in [
            (Protocol::Pcp, Socket::Pcp),
            (Protocol::Pcp, Socket::Announcements),
            (Protocol::NatPmp, Socket::NatPmp),
            (Protocol::NatPmp, Socket::Announcements),
            // The search begins with the last of them.
            (Protocol::UpnpIgd, Socket::LinkSsdp),
            (Protocol::UpnpIgd, Socket::Ssdp),
        ] {
            if self.is_allowed(protocol) {
                self.open(socket);
            }
        }
    }

    fn open(&mut self, socket: Socket) {
        let Some(Route { mut local, interface, .. }) = self.network.route else { return };
        if socket == Socket::LinkSsdp {
            let Some(link_local) = self.link_local() else { return };
            local = link_local.into();
        }
        if self.network.open_sockets.insert(socket) {
            let remote = self.network.server.filter(|_| matches!(socket, Socket::Pcp | Socket::NatPmp));
            self.cx.outputs.push_back(Output::Open { socket, local, interface, remote });
        }
    }

    /// Opens the socket for SSDP notifications, needed while UPnP or no protocol is in use.
    pub(super) fn listen_to_notifications(&mut self) {
        self.open(Socket::Notifications);
    }

    fn close(&mut self, socket: Socket) {
        if self.network.open_sockets.remove(&socket) {
            self.cx.outputs.push_back(Output::Close { socket });
        }
    }

    pub(super) fn close_sockets(&mut self) {
        for socket in std::mem::take(&mut self.network.open_sockets) {
            self.cx.outputs.push_back(Output::Close { socket });
        }
    }

    /// The network is the same: checks the gateway by each protocol.
    fn check_gateway(&mut self, now: Time, check: Check) {
        self.network.checked_at = Some(now);
        self.cx.ledger.drop_ended(now);
        if check == Check::Changed {
            self.cx.protocols.revive(false);
        }
        self.open_missing();
        self.seek_better();
        let held_by: Vec<Rung> =
            self.mappings.by_key.values().filter_map(|mapping| mapping.held_by()).collect();
        let is_upnp_needed =
            held_by.iter().any(|rung| matches!(rung, Rung::Upnp(_))) || !self.mappings.seeking.is_empty();
        if !is_upnp_needed {
            self.close(Socket::Notifications);
        }
        for protocol in Protocol::ASKING {
            if self.is_allowed(protocol) {
                let upnp = &self.drivers.upnp;
                let uses = |&rung: &Rung| {
                    rung.protocol() == protocol
                        || (protocol == Protocol::NatPmp && upnp.borrows_address(rung))
                };
                let in_use = held_by.iter().any(uses);
                with_driver!(self, now, protocol, recheck(in_use));
            }
        }
        self.recheck_firewall(now);
    }

    /// Opens a socket again, with another port.
    pub(super) fn reopen(&mut self, socket: Socket) {
        self.network.open_sockets.remove(&socket);
        self.open(socket);
    }

    /// The server reports ADDRESS_MISMATCH: our packets reach it from another address. Once in a recheck interval the
    /// route is looked up (our address may have changed); the socket is opened again in any case.
    pub(super) fn handle_address_mismatch(&mut self, now: Time) {
        let interval = self.cx.config.recheck_interval.max(SHORTEST_REFUSAL);
        self.reopen(Socket::Pcp);
        if self.network.mismatch_at.is_none_or(|at| now >= at + interval) {
            self.network.mismatch_at = Some(now);
            return self.look_up_route();
        }
        log!(Warn, "PCP: a NAT stands before the gateway's server, PCP and NAT-PMP are not used");
        let is_ipv6 = self.cx.config.source.is_some();
        let cx = self.cx.at(now);
        self.drivers.pcp.go_out(cx, Reason::NatBetween, Some(interval));
        if !is_ipv6 {
            // NAT-PMP would map a port of the NAT before the server.
            self.drivers.natpmp.go_out(cx, Reason::NatBetween, Some(interval));
        }
        self.mappings.unsettled = true;
    }
}
