//! The engine's machine and the network around it, on a virtual clock, and what must hold of all that the engine does.

use super::checks::{Checks, Seen};
use crate::memory;
use arbitrary::{Result, Unstructured};
use plum::engine::Engine;
use plum::engine::io::{
    Allowed, Config, Event, ExchangeId, MappingId, Output, Random, Route, Socket, TcpEnd, Wanted,
};
use plum::time::Time;
use plum_gateway::core::{self as gateway, ANNOUNCEMENTS, ConnectionId, Gateway, Igd, SSDP_GROUP, UdpPort};
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
/// How long a packet takes one way.
const LATENCY: Duration = Duration::from_millis(1);
/// The most inputs and timeouts of one operation, and of all. Time that would take more does not pass.
const MAX_STEPS: u32 = 300;
const MAX_STEPS_IN_ALL: u32 = 2_000;
/// The most timeouts at one point in time, with nothing that comes in between: more is a busy loop.
const MAX_TIMEOUTS_IN_A_ROW: u32 = 5;
/// The most outputs of one input, beside those that mappings and requests in flight account for (128 at most).
const MAX_OUTPUTS: usize = 500;
/// The most outputs of one input for each mapping there ever was: sockets and deletions by three protocols, an event.
const MAX_OUTPUTS_A_MAPPING: usize = 12;
/// The last requests of each socket that can be answered out of the way.
const REQUESTS_KEPT: usize = 8;
/// What the engine may hold, in octets: itself, up to 16 devices (protocols.md) of 32 services, and for every mapping
/// its state in the core and in three drivers.
const MEMORY: i64 = 512 * 1024;
const MEMORY_A_MAPPING: i64 = 16 * 1024;
/// What each octet on an open connection may cost: the body as it grows, and what is parsed of it.
const MEMORY_A_RECEIVED_OCTET: i64 = 4;
/// The longest HTTP reply that is read.
const MAX_REPLY: i64 = 1 << 20;
/// How long a deletion, and cleanup, wait for the gateway's next sign of life.
const LAST_SIGN_OF_LIFE: Duration = Duration::from_millis(800);
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

struct Seeded(fastrand::Rng);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
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
        let random = Box::new(Seeded(fastrand::Rng::with_seed(setup.seed.into())));
        let engine_config = setup.engine.clone();
        let engine = Engine::new(setup.engine, random);
        Machine {
            unopenable: BTreeSet::new(),
            failing_connects: 0,
            failing_writes: 0,
            engine,
            config: engine_config,
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
        self.checks.seen.len()
    }

    /// Whether cleanup is complete: nothing may be handed over any more.
    pub fn has_finished(&self) -> bool {
        self.checks.finished_at.is_some()
    }

    /// The program wants a mapping. Also while cleanup runs: the two may have crossed.
    pub fn create(&mut self, wanted: Wanted) {
        let id = MappingId::try_from(self.created()).expect("few mappings");
        self.checks.seen.insert(id, Seen::default());
        self.call(|engine, now| engine.handle_create(now, id, wanted));
    }

    /// The program wants one of its mappings no more, if it has any.
    pub fn destroy(&mut self, which: usize) {
        if self.checks.cleanup_at.is_some() {
            return;
        }
        let live = self.checks.seen.iter().filter(|(_, seen)| seen.destroyed_at.is_none());
        let live: Vec<MappingId> = live.map(|(&id, _)| id).collect();
        if let Some(&id) = live.get(which.checked_rem(live.len()).unwrap_or(0)) {
            self.checks.destroy(self.now, id);
            self.call(|engine, now| engine.handle_destroy(now, id));
        }
    }

    /// The program ends, if it has not begun to.
    pub fn cleanup(&mut self) {
        if self.checks.cleanup_at.is_none() {
            self.checks.cleanup_at = Some(self.now);
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
        for (id, seen) in &self.checks.seen {
            let destroyed = seen.events.iter().filter(|&&(_, event)| event == Event::Destroyed).count();
            assert_eq!(destroyed, 1, "Destroyed of {id}");
        }
        let before = memory::held();
        drop(self.engine);
        assert_eq!(self.held + memory::held() - before, 0, "octets leaked");
    }

    // Outputs.

    /// Calls the engine, carries out what it wants done, and looks at what must hold.
    fn call(&mut self, act: impl FnOnce(&mut Engine, Time)) {
        self.count(|engine, now| act(engine, now));
        let most = MAX_OUTPUTS + MAX_OUTPUTS_A_MAPPING * self.created();
        let mut outputs = 0;
        while let Some(output) = self.count(|engine, _| engine.poll_output()) {
            // It is the machine's now.
            self.held -= match &output {
                Output::Send { bytes, .. } | Output::Write { bytes, .. } => {
                    i64::try_from(bytes.capacity()).expect("a short message")
                }
                _ => 0,
            };
            outputs += 1;
            assert!(outputs <= most, "more than {most} outputs after one input: {output:?}");
            self.carry_out(output);
        }
        self.check();
    }

    /// Calls the engine and counts what it allocates and frees.
    fn count<T>(&mut self, act: impl FnOnce(&mut Engine, Time) -> T) -> T {
        let before = memory::held();
        let result = act(&mut self.engine, self.now);
        self.held += memory::held() - before;
        result
    }

    fn check(&self) {
        let mappings = i64::try_from(self.created()).expect("few mappings");
        let received: i64 = self.exchanges.values().map(|tcp| tcp.received.min(MAX_REPLY)).sum();
        let most = MEMORY + MEMORY_A_MAPPING * mappings + MEMORY_A_RECEIVED_OCTET * received;
        assert!(
            self.held <= most,
            "{} octets held, with {mappings} mappings and {received} octets received",
            self.held
        );

        let timeout = self.engine.poll_timeout();
        if self.has_finished() {
            assert_eq!(timeout, None, "after Finished");
        } else if self.checks.seen.values().any(|seen| !seen.is_gone()) {
            // Every wait has an end. The longest is for the next recheck, or, where all are being destroyed, for the
            // last sign of life (protocols.md, Ending).
            let at = timeout.expect("mappings are waited for");
            let is_wanted = |seen: &Seen| seen.destroyed_at.is_none() && self.checks.cleanup_at.is_none();
            let longest = match self.checks.seen.values().any(is_wanted) {
                true => self.config.recheck_interval,
                false => LAST_SIGN_OF_LIFE,
            };
            assert!(at.since(self.now) <= longest, "the next timeout is {at:?} at {:?}", self.now);
        }
    }

    fn carry_out(&mut self, output: Output) {
        assert!(!self.has_finished(), "after Finished: {output:?}");
        match output {
            Output::LookUpRoute { toward } => {
                assert_eq!(toward, self.config.gateway.map(|(address, _)| address));
                // The gateway that was named is on-link; what lies behind it goes through it.
                let route = self
                    .route
                    .map(|route| Route { gateway: route.gateway.filter(|_| toward.is_none()), ..route });
                self.count(|engine, now| engine.handle_route(now, route));
            }
            Output::Open { socket, local, interface: _, remote } => {
                let is_udp_5351 = matches!(socket, Socket::Pcp | Socket::NatPmp | Socket::Announcements);
                let allowed = if is_udp_5351 { Allowed::Pcp } else { Allowed::Upnp };
                assert!(
                    self.config.allowed == Allowed::Any || self.config.allowed == allowed,
                    "{socket:?} is open"
                );
                assert_eq!(remote.is_some(), matches!(socket, Socket::Pcp | Socket::NatPmp));
                let opened = self.open(socket, local, remote);
                self.count(|engine, now| engine.handle_opened(now, socket, opened));
            }
            Output::Close { socket } => {
                // (That is so also where it could not be opened.)
                self.sockets.remove(&socket);
            }
            Output::Send { socket, to, bytes } => self.send(socket, to, bytes),
            Output::Connect { exchange, to } => self.connect(exchange, to),
            Output::Write { exchange, bytes } => self.write(exchange, bytes),
            Output::HangUp { exchange } => {
                assert!(self.exchanges.remove(&exchange).is_some(), "HangUp of {exchange:?}, which is gone");
                self.gateway.handle_tcp_end(gateway_time(self.now), ConnectionId(exchange.0));
            }
            Output::Event { id, event } => self.checks.event(self.now, id, event),
            Output::Finished => self.checks.finished(self.now),
        }
    }

    fn open(&mut self, socket: Socket, local: IpAddr, remote: Option<SocketAddr>) -> Option<SocketAddr> {
        self.sockets.remove(&socket);
        if self.unopenable.contains(&socket) {
            return None;
        }
        let local = match socket {
            Socket::Announcements => ANNOUNCEMENTS,
            Socket::Notifications => SSDP_GROUP,
            Socket::Pcp | Socket::NatPmp | Socket::Ssdp => SocketAddr::new(local, self.port()),
        };
        self.sockets.insert(socket, Open { local, remote, requests: VecDeque::new() });
        Some(local)
    }

    fn port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_000);
        self.next_port
    }

    fn send(&mut self, socket: Socket, to: SocketAddr, bytes: Vec<u8>) {
        let open = self.sockets.get_mut(&socket);
        let open = open.unwrap_or_else(|| panic!("Send on {socket:?}, which is not open"));
        assert_eq!(open.remote.unwrap_or(to), to, "Send on {socket:?} to another than it is connected to");
        // By the lengths of RFC 6887 §11.1 and §14.1, of RFC 6886 §3.2 and §3.3.
        match socket {
            Socket::Pcp => assert!(bytes[0] == 2 && matches!(bytes.len(), 24 | 60), "{bytes:?}"),
            Socket::NatPmp => assert!(bytes[0] == 0 && matches!(bytes.len(), 2 | 12), "{bytes:?}"),
            Socket::Ssdp => {
                assert!(bytes.starts_with(b"M-SEARCH * HTTP/1.1\r\n") && bytes.len() < 500);
                let named = self.config.gateway.map(|(address, _)| address);
                assert!(named.is_none_or(|named| named == to.ip()), "a search goes to {to}");
            }
            Socket::Announcements | Socket::Notifications => panic!("Send on {socket:?}, which only listens"),
        }
        open.requests.truncate(REQUESTS_KEPT - 1);
        open.requests.push_front(bytes.clone());
        let from = open.local;
        let is_for_gateway = to.ip() == GATEWAY || to == SSDP_GROUP;
        if !is_for_gateway || self.power == Power::Off {
            return;
        }
        let port = if socket == Socket::Ssdp { UdpPort::Ssdp } else { UdpPort::Pcp };
        if self.power == Power::Stopped || self.gateway.refuses(port, &bytes) {
            if self.sockets[&socket].remote.is_some() {
                self.in_flight.push_back((self.now + LATENCY, Input::Refused { socket }));
            }
        } else {
            self.gateway.handle_datagram(gateway_time(self.now), port, from, &bytes);
        }
    }

    fn connect(&mut self, exchange: ExchangeId, to: SocketAddr) {
        self.checks.connect(exchange, self.exchanges.len() + 1);
        // protocols.md: LOCATION's host is the answering address or the gateway, all else stays on that host.
        let host = to.ip().to_canonical();
        let gateway = self.route.and_then(|route| route.gateway);
        let is_known = host == GATEWAY || Some(host) == gateway || self.heard.contains(&host);
        assert!(is_known, "Connect to {to}, of whom nobody has heard");
        let local = SocketAddr::new(self.route.map_or(LOCAL, |route| route.local), self.port());
        self.exchanges.insert(exchange, Exchange { to, established: false, received: 0 });
        if self.failing_connects > 0 {
            self.failing_connects -= 1;
            self.exchanges.remove(&exchange);
            self.count(|engine, now| engine.handle_tcp_end(now, exchange, TcpEnd::Failed));
            return;
        }
        let answer = match self.power {
            Power::On if to == SocketAddr::new(GATEWAY, 5000) && !self.gateway.refuses_tcp() => {
                self.gateway.handle_tcp_open(gateway_time(self.now), ConnectionId(exchange.0), local);
                Input::TcpConnected { exchange, local }
            }
            Power::Off => return,
            _ => Input::TcpEnd { exchange, end: TcpEnd::Refused },
        };
        self.in_flight.push_back((self.now + LATENCY, answer));
    }

    fn write(&mut self, exchange: ExchangeId, bytes: Vec<u8>) {
        let tcp = self.exchanges.get(&exchange).filter(|tcp| tcp.established);
        let tcp = tcp.unwrap_or_else(|| panic!("Write on {exchange:?}, which is not established"));
        check_request(tcp.to, &bytes);
        if self.failing_writes > 0 {
            self.failing_writes -= 1;
            self.exchanges.remove(&exchange);
            self.gateway.handle_tcp_end(gateway_time(self.now), ConnectionId(exchange.0));
            self.count(|engine, now| engine.handle_tcp_end(now, exchange, TcpEnd::Failed));
        } else if self.power == Power::On {
            self.gateway.handle_tcp_data(gateway_time(self.now), ConnectionId(exchange.0), &bytes);
        }
    }

    /// Puts on its way what the gateway sends by now.
    fn collect(&mut self) {
        while let Some(output) = self.gateway.poll_output(gateway_time(self.now)) {
            if self.power != Power::On {
                continue;
            }
            let (input, copies) = match output {
                gateway::Output::Send { from, to, bytes } => {
                    let fits =
                        |open: &Open| open.local == to && open.remote.is_none_or(|remote| remote == from);
                    let Some((&socket, _)) = self.sockets.iter().find(|(_, open)| fits(open)) else {
                        continue;
                    };
                    let (bytes, copies) = self.mangled(bytes);
                    (Input::Datagram { socket, from, bytes }, copies)
                }
                gateway::Output::Write { connection, bytes } => {
                    let (bytes, copies) = self.mangled(bytes);
                    (Input::TcpData { exchange: ExchangeId(connection.0), bytes }, copies)
                }
                gateway::Output::Close { connection } => {
                    (Input::TcpEnd { exchange: ExchangeId(connection.0), end: TcpEnd::Closed }, 1)
                }
            };
            for _ in 0..copies {
                self.in_flight.push_back((self.now + LATENCY, input.clone()));
            }
        }
    }

    /// A message as it arrives, and how often.
    fn mangled(&mut self, mut bytes: Vec<u8>) -> (Vec<u8>, usize) {
        let Some((kind, offset, value)) = self.mangles.pop_front() else { return (bytes, 1) };
        let at = usize::from(offset).checked_rem(bytes.len()).unwrap_or(0);
        let mut copies = 1;
        match kind % 8 {
            0 if !bytes.is_empty() => bytes[at] ^= value,
            1 if !bytes.is_empty() => bytes[at] = value,
            2 => bytes.truncate(at),
            3 => bytes.insert(at, value),
            4 => drop(bytes.drain(at..bytes.len().min(at + usize::from(value)))),
            5 => copies = 2,
            6 => copies = 0,
            _ => {}
        }
        (bytes, copies)
    }
}

/// A request is one: a line, fields without control characters, and to whom it goes.
fn check_request(to: SocketAddr, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("a request is UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a request's head has an end");
    for line in head.split("\r\n") {
        assert!(!line.contains(char::is_control), "control characters in {line:?}");
    }
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    assert!(matches!(words.next(), Some("GET" | "POST")), "{head}");
    assert!(words.next().is_some_and(|path| path.starts_with('/')), "{head}");
    assert_eq!((words.next(), words.next()), (Some("HTTP/1.1"), None), "{head}");
    assert!(head.contains(&format!("\r\nHost: {}\r\n", SocketAddr::new(to.ip(), to.port()))), "{head}");
    assert!(
        !body.trim_end_matches("\r\n").contains(|c: char| c.is_control() && c != '\r' && c != '\n'),
        "{body}"
    );
}

/// The engine's time on the gateway's clock.
fn gateway_time(now: Time) -> Duration {
    Duration::from_micros(now.as_micros())
}
