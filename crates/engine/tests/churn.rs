//! A hundred thousand mappings come and go: the engine keeps nothing of them.
//!
//! The machine and the gateway are joined without a network between them: what one sends the other has at once.
#![allow(
    clippy::disallowed_types,
    reason = "tests wait by the clock, and no child of a fork takes their locks"
)]

use plum_engine::Engine;
use plum_engine::io::{Config, Event, MappingId, Output, Random, Route, Suggestion, Wanted};
use plum_engine::time::Time;
use plum_gateway::core::{self as gateway, ConnectionId, Gateway, UdpPort};
use plum_wire::Transport;
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counter is one for all tests of this file: they take turns.
static TURN: Mutex<()> = Mutex::new(());

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100));

struct Seeded(fastrand::Rng);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
}

struct Pair {
    engine: Engine,
    gateway: Gateway,
    now: Time,
    next_id: MappingId,
    /// The last event of each mapping that was not destroyed yet.
    live: BTreeMap<MappingId, Option<Event>>,
}

impl Pair {
    fn new(closed: &[bool; 2]) -> Pair {
        let now = Time::from_secs(1000);
        let mut gateway = Gateway::new(gateway::Config::at(GATEWAY), at(now));
        (gateway.faults.closed.pcp, gateway.faults.closed.natpmp) = (closed[0], closed[1]);
        let engine = Engine::new(Config::default(), Box::new(Seeded(fastrand::Rng::with_seed(7))));
        Pair { engine, gateway, now, next_id: 0, live: BTreeMap::new() }
    }

    fn create(&mut self, port: u16) -> MappingId {
        let id = self.next_id;
        self.next_id += 1;
        self.live.insert(id, None);
        let internal_port = NonZeroU16::new(port).expect("a port");
        let wanted = Wanted { transport: Transport::Udp, internal_port, wish: Suggestion::default() };
        self.engine.handle_create(self.now, id, wanted);
        self.carry();
        id
    }

    fn destroy(&mut self, id: MappingId) {
        self.engine.handle_destroy(self.now, id);
        self.carry();
    }

    fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(due) = self.engine.poll_timeout().filter(|&due| due <= until) {
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            self.carry();
        }
        self.now = until;
    }

    fn carry(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            let (now, local) = (self.now, SocketAddr::new(LOCAL, 40_000));
            match output {
                Output::LookUpRoute { .. } => {
                    let route = Route { gateway: Some(GATEWAY), local: LOCAL, interface: 2 };
                    self.engine.handle_route(now, Some(route));
                }
                Output::Open { socket, .. } => self.engine.handle_opened(now, socket, Some(local)),
                Output::Send { socket, to, bytes } => {
                    let port = if to.port() == 1900 { UdpPort::Ssdp } else { UdpPort::Pcp };
                    if to.ip() == GATEWAY && self.gateway.refuses(port, &bytes) {
                        self.engine.handle_refused(now, socket);
                    } else if to.ip() == GATEWAY {
                        self.gateway.handle_datagram(at(now), port, local, &bytes);
                        while let Some(output) = self.gateway.poll_output(at(now)) {
                            let gateway::Output::Send { from, bytes, .. } = output else { continue };
                            self.engine.handle_datagram(now, socket, from, &bytes);
                        }
                    }
                }
                Output::Connect { exchange, .. } => {
                    self.gateway.handle_tcp_open(at(now), ConnectionId(exchange.0), local);
                    self.engine.handle_tcp_connected(now, exchange, local);
                }
                Output::Write { exchange, bytes } => {
                    self.gateway.handle_tcp_data(at(now), ConnectionId(exchange.0), &bytes);
                    while let Some(output) = self.gateway.poll_output(at(now)) {
                        match output {
                            gateway::Output::Write { bytes, .. } => {
                                self.engine.handle_tcp_data(now, exchange, &bytes);
                            }
                            gateway::Output::Send { .. }
                            | gateway::Output::Close { .. }
                            | gateway::Output::Reset { .. } => {}
                        }
                    }
                }
                Output::HangUp { exchange } => {
                    self.gateway.handle_tcp_end(at(now), ConnectionId(exchange.0));
                }
                Output::Close { .. } | Output::Finished => {}
                Output::Event { id, event: Event::Destroyed } => {
                    assert!(self.live.remove(&id).is_some(), "{id} is destroyed twice");
                }
                Output::Event { id, event } => {
                    self.live.insert(id, Some(event));
                }
            }
        }
    }
}

fn at(now: Time) -> Duration {
    Duration::from_micros(now.as_micros())
}

/// Creates and destroys mappings, a few alive at a time, on ever other ports.
fn churn(pair: &mut Pair, mappings: u32, silent_every: u32) {
    let mut alive = Vec::new();
    for n in 0..mappings {
        let port = 1024 + u16::try_from(n.wrapping_mul(7919) % 60_000).expect("below 60,000");
        // Now and then the gateway is away for a while.
        let away = silent_every > 0 && n % silent_every < 3;
        pair.gateway.faults.silence.pcp = if away { gateway::Times::Always } else { gateway::Times::Never };
        pair.gateway.faults.silence.natpmp = pair.gateway.faults.silence.pcp;
        alive.push(pair.create(port));
        pair.run_for(Duration::from_millis(5));
        if alive.len() > 5 {
            pair.destroy(alive.remove(0));
        }
    }
    pair.gateway.faults.silence = gateway::Silence::default();
    for id in alive {
        pair.destroy(id);
    }
    pair.run_for(Duration::from_secs(60));
    // What is remembered of a deletion for a while is forgotten at the next occasion.
    let id = pair.create(1);
    pair.run_for(Duration::from_secs(20));
    pair.destroy(id);
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.live.len(), 0);
    pair.gateway.counts.reset();
}

/// The bytes that the engine and the gateway have in use beyond those after a first round.
fn growth(closed: [bool; 2], mappings: u32, silent_every: u32) -> isize {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut pair = Pair::new(&closed);
    churn(&mut pair, mappings / 10, silent_every);
    let before = IN_USE.load(Ordering::Relaxed);
    churn(&mut pair, mappings, silent_every);
    IN_USE.load(Ordering::Relaxed) - before
}

/// More than a queue that has doubled its room, less than a few bytes for each mapping.
const ROOM: isize = 64 * 1024;

#[test]
fn pcp_keeps_nothing_of_100_000_mappings() {
    let growth = growth([false, false], 100_000, 0);
    assert!(growth < ROOM, "{growth} bytes more");
}

#[test]
fn natpmp_keeps_nothing_of_50_000_mappings() {
    let growth = growth([true, false], 50_000, 0);
    assert!(growth < ROOM, "{growth} bytes more");
}

#[test]
fn upnp_keeps_nothing_of_20_000_mappings() {
    let growth = growth([true, true], 20_000, 0);
    assert!(growth < ROOM, "{growth} bytes more");
}

#[test]
fn a_gateway_that_comes_and_goes_leaves_nothing_either() {
    let growth = growth([false, false], 20_000, 500);
    assert!(growth < ROOM, "{growth} bytes more");
}
