//! The route to the gateway: what its change means, and rechecks.

#![forbid(unsafe_code)]

use super::announcement::Announcements;
use super::driver::Status;
use super::io::{Output, Protocol, Route, Socket};
use super::mapping::{ASKING, PerProtocol, State};
use super::{Engine, Timer, cx, direct, pcp, upnp_igd};
use crate::log::log;
use crate::ordered::Set;
use crate::time::Time;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Notices come in bursts (a link, its addresses, its routes): the gateway is looked at again at most this
/// often for them; the route is looked up at each.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Routes are looked up at most this often for notices, the first at once.
const LOOK_UP_INTERVAL: Duration = Duration::from_millis(100);

/// Where we are.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Whether the route was ever looked up.
    known: bool,
    route: Option<Route>,
    /// Whom we ask: the next hop, or the gateway named by PLUM_GATEWAY.
    gateway: Option<SocketAddr>,
    /// The local address is public: nobody is asked.
    direct: bool,
    open_sockets: Set<Socket>,
    /// The gateway is to be checked when the lookup under way is answered.
    check_wanted: bool,
    checked_at: Option<Time>,
    /// When the route was looked up last for a notice.
    looked_up_at: Option<Time>,
    mismatch: Mismatch,
}

/// A NAT between us and the PCP server (ADDRESS_MISMATCH).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mismatch {
    #[default]
    None,
    /// Seen once: the route is looked up again and a new socket opened.
    Seen,
    /// It stays: PCP and NAT-PMP of this gateway are out.
    Stays,
}

impl Network {
    /// Whether a route lookup was ever answered.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// Whether there is a route.
    pub(super) fn is_up(&self) -> bool {
        self.route.is_some()
    }

    /// The address that the internet sees is the local one.
    pub(super) fn direct_address(&self) -> Option<IpAddr> {
        self.route.filter(|_| self.direct).map(|route| route.local)
    }

    /// Whom we ask.
    pub(super) fn gateway(&self) -> Option<IpAddr> {
        self.gateway.map(|gateway| gateway.ip())
    }

    /// Whether there is a gateway that may be asked by PCP and NAT-PMP.
    pub(super) fn speaks_to_port_5351(&self) -> bool {
        self.gateway.is_some() && self.mismatch != Mismatch::Stays
    }

    /// The gateway is to be checked with the next lookup that is answered.
    pub(super) fn set_check_wanted(&mut self) {
        self.check_wanted = true;
    }

    /// A socket is not to be had for now.
    pub(super) fn note_unopened(&mut self, socket: Socket) {
        self.open_sockets.remove(&socket);
    }

    /// The gateway has made a mapping by PCP: whatever was between us and it is there no more.
    pub(super) fn forgive_mismatch(&mut self) {
        if self.mismatch == Mismatch::Seen {
            self.mismatch = Mismatch::None;
        }
    }

    /// NAT-PMP and the UPnP of this page are IPv4 by nature.
    pub(super) fn is_ipv4(&self) -> bool {
        self.route.is_some_and(|route| route.local.is_ipv4())
            && self.gateway.is_none_or(|gateway| gateway.is_ipv4())
    }
}

impl Engine {
    /// Asks for the route, toward the named gateway or the internet.
    pub(super) fn look_up_route(&mut self) {
        let toward = self.config.gateway.map(|(address, _)| address);
        self.outputs.push_back(Output::LookUpRoute { toward });
    }

    /// Links, addresses or routes changed, or the machine slept: have a look.
    pub fn handle_network_changed(&mut self, now: Time) {
        if self.mappings.is_empty() || self.cleanup.is_some() {
            // The next mapping looks for itself.
            return;
        }
        self.want_check(now);
        match self.network.looked_up_at {
            Some(at) if now < at + LOOK_UP_INTERVAL => self.timers.set(Timer::LookUp, at + LOOK_UP_INTERVAL),
            _ => self.look_up_for_notice(now),
        }
    }

    /// The burst of notices goes on, or is over.
    pub(super) fn handle_look_up_timer(&mut self, now: Time) {
        if !self.mappings.is_empty() && self.cleanup.is_none() {
            self.look_up_for_notice(now);
        }
    }

    fn look_up_for_notice(&mut self, now: Time) {
        self.network.looked_up_at = Some(now);
        self.look_up_route();
    }

    /// The gateway is to be checked with the next lookup, unless that was done just now: then soon.
    pub(super) fn want_check(&mut self, now: Time) {
        match self.network.checked_at {
            Some(at) if now < at + CHECK_INTERVAL => {
                let due = at + CHECK_INTERVAL;
                if self.timers.get(Timer::Recheck).is_none_or(|set| due < set) {
                    self.timers.set(Timer::Recheck, due);
                }
            }
            _ => self.network.check_wanted = true,
        }
    }

    /// The recheck interval has passed, or a burst of notices has.
    pub(super) fn handle_recheck_timer(&mut self, now: Time) {
        if self.mappings.is_empty() || self.cleanup.is_some() {
            return;
        }
        self.timers.set(Timer::Recheck, now + self.config.recheck_interval);
        self.network.check_wanted = true;
        self.look_up_route();
    }

    /// The answer to `Output::LookUpRoute`; `None`: no route.
    pub fn handle_route(&mut self, now: Time, route: Option<Route>) {
        if self.cleanup.is_some() {
            return;
        }
        self.shortage.show_route();
        let check_wanted = std::mem::take(&mut self.network.check_wanted);
        if !self.network.known || route != self.network.route {
            self.move_to(now, route);
        } else if check_wanted {
            self.check_gateway(now);
        }
        self.unsettled = true;
        self.settle(now);
    }

    /// Another network, or none: all that was known of the old gateway is void.
    fn move_to(&mut self, now: Time, route: Option<Route>) {
        let named = self.config.gateway;
        let gateway = match (named, route) {
            (Some((address, port)), Some(_)) => {
                Some(SocketAddr::new(address, port.unwrap_or(pcp::SERVER_PORT)))
            }
            (None, Some(Route { gateway: Some(address), .. })) => {
                Some(SocketAddr::new(address, pcp::SERVER_PORT))
            }
            _ => None,
        };
        match (route, gateway) {
            (Some(Route { local, .. }), Some(gateway)) => {
                log!(Info, "network: local address {local}, gateway {}", gateway.ip());
            }
            (Some(Route { local, .. }), None) => log!(Info, "network: local address {local}, no next hop"),
            (None, _) => log!(Warn, "network: no route to the internet"),
        }
        // Deletions cannot reach the old gateway any more; its leases run out.
        for key in self.endings.keys() {
            self.end_ending(key);
        }
        if self.race.is_some() {
            self.stop_race(now);
        }
        let old_sockets = std::mem::take(&mut self.network.open_sockets);
        for socket in old_sockets {
            self.outputs.push_back(Output::Close { socket });
        }
        self.exhausted = PerProtocol::default();
        self.suspect = PerProtocol::default();
        self.natpmp_promised = false;
        self.announcements = Announcements::default();
        self.timers.cancel(Timer::Announcements);
        self.timers.cancel(Timer::Rediscovery);
        self.network.known = true;
        self.network.route = route;
        self.network.mismatch = Mismatch::None;
        self.network.checked_at = Some(now);
        self.network.gateway = gateway;
        self.network.direct = named.is_none() && route.is_some_and(|route| direct::is_public(route.local));
        for key in self.mappings.keys() {
            if let Some(mapping) = self.mappings.get_mut(&key) {
                mapping.asked = PerProtocol::default();
                mapping.entries = PerProtocol::default();
                mapping.excluded_until = PerProtocol::default();
            }
            self.lose(key);
        }
        self.start_drivers(now);
        self.unsettled = true;
    }

    fn start_drivers(&mut self, now: Time) {
        let asks = self.network.is_up() && !self.network.direct;
        let local = self.network.route.map(|route| route.local);
        self.pcp.start(self.network.gateway.filter(|_| asks));
        self.natpmp.start(self.network.gateway.filter(|_| asks));
        let network = local.filter(|_| asks).map(|local| upnp_igd::Network {
            gateway: self.network.gateway(),
            local,
            named: self.config.gateway.is_some(),
        });
        self.upnp.start(cx!(self, now), network);
        self.open_missing();
    }

    /// Opens the sockets that are needed, and are not open yet or could not be opened before.
    fn open_missing(&mut self) {
        if !self.network.is_up() || self.network.direct {
            return;
        }
        let gateway = self.network.gateway;
        for (protocol, socket, remote) in [
            (Protocol::Pcp, Socket::Pcp, gateway),
            (Protocol::Pcp, Socket::Announcements, None),
            (Protocol::NatPmp, Socket::NatPmp, gateway),
            (Protocol::UpnpIgd, Socket::Ssdp, None),
        ] {
            if self.is_allowed(protocol) && !self.network.open_sockets.contains(&socket) {
                self.open(socket, remote);
            }
        }
    }

    fn open(&mut self, socket: Socket, remote: Option<SocketAddr>) {
        let Some(route) = self.network.route else { return };
        self.network.open_sockets.insert(socket);
        self.outputs.push_back(Output::Open {
            socket,
            local: route.local,
            interface: route.interface,
            remote,
        });
    }

    /// UPnP is in use: its devices' notifications are of interest.
    pub(super) fn listen_to_notifications(&mut self) {
        if !self.network.open_sockets.contains(&Socket::Notifications) {
            self.open(Socket::Notifications, None);
        }
    }

    /// Cleanup is done: nothing is heard or said any more.
    pub(super) fn close_sockets(&mut self) {
        for socket in std::mem::take(&mut self.network.open_sockets) {
            self.outputs.push_back(Output::Close { socket });
        }
    }

    /// The same network as before: is the gateway, too? And whoever failed is tried again.
    fn check_gateway(&mut self, now: Time) {
        self.network.checked_at = Some(now);
        self.exhausted = PerProtocol::default();
        self.raced = false;
        let mut in_use = PerProtocol::default();
        for mapping in self.mappings.values() {
            if let Some(protocol) = mapping.mapped_by() {
                in_use.set(protocol, true);
            }
        }
        self.open_missing();
        if !in_use.has(Protocol::UpnpIgd) && self.network.open_sockets.remove(&Socket::Notifications) {
            self.outputs.push_back(Output::Close { socket: Socket::Notifications });
        }
        for protocol in ASKING {
            if !self.is_allowed(protocol) {
                continue;
            }
            let status = self.status(protocol);
            match protocol {
                // Out until the next recheck: this one. Or it has fallen silent, and may be back.
                Protocol::Pcp if in_use.has(protocol) && status != Status::Up => {
                    self.pcp.doubt();
                    self.pcp.revive(cx!(self, now));
                    self.call_into_race(protocol);
                }
                Protocol::NatPmp if in_use.has(protocol) && status != Status::Up => {
                    self.natpmp.doubt();
                    self.natpmp.probe(cx!(self, now));
                    self.call_into_race(protocol);
                }
                _ if status != Status::Up => {}
                Protocol::Pcp => self.pcp.check(cx!(self, now)),
                Protocol::NatPmp if in_use.has(protocol) => self.natpmp.check(cx!(self, now)),
                Protocol::UpnpIgd if in_use.has(protocol) => self.upnp.check(cx!(self, now)),
                _ => {}
            }
        }
        for key in
            self.mappings.keys_where(|_, mapping| mapping.state == State::Refused && mapping.unanswered)
        {
            self.lose(key);
        }
        let asks = self.network.is_up() && !self.network.direct;
        if !self.waiting.is_empty() && asks && !self.is_race_open(now) {
            self.start_race(now);
        }
    }

    /// The gateway says that our packets come from another address than they say: once, the route is looked up
    /// again and a new socket opened (the address may have changed under the old one).
    pub(super) fn handle_address_mismatch(&mut self, now: Time) {
        match self.network.mismatch {
            Mismatch::None => {
                self.network.mismatch = Mismatch::Seen;
                self.look_up_route();
                self.pcp.start(self.network.gateway);
                self.open(Socket::Pcp, self.network.gateway);
                for mapping in self.mappings.values_mut() {
                    mapping.asked.set(Protocol::Pcp, false);
                }
                // Those that are made stay so; those that are being made begin again.
                for key in self.keys_asked_by(Protocol::Pcp) {
                    if self.mappings.get(&key).is_some_and(|mapping| mapping.mapped_by().is_none()) {
                        self.lose(key);
                    }
                }
            }
            Mismatch::Seen => {
                log!(
                    Warn,
                    "a NAT stands between us and the gateway's PCP server: PCP and NAT-PMP cannot be used"
                );
                self.network.mismatch = Mismatch::Stays;
                for protocol in [Protocol::Pcp, Protocol::NatPmp] {
                    for mapping in self.mappings.values_mut() {
                        mapping.asked.set(protocol, false);
                    }
                    for key in self.keys_asked_by(protocol) {
                        self.lose(key);
                    }
                }
            }
            Mismatch::Stays => {}
        }
        self.unsettled = true;
        if self.race.is_none() && !self.waiting.is_empty() {
            self.start_race(now);
        }
    }

    /// The keys of mappings that were asked of a protocol or made by it.
    pub(super) fn keys_asked_by(&self, protocol: Protocol) -> Vec<super::driver::Key> {
        self.mappings.keys_where(|_, mapping| {
            mapping.state == State::Asked { protocol } || mapping.mapped_by() == Some(protocol)
        })
    }
}
