//! The machine that the engine runs on, on a virtual clock, and what must hold of all that the engine does.
//!
//! It is not the testkit's world, whose network has gateways that answer by themselves: here only the input answers, each reply
//! waits until somebody has asked, and the time of an input has a limited number of steps.

use super::requests::{check_http, check_search};
use crate::memory;
use plum_engine::Engine;
use plum_engine::io::{Allowed, Config, ExchangeId, Output, Route, Socket, Suggestion, TcpEnd, Wanted};
use plum_engine::time::Time;
use plum_testkit::random::Seeded;
use plum_testkit::world::Checks;
use plum_wire::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100));
const SSDP_GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 1900);
/// Not 0, where a subtraction too much would not show.
const START: Time = Time::from_secs(1_000_000);
/// How long a connection takes to stand, or to be refused.
const LATENCY: Duration = Duration::from_millis(1);
/// How long a reply waits for somebody who has asked.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most steps of time, for one record and for all. Time that would take more does not pass.
const MAX_STEPS: u32 = 300;
const MAX_STEPS_IN_ALL: u32 = 3_000;
/// The most timeouts at one point in time, with nothing that comes in between: more is a busy loop.
const MAX_TIMEOUTS_IN_A_ROW: u32 = 5;
/// The most outputs of one input: two rounds of searches to three, every connection, a few requests for each mapping.
const MAX_OUTPUTS: usize = 100;
const MAX_OUTPUTS_A_MAPPING: usize = 6;
/// Descriptions that strangers named, at once (`MAX_OPEN_STRANGERS` of crates/engine/src/upnp/exchange.rs).
const MAX_OPEN_STRANGERS: usize = 2;
/// Longer than cleanup may take.
const ENDING: Duration = Duration::from_secs(6);
/// The most mappings of one input.
const MAX_MAPPINGS: usize = 30;

/// Who sends a datagram.
pub enum Origin {
    /// The next hop.
    Gateway,
    /// Another host of the network.
    Neighbour(u8),
    /// Our own address.
    Ourselves,
    /// 127.0.0.1, which no host of the network has.
    Loopback,
    /// The metadata service of clouds.
    LinkLocal,
    /// A host beyond the gateway.
    Internet,
}

impl Origin {
    fn address(&self) -> IpAddr {
        match *self {
            Origin::Gateway => GATEWAY,
            Origin::Neighbour(n) => IpAddr::from([192, 168, 1, 60 + n]),
            Origin::Ourselves => LOCAL,
            Origin::Loopback => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Origin::LinkLocal => IpAddr::from([169, 254, 169, 254]),
            Origin::Internet => IpAddr::from([198, 51, 100, 66]),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It comes to be, or is refused, at this time.
    Opens(Time),
    Stands,
    /// A request was written on it; of a description or not.
    Asks {
        is_description: bool,
    },
}

struct Exchange {
    to: SocketAddr,
    state: State,
}

/// The engine, and what it has of the system.
pub struct Host {
    /// What happens to the next connections, each by one bit: the first is refused, hangs, finds no descriptor, breaks.
    pub trouble: u8,
    engine: Engine,
    now: Time,
    checks: Checks,
    route: Option<Route>,
    named: Option<IpAddr>,
    sockets: BTreeSet<Socket>,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    /// Those who may be contacted: who has sent something, and is of this network.
    senders: BTreeSet<IpAddr>,
    steps: u32,
    timeouts_in_a_row: u32,
    held_before: i64,
}

impl Host {
    /// A machine with nothing to do yet.
    pub fn new(setup: u8) -> Host {
        let held_before = memory::held();
        let named = (setup & 1 != 0).then_some(GATEWAY);
        let config = Config {
            allowed: if setup & 2 == 0 { Allowed::Upnp } else { Allowed::Any },
            recheck_interval: Duration::from_millis(if setup & 4 == 0 { 300_000 } else { 100 }),
            discover_timeout: Duration::from_secs(if setup & 8 == 0 { 10 } else { 1 }),
            gateway: named.map(|gateway| (gateway, None)),
            ..Config::default()
        };
        let random = Box::new(Seeded::new((setup >> 5).into()));
        let gateway = (setup & 16 == 0).then_some(GATEWAY);
        Host {
            trouble: 0,
            engine: Engine::new(config, random),
            now: START,
            checks: Checks::default(),
            route: Some(Route { gateway, local: LOCAL, interface: 2 }),
            named,
            sockets: BTreeSet::new(),
            exchanges: BTreeMap::new(),
            senders: BTreeSet::new(),
            steps: 0,
            timeouts_in_a_row: 0,
            held_before,
        }
    }

    /// The program wants a mapping.
    pub fn create(&mut self, how: u8, port: u8) {
        if self.checks.created() >= MAX_MAPPINGS {
            return;
        }
        let id = self.checks.create();
        let transport = if how & 1 == 0 { Transport::Tcp } else { Transport::Udp };
        let internal_port = NonZeroU16::new(8000 + u16::from(port % 8)).unwrap_or(NonZeroU16::MIN);
        let port = (how & 2 != 0).then_some(NonZeroU16::new(4711)).flatten();
        let wanted = Wanted {
            transport,
            internal_port,
            wish: Suggestion { address: None, port, ..Suggestion::default() },
            description: None,
        };
        self.call(|engine, now| engine.handle_create(now, id, wanted));
    }

    /// The program wants one of its mappings no more, if it has any.
    pub fn destroy(&mut self, which: usize) {
        if let Some(id) = self.checks.live(which) {
            self.checks.destroy(self.now, id);
            self.call(|engine, now| engine.handle_destroy(now, id));
        }
    }

    /// A datagram comes, if its socket is open.
    pub fn hear(&mut self, notifies: bool, origin: Origin, bytes: &[u8]) {
        let socket = if notifies { Socket::Notifications } else { Socket::Ssdp };
        if !self.sockets.contains(&socket) {
            return;
        }
        let from = origin.address();
        if matches!(origin, Origin::Gateway | Origin::Neighbour(_) | Origin::Ourselves) {
            self.senders.insert(from);
        }
        self.call(|engine, now| engine.handle_datagram(now, socket, SocketAddr::new(from, 1900), bytes));
    }

    /// A piece of a reply comes on the connection that has waited for one the longest, and another if it is cut; then the
    /// connection ends or not.
    pub fn reply(&mut self, bytes: &[u8], is_cut: bool, ends: bool) {
        let Some(exchange) = self.await_request() else { return };
        let (first, second) = bytes.split_at(if is_cut { bytes.len() / 2 } else { bytes.len() });
        for piece in [first, second].into_iter().filter(|piece| !piece.is_empty()) {
            if self.exchanges.contains_key(&exchange) {
                self.call(|engine, now| engine.handle_tcp_data(now, exchange, piece));
            }
        }
        if ends {
            self.finish(exchange, TcpEnd::Closed);
        }
    }

    /// The connection that has waited for a reply the longest ends.
    pub fn end_exchange(&mut self, end: TcpEnd) {
        if let Some(exchange) = self.await_request() {
            self.finish(exchange, end);
        }
    }

    /// The route is another one, or the network may have changed.
    pub fn change_network(&mut self, how: u8) {
        let usual = Route { gateway: Some(GATEWAY), local: LOCAL, interface: 2 };
        match how & 3 {
            0 => {}
            1 => self.route = Some(usual),
            2 => self.route = None,
            _ => self.route = Some(Route { gateway: None, ..usual }),
        }
        self.call(|engine, now| engine.handle_network_changed(now));
    }

    /// Lets this span pass, or as much of it as there are steps for.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        for _ in 0..MAX_STEPS {
            if self.steps >= MAX_STEPS_IN_ALL || !self.step(until) {
                return;
            }
        }
    }

    fn await_request(&mut self) -> Option<ExchangeId> {
        let until = self.now + PATIENCE;
        for _ in 0..MAX_STEPS {
            let asks = |exchange: &Exchange| matches!(exchange.state, State::Asks { .. });
            if let Some((&id, _)) = self.exchanges.iter().find(|(_, exchange)| asks(exchange)) {
                return Some(id);
            }
            if self.steps >= MAX_STEPS_IN_ALL || !self.step(until) {
                return None;
            }
        }
        None
    }

    fn finish(&mut self, exchange: ExchangeId, end: TcpEnd) {
        if self.exchanges.remove(&exchange).is_some() {
            self.call(|engine, now| engine.handle_tcp_end(now, exchange, end));
        }
    }

    /// Goes to the next point in time at which something happens, not after `until`, and lets it happen.
    fn step(&mut self, until: Time) -> bool {
        let opens = self.exchanges.iter().filter_map(|(&id, exchange)| match exchange.state {
            State::Opens(at) => Some((at, id)),
            State::Stands | State::Asks { .. } => None,
        });
        let opens = opens.min();
        let timeout = self.engine.poll_timeout();
        let next = opens.map(|(at, _)| at).into_iter().chain(timeout).min().filter(|&next| next <= until);
        let now = self.now.max(next.unwrap_or(until));
        if now > self.now {
            (self.now, self.timeouts_in_a_row) = (now, 0);
        }
        self.checks.deadlines(self.now);
        if next.is_none() {
            return false;
        }
        self.steps += 1;
        if let Some((_, id)) = opens.filter(|&(at, _)| at <= self.now) {
            self.open_exchange(id);
        } else {
            self.timeouts_in_a_row += 1;
            let is_rest = self.timeouts_in_a_row <= MAX_TIMEOUTS_IN_A_ROW;
            assert!(is_rest, "the timeout {timeout:?} never comes to rest at {:?}", self.now);
            self.call(|engine, now| engine.handle_timeout(now));
        }
        true
    }

    /// A connection stands, unless there is trouble.
    fn open_exchange(&mut self, id: ExchangeId) {
        let trouble = std::mem::take(&mut self.trouble);
        self.timeouts_in_a_row = 0;
        match trouble & 15 {
            1 => self.finish(id, TcpEnd::Refused),
            2 => drop(self.exchanges.get_mut(&id).map(|exchange| exchange.state = State::Stands)),
            4 => self.finish(id, TcpEnd::Starved),
            8 => self.finish(id, TcpEnd::Failed),
            _ => {
                if let Some(exchange) = self.exchanges.get_mut(&id) {
                    exchange.state = State::Stands;
                }
                self.call(|engine, now| engine.handle_tcp_connected(now, id, SocketAddr::new(LOCAL, 40_000)));
            }
        }
    }

    /// Calls the engine, carries out what it wants done, and looks at what must hold.
    fn call(&mut self, act: impl FnOnce(&mut Engine, Time)) {
        act(&mut self.engine, self.now);
        let most = MAX_OUTPUTS + MAX_OUTPUTS_A_MAPPING * self.checks.created();
        let mut outputs = 0;
        while let Some(output) = self.engine.poll_output() {
            outputs += 1;
            assert!(outputs <= most, "more than {most} outputs after one input: {output:?}");
            self.carry_out(output);
        }
        let is_waited_for = self.checks.seen.values().any(|seen| !seen.is_gone());
        let is_over = self.checks.has_finished();
        assert!(is_over || !is_waited_for || self.engine.poll_timeout().is_some(), "mappings wait for ever");
    }

    fn carry_out(&mut self, output: Output) {
        assert!(!self.checks.has_finished(), "after Finished: {output:?}");
        match output {
            Output::LookUpAddresses { .. } | Output::LookUpIpv6Route { .. } => {
                panic!("{output:?} of the engine for IPv4")
            }
            Output::LookUpRoute { toward } => {
                assert_eq!(toward, self.named);
                let route = self.route;
                self.engine.handle_route_via(self.now, route, None);
            }
            Output::Open { socket, .. } => {
                self.sockets.insert(socket);
                let port = 50_000 + socket as u16;
                self.engine.handle_opened(self.now, socket, Some(SocketAddr::new(LOCAL, port)));
            }
            Output::Close { socket } => assert!(self.sockets.remove(&socket), "Close of {socket:?}"),
            Output::Send { socket, to, bytes } => self.send(socket, to, &bytes),
            Output::Connect { exchange, to, .. } => self.connect(exchange, to),
            Output::Write { exchange, bytes } => self.write(exchange, &bytes),
            Output::HangUp { exchange } => {
                assert!(self.exchanges.remove(&exchange).is_some(), "HangUp of {exchange:?}, which is gone");
            }
            Output::Event { id, event } => self.checks.event(self.now, id, event),
            Output::Finished => self.checks.finished(self.now),
        }
    }

    fn is_known(&self, address: IpAddr) -> bool {
        address == GATEWAY || self.senders.contains(&address)
    }

    fn send(&self, socket: Socket, to: SocketAddr, bytes: &[u8]) {
        assert!(self.sockets.contains(&socket), "Send on {socket:?}, which is not open");
        if socket != Socket::Ssdp {
            // What there is of the other protocols is silent.
            return assert_eq!(to, SocketAddr::new(GATEWAY, 5351));
        }
        let is_for_all = to == SSDP_GROUP && self.named.is_none();
        assert!(is_for_all || to.port() == 1900 && self.is_known(to.ip()), "a search of {to}");
        check_search(to, bytes);
    }

    fn connect(&mut self, exchange: ExchangeId, to: SocketAddr) {
        let with_host = self.exchanges.values().filter(|other| other.to.ip() == to.ip()).count();
        self.checks.connect(exchange, self.exchanges.len() + 1, with_host + 1);
        assert!(self.is_known(to.ip()), "Connect to {to}, who has sent nothing");
        self.exchanges.insert(exchange, Exchange { to, state: State::Opens(self.now + LATENCY) });
    }

    fn write(&mut self, id: ExchangeId, bytes: &[u8]) {
        let exchange = self.exchanges.get_mut(&id).filter(|exchange| exchange.state == State::Stands);
        let exchange = exchange.unwrap_or_else(|| panic!("Write on {id:?}, which does not wait for that"));
        let is_description = check_http(exchange.to, LOCAL, bytes);
        exchange.state = State::Asks { is_description };
        let is_of_stranger = |exchange: &&Exchange| {
            exchange.to.ip() != GATEWAY && exchange.state == State::Asks { is_description: true }
        };
        let strangers = self.exchanges.values().filter(is_of_stranger).count();
        assert!(strangers <= MAX_OPEN_STRANGERS, "{strangers} descriptions of strangers at once");
    }

    /// The program ends, and the engine with it: within its time, and with all that it held.
    pub fn end(mut self) {
        self.checks.cleanup(self.now);
        self.call(|engine, now| engine.handle_cleanup(now));
        let until = self.now + ENDING;
        while !self.checks.has_finished() && self.step(until) {}
        assert!(self.checks.has_finished(), "cleanup does not end within {ENDING:?}");
        assert_eq!(self.engine.poll_timeout(), None, "after Finished");
        assert!(self.sockets.is_empty() && self.exchanges.is_empty(), "something is left open");
        self.checks.all_destroyed_once();
        let held_before = self.held_before;
        drop(self);
        assert_eq!(memory::held(), held_before, "octets leaked");
    }
}
