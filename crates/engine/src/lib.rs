//! Every decision of the library: which protocol is asked for which mapping, when, and how a reply is interpreted. No
//! clocks, no sockets, no threads.
//!
//! One input (`handle_*`), then drain the outputs (`poll_output` until `None`), then wait until `poll_timeout`.
//!
//! - `ledger`: entries that may exist on gateways because of us. `protocols`: the state of each protocol. `ladder`:
//!   which rung is asked next for a mapping. `mapping`: the state of a mapping.
//! - This file takes the inputs; `climb` moves mappings along their ladders; `notices` handles what the drivers report;
//!   `lease` renewals, expiry and restarts; `announcement` what the gateway announces; `destruction` deletions and
//!   cleanup; `network` the route and rechecks.
//! - `server` (PCP, NAT-PMP) and `upnp` are the drivers: each speaks one protocol with one gateway (`driver` is their
//!   contract).

#![forbid(unsafe_code)]

pub mod addresses;
mod announcement;
mod climb;
pub mod config;
pub mod descriptions;
mod destruction;
pub mod driver;
mod engines;
pub mod epoch;
pub mod io;
pub mod ipv6;
pub mod ladder;
mod lease;
pub mod ledger;
pub mod log;
pub mod machine;
pub mod mapping;
mod network;
mod notices;
pub mod ordered;
pub mod protocols;
pub mod reason;
pub mod schedule;
mod server;
pub mod status;
pub mod time;
pub mod timers;
pub mod upnp;

use crate::ordered::{Map, Pieces, Set, Word};
use crate::time::Time;
use announcement::Announcements;
use destruction::Destructions;
use driver::{Driver, Key, Rung};
pub use engines::{Engines, MappedKey};
use io::{
    Arrival, Config, Cx, EngineId, Event, ExchangeId, MappingId, Output, Protocol, Random, Route, Socket,
    TcpEnd, Wanted,
};
use ipv6::Ipv6Route;
use ledger::DeletionState;
use mapping::{GatewayMapping, Hold};
use network::Network;
pub use reason::Reason;
pub use server::Server;
pub use status::MappingStatus;
use std::net::SocketAddr;
use timers::Timers;
use upnp::Upnp;

/// The deadlines of the core; each driver has its own timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// When silent protocols are asked again after a sign of life.
    Revive,
    /// When all mappings are renewed for an announcement that followed another too soon.
    RenewAll,
    /// When the next mapping that another rung holds may move to a better rung.
    Move,
    /// When the gateway is checked again.
    Recheck,
    /// When the route is looked up for change notices that came too soon after others, or after a shortage of
    /// descriptors or memory.
    LookUp,
    /// When the next step of a mapping is due: next rung, failure, renewal or expiry, by its state.
    Mapping(Key),
    /// When DESTROYED is reported without an answer to the deletion.
    Destruction(Key),
    /// When refused or unanswered deletions are repeated, as far as the pace allows.
    Repeat,
    /// When cleanup checks which hosts it still waits for.
    Cleanup,
}

impl Word for Timer {
    fn word(self) -> u64 {
        match self {
            Timer::Recheck => (1, 0),
            Timer::LookUp => (2, 0),
            Timer::Mapping(key) => (3, key.word()),
            Timer::Destruction(key) => (4, key.word()),
            Timer::Repeat => (5, 0),
            Timer::Cleanup => (6, 0),
            Timer::Revive => (8, 0),
            Timer::RenewAll => (9, 0),
            Timer::Move => (10, 0),
        }
        .word()
    }
}

/// The drivers of the present gateway: for the core, and for the command, which asks a gateway without it.
pub struct Drivers {
    /// The driver of its PCP server.
    pub pcp: Server,
    /// The driver of its NAT-PMP server.
    pub natpmp: Server,
    /// The driver of its UPnP devices.
    pub upnp: Upnp,
}

impl Default for Drivers {
    /// There is no gateway.
    fn default() -> Drivers {
        let (pcp, natpmp) = (Server::new(Rung::Pcp, None), Server::new(Rung::NatPmp, None));
        Drivers { pcp, natpmp, upnp: Upnp::default() }
    }
}

impl Drivers {
    /// Another network, or none; `server`: where PCP and NAT-PMP requests go.
    pub fn start(&mut self, cx: &mut Cx, route: Option<Route>, server: Option<SocketAddr>) {
        self.pcp = Server::new(Rung::Pcp, server);
        self.natpmp = Server::new(Rung::NatPmp, server);
        let network = route.map(|Route { local, interface, .. }| upnp::Network {
            gateway: server.map(|server| server.ip()),
            local,
            interface,
            named: cx.config.gateway.is_some(),
        });
        self.upnp.start(cx, network);
    }

    /// A socket's local address, or that it could not be opened.
    pub fn handle_opened(&mut self, cx: &mut Cx, socket: Socket, local: Option<SocketAddr>) {
        match socket {
            Socket::Pcp => self.pcp.handle_opened(cx, local),
            Socket::NatPmp => self.natpmp.handle_opened(cx, local),
            Socket::Ssdp => self.upnp.handle_opened(cx, local),
            Socket::LinkSsdp => self.upnp.handle_link_opened(local.is_some()),
            Socket::Ipv4Ssdp => self.upnp.handle_ipv4_opened(cx, local.is_some()),
            Socket::Announcements | Socket::Notifications => {}
        }
    }

    /// A datagram was received; announcements are for the core. Returns whether it answers a PCP or NAT-PMP request.
    pub fn handle_datagram(&mut self, cx: &mut Cx, socket: Socket, by: Arrival, bytes: &[u8]) -> bool {
        match socket {
            Socket::Pcp => {
                let counts = self.pcp.handle_datagram(cx, bytes);
                self.natpmp.handle_stray(cx, bytes);
                return counts;
            }
            Socket::NatPmp => {
                cx.protocols.is_upnp_there = self.upnp.is_there(cx.now);
                return self.natpmp.handle_datagram(cx, bytes);
            }
            Socket::Announcements => {}
            Socket::Ssdp | Socket::LinkSsdp | Socket::Ipv4Ssdp | Socket::Notifications => {
                self.upnp.handle_datagram(cx, socket, by, bytes);
            }
        }
        false
    }

    /// A datagram could not be sent, for a reason that lies between us and the gateway.
    pub fn handle_unsent(&mut self, cx: &mut Cx, socket: Socket, reason: Reason) {
        match socket {
            Socket::Pcp => self.pcp.handle_trouble(cx, reason),
            Socket::NatPmp => self.natpmp.handle_trouble(cx, reason),
            Socket::Ssdp => self.upnp.handle_trouble(cx, reason),
            Socket::LinkSsdp | Socket::Ipv4Ssdp | Socket::Announcements | Socket::Notifications => {}
        }
    }

    /// The driver of a protocol; `Direct` has none.
    pub fn of(&mut self, protocol: Protocol) -> Option<&mut dyn Driver> {
        match protocol {
            Protocol::Pcp => Some(&mut self.pcp),
            Protocol::NatPmp => Some(&mut self.natpmp),
            Protocol::UpnpIgd => Some(&mut self.upnp),
            Protocol::Direct => None,
        }
    }

    /// When to call `handle_timeout` of the drivers.
    pub fn poll_timeout(&self) -> Option<Time> {
        let drivers: [&dyn Driver; 3] = [&self.pcp, &self.natpmp, &self.upnp];
        drivers.into_iter().filter_map(Driver::poll_timeout).min()
    }
}

/// All mappings of the program.
#[derive(Default)]
struct Mappings {
    by_key: Map<Key, GatewayMapping>,
    ids: Map<MappingId, Key>,
    /// Mappings that no rung has granted yet, and those that may move to a better rung.
    seeking: Set<Key>,
    /// The mappings in `seeking` must be looked at again.
    unsettled: bool,
}

impl Mappings {
    /// The grant of a mapping, if a gateway has granted it.
    fn hold_mut(&mut self, key: Key) -> Option<&mut Hold> {
        self.by_key.get_mut(&key)?.hold_mut()
    }

    /// The keys of the granted mappings for which `wanted` holds.
    fn held(&self, wanted: impl Fn(&Hold) -> bool) -> Pieces<Key> {
        self.by_key.keys_where(|_, mapping| mapping.hold().is_some_and(&wanted))
    }
}

/// All decisions about all mappings of one local address, for one gateway at a time.
pub struct Engine {
    id: EngineId,
    cx: Cx,
    timers: Timers<Timer>,
    drivers: Drivers,
    network: Network,
    mappings: Mappings,
    destructions: Destructions,
    /// Of the mappings that are gone, and the restarts.
    counters: status::Counters,
    announcements: Announcements,
    /// When silent protocols were last asked again because of a sign of life.
    revived_at: Option<Time>,
    /// IPv6: what the system said last of the route.
    ipv6_route: Option<Ipv6Route>,
    /// Which of its other routers is asked; `None`: its next hop.
    other_router: Option<usize>,
}

/// Calls a method of the driver of a protocol, if it has one.
macro_rules! with_driver {
    ($engine:expr, $now:expr, $protocol:expr, $method:ident($($argument:expr),*)) => {
        if let Some(driver) = $engine.drivers.of($protocol) {
            driver.$method($engine.cx.at($now) $(, $argument)*);
        }
    };
}
pub(crate) use with_driver;

impl Engine {
    /// The engine for IPv4.
    pub fn new(config: Config, random: Box<dyn Random>) -> Engine {
        Engine::with_id(config, random, EngineId::IPV4)
    }

    /// An engine among others.
    pub fn with_id(mut config: Config, random: Box<dyn Random>, id: EngineId) -> Engine {
        config.gateway = config.gateway.map(|(address, port)| (address.to_canonical(), port));
        let mut drivers = Drivers::default();
        drivers.upnp.number_exchanges_from(ExchangeId::before(id));
        Engine {
            id,
            drivers,
            cx: Cx::new(config, random),
            timers: Timers::default(),
            network: Network::default(),
            mappings: Mappings::default(),
            destructions: Destructions::default(),
            counters: status::Counters::default(),
            announcements: Announcements::default(),
            revived_at: None,
            ipv6_route: None,
            other_router: None,
        }
    }

    /// Its number among the engines.
    pub fn id(&self) -> EngineId {
        self.id
    }

    /// Whether no mapping of the program is in it.
    pub(crate) fn has_no_mapping(&self) -> bool {
        self.mappings.by_key.is_empty()
    }

    /// Whether it has neither a mapping nor an entry that may exist.
    pub(crate) fn is_forgettable(&mut self, now: Time) -> bool {
        if !self.has_no_mapping() {
            return false;
        }
        self.cx.ledger.drop_ended(now);
        self.cx.ledger.keys().is_empty()
    }

    /// The program creates a mapping; `id` was never used before.
    pub fn handle_create(&mut self, now: Time, id: MappingId, mut wanted: Wanted) {
        let key = Key { transport: wanted.transport, internal_port: wanted.internal_port };
        if self.cx.is_cleaning_up() {
            self.tell(id, Event::Destroyed);
            return;
        }
        self.mappings.ids.insert(id, key);
        wanted.wish.description =
            wanted.description.and_then(|description| self.cx.descriptions.number(description));
        match self.mappings.by_key.get_mut(&key) {
            Some(mapping) => {
                mapping.ids.insert(id, None);
                mapping.wish.warn_of_others(id, key, &wanted.wish);
                // The new id gets the event that the other ids of the key already have.
                if mapping.ids.values().any(|told| *told == Some(Event::Failure)) {
                    self.tell_failure(now, key);
                } else {
                    self.tell_success(key);
                }
            }
            None => self.add_mapping(now, key, id, wanted),
        }
        self.settle(now);
    }

    fn add_mapping(&mut self, now: Time, key: Key, id: MappingId, wanted: Wanted) {
        let mut mapping = GatewayMapping::new(wanted.wish);
        mapping.ids.insert(id, None);
        // If the key is still being deleted: unsent deletions are dropped, and the entries belong to the new mapping
        // from now on.
        self.destructions.repeats.cancel(key);
        self.end_destruction(key);
        // A deletion in flight could remove the entry that is made now.
        let is_open = |state| matches!(state, DeletionState::Open | DeletionState::Unawaited);
        mapping.confirm = self.cx.ledger.of(key).any(|entry| is_open(entry.deletion));
        self.mappings.by_key.insert(key, mapping);
        self.mappings.seeking.insert(key);
        self.wake_protocols(now);
        if self.mappings.by_key.len() == 1 {
            // The network was not watched while there was no mapping: protocols that were silent may answer now.
            self.timers.set(Timer::Recheck, now + self.cx.config.recheck_interval);
            self.cx.protocols.revive(true);
            self.want_check(now);
            self.look_up_route();
        } else if self.network.known {
            self.climb(now, key);
        } else {
            self.look_up_soon(now);
        }
    }

    /// The program destroys a mapping.
    pub fn handle_destroy(&mut self, now: Time, id: MappingId) {
        self.destroy(now, id);
        self.settle(now);
    }

    /// The answer to `Output::Open`: the local address of the socket, or `None` if it could not be opened.
    pub fn handle_opened(&mut self, now: Time, socket: Socket, local: Option<SocketAddr>) {
        if local.is_none() {
            self.network.open_sockets.remove(&socket);
            // A missing listener only delays the detection of a gateway restart until the next recheck; the search by IPv4
            // is made again with the next by IPv6.
            if !matches!(socket, Socket::Announcements | Socket::Notifications | Socket::Ipv4Ssdp) {
                self.note_shortage(now);
            }
        }
        self.drivers.handle_opened(self.cx.at(now), socket, local);
        self.settle(now);
    }

    /// A datagram was received.
    pub fn handle_datagram(&mut self, now: Time, socket: Socket, by: impl Into<Arrival>, bytes: &[u8]) {
        let by = by.into();
        let from = by.from.ip().to_canonical();
        let is_from_gateway = self.network.gateway() == Some(from);
        if is_from_gateway {
            self.note_sign_of_life(now, from);
        }
        if socket == Socket::Announcements && is_from_gateway {
            // RFC 6887 §14.1.3: an announcement counts only if it comes from the PCP server's address.
            self.handle_announcement(now, bytes);
        }
        self.drivers.handle_datagram(self.cx.at(now), socket, by, bytes);
        self.settle(now);
    }

    /// The peer of a connected socket reports a closed port (ICMP port unreachable).
    pub fn handle_refused(&mut self, now: Time, socket: Socket) {
        self.handle_unsent(now, socket, Reason::PortClosed);
    }

    /// A datagram could not be sent, because of this host or the path to the gateway.
    pub fn handle_unsent(&mut self, now: Time, socket: Socket, reason: Reason) {
        self.drivers.handle_unsent(self.cx.at(now), socket, reason);
        self.settle(now);
    }

    /// A TCP connection is established.
    pub fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.drivers.upnp.handle_tcp_connected(self.cx.at(now), exchange, local);
        self.settle(now);
    }

    /// Data was received on a TCP connection.
    pub fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        if let Some(host) = self.drivers.upnp.host_of(exchange) {
            self.note_sign_of_life(now, host);
        }
        self.drivers.upnp.handle_tcp_data(self.cx.at(now), exchange, bytes);
        self.settle(now);
    }

    /// The peer closed a TCP connection, or it was never established. The connection is gone: the only `HangUp` that
    /// may follow was queued before this input.
    pub fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.drivers.upnp.handle_tcp_end(self.cx.at(now), exchange, end);
        if end == TcpEnd::Starved {
            self.note_shortage(now);
        }
        self.settle(now);
    }

    /// The time that `poll_timeout` returned has come. Early and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        for protocol in Protocol::ASKING {
            with_driver!(self, now, protocol, handle_timeout());
        }
        self.wake_protocols(now);
        // Notices of the drivers come first: a grant may be what a timer of the core waits for.
        self.settle(now);
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Recheck | Timer::LookUp if self.is_idle() => {}
                Timer::Move => self.mappings.unsettled = true,
                Timer::Revive => self.revive_silent(now),
                Timer::RenewAll => self.renew_all(now),
                Timer::Recheck => self.handle_recheck_timer(now),
                Timer::LookUp => self.handle_look_up_timer(now),
                Timer::Mapping(key) => self.handle_mapping_timer(now, key),
                Timer::Destruction(key) => self.handle_destruction_timer(key),
                Timer::Repeat => self.handle_repeat_timer(now),
                Timer::Cleanup => self.handle_cleanup_timer(now),
            }
        }
        self.settle(now);
    }

    /// Whether there is nothing to maintain: the next mapping looks up the network itself.
    fn is_idle(&self) -> bool {
        let has_nothing = self.mappings.by_key.is_empty() && self.cx.ledger.keys().is_empty();
        has_nothing || self.cx.is_cleaning_up()
    }

    /// The next thing to do, in order; `None`: nothing is left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.outputs.pop_front()
    }

    /// When to call `handle_timeout`, if no other input comes before.
    pub fn poll_timeout(&self) -> Option<Time> {
        let protocols = self.cx.protocols.poll_timeout().filter(|_| !self.mappings.seeking.is_empty());
        [self.timers.next(), self.drivers.poll_timeout(), protocols].into_iter().flatten().min()
    }

    /// Handles the drivers' notices and moves seeking mappings along their ladders, until nothing changes any more.
    fn settle(&mut self, now: Time) {
        loop {
            let notice =
                Protocol::ASKING.into_iter().find_map(|protocol| self.drivers.of(protocol)?.poll_notice());
            if let Some(notice) = notice {
                self.handle_notice(now, notice);
            } else if self.cx.protocols.take_changed() | std::mem::take(&mut self.mappings.unsettled) {
                self.climb_all(now);
            } else {
                break;
            }
        }
        if self.mappings.seeking.is_empty() {
            for protocol in Protocol::ASKING {
                with_driver!(self, now, protocol, rest());
            }
        }
        self.finish_cleanup_if_done(now);
    }
}
