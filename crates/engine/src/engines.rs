//! The engines of one process: one for IPv4, one for each IPv6 address that mappings lead to. To the program and to the
//! worker they are one machine.

use crate::Engine;
use crate::driver::Key;
use crate::io::{
    Arrival, Config, EngineId, Event, ExchangeId, MappingId, Output, Protocol, Random, Route, SocketId,
    TcpEnd, Wanted,
};
use crate::ipv6::address_engines::Past;
use crate::ipv6::pinholes::Pinholes;
use crate::ipv6::{Ipv6Addresses, Ipv6Route};
use crate::ledger::HardwareAddress;
use crate::log::log;
use crate::machine::{Command, Machine};
use crate::ordered::Set;
use crate::reason::Reason;
use crate::status::{Counters, MappingStatus};
use crate::time::Time;
use plum_wire::Transport;
use std::iter;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

/// A mapping at a gateway: whether it leads to IPv6, and its transport and internal port.
pub type MappedKey = (bool, Key);

/// All mappings of the process.
pub struct Engines {
    ipv4: Engine,
    pinholes: Pinholes,
    /// PLUM_GATEWAY names an IPv6 gateway: mappings of IPv4 fail.
    is_ipv4_excluded: bool,
    /// The mappings that have failed for that.
    excluded: Set<MappingId>,
    has_ipv4_finished: bool,
    is_finished: bool,
}

impl Engines {
    pub fn new(mut config: Config, mut random: Box<dyn Random>) -> Engines {
        config.gateway = config.gateway.map(|(address, port)| (address.to_canonical(), port));
        let pinholes = Pinholes::new(config.clone(), random.fork());
        Engines {
            is_ipv4_excluded: config.gateway.is_some_and(|(gateway, _)| gateway.is_ipv6()),
            ipv4: Engine::new(config, random),
            pinholes,
            excluded: Set::new(),
            has_ipv4_finished: false,
            is_finished: false,
        }
    }

    /// For the Rust API: engines, and what is known of those that have ended.
    pub fn with_past(config: Config, random: Box<dyn Random>) -> Engines {
        let mut engines = Engines::new(config, random);
        engines.pinholes.engines.remember = Some(Past::add);
        engines
    }

    fn create(&mut self, now: Time, id: MappingId, wanted: Wanted) {
        match wanted.wish.address.map(|address| address.to_canonical()) {
            Some(IpAddr::V6(address)) => self.pinholes.create(now, id, wanted, address),
            _ if self.is_ipv4_excluded && !self.ipv4.cx.is_cleaning_up() => {
                log!(Warn, "mapping {id}: {}", Reason::OtherFamily);
                self.excluded.insert(id);
                self.ipv4.tell(id, Event::Failure);
            }
            _ => self.ipv4.handle_create(now, id, wanted),
        }
    }

    fn destroy(&mut self, now: Time, id: MappingId) {
        if self.excluded.remove(&id) {
            self.ipv4.tell(id, Event::Destroyed);
        } else if self.pinholes.has(id) {
            self.pinholes.destroy(now, id);
        } else {
            self.ipv4.handle_destroy(now, id);
        }
    }

    fn clean_up(&mut self, now: Time) {
        for id in self.excluded.iter().collect::<Vec<_>>() {
            self.destroy(now, id);
        }
        self.ipv4.handle_cleanup(now);
        self.pinholes.clean_up(now);
    }

    /// Passes an input to one engine.
    fn pass<T>(&mut self, now: Time, engine: EngineId, act: impl FnOnce(&mut Engine) -> T) {
        if engine == EngineId::IPV4 {
            act(&mut self.ipv4);
        } else if let Some(engine) = self.pinholes.engines.get_mut(engine) {
            act(engine);
            self.pinholes.pump(now);
        }
    }

    /// Passes an input to all engines that use a socket.
    fn pass_to_users(&mut self, now: Time, socket: SocketId, mut act: impl FnMut(&mut Engine)) {
        for user in self.pinholes.engines.listeners.users(socket) {
            self.pass(now, user, &mut act);
        }
    }

    fn is_excluded(&self, id: MappingId) -> bool {
        self.excluded.iter().any(|excluded| excluded == id)
    }

    // For the Rust API.

    /// The status of a mapping of the program; `None`: it is unknown, or being destroyed.
    pub fn mapping_status(&self, now: Time, id: MappingId) -> Option<MappingStatus> {
        let obstacle = self.pinholes.obstacle(id).or(self.is_excluded(id).then_some(Reason::OtherFamily));
        if let Some(reason) = obstacle {
            let reasons = Some(vec![(Protocol::Pcp, reason)]);
            return Some(MappingStatus { reasons, ..MappingStatus::default() });
        }
        match self.pinholes.place_of(id) {
            Some((engine, id)) => engine.mapping_status(now, id),
            None if self.pinholes.has(id) => Some(MappingStatus::default()),
            None => self.ipv4.mapping_status(now, id),
        }
    }

    /// Whether there is a route for a mapping, and the gateway that is asked for it.
    pub fn way_of(&self, id: MappingId) -> (bool, Option<IpAddr>) {
        let engine = self.pinholes.place_of(id).map_or(&self.ipv4, |(engine, _)| engine);
        (engine.is_routed(), engine.gateway())
    }

    /// Whether the deletion of a destroyed mapping is open or was not confirmed, in any engine of its family.
    pub fn is_deletion_unconfirmed(
        &self,
        is_ipv6: bool,
        transport: Transport,
        internal_port: NonZeroU16,
    ) -> bool {
        let key = Key { transport, internal_port };
        if is_ipv6 {
            self.pinholes.engines.iter().any(|engine| engine.is_deletion_unconfirmed(key))
        } else {
            self.ipv4.is_deletion_unconfirmed(key)
        }
    }

    /// The mappings that the present gateways have granted, and those whose deletion is open or was not confirmed: in each whether
    /// it is one to IPv6.
    pub fn entry_keys(&self) -> (Vec<MappedKey>, Vec<MappedKey>) {
        let (mut granted, mut unconfirmed) = (Vec::new(), Vec::new());
        let pinholes = &self.pinholes.engines;
        for (is_ipv6, engine) in
            iter::once((false, &self.ipv4)).chain(pinholes.iter().map(|engine| (true, engine)))
        {
            let keys = engine.entry_keys();
            granted.extend(keys.0.into_iter().map(|key| (is_ipv6, key)));
            unconfirmed.extend(keys.1.into_iter().map(|key| (is_ipv6, key)));
        }
        unconfirmed.extend(pinholes.past.unconfirmed.iter().map(|&key| (true, key)));
        (granted, unconfirmed)
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        let mut all = self.pinholes.engines.past.counters;
        self.pinholes.engines.iter().for_each(|engine| all.add(engine.counters()));
        all.add(self.ipv4.counters());
        all
    }

    /// The address of the IPv4 gateway, or else of the first by IPv6; `None`: there is none, or it is not known yet.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.ipv4.gateway().or_else(|| self.pinholes.engines.iter().find_map(Engine::gateway))
    }
}

/// What one engine adds to that of all.
impl Engine {
    /// The keys with an entry that the present gateway has granted, and those whose deletion is open or was not confirmed.
    pub(crate) fn entry_keys(&self) -> (Vec<Key>, Vec<Key>) {
        let keys = self.cx.ledger.keys();
        let granted = |key: &&Key| self.cx.ledger.of(**key).any(|entry| entry.is_certain);
        let unconfirmed = |key: &&Key| self.is_deletion_unconfirmed(**key);
        (keys.iter().filter(granted).copied().collect(), keys.iter().filter(unconfirmed).copied().collect())
    }

    /// What was counted of all mappings, also of those that are gone.
    pub(crate) fn counters(&self) -> Counters {
        let mut all = self.counters;
        self.mappings.by_key.values().for_each(|mapping| all.add(mapping.counters));
        all
    }
}

impl Machine for Engines {
    fn handle_command(&mut self, now: Time, command: Command) {
        match command {
            Command::Create(id, wanted) => self.create(now, id, wanted),
            Command::Destroy(id) => self.destroy(now, id),
            Command::Cleanup => self.clean_up(now),
        }
    }

    fn handle_route(
        &mut self,
        now: Time,
        engine: EngineId,
        route: Option<Route>,
        hardware: Option<HardwareAddress>,
    ) {
        self.pass(now, engine, |engine| engine.handle_route_via(now, route, hardware));
    }

    fn handle_route_unknown(&mut self, now: Time, engine: EngineId) {
        self.pass(now, engine, |engine| engine.handle_route_unknown(now));
    }

    fn handle_ipv6_route(
        &mut self,
        now: Time,
        engine: EngineId,
        route: Option<Ipv6Route>,
        hardware: Option<HardwareAddress>,
    ) {
        self.pass(now, engine, |engine| engine.handle_ipv6_route(now, route, hardware));
    }

    fn handle_addresses(&mut self, now: Time, addresses: Option<Ipv6Addresses>) {
        self.pinholes.handle_addresses(now, addresses);
    }

    fn handle_opened(&mut self, now: Time, socket: SocketId, local: Option<SocketAddr>) {
        let users = self.pinholes.engines.listeners.users(socket);
        self.pinholes.engines.listeners.note_opened(socket, local);
        for user in users {
            self.pass(now, user, |engine| engine.handle_opened(now, socket.socket, local));
        }
    }

    fn handle_datagram(&mut self, now: Time, socket: SocketId, by: Arrival, bytes: &[u8]) {
        self.pass_to_users(now, socket, |engine| engine.handle_datagram(now, socket.socket, by, bytes));
    }

    fn handle_refused(&mut self, now: Time, socket: SocketId) {
        self.pass_to_users(now, socket, |engine| engine.handle_refused(now, socket.socket));
    }

    fn handle_unsent(&mut self, now: Time, socket: SocketId, reason: Reason) {
        self.pass_to_users(now, socket, |engine| engine.handle_unsent(now, socket.socket, reason));
    }

    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.pass(now, exchange.engine(), |engine| engine.handle_tcp_connected(now, exchange, local));
    }

    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.pass(now, exchange.engine(), |engine| engine.handle_tcp_data(now, exchange, bytes));
    }

    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        let end = self.pinholes.engines.note_end(exchange, end);
        self.pass(now, exchange.engine(), |engine| engine.handle_tcp_end(now, exchange, end));
    }

    fn handle_network_changed(&mut self, now: Time) {
        self.ipv4.handle_network_changed(now);
        self.pinholes.handle_network_changed(now);
    }

    fn handle_ipv6_changed(&mut self, now: Time) {
        self.pinholes.handle_changed(now);
    }

    fn handle_timeout(&mut self, now: Time) {
        if self.ipv4.poll_timeout().is_some_and(|at| at <= now) {
            self.ipv4.handle_timeout(now);
        }
        self.pinholes.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        while let Some(output) = self.ipv4.poll_output() {
            match output {
                Output::Finished => self.has_ipv4_finished = true,
                other => return Some((EngineId::IPV4, other)),
            }
        }
        if let Some(output) = self.pinholes.engines.poll_output() {
            return Some(output);
        }
        let is_last = self.has_ipv4_finished && self.pinholes.is_empty();
        (is_last && !std::mem::replace(&mut self.is_finished, true))
            .then_some((EngineId::IPV4, Output::Finished))
    }

    fn poll_timeout(&self) -> Option<Time> {
        [self.ipv4.poll_timeout(), self.pinholes.poll_timeout()].into_iter().flatten().min()
    }
}
