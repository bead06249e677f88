//! The route to the gateway, its sockets, and rechecks.

use super::addresses::is_public;
use super::announcement::Announcements;
use super::driver::Rung;
use super::io::{Output, Protocol, Route, Socket};
use super::ladder::Ladder;
use super::ledger::{Gateway, HardwareAddress};
use super::mapping::MappingState;
use super::protocols::Protocols;
use super::reason::Reason;
use super::schedule::SHORTEST_REFUSAL;
use super::server::Server;
use super::{Engine, Timer, upnp, with_driver};
use crate::log::log;
use crate::ordered::Set;
use crate::time::Time;
use plum_wire::pcp::SERVER_PORT;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Notices come in bursts (a link, its addresses, its routes): the gateway is looked at again at most this often for
/// them; the route is looked up at each.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Routes are looked up at most this often for notices, the first at once.
const LOOK_UP_INTERVAL: Duration = Duration::from_millis(100);

/// What the system had nothing for (descriptors, memory) is tried again after this, as programs that use up their
/// descriptors mostly do so for moments. Doubled each time, up to the recheck interval.
const FIRST_SHORTAGE_WAIT: Duration = Duration::from_secs(1);

/// Where we are.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Whether the route was ever looked up.
    pub(super) known: bool,
    pub(super) route: Option<Route>,
    /// Where PCP and NAT-PMP requests go: the next hop, or the gateway named by PLUM_GATEWAY.
    server: Option<SocketAddr>,
    /// The local address, where that is public: nobody is asked.
    pub(super) direct: Option<IpAddr>,
    pub(super) open_sockets: Set<Socket>,
    /// The gateway is to be checked when the lookup under way is answered.
    check: Check,
    checked_at: Option<Time>,
    /// When the route was looked up last for a notice.
    looked_up_at: Option<Time>,
    /// When what the system had nothing for is tried again, and how long that waits.
    shortage: Option<(Time, Duration)>,
    /// The gateway's hardware address is to be looked up once it has answered.
    pub(super) hardware_wanted: bool,
    /// When a NAT between us and the server was seen last.
    mismatch_at: Option<Time>,
}

/// What is to be done when a lookup is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    #[default]
    None,
    /// The recheck period has passed.
    Periodic,
    /// The system tells of a change: what was silent may answer now.
    Changed,
}

impl Network {
    /// The gateway's address.
    pub(super) fn gateway(&self) -> Option<IpAddr> {
        self.server.map(|server| server.ip())
    }

    /// NAT-PMP and UPnP-IGD are IPv4 by nature.
    pub(super) fn is_ipv4(&self) -> bool {
        self.route.is_some_and(|route| route.local.is_ipv4())
            && self.server.is_none_or(|server| server.is_ipv4())
    }
}

impl Engine {
    /// Asks for the route, toward the named gateway or the internet.
    pub(super) fn look_up_route(&mut self) {
        let toward = self.cx.config.gateway.map(|(address, _)| address);
        self.cx.outputs.push_back(Output::LookUpRoute { toward });
    }

    /// Links, addresses or routes changed, or the machine slept: have a look.
    pub fn handle_network_changed(&mut self, now: Time) {
        if !self.is_idle() {
            self.want_check(now);
            self.look_up_soon(now);
        }
    }

    /// The route is looked up at once, or when the last time is not too recent.
    pub(super) fn look_up_soon(&mut self, now: Time) {
        match self.network.looked_up_at {
            Some(at) if now < at + LOOK_UP_INTERVAL => {
                self.timers.set_sooner(Timer::LookUp, at + LOOK_UP_INTERVAL);
            }
            _ => self.handle_look_up_timer(now),
        }
    }

    /// The burst of notices goes on, or is over; or what the system had nothing for is tried again.
    pub(super) fn handle_look_up_timer(&mut self, now: Time) {
        self.network.looked_up_at = Some(now);
        self.look_up_route();
    }

    /// Something was not to be had: everything that is missing is tried again after a while, with the check that follows
    /// the next lookup. The wait begins anew when there was enough for a while.
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

    /// The gateway is to be checked with the next lookup, unless that was done just now: then soon.
    pub(super) fn want_check(&mut self, now: Time) {
        match self.network.checked_at {
            Some(at) if now < at + CHECK_INTERVAL => {
                self.timers.set_sooner(Timer::Recheck, at + CHECK_INTERVAL);
            }
            _ => self.network.check = Check::Changed,
        }
    }

    /// The recheck interval has passed, or a burst of notices has.
    pub(super) fn handle_recheck_timer(&mut self, now: Time) {
        if !self.mappings.by_key.is_empty() {
            self.timers.set(Timer::Recheck, now + self.cx.config.recheck_interval);
        }
        self.network.check = self.network.check.max(Check::Periodic);
        self.look_up_route();
    }

    /// The answer to `Output::LookUpRoute` where the system could not be asked: what was known of the route holds, and
    /// it is looked up again soon.
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

    /// The answer to `Output::LookUpRoute` where nothing is known of the next hop; `None`: no route.
    pub fn handle_route(&mut self, now: Time, route: Option<Route>) {
        self.handle_route_via(now, route, None);
    }

    /// The same, with the next hop's hardware address, if the neighbour table has it.
    pub fn handle_route_via(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>) {
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

    /// Another network, or none: mappings have to be made anew, entries of the old gateway are kept in mind.
    fn move_to(&mut self, now: Time, route: Option<Route>, hardware: Option<HardwareAddress>) {
        let named = self.cx.config.gateway;
        let server = match (named, route) {
            (Some((address, port)), Some(_)) => Some(SocketAddr::new(address, port.unwrap_or(SERVER_PORT))),
            (None, Some(Route { gateway: Some(address), .. })) => Some(SocketAddr::new(address, SERVER_PORT)),
            _ => None,
        };
        match (route, server) {
            (Some(Route { local, .. }), Some(server)) => {
                log!(Info, "network: local address {local}, gateway {}", server.ip());
            }
            (Some(Route { local, .. }), None) => log!(Info, "network: local address {local}, no next hop"),
            (None, _) => log!(Warn, "network: no route to the internet"),
        }
        self.abandon_destructions();
        self.close_sockets();
        self.network = Network {
            known: true,
            route,
            server,
            direct: route.map(|route| route.local).filter(|&local| named.is_none() && is_public(local)),
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

    /// The drivers of the present network, or of none.
    pub(super) fn start_drivers(&mut self, now: Time) {
        let route = self.network.route.filter(|_| self.network.direct.is_none());
        let server = self.network.server.filter(|_| route.is_some());
        let cx = self.cx.at(now);
        self.drivers.pcp = Server::new(Rung::Pcp, server);
        self.drivers.natpmp = Server::new(Rung::NatPmp, server);
        let network = route.map(|Route { local, interface, .. }| upnp::Network {
            gateway: server.map(|server| server.ip()),
            local,
            interface,
            named: cx.config.gateway.is_some(),
        });
        self.drivers.upnp.start(cx, network);
        self.open_missing();
    }

    /// Opens the sockets that are needed, and are not open yet or could not be opened before.
    fn open_missing(&mut self) {
        for (protocol, socket) in [
            (Protocol::Pcp, Socket::Pcp),
            (Protocol::Pcp, Socket::Announcements),
            (Protocol::NatPmp, Socket::NatPmp),
            (Protocol::UpnpIgd, Socket::Ssdp),
        ] {
            if self.is_allowed(protocol) {
                self.open(socket);
            }
        }
    }

    fn open(&mut self, socket: Socket) {
        let Some(Route { local, interface, .. }) = self.network.route else { return };
        if self.network.open_sockets.insert(socket) {
            let remote = self.network.server.filter(|_| matches!(socket, Socket::Pcp | Socket::NatPmp));
            self.cx.outputs.push_back(Output::Open { socket, local, interface, remote });
        }
    }

    /// UPnP is in use, or nobody is: notifications of devices are of interest.
    pub(super) fn listen_to_notifications(&mut self) {
        self.open(Socket::Notifications);
    }

    /// Cleanup is done: nothing is heard or said any more.
    pub(super) fn close_sockets(&mut self) {
        for socket in std::mem::take(&mut self.network.open_sockets) {
            self.cx.outputs.push_back(Output::Close { socket });
        }
    }

    /// The same network as before: is the gateway, too?
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
        if !is_upnp_needed && self.network.open_sockets.remove(&Socket::Notifications) {
            self.cx.outputs.push_back(Output::Close { socket: Socket::Notifications });
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
    }

    /// A socket is opened again: its port is another one then.
    pub(super) fn reopen(&mut self, socket: Socket) {
        self.network.open_sockets.remove(&socket);
        self.open(socket);
    }

    /// The server says that our packets come from another address than they say. Once in a recheck period the route is
    /// looked up again (the address may have changed under the socket); in any case there is another socket.
    pub(super) fn handle_address_mismatch(&mut self, now: Time) {
        let interval = self.cx.config.recheck_interval.max(SHORTEST_REFUSAL);
        self.reopen(Socket::Pcp);
        if self.network.mismatch_at.is_none_or(|at| now >= at + interval) {
            self.network.mismatch_at = Some(now);
            return self.look_up_route();
        }
        log!(Warn, "PCP: a NAT stands before the gateway's server, PCP and NAT-PMP are not used");
        // NAT-PMP would map the port of another host.
        let cx = self.cx.at(now);
        self.drivers.pcp.go_out(cx, Reason::NatBetween, Some(interval));
        self.drivers.natpmp.go_out(cx, Reason::NatBetween, Some(interval));
        self.mappings.unsettled = true;
    }
}
