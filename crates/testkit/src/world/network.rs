//! The simulated network between the engine's machine and the gateways: latency, loss, closed ports, a very
//! small TCP, multicast on one link.

mod arrivals;

use super::Ipv6Home;
use plum_engine::io::{ExchangeId, Route, Socket, SocketId, Source, TcpEnd};
use plum_engine::ledger::HardwareAddress;
use plum_engine::time::Time;
use plum_gateway::core::{
    ANNOUNCEMENTS, ANNOUNCEMENTS_V6, ConnectionId, Gateway, Output, SSDP_GROUP, SSDP_GROUP_V6, UdpPort,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How a gateway is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It works.
    On,
    /// Its programs have ended: port unreachable, connection refused.
    Stopped,
    /// It is silent, as with no power.
    Off,
}

/// A gateway on the network.
pub struct Node {
    /// The gateway itself.
    pub gateway: Gateway,
    /// How it is doing.
    pub power: Power,
    /// The interface of the engine's machine that it is linked to.
    pub interface: u32,
    /// The home that it stands in: it hears the machine there alone.
    pub home: usize,
    /// More addresses that it is reached at; what it says comes from those of its configuration.
    pub also: Vec<IpAddr>,
}

impl Node {
    /// A gateway with power, on the first interface, in the first home.
    pub fn new(gateway: Gateway) -> Node {
        Node { gateway, power: Power::On, interface: super::INTERFACE, home: 0, also: Vec::new() }
    }

    fn has_address(&self, address: IpAddr) -> bool {
        let config = self.gateway.config();
        let is_ipv6 = config.ipv6.is_some_and(|known| address == IpAddr::V6(known));
        config.address == address || is_ipv6 || self.also.contains(&address)
    }
}

/// What the engine is to be handed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Input {
    Datagram { socket: SocketId, from: SocketAddr, bytes: Vec<u8> },
    Refused { socket: SocketId },
    TcpConnected { exchange: ExchangeId, local: SocketAddr },
    TcpData { exchange: ExchangeId, bytes: Vec<u8> },
    TcpEnd { exchange: ExchangeId, end: TcpEnd },
}

#[derive(Debug)]
struct OpenSocket {
    local: SocketAddr,
    remote: Option<SocketAddr>,
    interface: u32,
}

#[derive(Debug)]
struct Tcp {
    node: Option<usize>,
    local: SocketAddr,
    to: SocketAddr,
    /// IPv6: the interface, since a host is an address on a link.
    interface: Option<u32>,
    established: bool,
    /// A segment was lost with the cable: nothing of this connection arrives any more.
    stalled: bool,
}

/// What is on its way.
#[derive(Debug)]
enum Travelling {
    ToGateway { from: SocketAddr, to: SocketAddr, bytes: Vec<u8>, interface: u32 },
    ToMachine { from: SocketAddr, to: SocketAddr, bytes: Vec<u8>, interface: u32 },
    Refusal { local: SocketAddr },
    Syn { exchange: ExchangeId },
    Accepted { exchange: ExchangeId },
    SegmentToGateway { exchange: ExchangeId, bytes: Vec<u8> },
    SegmentToMachine { exchange: ExchangeId, bytes: Vec<u8> },
    EndToMachine { exchange: ExchangeId, end: TcpEnd },
    EndToGateway { node: usize, connection: ConnectionId },
}

#[derive(Debug)]
struct OnItsWay {
    arrives_at: Time,
    /// Where it is on its way: whoever has left gets nothing of it.
    home: usize,
    number: u64,
    what: Travelling,
}

impl Ord for OnItsWay {
    fn cmp(&self, other: &OnItsWay) -> std::cmp::Ordering {
        (self.arrives_at, self.number).cmp(&(other.arrives_at, other.number))
    }
}
impl PartialOrd for OnItsWay {
    fn partial_cmp(&self, other: &OnItsWay) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Eq for OnItsWay {}
impl PartialEq for OnItsWay {
    fn eq(&self, other: &OnItsWay) -> bool {
        self.number == other.number
    }
}

/// The network.
pub struct Network {
    /// How long a packet takes one way.
    pub latency: Duration,
    /// How much longer it takes at most; each datagram draws its own.
    pub jitter: Duration,
    /// The probability that a datagram is lost, either way.
    pub loss: f64,
    /// The probability that a datagram comes twice, either way.
    pub duplicate: f64,
    /// Somebody on the link forges PCP answers: right in all but the nonce, which only the gateway can know.
    pub forger: bool,
    /// The machine has no descriptor left for connections.
    pub is_starved: bool,
    /// So many datagrams to gateways are lost next.
    pub lose_requests: u32,
    /// So many datagrams to the machine are lost next.
    pub lose_replies: u32,
    /// The cable of the machine is cut: nothing arrives, either way.
    pub cut: bool,
    /// The route that lookups find, and with it the machine's address.
    pub route: Option<Route>,
    /// Other routes, by destination.
    pub routes_toward: BTreeMap<IpAddr, Option<Route>>,
    /// What the system says of IPv6.
    pub ipv6: Ipv6Home,
    /// Where connections by IPv6 leave from, whatever address the engine wants.
    pub other_source: Option<Ipv6Addr>,
    /// The gateways.
    pub nodes: Vec<Node>,
    /// The machine cannot tell hardware addresses.
    pub hides_hardware: bool,
    /// The home that the machine is in.
    home: usize,
    /// While the machine sleeps: what came on connections, which their other ends send again.
    held: Option<Vec<Travelling>>,
    random: fastrand::Rng,
    sockets: BTreeMap<SocketId, OpenSocket>,
    connections: BTreeMap<ExchangeId, Tcp>,
    queue: BinaryHeap<Reverse<OnItsWay>>,
    queued: u64,
    next_port: u16,
}

/// The groups of a search by IPv6 (UDA 2.0 Annex A).
const SSDP_GROUPS_V6: [SocketAddr; 2] =
    [SSDP_GROUP_V6, SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0xc)), 1900)];

/// More on its way than any test needs: the engine floods.
const MAX_ON_THEIR_WAY: usize = 100_000;

impl Network {
    /// A network without gateways.
    pub fn new(seed: u64, latency: Duration, route: Option<Route>) -> Network {
        Network {
            latency,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            forger: false,
            is_starved: false,
            lose_requests: 0,
            lose_replies: 0,
            cut: false,
            route,
            routes_toward: BTreeMap::new(),
            ipv6: Ipv6Home::default(),
            other_source: None,
            nodes: Vec::new(),
            hides_hardware: false,
            home: 0,
            held: None,
            random: fastrand::Rng::with_seed(seed),
            sockets: BTreeMap::new(),
            connections: BTreeMap::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            next_port: 40_000,
        }
    }

    /// The home that the machine is in.
    pub fn home(&self) -> usize {
        self.home
    }

    /// The machine is carried to another home: what was on its way is lost, and its connections with it.
    pub fn move_to_home(&mut self, home: usize) {
        self.home = home;
        for tcp in self.connections.values_mut() {
            tcp.stalled = true;
        }
    }

    /// What a route lookup finds.
    pub fn look_up(&self, toward: Option<IpAddr>) -> Option<Route> {
        let Some(address) = toward else { return self.route };
        if let Some(route) = self.routes_toward.get(&address) {
            return *route;
        }
        // The gateway itself is on-link; what lies behind it goes through it.
        let route = self.route?;
        let on_link = route.gateway == Some(address);
        Some(Route { gateway: route.gateway.filter(|_| !on_link), ..route })
    }

    /// The hardware address of the gateway that a lookup leads to, where there is one and the machine can tell.
    pub fn hardware_toward(&self, toward: Option<IpAddr>) -> Option<HardwareAddress> {
        let gateway = toward.or(self.route?.gateway)?;
        self.hardware_at(self.node_of(gateway)?)
    }

    /// The hardware address of a gateway, where the machine can tell.
    pub(super) fn hardware_at(&self, node: usize) -> Option<HardwareAddress> {
        let home = u8::try_from(self.home).ok()?;
        let is_told = !self.hides_hardware && self.nodes[node].power != Power::Off;
        is_told.then_some([2, 0, 0, 0, home, u8::try_from(node).ok()?])
    }

    /// The interface of an open socket.
    pub(super) fn interface_of(&self, socket: SocketId) -> Option<u32> {
        self.sockets.get(&socket).map(|open| open.interface)
    }

    fn has_address(&self, address: IpAddr) -> bool {
        if let IpAddr::V6(address) = address {
            return self.ipv6.has(address);
        }
        let others = self.routes_toward.values().flatten();
        self.route.iter().chain(others).any(|route| route.local == address)
    }

    /// Opens a socket; `None` where the machine does not have its local address.
    pub fn open(
        &mut self,
        socket: SocketId,
        local: IpAddr,
        interface: u32,
        remote: Option<SocketAddr>,
    ) -> Option<SocketAddr> {
        self.sockets.remove(&socket);
        let listens = matches!(socket.socket, Socket::Announcements | Socket::Notifications);
        if !listens && !self.has_address(local) {
            return None;
        }
        let local = match socket.socket {
            Socket::Announcements if local.is_ipv6() => ANNOUNCEMENTS_V6,
            Socket::Notifications if local.is_ipv6() => SSDP_GROUP_V6,
            Socket::Announcements => ANNOUNCEMENTS,
            Socket::Notifications => SSDP_GROUP,
            Socket::Pcp | Socket::NatPmp | Socket::Ssdp | Socket::LinkSsdp | Socket::Ipv4Ssdp => {
                SocketAddr::new(local, self.port())
            }
        };
        self.sockets.insert(socket, OpenSocket { local, remote, interface });
        Some(local)
    }

    /// Whether it is open.
    pub fn is_open(&self, socket: SocketId) -> bool {
        self.sockets.contains_key(&socket)
    }

    /// Whether it is connected, and to whom.
    pub fn remote(&self, socket: SocketId) -> Option<SocketAddr> {
        self.sockets.get(&socket)?.remote
    }

    /// Closes a socket; false if it was not open.
    pub fn close(&mut self, socket: SocketId) -> bool {
        self.sockets.remove(&socket).is_some()
    }

    /// Sends a datagram.
    pub fn send(&mut self, now: Time, socket: SocketId, to: SocketAddr, bytes: Vec<u8>) {
        let Some(open) = self.sockets.get(&socket) else { return };
        let (from, interface) = (open.local, open.interface);
        if !self.has_address(from.ip()) || self.loses(true) {
            return;
        }
        if self.comes_twice() {
            let arrives_at = now + self.travel_time();
            self.push(arrives_at, Travelling::ToGateway { from, to, bytes: bytes.clone(), interface });
        }
        let arrives_at = now + self.travel_time();
        self.push(arrives_at, Travelling::ToGateway { from, to, bytes, interface });
    }

    /// Begins a TCP connection, from an address of the machine if one is given.
    pub fn connect(&mut self, now: Time, exchange: ExchangeId, to: SocketAddr, source: Option<Source>) {
        let interface = source.map(|source| source.interface);
        let node = match source {
            Some(source) => self.node_on(to.ip(), source.interface),
            None => self.node_of(to.ip()),
        };
        let local = match source {
            Some(source) => Some(IpAddr::V6(self.other_source.unwrap_or(source.address)))
                .filter(|&local| self.has_address(local)),
            None => self.look_up(Some(to.ip())).map(|route| route.local),
        };
        let Some(local) = local.filter(|_| !self.is_starved) else {
            let local = SocketAddr::new(to.ip(), 0);
            self.connections
                .insert(exchange, Tcp { node, local, to, interface, established: false, stalled: false });
            let end = if self.is_starved { TcpEnd::Starved } else { TcpEnd::Failed };
            return self.push(now, Travelling::EndToMachine { exchange, end });
        };
        let local = SocketAddr::new(local, self.port());
        self.connections
            .insert(exchange, Tcp { node, local, to, interface, established: false, stalled: false });
        self.push(now + self.latency, Travelling::Syn { exchange });
    }

    /// The connections that are open or being opened, and whether established.
    pub fn connection(&self, exchange: ExchangeId) -> Option<bool> {
        self.connections.get(&exchange).map(|tcp| tcp.established)
    }

    /// How many connections are open or being opened.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How many of them are with this host.
    pub fn connections_with(&self, host: IpAddr, interface: Option<u32>) -> usize {
        let is_with = |tcp: &&Tcp| tcp.to.ip() == host && tcp.interface == interface;
        self.connections.values().filter(is_with).count()
    }

    /// Sends on a connection.
    pub fn write(&mut self, now: Time, exchange: ExchangeId, bytes: Vec<u8>) {
        self.push(now + self.latency, Travelling::SegmentToGateway { exchange, bytes });
    }

    /// Drops a connection; false if there is none.
    pub fn hang_up(&mut self, now: Time, exchange: ExchangeId) -> bool {
        let Some(tcp) = self.connections.remove(&exchange) else { return false };
        if let Some(node) = tcp.node {
            let end = Travelling::EndToGateway { node, connection: ConnectionId(exchange.0) };
            self.push(now + self.latency, end);
        }
        true
    }

    /// The programs of a gateway end, or its power goes.
    pub fn set_power(&mut self, now: Time, node: usize, power: Power) {
        self.nodes[node].power = power;
        if power == Power::Stopped {
            let theirs = |(&exchange, tcp): (&ExchangeId, &Tcp)| (tcp.node == Some(node)).then_some(exchange);
            let exchanges: Vec<ExchangeId> = self.connections.iter().filter_map(theirs).collect();
            for exchange in exchanges {
                let end = Travelling::EndToMachine { exchange, end: TcpEnd::Failed };
                self.push(now + self.latency, end);
            }
        }
    }

    /// Carries what the gateways send by now.
    pub fn collect(&mut self, now: Time) {
        for node in 0..self.nodes.len() {
            while let Some(output) = self.nodes[node].gateway.poll_output(gateway_time(now)) {
                if self.nodes[node].power == Power::On && self.nodes[node].home == self.home {
                    self.carry(now, node, output);
                }
            }
        }
    }

    fn carry(&mut self, now: Time, node: usize, output: Output) {
        let interface = self.nodes[node].interface;
        match output {
            Output::Send { from, to, bytes } => {
                // Port 0 stands for "another port than the one that was asked".
                let from = if from.port() == 0 { SocketAddr::new(from.ip(), 61_001) } else { from };
                if self.forger
                    && let Some(bytes) = forged(&bytes)
                {
                    // Before the true answer, and after it.
                    let late = now + self.latency + self.jitter + Duration::from_millis(5);
                    let bytes_again = bytes.clone();
                    self.push(now + self.latency, Travelling::ToMachine { from, to, bytes, interface });
                    self.push(late, Travelling::ToMachine { from, to, bytes: bytes_again, interface });
                }
                if !self.loses(false) {
                    if self.comes_twice() {
                        let arrives_at = now + self.travel_time();
                        let bytes = bytes.clone();
                        self.push(arrives_at, Travelling::ToMachine { from, to, bytes, interface });
                    }
                    let arrives_at = now + self.travel_time();
                    self.push(arrives_at, Travelling::ToMachine { from, to, bytes, interface });
                }
            }
            Output::Write { connection, bytes } => {
                let exchange = ExchangeId(connection.0);
                self.push(now + self.latency, Travelling::SegmentToMachine { exchange, bytes });
            }
            Output::Close { connection } => {
                let exchange = ExchangeId(connection.0);
                let end = Travelling::EndToMachine { exchange, end: TcpEnd::Closed };
                self.push(now + self.latency, end);
            }
            Output::Reset { connection } => {
                let exchange = ExchangeId(connection.0);
                let end = Travelling::EndToMachine { exchange, end: TcpEnd::Failed };
                self.push(now + self.latency, end);
            }
        }
    }

    /// When something happens next without the engine: an arrival, or a gateway's own time.
    pub fn next_at(&self) -> Option<Time> {
        let arrival = self.queue.peek().map(|on_its_way| on_its_way.0.arrives_at);
        let gateways = self.nodes.iter().filter_map(|node| node.gateway.poll_timeout());
        gateways.map(engine_time).chain(arrival).min()
    }

    /// Lets what has arrived by now take effect, until something reaches the engine.
    pub fn next_input(&mut self, now: Time) -> Option<Input> {
        loop {
            if self.queue.peek()?.0.arrives_at > now {
                return None;
            }
            let Reverse(arrived) = self.queue.pop()?;
            // A gateway hears of the end of a connection in any case: its own patience ends, too.
            let is_end = matches!(arrived.what, Travelling::EndToGateway { .. });
            if (arrived.home == self.home || is_end)
                && let Some(input) = self.arrive(now, arrived.what)
            {
                return Some(input);
            }
            self.collect(now);
        }
    }

    /// The machine falls asleep: datagrams are lost on it from now on.
    pub fn fall_asleep(&mut self) {
        self.held = Some(Vec::new());
    }

    /// It is awake again.
    pub fn wake_up(&mut self, now: Time) {
        for what in self.held.take().into_iter().flatten() {
            self.push(now, what);
        }
    }

    fn node_of(&self, address: IpAddr) -> Option<usize> {
        self.nodes.iter().position(|node| node.home == self.home && node.has_address(address))
    }

    /// The gateway that has an address on the link of an interface.
    pub(super) fn node_on(&self, address: IpAddr, interface: u32) -> Option<usize> {
        let is_it =
            |node: &Node| node.home == self.home && node.interface == interface && node.has_address(address);
        self.nodes.iter().position(is_it)
    }

    fn loses(&mut self, request: bool) -> bool {
        let next = if request { &mut self.lose_requests } else { &mut self.lose_replies };
        if *next > 0 {
            *next -= 1;
            return true;
        }
        self.loss > 0.0 && self.random.f64() < self.loss
    }

    fn comes_twice(&mut self) -> bool {
        self.duplicate > 0.0 && self.random.f64() < self.duplicate
    }

    fn travel_time(&mut self) -> Duration {
        let jitter = u64::try_from(self.jitter.as_micros()).expect("a jitter of this world");
        self.latency + Duration::from_micros(self.random.u64(0..=jitter))
    }

    fn port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_000);
        self.next_port
    }

    fn push(&mut self, arrives_at: Time, what: Travelling) {
        assert!(self.queue.len() < MAX_ON_THEIR_WAY, "{MAX_ON_THEIR_WAY} packets on their way at once");
        self.queued += 1;
        self.queue.push(Reverse(OnItsWay { arrives_at, home: self.home, number: self.queued, what }));
    }
}

/// The engine's time on the gateways' clock: they start together.
pub fn gateway_time(now: Time) -> Duration {
    Duration::from_micros(now.as_micros())
}

/// The gateways' time on the engine's clock.
pub fn engine_time(at: Duration) -> Time {
    Time::ZERO + at
}

/// A PCP answer about a mapping as a forger would have it: another nonce, another external port.
fn forged(answer: &[u8]) -> Option<Vec<u8>> {
    // RFC 6887 §7.2 and §11.1: version 2, MAP; the nonce is at 24, the assigned external port at 42.
    if answer.len() < 60 || answer[..2] != [2, 0x81] {
        return None;
    }
    let mut bytes = answer.to_vec();
    bytes[24] ^= 0x55;
    bytes[42] ^= 0x11;
    Some(bytes)
}
