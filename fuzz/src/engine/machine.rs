//! The engine's machine and the network around it, on a virtual clock, and what must hold of all that the engine does.
//!
//! It is not the testkit's world, which carries faithfully and without limits: here a connection may break between two
//! outputs of one input, messages are changed on their way, an input's time has a limited number of steps, and what the engine
//! holds is counted at every call, apart from all that is around it.

mod outputs;

use crate::memory;
use arbitrary::{Result, Unstructured};
use plum_engine::Engine;
use plum_engine::io::{Allowed, Config, ExchangeId, OnCleanup, Output, Route, Socket, TcpEnd, Wanted};
use plum_engine::time::Time;
use plum_gateway::core::{self as gateway, ConnectionId, Gateway, Igd};
use plum_testkit::random::Seeded;
use plum_testkit::world::Checks;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The gateway's address inside.
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
/// The machine's address, unless the route says otherwise.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100));
/// The machine's interface toward the gateway.
pub const INTERFACE: u32 = 2;

/// Not 0, where a subtraction too much would not show.
const START: Time = Time::from_secs(1_000_000);
/// The most inputs and timeouts of one operation, and of all. Time that would take more does not pass.
const MAX_STEPS: u32 = 300;
const MAX_STEPS_IN_ALL: u32 = 2_000;
/// The most timeouts at one point in time, with nothing that comes in between: more is a busy loop.
const MAX_TIMEOUTS_IN_A_ROW: u32 = 5;
/// Longer than cleanup may take.
const ENDING: Duration = Duration::from_secs(6);

/// What the engine can be handed.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Input {
    NetworkChanged,
    Timeout,
    Datagram { socket: Socket, from: SocketAddr, bytes: Vec<u8> },
    Refused { socket: Socket },
    TcpConnected { exchange: ExchangeId, local: SocketAddr },
    TcpData { exchange: ExchangeId, bytes: Vec<u8> },
    TcpEnd { exchange: ExchangeId, end: TcpEnd },
}

/// How the gateway is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It works.
    On,
    /// Its programs have ended: port unreachable, connection refused.
    Stopped,
    /// It is silent.
    Off,
}

/// What a world begins with.
pub struct Setup {
    engine: Config,
    igd: Option<Igd>,
    seed: u8,
    /// Whether messages are formatted.
    pub logs: bool,
}

impl Setup {
    /// Reads the first octets of an input.
    pub fn read(u: &mut Unstructured<'_>) -> Result<Setup> {
        let (flags, igd, seed): (u8, u8, u8) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        let millis = |choice: u8, low| Duration::from_millis(if choice == 0 { low } else { 300_000 });
        let mut engine = Config {
            allowed: [Allowed::Any, Allowed::Any, Allowed::Pcp, Allowed::Upnp][usize::from(flags & 3)],
            recheck_interval: millis(flags & 16, 300_000),
            gateway: None,
            ..Config::default()
        };
        if flags & 4 != 0 {
            engine.gateway = Some((GATEWAY, (flags & 8 != 0).then_some(5351)));
        }
        if flags & 16 != 0 {
            engine.recheck_interval = Duration::from_millis(100);
            engine.discover_timeout = Duration::from_millis(1);
        }
        if flags & 128 != 0 {
            engine.on_cleanup = OnCleanup::Keep;
        }
        if flags & 32 != 0 {
            engine.mapping_timeout = Duration::from_millis(1);
        }
        let igd = match igd % 4 {
            0 => Some(Igd::default()),
            1 => Some(Igd::v2()),
            2 => Some(Igd::with(1, &[gateway::WanKind::Ppp1, gateway::WanKind::Ip1])),
            _ => None,
        };
        Ok(Setup { engine, igd, seed, logs: flags & 64 != 0 })
    }
}

struct Open {
    local: SocketAddr,
    remote: Option<SocketAddr>,
    requests: VecDeque<Vec<u8>>,
}

struct Exchange {
    to: SocketAddr,
    established: bool,
    received: i64,
}

/// The machine, the network, the gateway.
pub struct Machine {
    /// Sockets that cannot be opened.
    pub unopenable: BTreeSet<Socket>,
    /// So many connections fail at once.
    pub failing_connects: u8,
    /// So many connections break when written to.
    pub failing_writes: u8,
    engine: Engine,
    config: Config,
    /// What the engine wants done and is not done yet.
    outputs: VecDeque<Output>,
    /// What the engine allocated and has not given away, in octets.
    held: i64,
    now: Time,
    checks: Checks,
    gateway: Gateway,
    power: Power,
    route: Option<Route>,
    sockets: BTreeMap<Socket, Open>,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    /// Those whose SSDP messages were handed over: their descriptions may be asked for.
    heard: BTreeSet<IpAddr>,
    in_flight: VecDeque<(Time, Input)>,
    mangles: VecDeque<(u8, u16, u8)>,
    next_port: u16,
    steps: u32,
    timeouts_in_a_row: u32,
}

impl Machine {
    /// A world with nothing to do yet.
    pub fn new(setup: Setup) -> Machine {
        let config = gateway::Config {
            igd: setup.igd,
            seed: setup.seed.into(),
            // Half a minute of them is a world's time for itself.
            announcements: 3,
            ..gateway::Config::at(GATEWAY)
        };
        let before = memory::held();
        let random = Box::new(Seeded::new(setup.seed.into()));
        let engine_config = setup.engine.clone();
        let engine = Engine::new(setup.engine, random);
        Machine {
            unopenable: BTreeSet::new(),
            failing_connects: 0,
            failing_writes: 0,
            engine,
            config: engine_config,
            outputs: VecDeque::new(),
            held: memory::held() - before,
            now: START,
            checks: Checks::default(),
            gateway: Gateway::new(config, gateway_time(START)),
            power: Power::On,
            route: Some(Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE }),
            sockets: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            heard: BTreeSet::new(),
            in_flight: VecDeque::new(),
            mangles: VecDeque::new(),
            next_port: 40_000,
            steps: 0,
            timeouts_in_a_row: 0,
        }
    }

    // What the program does.

    /// How many mappings there ever were.
    pub fn created(&self) -> usize {
        self.checks.created()
    }

    /// Whether cleanup is complete: nothing may be handed over any more.
    pub fn has_finished(&self) -> bool {
        self.checks.has_finished()
    }

    /// The program wants a mapping. Also while cleanup runs: the two may have crossed.
    pub fn create(&mut self, wanted: Wanted) {
        let id = self.checks.create();
        self.call(|engine, now| engine.handle_create(now, id, wanted));
    }

    /// The program wants one of its mappings no more, if it has any.
    pub fn destroy(&mut self, which: usize) {
        if self.checks.cleanup_at.is_some() {
            return;
        }
        if let Some(id) = self.checks.live(which) {
            self.checks.destroy(self.now, id);
            self.call(|engine, now| engine.handle_destroy(now, id));
        }
    }

    /// The program ends, if it has not begun to.
    pub fn cleanup(&mut self) {
        if self.checks.cleanup_at.is_none() {
            self.checks.cleanup(self.now);
            self.call(|engine, now| engine.handle_cleanup(now));
        }
    }

    // What the world does.

    /// The gateway, its clock set.
    pub fn gateway(&mut self) -> &mut Gateway {
        self.gateway.handle_timeout(gateway_time(self.now));
        &mut self.gateway
    }

    /// The gateway's power from now on.
    pub fn set_power(&mut self, power: Power) {
        self.power = power;
    }

    /// What lookups find from now on.
    pub fn set_route(&mut self, route: Option<Route>) {
        self.route = route;
    }

    /// Something happens to one of the next of the gateway's messages.
    pub fn mangle(&mut self, kind: u8, offset: u16, value: u8) {
        if self.mangles.len() < 100 {
            self.mangles.push_back((kind, offset, value));
        }
    }

    /// A connection, and whether it is established.
    pub fn exchange(&self, which: usize) -> Option<(ExchangeId, bool)> {
        let which = which.checked_rem(self.exchanges.len())?;
        self.exchanges.iter().nth(which).map(|(&id, exchange)| (id, exchange.established))
    }

    /// Whether a connection is there.
    pub fn exchange_is_open(&self, exchange: ExchangeId) -> bool {
        self.exchanges.contains_key(&exchange)
    }

    /// One of the last requests sent on a socket.
    pub fn request(&self, socket: Socket, which: usize) -> Option<Vec<u8>> {
        let requests = &self.sockets.get(&socket)?.requests;
        requests.iter().rev().nth(which.checked_rem(requests.len())?).cloned()
    }

    /// Counts steps that an operation takes beside those of time; false: there are no more.
    pub fn may_step(&mut self) -> bool {
        self.steps += 1;
        self.steps < MAX_STEPS_IN_ALL
    }

    /// Hands over a datagram, if the socket is open; on a connected one it comes from the other side, whoever sent it.
    pub fn datagram(&mut self, socket: Socket, from: SocketAddr, bytes: Vec<u8>) {
        let remote = self.sockets.get(&socket).and_then(|open| open.remote);
        self.hand_over(Input::Datagram { socket, from: remote.unwrap_or(from), bytes });
    }

    /// Hands over an input, if it is one that the machine could have: for sockets and connections that are open.
    pub fn hand_over(&mut self, input: Input) {
        if self.has_finished() {
            return;
        }
        match input {
            Input::NetworkChanged => self.call(|engine, now| engine.handle_network_changed(now)),
            Input::Timeout => self.call(|engine, now| engine.handle_timeout(now)),
            Input::Datagram { socket, from, bytes } => {
                if self.sockets.contains_key(&socket) {
                    if matches!(socket, Socket::Ssdp | Socket::Notifications) {
                        self.heard.insert(from.ip().to_canonical());
                    }
                    self.call(|engine, now| engine.handle_datagram(now, socket, from, &bytes));
                }
            }
            Input::Refused { socket } => {
                if self.sockets.get(&socket).is_some_and(|open| open.remote.is_some()) {
                    self.call(|engine, now| engine.handle_refused(now, socket));
                }
            }
            Input::TcpConnected { exchange, local } => {
                if let Some(tcp) = self.exchanges.get_mut(&exchange).filter(|tcp| !tcp.established) {
                    tcp.established = true;
                    self.call(|engine, now| engine.handle_tcp_connected(now, exchange, local));
                }
            }
            Input::TcpData { exchange, bytes } => {
                if let Some(tcp) = self.exchanges.get_mut(&exchange).filter(|tcp| tcp.established) {
                    tcp.received += i64::try_from(bytes.len()).expect("a short piece");
                    self.call(|engine, now| engine.handle_tcp_data(now, exchange, &bytes));
                }
            }
            Input::TcpEnd { exchange, end } => self.end_exchange(exchange, end),
        }
    }

    fn end_exchange(&mut self, exchange: ExchangeId, end: TcpEnd) {
        if self.exchanges.remove(&exchange).is_some() {
            self.gateway.handle_tcp_end(gateway_time(self.now), ConnectionId(exchange.0));
            self.call(|engine, now| engine.handle_tcp_end(now, exchange, end));
        }
    }

    // Time.

    /// Lets this span pass, or as much of it as there are steps for.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        for _ in 0..MAX_STEPS {
            if self.has_finished() || self.steps >= MAX_STEPS_IN_ALL || !self.step(until) {
                return;
            }
        }
    }

    /// The machine sleeps: its clock has gone on, what was on its way is lost. The worker notices a long sleep.
    pub fn sleep(&mut self, span: Duration, is_noticed: bool) {
        self.in_flight.clear();
        self.checks.sleep(span);
        self.set_time(self.now + span);
        while self.gateway.poll_output(gateway_time(self.now)).is_some() {}
        if is_noticed {
            self.hand_over(Input::NetworkChanged);
        }
        self.run_for(Duration::ZERO);
    }

    fn set_time(&mut self, now: Time) {
        if now > self.now {
            self.now = now;
            self.timeouts_in_a_row = 0;
        }
    }

    /// Goes to the next point in time at which something happens, not after `until`, and lets it happen.
    fn step(&mut self, until: Time) -> bool {
        self.collect();
        let arrival = self.in_flight.front().map(|&(at, _)| at);
        let gateway = self.gateway.poll_timeout().map(|at| Time::ZERO + at);
        let next = [arrival, gateway, self.engine.poll_timeout()].into_iter().flatten().min();
        let Some(next) = next.filter(|&next| next <= until) else {
            self.set_time(until);
            self.checks.deadlines(self.now);
            return false;
        };
        self.set_time(next);
        self.steps += 1;
        self.collect();
        // As the worker does: all that has arrived first, then what is due.
        if self.in_flight.front().is_some_and(|&(at, _)| at <= self.now) {
            let (_, input) = self.in_flight.pop_front().expect("the front");
            self.timeouts_in_a_row = 0;
            self.hand_over(input);
        } else if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.timeouts_in_a_row += 1;
            let timeout = self.engine.poll_timeout();
            assert!(
                self.timeouts_in_a_row <= MAX_TIMEOUTS_IN_A_ROW,
                "the timeout {timeout:?} never comes to rest at {:?}",
                self.now
            );
            self.call(|engine, now| engine.handle_timeout(now));
        }
        true
    }

    /// The program ends, and the engine with it: within its time, and with all that it held.
    pub fn end(mut self) {
        self.cleanup();
        self.steps = 0;
        let until = self.now + ENDING;
        while !self.has_finished() && self.step(until) {}
        assert!(self.has_finished(), "cleanup does not end within {ENDING:?}");
        self.checks.all_destroyed_once();
        let before = memory::held();
        drop(self.engine);
        assert_eq!(self.held + memory::held() - before, 0, "octets leaked");
    }
}

/// The engine's time on the gateway's clock.
fn gateway_time(now: Time) -> Duration {
    Duration::from_micros(now.as_micros())
}
