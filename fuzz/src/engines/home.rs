//! The machine around the engines, and what must hold of all that they do.

use crate::memory;
use arbitrary::{Result, Unstructured};
use plum_engine::Engines;
use plum_engine::io::{
    Allowed, Arrival, Config, EngineId, ExchangeId, OnCleanup, Output, Route, Socket, SocketId, Source,
    TcpEnd, Wanted,
};
use plum_engine::machine::{Command, Machine};
use plum_engine::time::Time;
use plum_testkit::random::Seeded;
use plum_testkit::world::{Checks, GATEWAY, INTERFACE, Ipv6Home, LOCAL, ROUTER};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Not 0, where a subtraction too much would not show.
const START: Time = Time::from_secs(1_000_000);
/// The most timeouts of one operation, and of all. Time that would take more does not pass.
const MAX_STEPS: u32 = 300;
const MAX_STEPS_IN_ALL: u32 = 2_000;
/// The most timeouts at one point in time: more is a busy loop.
const MAX_TIMEOUTS_IN_A_ROW: u32 = 5;
/// The most outputs of one input.
const MAX_OUTPUTS: usize = 4_000;
/// Longer than cleanup may take.
const ENDING: Duration = Duration::from_secs(6);
/// How long a deletion waits for the gateway's next sign of life.
const LAST_SIGN_OF_LIFE: Duration = Duration::from_millis(800);
/// The last requests of each socket that can be answered.
const REQUESTS_KEPT: usize = 8;
/// Engines with open sockets: for 8 addresses, and as many that are ending.
const MAX_ENGINES: usize = 17;
/// What the engines may hold, in octets.
const MEMORY: i64 = 2 * 1024 * 1024;

/// What a world begins with.
pub struct Setup {
    config: Config,
    seed: u8,
}

impl Setup {
    /// Reads the first octets of an input.
    pub fn read(u: &mut Unstructured<'_>) -> Result<Setup> {
        let (flags, seed): (u8, u8) = (u.arbitrary()?, u.arbitrary()?);
        let mut config = Config {
            allowed: [Allowed::Any, Allowed::Any, Allowed::Pcp, Allowed::Upnp][usize::from(flags & 3)],
            ..Config::default()
        };
        if flags & 4 != 0 {
            config.gateway = Some((if flags & 8 == 0 { ROUTER.into() } else { GATEWAY }, None));
            config.gateway_zone = Some("2".into());
        }
        if flags & 16 != 0 {
            config.recheck_interval = Duration::from_millis(100);
            config.discover_timeout = Duration::from_millis(1);
        }
        if flags & 32 != 0 {
            config.mapping_timeout = Duration::from_millis(1);
        }
        if flags & 64 != 0 {
            config.on_cleanup = OnCleanup::Keep;
        }
        Ok(Setup { config, seed })
    }
}

struct Open {
    local: IpAddr,
    interface: u32,
    remote: Option<SocketAddr>,
    requests: VecDeque<Vec<u8>>,
}

/// The machine.
pub struct Home {
    /// Its addresses and routes.
    pub ipv6: Ipv6Home,
    /// It has no route by IPv4.
    pub is_ipv4_away: bool,
    /// The system cannot be asked for addresses, or for routes.
    pub hides_addresses: bool,
    #[allow(missing_docs)]
    pub hides_routes: bool,
    /// Sockets cannot be opened, or connections not made.
    pub opens_nothing: bool,
    #[allow(missing_docs)]
    pub connects_nothing: bool,
    engines: Engines,
    /// The longest wait of the engines: for the next recheck, or for a last sign of life.
    longest_wait: Duration,
    names_ipv6: bool,
    held: i64,
    now: Time,
    checks: Checks,
    sockets: BTreeMap<SocketId, Open>,
    exchanges: BTreeMap<ExchangeId, (SocketAddr, Option<u32>, bool)>,
    /// Those that fail once all outputs are carried out.
    failing: Vec<ExchangeId>,
    steps: u32,
    timeouts_in_a_row: u32,
}

impl Home {
    /// A world with nothing to do yet.
    pub fn new(setup: Setup) -> Home {
        let names_ipv6 = setup.config.gateway.is_some_and(|(gateway, _)| gateway.is_ipv6());
        let longest_wait = setup.config.recheck_interval.max(LAST_SIGN_OF_LIFE);
        let before = memory::held();
        let engines = Engines::new(setup.config.clone(), Box::new(Seeded::new(setup.seed.into())));
        let held = memory::held() - before;
        Home {
            ipv6: Ipv6Home::new(INTERFACE),
            is_ipv4_away: false,
            hides_addresses: false,
            hides_routes: false,
            opens_nothing: false,
            connects_nothing: false,
            engines,
            longest_wait,
            names_ipv6,
            held,
            now: START,
            checks: Checks::default(),
            sockets: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            failing: Vec::new(),
            steps: 0,
            timeouts_in_a_row: 0,
        }
    }

    /// How many mappings there ever were.
    pub fn created(&self) -> usize {
        self.checks.created()
    }

    /// Whether cleanup is complete.
    pub fn has_finished(&self) -> bool {
        self.checks.has_finished()
    }

    // What the program does.

    /// The program wants a mapping. Also while cleanup runs: the two may have crossed.
    pub fn create(&mut self, wanted: Wanted) {
        let id = self.checks.create();
        self.call(|engines, now| engines.handle_command(now, Command::Create(id, wanted)));
    }

    /// The program wants one of its mappings no more, if it has any.
    pub fn destroy(&mut self, which: usize) {
        if self.checks.cleanup_at.is_some() {
            return;
        }
        if let Some(id) = self.checks.live(which) {
            self.checks.destroy(self.now, id);
            self.call(|engines, now| engines.handle_command(now, Command::Destroy(id)));
        }
    }

    /// The program ends, if it has not begun to.
    pub fn cleanup(&mut self) {
        if self.checks.cleanup_at.is_none() {
            self.checks.cleanup(self.now);
            self.call(|engines, now| engines.handle_command(now, Command::Cleanup));
        }
    }

    // What the system and the network do.

    /// The system says that something changed: all, or IPv6 alone.
    pub fn notice(&mut self, is_ipv6_alone: bool) {
        self.call(|engines, now| match is_ipv6_alone {
            true => engines.handle_ipv6_changed(now),
            false => engines.handle_network_changed(now),
        });
    }

    fn socket(&self, which: usize) -> Option<SocketId> {
        self.sockets.keys().nth(which.checked_rem(self.sockets.len())?).copied()
    }

    /// One of the last requests that were sent on a socket.
    pub fn request(&self, which: usize, request: usize) -> Option<Vec<u8>> {
        let requests = &self.sockets[&self.socket(which)?].requests;
        requests.get(request.checked_rem(requests.len())?).cloned()
    }

    /// An epoch of a gateway: one that goes on, or one that has begun anew.
    pub fn epoch(&self, is_new: bool) -> u32 {
        if is_new { 0 } else { u32::try_from(self.now.since(START).as_secs()).unwrap_or(u32::MAX) + 1000 }
    }

    /// A datagram comes to one of the open sockets; on a connected one from the other side, whoever sent it.
    pub fn datagram(&mut self, which: usize, from: SocketAddr, bytes: &[u8]) {
        let Some(id) = self.socket(which) else { return };
        let open = &self.sockets[&id];
        let from = open.remote.unwrap_or(from);
        let by = Arrival { from, interface: open.interface, prefix: None, is_on_link: from.ip() == ROUTER };
        self.call(|engines, now| engines.handle_datagram(now, id, by, bytes));
    }

    /// Port unreachable on one of the connected sockets.
    pub fn refuse(&mut self, which: usize) {
        let id = self.socket(which).filter(|id| self.sockets[id].remote.is_some());
        if let Some(id) = id {
            self.call(|engines, now| engines.handle_refused(now, id));
        }
    }

    fn exchange(&self, which: usize) -> Option<(ExchangeId, bool)> {
        let (&id, &(.., established)) =
            self.exchanges.iter().nth(which.checked_rem(self.exchanges.len())?)?;
        Some((id, established))
    }

    /// A connection is established.
    pub fn establish(&mut self, which: usize) {
        let Some((exchange, false)) = self.exchange(which) else { return };
        if let Some((.., established)) = self.exchanges.get_mut(&exchange) {
            *established = true;
        }
        let local = SocketAddr::new(
            self.ipv6.addresses.list.first().map_or(LOCAL, |known| known.address.into()),
            40_000,
        );
        self.call(|engines, now| engines.handle_tcp_connected(now, exchange, local));
    }

    /// Something comes on a connection.
    pub fn tcp_data(&mut self, which: usize, bytes: &[u8]) {
        if let Some((exchange, true)) = self.exchange(which) {
            self.call(|engines, now| engines.handle_tcp_data(now, exchange, bytes));
        }
    }

    /// A connection ends.
    pub fn tcp_end(&mut self, which: usize, end: TcpEnd) {
        let Some((exchange, established)) = self.exchange(which) else { return };
        let end = if established || end == TcpEnd::Failed { end } else { TcpEnd::Refused };
        self.exchanges.remove(&exchange);
        self.call(|engines, now| engines.handle_tcp_end(now, exchange, end));
    }

    // Time.

    /// The worker looks at timers.
    pub fn timeout(&mut self) {
        self.call(|engines, now| engines.handle_timeout(now));
    }

    /// Lets this span pass, or as much of it as there are steps for.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        for _ in 0..MAX_STEPS {
            if self.has_finished() || self.steps >= MAX_STEPS_IN_ALL || !self.step(until) {
                return;
            }
        }
    }

    /// The machine sleeps, and the worker notices.
    pub fn sleep(&mut self, span: Duration) {
        self.checks.sleep(span);
        self.set_time(self.now + span);
        self.notice(false);
    }

    fn set_time(&mut self, now: Time) {
        if now > self.now {
            self.now = now;
            self.timeouts_in_a_row = 0;
        }
    }

    fn step(&mut self, until: Time) -> bool {
        let Some(next) = self.engines.poll_timeout().filter(|&next| next <= until) else {
            self.set_time(until);
            self.checks.deadlines(self.now);
            return false;
        };
        self.set_time(next);
        self.steps += 1;
        self.timeouts_in_a_row += 1;
        let timeout = self.engines.poll_timeout();
        assert!(
            self.timeouts_in_a_row <= MAX_TIMEOUTS_IN_A_ROW,
            "{timeout:?} never comes to rest at {:?}",
            self.now
        );
        self.timeout();
        true
    }

    /// The program ends, and the engines with it: within their time, and with all that they held.
    pub fn end(mut self) {
        self.cleanup();
        self.steps = 0;
        let until = self.now + ENDING;
        while !self.has_finished() && self.step(until) {}
        assert!(self.has_finished(), "cleanup does not end within {ENDING:?}");
        assert!(self.sockets.is_empty(), "open after Finished: {:?}", self.sockets.keys());
        self.checks.all_destroyed_once();
        let before = memory::held();
        drop(self.engines);
        assert_eq!(self.held + memory::held() - before, 0, "octets leaked");
    }

    // What the engines want done.

    /// Calls the engines, carries out what they want done, and looks at what must hold.
    fn call(&mut self, act: impl FnOnce(&mut Engines, Time)) {
        if self.has_finished() {
            return;
        }
        self.count(act);
        let mut outputs = 0;
        loop {
            while let Some((engine, output)) = self.count(|engines, _| engines.poll_output()) {
                outputs += 1;
                assert!(
                    outputs <= MAX_OUTPUTS,
                    "more than {MAX_OUTPUTS} outputs after one input: {output:?}"
                );
                self.carry_out(engine, output);
            }
            let Some(exchange) = self.failing.pop() else { break };
            if self.exchanges.remove(&exchange).is_some() {
                self.count(|engines, now| engines.handle_tcp_end(now, exchange, TcpEnd::Failed));
            }
        }
        assert!(self.held <= MEMORY, "{} octets held", self.held);
        let timeout = self.engines.poll_timeout();
        if self.has_finished() {
            assert_eq!(timeout, None, "after Finished");
        } else if self.checks.cleanup_at.is_none() && self.checks.seen.values().any(|seen| !seen.is_gone()) {
            // Where an IPv6 gateway is named nothing is done for mappings of IPv4: they have failed.
            let at = timeout.unwrap_or(self.now);
            assert!(timeout.is_some() || self.names_ipv6, "mappings are waited for");
            assert!(at.since(self.now) <= self.longest_wait, "the next timeout is {at:?} at {:?}", self.now);
        }
    }

    /// Calls the engines and counts what they allocate and free.
    fn count<T>(&mut self, act: impl FnOnce(&mut Engines, Time) -> T) -> T {
        let before = memory::held();
        let result = act(&mut self.engines, self.now);
        self.held += memory::held() - before;
        result
    }

    fn carry_out(&mut self, engine: EngineId, output: Output) {
        assert!(!self.has_finished(), "after Finished: {output:?}");
        let id = |socket| SocketId { engine, socket };
        match output {
            Output::LookUpRoute { .. } => {
                let route = Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE };
                let route = Some(route).filter(|_| !self.is_ipv4_away);
                self.count(|engines, now| engines.handle_route(now, engine, route, None));
            }
            Output::LookUpAddresses { zone } => {
                self.held -= zone.map_or(0, |zone| i64::try_from(zone.capacity()).expect("a short name"));
                let before = memory::held();
                let addresses = (!self.hides_addresses).then(|| self.ipv6.addresses.clone());
                self.engines.handle_addresses(self.now, addresses);
                self.held += memory::held() - before;
            }
            Output::LookUpIpv6Route { source, .. } => {
                let before = memory::held();
                if self.hides_routes {
                    self.engines.handle_route_unknown(self.now, engine);
                } else {
                    let route = self.ipv6.look_up(source);
                    self.engines.handle_ipv6_route(self.now, engine, route, None);
                }
                self.held += memory::held() - before;
            }
            Output::Open { socket, local, interface, remote } => {
                self.open(id(socket), local, interface, remote)
            }
            Output::Close { socket } => drop(self.sockets.remove(&id(socket))),
            Output::Send { socket, to, bytes } => self.send(id(socket), to, bytes),
            Output::Connect { exchange, to, source } => self.connect(exchange, to, source),
            Output::Write { exchange, bytes } => {
                self.held -= i64::try_from(bytes.capacity()).expect("a short request");
                assert!(matches!(self.exchanges.get(&exchange), Some((.., true))), "Write on {exchange:?}");
            }
            Output::HangUp { exchange } => {
                assert!(self.exchanges.remove(&exchange).is_some(), "HangUp of {exchange:?}, which is gone");
            }
            Output::Event { id, event } => self.checks.event(self.now, id, event),
            Output::Finished => self.checks.finished(self.now),
        }
    }

    fn open(&mut self, id: SocketId, local: IpAddr, interface: u32, remote: Option<SocketAddr>) {
        self.sockets.remove(&id);
        let opened = (!self.opens_nothing).then_some(SocketAddr::new(local, 40_000));
        if opened.is_some() {
            self.sockets.insert(id, Open { local, interface, remote, requests: VecDeque::new() });
        }
        let asking = self
            .sockets
            .keys()
            .filter(|id| !matches!(id.socket, Socket::Announcements | Socket::Notifications));
        let engines: BTreeSet<EngineId> = asking.map(|id| id.engine).collect();
        assert!(engines.len() <= MAX_ENGINES, "{engines:?} at once");
        self.count(|engines, now| engines.handle_opened(now, id, opened));
    }

    fn send(&mut self, id: SocketId, to: SocketAddr, bytes: Vec<u8>) {
        self.held -= i64::try_from(bytes.capacity()).expect("a short message");
        let open = self.sockets.get_mut(&id).unwrap_or_else(|| panic!("Send on {id:?}, which is not open"));
        assert_eq!(open.remote.unwrap_or(to), to, "Send on {id:?} to another than it is connected to");
        assert_eq!(to.is_ipv4(), open.local.is_ipv4(), "Send on {id:?} to {to}");
        let is_ipv4 = id.engine == EngineId::IPV4 || id.socket == Socket::Ipv4Ssdp;
        assert_eq!(to.is_ipv4(), is_ipv4, "the families are apart: {id:?} to {to}");
        if id.socket == Socket::Pcp {
            let client = match open.local {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            assert!(bytes[0] == 2 && matches!(bytes.len(), 24 | 60), "{bytes:?}");
            assert_eq!(bytes[8..24], client.octets(), "the client is the sender");
        }
        open.requests.truncate(REQUESTS_KEPT - 1);
        open.requests.push_front(bytes);
    }

    fn connect(&mut self, exchange: ExchangeId, to: SocketAddr, source: Option<Source>) {
        let interface = source.map(|source| source.interface);
        let with_host = self
            .exchanges
            .values()
            .filter(|(other, from, _)| (other.ip(), *from) == (to.ip(), interface))
            .count();
        self.checks.connect(exchange, self.exchanges.len() + 1, with_host + 1);
        assert_eq!(to.is_ipv6(), source.is_some(), "the families are apart: Connect to {to}");
        self.exchanges.insert(exchange, (to, interface, false));
        if self.connects_nothing {
            self.failing.push(exchange);
        }
    }
}
