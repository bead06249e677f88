//! Every decision: who is asked what, when, and what the reply means. No clocks, no sockets, no threads.
//!
//! One input (`handle_*`), then drain the outputs (`poll_output` until `None`), then wait until `poll_timeout`.
//!
//! - `ledger`: what may be on gateways because of us. `protocols`: how each protocol stands. `ladder`: who is asked next for a
//!   mapping. `mapping`: how a mapping stands.
//! - `mod` takes the inputs; `climb` walks mappings down their ladders; `grants` has what the drivers' notices mean; `lease`
//!   renewals, expiry and restarts; `announcement` what the gateway says of those by itself; `ending` deletions and cleanup; `network` the route and rechecks.
//! - `server` (PCP, NAT-PMP), `upnp`: the drivers, each asking one gateway by one protocol (`driver` is their contract).

#![forbid(unsafe_code)]
#![warn(clippy::dbg_macro, clippy::print_stderr, clippy::print_stdout, clippy::todo, clippy::unimplemented)]

pub mod addresses;
mod announcement;
mod climb;
mod destruction;
pub mod driver;
pub mod epoch;
pub mod io;
pub mod ladder;
mod lease;
pub mod ledger;
pub mod log;
pub mod mapping;
mod network;
mod notices;
pub mod ordered;
pub mod protocols;
pub mod reason;
pub mod schedule;
mod server;
mod status;
pub mod time;
pub mod timers;
pub mod upnp;

use crate::log::log;
use crate::ordered::{Map, Pieces, Set, Word};
use crate::time::Time;
use announcement::Announcements;
use destruction::Destructions;
use driver::{Driver, Key, Rung};
use io::{
    Arrival, Config, Cx, Event, ExchangeId, MappingId, Output, Protocol, Random, Socket, TcpEnd, Wanted,
};
use ledger::DeletionState;
use mapping::{GatewayMapping, Hold};
use network::Network;
pub use reason::Reason;
use server::Server;
pub use status::MappingStatus;
use std::net::SocketAddr;
use timers::Timers;
use upnp::Upnp;

/// The core's own deadlines; the drivers keep theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// When to ask those again that were silent, after a sign of life.
    Revive,
    /// When to renew all mappings for announcements that came too soon after others.
    RenewAll,
    /// When the next mapping may be asked for that another rung holds.
    Move,
    /// When to look at the gateway again.
    Recheck,
    /// When to look up the route for notices that came too soon after others, or for what the system had nothing for.
    LookUp,
    /// When to do what the mapping's state says: ask on, fail, renew, expire.
    Mapping(Key),
    /// When to tell DESTROYED though the deletion is not answered.
    Destruction(Key),
    /// When to repeat deletions that were refused or not answered, as far as the pace allows.
    Repeat,
    /// When to see whether cleanup still waits for anyone.
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

/// The drivers of the present gateway.
struct Drivers {
    pcp: Server,
    natpmp: Server,
    upnp: Upnp,
}

impl Drivers {
    /// The driver of a protocol; `Direct` asks nobody and has none.
    fn of(&mut self, protocol: Protocol) -> Option<&mut dyn Driver> {
        match protocol {
            Protocol::Pcp => Some(&mut self.pcp),
            Protocol::NatPmp => Some(&mut self.natpmp),
            Protocol::UpnpIgd => Some(&mut self.upnp),
            Protocol::Direct => None,
        }
    }

    fn poll_timeout(&self) -> Option<Time> {
        let drivers: [&dyn Driver; 3] = [&self.pcp, &self.natpmp, &self.upnp];
        drivers.into_iter().filter_map(Driver::poll_timeout).min()
    }
}

/// All mappings of the program.
#[derive(Default)]
struct Mappings {
    by_key: Map<Key, GatewayMapping>,
    ids: Map<MappingId, Key>,
    /// Those that no rung has made.
    seeking: Set<Key>,
    /// Something changed that those must look at.
    unsettled: bool,
}

impl Mappings {
    /// The grant of a mapping that a gateway has made.
    fn hold_mut(&mut self, key: Key) -> Option<&mut Hold> {
        self.by_key.get_mut(&key)?.hold_mut()
    }

    /// The keys of the mappings that gateways have made, as far as `wanted`.
    fn held(&self, wanted: impl Fn(&Hold) -> bool) -> Pieces<Key> {
        self.by_key.keys_where(|_, mapping| mapping.hold().is_some_and(&wanted))
    }
}

/// All decisions about all mappings of the process, for one gateway at a time.
pub struct Engine {
    cx: Cx,
    timers: Timers<Timer>,
    drivers: Drivers,
    network: Network,
    mappings: Mappings,
    destructions: Destructions,
    announcements: Announcements,
    /// When those that were silent were last asked again for a sign of life.
    revived_at: Option<Time>,
}

/// Calls a method of one driver; `Direct` has none.
macro_rules! with_driver {
    ($engine:expr, $now:expr, $protocol:expr, $method:ident($($argument:expr),*)) => {
        if let Some(driver) = $engine.drivers.of($protocol) {
            driver.$method($engine.cx.at($now) $(, $argument)*);
        }
    };
}
pub(crate) use with_driver;

impl Engine {
    /// An engine that has nothing to do yet.
    pub fn new(mut config: Config, random: Box<dyn Random>) -> Engine {
        config.gateway = config.gateway.map(|(address, port)| (address.to_canonical(), port));
        Engine {
            drivers: Drivers {
                pcp: Server::new(Rung::Pcp, None),
                natpmp: Server::new(Rung::NatPmp, None),
                upnp: Upnp::default(),
            },
            cx: Cx::new(config, random),
            timers: Timers::default(),
            network: Network::default(),
            mappings: Mappings::default(),
            destructions: Destructions::default(),
            announcements: Announcements::default(),
            revived_at: None,
        }
    }

    /// The program wants a mapping; `id` was never used before.
    pub fn handle_create(&mut self, now: Time, id: MappingId, wanted: Wanted) {
        let key = Key { transport: wanted.transport, internal_port: wanted.internal_port };
        if self.cx.is_cleaning_up() {
            self.tell(id, Event::Destroyed);
            return;
        }
        self.mappings.ids.insert(id, key);
        match self.mappings.by_key.get_mut(&key) {
            Some(mapping) => {
                mapping.ids.insert(id, None);
                if wanted.wish.port.is_some_and(|port| mapping.wish.port != Some(port)) {
                    log!(Warn, "mapping {id}: shares {key}, which suggests another external port");
                }
                // It is told what the others know.
                let is_failed = mapping.ids.values().any(|told| *told == Some(Event::Failure));
                if is_failed {
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
        // Where the key is being deleted still: what was not sent is not, and the entries are the mapping's own from now on.
        self.destructions.repeats.cancel(key);
        self.end_destruction(key);
        // A deletion that is still under way could hit what is made now.
        mapping.confirm = self
            .cx
            .ledger
            .of(key)
            .any(|entry| matches!(entry.deletion, DeletionState::Open | DeletionState::Unawaited));
        self.mappings.by_key.insert(key, mapping);
        self.mappings.seeking.insert(key);
        self.wake_protocols(now);
        if self.mappings.by_key.len() == 1 {
            // Nobody has looked at the network while there was no mapping: what was silent then may answer now.
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

    /// The program wants a mapping no more.
    pub fn handle_destroy(&mut self, now: Time, id: MappingId) {
        self.destroy(now, id);
        self.settle(now);
    }

    /// A socket's local address, or that it could not be opened: the answer to `Output::Open`.
    pub fn handle_opened(&mut self, now: Time, socket: Socket, local: Option<SocketAddr>) {
        if local.is_none() {
            self.network.open_sockets.remove(&socket);
            // Without a listener only speed is lost after a restart of the gateway: the recheck is early enough.
            if !matches!(socket, Socket::Announcements | Socket::Notifications) {
                self.note_shortage(now);
            }
        }
        let cx = self.cx.at(now);
        match socket {
            Socket::Pcp => self.drivers.pcp.handle_opened(cx, local),
            Socket::NatPmp => self.drivers.natpmp.handle_opened(cx, local),
            Socket::Ssdp => self.drivers.upnp.handle_opened(cx, local),
            Socket::Announcements | Socket::Notifications => {}
        }
        self.settle(now);
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Time, socket: Socket, by: impl Into<Arrival>, bytes: &[u8]) {
        let by = by.into();
        let from = by.from.ip().to_canonical();
        let is_from_gateway = self.network.gateway() == Some(from);
        if is_from_gateway {
            self.note_sign_of_life(now, from);
        }
        let cx = self.cx.at(now);
        match socket {
            Socket::Pcp => {
                self.drivers.pcp.handle_datagram(cx, bytes);
                self.drivers.natpmp.handle_stray(cx, bytes);
            }
            Socket::NatPmp => {
                cx.protocols.is_upnp_there = self.drivers.upnp.is_there(now);
                self.drivers.natpmp.handle_datagram(cx, bytes);
            }
            Socket::Announcements if is_from_gateway => {
                // RFC 6887 §14.1.3: an announcement counts only if it comes from the PCP server's address.
                self.handle_announcement(now, bytes);
            }
            Socket::Announcements => {}
            Socket::Ssdp | Socket::Notifications => self.drivers.upnp.handle_datagram(cx, by, bytes),
        }
        self.settle(now);
    }

    /// The gateway's kernel says that the port of a connected socket is closed (ICMP port unreachable).
    pub fn handle_refused(&mut self, now: Time, socket: Socket) {
        self.handle_unsent(now, socket, Reason::PortClosed);
    }

    /// A datagram could not be sent, for a reason that lies between us and the gateway.
    pub fn handle_unsent(&mut self, now: Time, socket: Socket, reason: Reason) {
        let cx = self.cx.at(now);
        match socket {
            Socket::Pcp => self.drivers.pcp.handle_trouble(cx, reason),
            Socket::NatPmp => self.drivers.natpmp.handle_trouble(cx, reason),
            Socket::Ssdp => self.drivers.upnp.handle_trouble(cx, reason),
            Socket::Announcements | Socket::Notifications => {}
        }
        self.settle(now);
    }

    /// A TCP connection is established.
    pub fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.drivers.upnp.handle_tcp_connected(self.cx.at(now), exchange, local);
        self.settle(now);
    }

    /// Bytes came on a TCP connection.
    pub fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        if let Some(host) = self.drivers.upnp.host_of(exchange) {
            self.note_sign_of_life(now, host);
        }
        self.drivers.upnp.handle_tcp_data(self.cx.at(now), exchange, bytes);
        self.settle(now);
    }

    /// A TCP connection ended from the other side, or never came to be. It is gone: no `HangUp` follows but one that was wanted
    /// before this, and is not carried out yet.
    pub fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.drivers.upnp.handle_tcp_end(self.cx.at(now), exchange, end);
        if end == TcpEnd::Starved {
            self.note_shortage(now);
        }
        self.settle(now);
    }

    /// The time that `poll_timeout` named has come (earlier and spurious calls do no harm).
    pub fn handle_timeout(&mut self, now: Time) {
        for protocol in Protocol::ASKING {
            with_driver!(self, now, protocol, handle_timeout());
        }
        self.wake_protocols(now);
        // What the drivers' timers brought about comes first: a grant may be what a timer here waits for.
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

    /// There is nothing to look after: whoever comes next looks for itself.
    fn is_idle(&self) -> bool {
        let has_nothing = self.mappings.by_key.is_empty() && self.cx.ledger.keys().is_empty();
        has_nothing || self.cx.is_cleaning_up()
    }

    /// What is to be done, in order, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.outputs.pop_front()
    }

    /// When to call `handle_timeout`, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        let protocols = self.cx.protocols.poll_timeout().filter(|_| !self.mappings.seeking.is_empty());
        [self.timers.next(), self.drivers.poll_timeout(), protocols].into_iter().flatten().min()
    }

    /// Takes the drivers' notices and lets mappings that nobody has made look again, until nothing moves any more.
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
