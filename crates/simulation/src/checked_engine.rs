//! The engines inside an observer, which counts and checks all inputs and outputs.

use crate::allocations;
use crate::invariants::{self, Packets, Pending};
use crate::sockets::Sockets;
use plum_engine::Engines;
use plum_engine::io::{
    Arrival, Config, EngineId, Event, ExchangeId, MappingId, Output, Route, Socket, SocketId, TcpEnd,
};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, LocalAddress};
use plum_engine::ledger::HardwareAddress;
use plum_engine::machine::{Command, Machine};
use plum_engine::time::Time;
use plum_testkit::random::Seeded;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What has happened in a story, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams that the engine sent.
    pub datagrams_sent: u64,
    /// Datagrams that it was handed.
    pub datagrams_received: u64,
    /// TCP connections that it opened.
    pub exchanges: u64,
    /// Mappings that the program created.
    pub mappings: u64,
    /// Callbacks that the program got.
    pub callbacks: u64,
    /// How often the program began anew after its cleanup.
    pub inits: u64,
    /// Calls of `handle_timeout`.
    pub timeouts: u64,
}

/// The engines and what is observed of them.
pub struct CheckedEngine {
    engine: Engines,
    config: Config,
    now: Time,
    hash: u64,
    /// What has happened so far.
    pub counts: Counts,
    /// The mappings that are being made.
    pub pending: Pending,
    /// Open sockets, and the requests on them that wait for an answer.
    pub sockets: Sockets,
    /// Packets lately.
    pub packets: Packets,
    /// Bytes that the engines hold.
    heap: isize,
    most_heap: isize,
    live: BTreeSet<MappingId>,
    /// Those of them that are SUCCESS.
    made: BTreeSet<MappingId>,
    most_live: usize,
    /// The network as the engine for IPv4 was told of it last.
    network: Option<(Option<Route>, Option<HardwareAddress>)>,
    /// The same of IPv6, by engine, and the addresses.
    ipv6_routes: BTreeMap<EngineId, Option<Ipv6Route>>,
    addresses: Ipv6Addresses,
    /// Where the connections go that have not carried a request yet.
    connections: BTreeMap<ExchangeId, Host>,
    /// The mappings to IPv6 addresses.
    pinholes: BTreeSet<MappingId>,
    /// Those of them that have become SUCCESS since these were last taken.
    new_pinholes: Vec<MappingId>,
    /// When something came from each address last.
    heard_at: BTreeMap<IpAddr, Time>,
}

/// FNV-1a: the same on every machine.
const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_FACTOR: u64 = 0x0100_0000_01b3;

fn engine(config: &Config, seed: u64) -> Engines {
    Engines::new(config.clone(), Box::new(Seeded::new(seed)))
}

/// A host; of IPv6 with the interface, since the same address may be on two links.
type Host = (IpAddr, u32);

impl CheckedEngine {
    /// An engine whose randomness is this seed's.
    pub fn new(config: Config, seed: u64) -> CheckedEngine {
        let before = allocations::in_use();
        let engine = engine(&config, seed);
        let heap = allocations::in_use() - before;
        CheckedEngine {
            engine,
            config,
            now: Time::ZERO,
            hash: HASH_START,
            counts: Counts::default(),
            pending: Pending::default(),
            sockets: Sockets::default(),
            packets: Packets::default(),
            heap,
            most_heap: heap,
            live: BTreeSet::new(),
            made: BTreeSet::new(),
            most_live: 0,
            network: None,
            ipv6_routes: BTreeMap::new(),
            addresses: Ipv6Addresses::default(),
            connections: BTreeMap::new(),
            pinholes: BTreeSet::new(),
            new_pinholes: Vec::new(),
            heard_at: BTreeMap::new(),
        }
    }

    /// Another engine in its place: the program has called init again.
    pub fn renew(&mut self, config: Config, seed: u64) {
        let before = allocations::in_use();
        self.engine = engine(&config, seed);
        self.config = config;
        self.heap += allocations::in_use() - before;
        self.most_live = 0;
        self.most_heap = self.heap;
        self.live.clear();
        self.made.clear();
        self.pending = Pending::default();
        self.sockets.assert_all_closed();
        self.sockets = Sockets::default();
        self.network = None;
        self.ipv6_routes.clear();
        self.addresses = Ipv6Addresses::default();
        self.connections.clear();
        self.pinholes.clear();
        self.new_pinholes.clear();
        self.counts.inits += 1;
    }

    /// The engine's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A hash of all inputs and outputs: equal runs have equal hashes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// When something came from an address last.
    pub fn heard_at(&self, address: IpAddr) -> Option<Time> {
        self.heard_at.get(&address).copied()
    }

    /// The mappings to IPv6 that have become SUCCESS since the last call.
    pub fn take_new_pinholes(&mut self) -> Vec<MappingId> {
        std::mem::take(&mut self.new_pinholes)
    }

    /// The machine has slept.
    pub fn sleep(&mut self, now: Time, span: Duration) {
        self.pending.sleep(span);
        self.be_busy(now);
    }

    /// A slow gateway or network is fast again: renewals that were due, and waited four at a time for their turn, go out.
    pub fn relieve(&mut self, now: Time) {
        self.be_busy(now);
    }

    /// The bytes that the engine holds.
    pub fn held(&self) -> isize {
        self.heap
    }

    /// The most that the engine has held, and for how many mappings at once.
    pub fn most_held(&self) -> (isize, usize) {
        (self.most_heap, self.most_live)
    }

    /// Mappings come or go: until that is done packets are not counted.
    fn be_busy(&mut self, now: Time) {
        self.packets.be_busy_until(now + invariants::busy_for(self.live.len()));
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(HASH_FACTOR);
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    /// Hands something to the engine.
    fn enter(&mut self, now: Time, what: u64, call: impl FnOnce(&mut Engines)) {
        self.now = now;
        self.mix(now.as_micros());
        self.mix(what);
        let before = allocations::in_use();
        call(&mut self.engine);
        self.heap += allocations::in_use() - before;
        self.most_heap = self.most_heap.max(self.heap);
        invariants::memory_is_bounded_by_the_mappings(self.heap, self.most_live, self.sockets.most_engines());
        let limit = invariants::longest_pending(&self.config, self.most_live);
        invariants::no_mapping_waits_for_ever(&self.pending, now, limit);
    }

    fn note_output(&mut self, engine: EngineId, output: &Output) {
        self.mix(engine.0.into());
        match output {
            Output::Send { socket, to, bytes } => {
                self.mix(*socket as u64);
                self.mix_bytes(bytes);
                self.counts.datagrams_sent += 1;
                let _ = to;
            }
            Output::Connect { exchange, .. } => {
                self.mix(exchange.0);
                self.counts.exchanges += 1;
            }
            Output::Write { bytes, .. } => self.mix_bytes(bytes),
            Output::HangUp { exchange } => self.mix(!exchange.0),
            Output::Event { id, event } => {
                self.mix(u64::from(id.cast_unsigned()));
                self.mix(match event {
                    Event::Pending => 1,
                    Event::Success { protocol, port, .. } => {
                        2 << 32 | (*protocol as u64) << 16 | u64::from(port.get())
                    }
                    Event::Failure => 3,
                    Event::Destroyed => 4,
                });
                self.counts.callbacks += u64::from(*event != Event::Pending);
            }
            Output::LookUpRoute { .. } => self.mix(11),
            Output::Open { socket, .. } => self.mix(100 + *socket as u64),
            Output::Close { socket } => self.mix(200 + *socket as u64),
            Output::LookUpAddresses { .. } | Output::LookUpIpv6Route { .. } => self.mix(13),
            Output::Finished => self.mix(12),
        }
    }
}

/// The bytes that go to whoever takes an output.
fn heap_of(output: &Output) -> isize {
    match output {
        Output::Send { bytes, .. } | Output::Write { bytes, .. } => bytes.capacity() as isize,
        _ => 0,
    }
}

/// The same but for the rest of lifetimes.
fn without_lifetimes(addresses: &Ipv6Addresses) -> Vec<LocalAddress> {
    addresses.list.iter().map(|known| LocalAddress { preferred_secs: 0, ..*known }).collect()
}

impl CheckedEngine {
    /// What a datagram goes through.
    fn check_send(&mut self, engine: EngineId, socket: Socket, to: SocketAddr, bytes: &[u8]) {
        let (now, id) = (self.now, SocketId { engine, socket });
        let (local, interface) = self.sockets.local(id);
        invariants::families_are_apart(engine, socket, to);
        if socket == Socket::Pcp {
            invariants::the_client_is_the_sender(local, bytes);
        }
        self.sockets.flight(engine).send(now, socket, bytes);
        invariants::requests_in_flight_are_few(self.sockets.flight(engine), socket);
        // docs/protocols.md, discovery: a race asks for a first window of mappings, and makes all of them at once when
        // somebody answers.
        let is_race = matches!(socket, Socket::Ssdp | Socket::LinkSsdp | Socket::Ipv4Ssdp)
            || socket == Socket::NatPmp && bytes.len() == 2;
        if is_race && self.made.len() < self.live.len() {
            self.be_busy(now);
        }
        self.send_packets((to.ip(), if to.is_ipv6() { interface } else { 0 }), 1);
    }

    fn send_packets(&mut self, to: Host, packets: u32) {
        let retries = self.made.len() < self.live.len();
        self.packets.send(self.now, to, packets, retries);
    }

    fn check_event(&mut self, id: MappingId, event: Event) {
        let now = self.now;
        if event == Event::Pending {
            self.pending.begin(now, id);
            self.be_busy(now);
        } else {
            self.pending.end(id);
        }
        if matches!(event, Event::Success { .. }) {
            self.made.insert(id);
            if self.pinholes.contains(&id) {
                self.new_pinholes.push(id);
            }
        } else {
            self.made.remove(&id);
        }
        if event == Event::Destroyed {
            self.live.remove(&id);
            self.pinholes.remove(&id);
        }
    }

    /// Something is different about IPv6: pinholes may be made anew.
    fn restart_pinholes(&mut self) {
        let pinholes = &self.pinholes;
        self.pending.restart(self.now, |id| pinholes.contains(&id));
        self.be_busy(self.now);
    }
}

impl Machine for CheckedEngine {
    fn handle_command(&mut self, now: Time, command: Command) {
        let what = match command {
            Command::Create(id, wanted) => {
                self.counts.mappings += 1;
                self.live.insert(id);
                if wanted.wish.address.is_some_and(|address| address.is_ipv6()) {
                    self.pinholes.insert(id);
                }
                self.most_live = self.most_live.max(self.live.len());
                self.pending.begin(now, id);
                20
            }
            Command::Destroy(_) => 21,
            Command::Cleanup => 22,
        };
        self.be_busy(now);
        self.enter(now, what, |engines| engines.handle_command(now, command));
    }

    fn handle_route(
        &mut self,
        now: Time,
        engine: EngineId,
        route: Option<Route>,
        hardware: Option<HardwareAddress>,
    ) {
        let is_same = |&(known, of): &(Option<Route>, Option<HardwareAddress>)| {
            known == route && (of.is_none() || hardware.is_none() || of == hardware)
        };
        if !self.network.as_ref().is_some_and(is_same) {
            // Another network: everything is made anew.
            let pinholes = &self.pinholes;
            self.pending.restart(now, |id| !pinholes.contains(&id));
            self.sockets.flight(engine).clear_all();
            self.be_busy(now);
            self.network = None;
        }
        let known = self.network.and_then(|(_, hardware)| hardware);
        self.network = Some((route, hardware.or(known)));
        self.enter(now, 23, |engines| engines.handle_route(now, engine, route, hardware));
    }

    fn handle_ipv6_route(
        &mut self,
        now: Time,
        engine: EngineId,
        route: Option<Ipv6Route>,
        hardware: Option<HardwareAddress>,
    ) {
        if self.ipv6_routes.insert(engine, route.clone()).as_ref() != Some(&route) {
            self.now = now;
            self.sockets.flight(engine).clear_all();
            self.restart_pinholes();
        }
        self.enter(now, 25, |engines| engines.handle_ipv6_route(now, engine, route, hardware));
    }

    fn handle_addresses(&mut self, now: Time, addresses: Option<Ipv6Addresses>) {
        if let Some(addresses) = &addresses {
            let is_same = without_lifetimes(&self.addresses) == without_lifetimes(addresses);
            if !is_same || self.addresses.interface != addresses.interface {
                self.now = now;
                self.restart_pinholes();
            }
            self.addresses = addresses.clone();
        }
        self.enter(now, 26, |engines| engines.handle_addresses(now, addresses));
    }

    fn handle_opened(&mut self, now: Time, id: SocketId, local: Option<SocketAddr>) {
        self.sockets.note_opened(id, local);
        self.enter(now, 27 + u64::from(local.is_some()), |engines| engines.handle_opened(now, id, local));
    }

    fn handle_datagram(&mut self, now: Time, id: SocketId, by: Arrival, bytes: &[u8]) {
        self.counts.datagrams_received += 1;
        self.heard_at.insert(by.from.ip(), now);
        self.sockets.note_heard(now, id.engine);
        self.sockets.flight(id.engine).handle_reply(id.socket, bytes);
        self.mix_bytes(bytes);
        self.enter(now, 30 + id.socket as u64, |engines| engines.handle_datagram(now, id, by, bytes));
    }

    fn handle_refused(&mut self, now: Time, id: SocketId) {
        self.sockets.flight(id.engine).clear(id.socket);
        self.enter(now, 40 + id.socket as u64, |engines| engines.handle_refused(now, id));
    }

    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.enter(now, 50, |engines| engines.handle_tcp_connected(now, exchange, local));
    }

    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.mix_bytes(bytes);
        self.enter(now, 51, |engines| engines.handle_tcp_data(now, exchange, bytes));
    }

    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.connections.remove(&exchange);
        self.enter(now, 52 + end as u64, |engines| engines.handle_tcp_end(now, exchange, end));
    }

    fn handle_network_changed(&mut self, now: Time) {
        self.enter(now, 60, |engines| engines.handle_network_changed(now));
    }

    fn handle_ipv6_changed(&mut self, now: Time) {
        self.enter(now, 62, |engines| engines.handle_ipv6_changed(now));
    }

    fn handle_timeout(&mut self, now: Time) {
        self.counts.timeouts += 1;
        self.enter(now, 61, |engines| engines.handle_timeout(now));
    }

    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        let before = allocations::in_use();
        let output = self.engine.poll_output();
        self.heap += allocations::in_use() - before;
        let (engine, output) = output?;
        self.heap -= heap_of(&output);
        self.note_output(engine, &output);
        match &output {
            Output::Open { socket, local, interface, remote } => {
                self.sockets.open(SocketId { engine, socket: *socket }, *local, *interface, *remote);
            }
            Output::Close { socket } => self.sockets.close(SocketId { engine, socket: *socket }),
            Output::Send { socket, to, bytes } => self.check_send(engine, *socket, *to, bytes),
            Output::Connect { exchange, to, source } => {
                invariants::connections_have_their_source(exchange.engine(), to.ip(), *source);
                let host = (to.ip(), source.map_or(0, |source| source.interface));
                self.send_packets(host, 1);
                self.connections.insert(*exchange, host);
            }
            Output::Write { exchange, .. } => {
                if let Some(to) = self.connections.remove(exchange) {
                    self.send_packets(to, invariants::PACKETS_OF_A_REQUEST);
                }
            }
            Output::HangUp { exchange } => {
                self.connections.remove(exchange);
            }
            Output::Event { id, event } => self.check_event(*id, *event),
            _ => {}
        }
        Some((engine, output))
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.engine.poll_timeout()
    }
}
