//! Every decision: who is asked what, when, and what the reply means. No clocks, no sockets, no threads.
//!
//! One input (`handle_*`), then drain the outputs (`poll_output` until `None`), then wait until `poll_timeout`.
//!
//! - `mod.rs`: inputs and outputs, timers, the program's mappings coming and going.
//! - `network.rs`: the route to the gateway, what its change means, rechecks. `shortage.rs`: what the system had not to give.
//! - `discovery.rs`: the race of the protocols, and the choice for one mapping; `race.rs`: its beginning and end.
//! - `gateway.rs`: what the drivers' notices mean for the mappings.
//! - `lease.rs`: renewals, expiry, and all mappings remade after a restart. `announcement.rs`: what the gateway says of that
//!   by itself.
//! - `program.rs`: what the program is told. `ending.rs`: deletions and cleanup. `standing.rs`: how a mapping stands, for the
//!   Rust API.
//! - `pcp`, `natpmp`, `upnp_igd`: the drivers, each asking one gateway by one protocol (`driver.rs` is their contract).

#![forbid(unsafe_code)]

mod announcement;
pub mod direct;
pub mod discovery;
pub mod driver;
mod ending;
pub mod epoch;
mod gateway;
pub mod io;
mod lease;
pub mod mapping;
pub mod natpmp;
mod network;
pub mod pcp;
mod program;
mod race;
mod requests;
pub mod schedule;
mod shortage;
mod standing;
pub mod timers;
pub mod upnp_igd;
pub mod window;

use crate::log::log;
use crate::ordered::{Map, Set, Word};
use crate::time::Time;
use announcement::Announcements;
use discovery::{Choice, Field, Race};
use driver::{Key, Status};
use ending::{Cleanup, Ending};
use io::{Allowed, Config, Event, ExchangeId, MappingId, Output, Protocol, Random, Socket, TcpEnd, Wanted};
use mapping::{ASKING, Mapping, PerProtocol, State};
use natpmp::NatPmp;
use network::Network;
use pcp::Pcp;
use schedule::Pace;
use shortage::Shortage;
pub use standing::{Hindrance, Standing};
use std::collections::VecDeque;
use std::net::SocketAddr;
use timers::Timers;
use upnp_igd::UpnpIgd;

/// The core's own deadlines; the drivers keep theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// When to end what an overdue silence holds up: better protocols let others pass.
    Grace,
    /// When to end the race without a winner.
    RaceEnd,
    /// When to look at the gateway and at failed mappings again.
    Recheck,
    /// When to look up the route for notices that came too soon after others.
    LookUp,
    /// When to do what the mapping's state says: renew, expire, try again.
    Mapping(Key),
    /// When to tell DESTROYED though the deletion is not answered.
    Ending(Key),
    /// When to end cleanup though deletions are not answered.
    Cleanup,
    /// When to try again what the system had nothing for.
    Shortage,
    /// When to renew all mappings for announcements that came too soon after others.
    Announcements,
    /// When to search again for a UPnP device that was lost.
    Rediscovery,
}

impl Word for Timer {
    fn word(self) -> u64 {
        match self {
            Timer::Grace => (0, 0),
            Timer::RaceEnd => (1, 0),
            Timer::Recheck => (2, 0),
            Timer::LookUp => (3, 0),
            Timer::Mapping(key) => (4, key.word()),
            Timer::Ending(key) => (5, key.word()),
            Timer::Cleanup => (6, 0),
            Timer::Shortage => (7, 0),
            Timer::Announcements => (8, 0),
            Timer::Rediscovery => (9, 0),
        }
        .word()
    }
}

/// All decisions about all mappings of the process, for one gateway at a time.
pub struct Engine {
    config: Config,
    random: Box<dyn Random>,
    outputs: VecDeque<Output>,
    timers: Timers<Timer>,

    pcp: Pcp,
    natpmp: NatPmp,
    upnp: UpnpIgd,

    network: Network,
    shortage: Shortage,
    race: Option<Race>,
    /// There has been a race since the last recheck.
    raced: bool,
    /// Protocols that were silent for a whole race since the last recheck.
    exhausted: PerProtocol<bool>,
    /// Protocols that are up by their own account but let a request time out: not trusted until they answer.
    suspect: PerProtocol<bool>,
    /// When each protocol answered last.
    answered_at: PerProtocol<Option<Time>>,
    /// PCP's answer says that NAT-PMP is spoken here: as good as NAT-PMP's own answer.
    natpmp_promised: bool,

    mappings: Map<Key, Mapping>,
    /// The program's live mappings.
    ids: Map<MappingId, Key>,
    /// The mappings that wait for a protocol.
    waiting: Set<Key>,
    /// Whether those that wait must be looked at again.
    unsettled: bool,
    endings: Map<Key, Ending>,
    cleanup: Option<Cleanup>,
    pace: Pace,
    announcements: Announcements,
    /// How often a UPnP device was searched for again since it was lost.
    rediscoveries: usize,
}

/// The context of a driver's call, from fields of the engine that are not the driver.
macro_rules! cx {
    ($engine:expr, $now:expr) => {
        &mut $crate::engine::io::Cx {
            now: $now,
            random: &mut *$engine.random,
            outputs: &mut $engine.outputs,
            pace: &mut $engine.pace,
        }
    };
}
pub(crate) use cx;

/// Calls the same method of the driver of a protocol; `Direct` has none.
macro_rules! with_driver {
    ($engine:expr, $protocol:expr, $method:ident($now:expr $(, $argument:expr)*)) => {
        match $protocol {
            Protocol::Pcp => $engine.pcp.$method(cx!($engine, $now) $(, $argument)*),
            Protocol::NatPmp => $engine.natpmp.$method(cx!($engine, $now) $(, $argument)*),
            Protocol::UpnpIgd => $engine.upnp.$method(cx!($engine, $now) $(, $argument)*),
            Protocol::Direct => {}
        }
    };
}
pub(crate) use with_driver;

impl Engine {
    /// An engine that has nothing to do yet.
    pub fn new(mut config: Config, random: Box<dyn Random>) -> Engine {
        config.gateway = config.gateway.map(|(address, port)| (address.to_canonical(), port));
        Engine {
            pcp: Pcp::new(config.mapping_timeout),
            natpmp: NatPmp::new(config.mapping_timeout),
            upnp: UpnpIgd::new(config.discover_timeout, config.mapping_timeout),
            config,
            random,
            outputs: VecDeque::new(),
            timers: Timers::default(),
            network: Network::default(),
            shortage: Shortage::default(),
            race: None,
            raced: false,
            exhausted: PerProtocol::default(),
            suspect: PerProtocol::default(),
            answered_at: PerProtocol::default(),
            natpmp_promised: false,
            mappings: Map::new(),
            ids: Map::new(),
            waiting: Set::new(),
            unsettled: false,
            endings: Map::new(),
            cleanup: None,
            pace: Pace::default(),
            announcements: Announcements::default(),
            rediscoveries: 0,
        }
    }

    /// The program wants a mapping; `id` was never used before.
    pub fn handle_create(&mut self, now: Time, id: MappingId, wanted: Wanted) {
        let key = Key { transport: wanted.transport, internal_port: wanted.internal_port };
        if self.cleanup.is_some() {
            self.tell(id, Event::Destroyed);
            return;
        }
        self.ids.insert(id, key);
        match self.mappings.get_mut(&key) {
            Some(mapping) => {
                log!(Debug, "mapping {id}: shares the gateway mapping of {key}");
                mapping.holders.insert(id, None);
                self.tell_newcomer(key, id);
            }
            None => self.add_mapping(now, key, id, wanted),
        }
        self.settle(now);
    }

    fn add_mapping(&mut self, now: Time, key: Key, id: MappingId, wanted: Wanted) {
        let mut mapping = Mapping::new(wanted.wish);
        mapping.holders.insert(id, None);
        if let Some(ending) = self.end_ending(key) {
            // Its deletion is still open: the driver lets the new request take it over (or follow it), and the
            // entry that may be left is ours to delete in the end.
            mapping.entries = ending.open;
            if wanted.wish.port.is_none() {
                mapping.last = ending.last;
            }
        }
        self.mappings.insert(key, mapping);
        self.waiting.insert(key);
        if self.mappings.len() == 1 {
            // The first after a time of none: nobody has looked at the network for as long, and who was not there
            // then may be now.
            self.timers.set(Timer::Recheck, now + self.config.recheck_interval);
            self.exhausted = PerProtocol::default();
            if self.is_the_best_away() {
                self.want_check(now);
            } else if self.status(Protocol::Pcp) != Status::Up {
                // Whose answers do not tell the address.
                self.natpmp.check(cx!(self, now));
            }
            self.look_up_route();
        } else if self.network.is_known() {
            self.advance(now, key);
        } else if self.shortage.hides_route() {
            self.look_up_route();
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
            self.network.note_unopened(socket);
            // Without a listener only speed is lost after a restart of the gateway: the recheck is early enough.
            if !matches!(socket, Socket::Announcements | Socket::Notifications) {
                self.note_shortage(now);
            }
        }
        match socket {
            Socket::Pcp => self.pcp.handle_opened(cx!(self, now), local),
            Socket::NatPmp => self.natpmp.handle_opened(cx!(self, now), local),
            Socket::Ssdp => self.upnp.handle_opened(cx!(self, now), local),
            Socket::Announcements | Socket::Notifications => {}
        }
        if local.is_some() && self.race.is_some() {
            self.join_race(now, socket);
        } else if local.is_some() {
            // Whoever is tried again meets one more.
            self.raced = false;
        }
        self.settle(now);
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, now: Time, socket: Socket, from: SocketAddr, bytes: &[u8]) {
        match socket {
            Socket::Pcp => {
                self.note_sign_of_life(now);
                self.pcp.handle_datagram(cx!(self, now), bytes);
            }
            Socket::NatPmp => {
                self.note_sign_of_life(now);
                self.natpmp.handle_datagram(cx!(self, now), bytes);
            }
            Socket::Ssdp => self.upnp.handle_datagram(cx!(self, now), from, bytes),
            Socket::Announcements => {
                // Anyone on the network can multicast; RFC 6887 §14.1 counts the gateway's alone.
                if self.network.gateway() == Some(from.ip()) {
                    self.handle_announcement(now, bytes);
                }
            }
            Socket::Notifications => self.upnp.handle_notification(cx!(self, now), from, bytes),
        }
        self.settle(now);
    }

    /// The gateway's kernel says that the port of a connected socket is closed (ICMP port unreachable).
    pub fn handle_refused(&mut self, now: Time, socket: Socket) {
        match socket {
            Socket::Pcp => self.pcp.handle_refused(cx!(self, now)),
            Socket::NatPmp => self.natpmp.handle_refused(cx!(self, now)),
            Socket::Ssdp | Socket::Announcements | Socket::Notifications => {}
        }
        self.settle(now);
    }

    /// A TCP connection is established.
    pub fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.note_sign_of_life(now);
        self.upnp.handle_tcp_connected(cx!(self, now), exchange, local);
        self.settle(now);
    }

    /// Bytes came on a TCP connection.
    pub fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.note_sign_of_life(now);
        self.upnp.handle_tcp_data(cx!(self, now), exchange, bytes);
        self.settle(now);
    }

    /// A TCP connection ended from the other side, or never came to be. It is gone, no `HangUp` follows.
    pub fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.upnp.handle_tcp_end(cx!(self, now), exchange, end);
        // A service that is known is asked again by the driver itself.
        if end == TcpEnd::Starved && self.upnp.status() != Status::Up {
            self.note_shortage(now);
        }
        self.settle(now);
    }

    /// The time that `poll_timeout` named has come (earlier and spurious calls do no harm).
    pub fn handle_timeout(&mut self, now: Time) {
        self.pcp.handle_timeout(cx!(self, now));
        self.natpmp.handle_timeout(cx!(self, now));
        self.upnp.handle_timeout(cx!(self, now));
        // What the drivers' timers brought about comes first: a grant may be what a timer here waits for.
        self.settle(now);
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Grace => self.unsettled = true,
                Timer::RaceEnd => self.end_race_without_winner(now),
                Timer::Recheck => self.handle_recheck_timer(now),
                Timer::LookUp => self.handle_look_up_timer(now),
                Timer::Mapping(key) => self.handle_mapping_timer(now, key),
                Timer::Ending(key) => self.handle_ending_timer(now, key),
                Timer::Cleanup => self.handle_cleanup_timer(now),
                Timer::Shortage => self.handle_shortage_timer(),
                Timer::Announcements => self.renew_all(now),
                Timer::Rediscovery => self.continue_rediscovery(now),
            }
        }
        self.settle(now);
    }

    /// What is to be done, in order, until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle_timeout`, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        [self.timers.next(), self.pcp.poll_timeout(), self.natpmp.poll_timeout(), self.upnp.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes the drivers' notices and lets waiting mappings choose, until nothing moves any more.
    fn settle(&mut self, now: Time) {
        loop {
            if let Some(notice) = self.pcp.poll_notice() {
                self.handle_notice(now, Protocol::Pcp, notice);
            } else if let Some(notice) = self.natpmp.poll_notice() {
                self.handle_notice(now, Protocol::NatPmp, notice);
            } else if let Some(notice) = self.upnp.poll_notice() {
                self.handle_notice(now, Protocol::UpnpIgd, notice);
            } else if std::mem::take(&mut self.unsettled) {
                for key in self.waiting.iter().collect::<Vec<_>>() {
                    self.advance(now, key);
                }
            } else {
                break;
            }
        }
        self.pcp.go_on(cx!(self, now));
        self.natpmp.go_on(cx!(self, now));
        self.end_race_if_won(now);
        self.finish_cleanup_if_done(now);
    }

    /// Lets one waiting mapping choose its protocol and ask it.
    fn advance(&mut self, now: Time, key: Key) {
        if !self.network.is_known() {
            return;
        }
        if let Some(address) = self.network.direct_address() {
            self.map_directly(key, address);
            return;
        }
        if !self.network.is_up() {
            self.fail(key);
            return;
        }
        let Some(mapping) = self.mappings.get(&key) else { return };
        let field = self.field(now, mapping);
        // Who has fallen silent has a chance to answer before another is taken, as in any race.
        let is_doubtful = |protocol| field.candidates.has(protocol) && self.suspect.has(protocol);
        let choice = match self.race {
            None if ASKING.into_iter().any(|p| is_doubtful(p) && !self.exhausted.has(p)) => Choice::Race,
            race => discovery::choose(&field, race.as_ref(), now),
        };
        match choice {
            Choice::Use(protocol) => self.ask(now, key, protocol),
            Choice::Wait => self.probe_with(now, key),
            Choice::Race => {
                self.start_race(now);
                self.probe_with(now, key);
            }
            Choice::Nobody => {
                self.fail(key);
                self.retry_the_excluded(now, key);
            }
        }
    }

    /// Nobody is left for a waiting mapping, but some protocol that refused it for a while only.
    fn retry_the_excluded(&mut self, now: Time, key: Key) {
        let Some(mapping) = self.mappings.get(&key) else { return };
        let until = ASKING
            .into_iter()
            .filter(|&protocol| self.is_allowed(protocol))
            .filter_map(|protocol| mapping.excluded_until.get(protocol).copied())
            .filter(|&until| until > now)
            .min();
        if let Some(until) = until {
            self.timers.set(Timer::Mapping(key), until);
        }
    }

    /// How the protocols stand for a mapping.
    fn field(&self, now: Time, mapping: &Mapping) -> Field {
        let mut field = Field { exhausted: self.exhausted, ..Field::default() };
        for protocol in ASKING {
            let excluded = mapping.is_excluded(now, protocol);
            field.candidates.set(protocol, self.is_allowed(protocol) && !excluded);
            field.status.set(protocol, Some(self.status(protocol)));
        }
        field
    }

    /// Whether a protocol may be used at this gateway at all.
    fn is_allowed(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Pcp => self.config.allowed != Allowed::Upnp && self.network.speaks_to_port_5351(),
            Protocol::NatPmp => {
                self.config.allowed != Allowed::Upnp
                    && self.network.speaks_to_port_5351()
                    && self.network.is_ipv4()
            }
            Protocol::UpnpIgd => self.config.allowed != Allowed::Pcp && self.network.is_ipv4(),
            Protocol::Direct => false,
        }
    }

    /// How a protocol stands, in the light of what the others said and of unanswered requests.
    fn status(&self, protocol: Protocol) -> Status {
        let status = match self.own_status(protocol) {
            Status::Unknown if protocol == Protocol::NatPmp && self.natpmp_promised => Status::Up,
            status => status,
        };
        match status {
            Status::Up if self.suspect.has(protocol) => Status::Unknown,
            status => status,
        }
    }

    /// How a protocol stands by its driver's account; `Direct`, which asks nobody, is out.
    fn own_status(&self, protocol: Protocol) -> Status {
        match protocol {
            Protocol::Pcp => self.pcp.status(),
            Protocol::NatPmp => self.natpmp.status(),
            Protocol::UpnpIgd => self.upnp.status(),
            Protocol::Direct => Status::Out,
        }
    }

    /// Asks a protocol for a waiting mapping; requests to others that were sent on the chance are called back.
    fn ask(&mut self, now: Time, key: Key, protocol: Protocol) {
        let spoken_for_sure = self.is_up_by_own_account(protocol);
        let Some(mapping) = self.mappings.get_mut(&key) else { return };
        let mut deletes = false;
        for other in mapping.asked.marked().filter(|&other| other != protocol) {
            // Before the winner's first request: gateways keep one table for all protocols.
            mapping.asked.set(other, false);
            mapping.entries.set(other, false);
            deletes |= match other {
                Protocol::Pcp => self.pcp.abandon(cx!(self, now), key),
                Protocol::NatPmp => self.natpmp.abandon(cx!(self, now), key),
                Protocol::UpnpIgd => self.upnp.abandon(cx!(self, now), key),
                Protocol::Direct => false,
            };
        }
        // A deletion that comes late removes the new mapping: so it is asked for once more.
        mapping.confirm |= deletes || mapping.entries.marked().any(|other| other != protocol);
        if spoken_for_sure {
            mapping.state = State::Asked { protocol };
            self.waiting.remove(&key);
        }
        if !mapping.asked.has(protocol) {
            log!(Debug, "{key}: asks by {protocol}");
            mapping.note_asked(protocol);
            let suggestion = mapping.suggestion();
            with_driver!(self, protocol, map(now, key, suggestion));
        }
    }

    fn is_up_by_own_account(&self, protocol: Protocol) -> bool {
        self.own_status(protocol) == Status::Up
    }
}
