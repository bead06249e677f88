//! The harness: a world with one honest gateway, and rogues in the same network.
//!
//! The engine's outputs pass through here on their way to the world. Connections to a rogue's server are served here; every
//! other output goes on to the world. Whatever goes to somebody who must not be contacted fails the test.

use crate::world::{Checks, EXTERNAL, GATEWAY, LOCAL, Setup, World};
use plum_engine::Engine;
use plum_engine::io::{
    Arrival, EngineId, Event, ExchangeId, MappingId, Output, Protocol, Route, Socket, SocketId, TcpEnd,
};
use plum_engine::ledger::HardwareAddress;
use plum_engine::machine::{Command, Machine};
use plum_engine::time::Time;
use plum_testkit::random::Seeded;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A host of the network that is no gateway.
pub const ROGUE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 66));
/// Where the honest gateway's description is.
pub const GATEWAY_HTTP: SocketAddr = SocketAddr::new(GATEWAY, 5000);
/// What searches go to beside the gateway.
const SSDP_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250));
/// How long a connection takes to stand.
const CONNECT_TIME: Duration = Duration::from_millis(1);
/// How many races a mapping that nobody makes begins in its first five minutes: at once, then after 5, 10, 20, 40, 80 and 160 s.
pub const RACES: usize = 7;
/// And in its first half minute.
pub const FIRST_RACES: usize = 3;
/// More packets than any test of one attack may cause.
const MAX_PACKETS: usize = 5000;
pub const IGD: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";
pub const WAN: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

/// What a server does next on a connection.
#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    Close,
    Reset,
}

/// What a server says to one request, piece by piece, each so long after the one before. It is taken only as far as it is heard.
pub type Speech = Box<dyn Iterator<Item = (Duration, Piece)>>;

/// A rogue's server.
pub enum Server {
    /// Takes no connection: SYNs vanish.
    NeverAccepts,
    Refuses,
    /// Takes connections and speaks at once, without waiting for a request.
    Greets(Box<dyn FnMut() -> Speech>),
    /// Takes connections and answers requests.
    Answers(Box<dyn FnMut(&str) -> Speech>),
}

/// Nothing, for ever.
pub fn silence() -> Speech {
    Box::new(std::iter::empty())
}

/// All at once, then the end of the connection.
pub fn at_once(bytes: impl Into<Vec<u8>>) -> Speech {
    let pieces = [(millis(1), Piece::Bytes(bytes.into())), (millis(1), Piece::Close)];
    Box::new(pieces.into_iter())
}

/// An HTTP reply with this body.
pub fn page(body: impl AsRef<[u8]>) -> Speech {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    at_once(bytes)
}

/// A redirect.
pub fn redirect(target: &str) -> Speech {
    at_once(format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"))
}

/// A description of a gateway with these services, as type and control URL.
pub fn description(name: &str, base: &str, services: &[(&str, &str)]) -> String {
    let services: String = services
        .iter()
        .map(|(kind, url)| {
            format!("<service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL></service>")
        })
        .collect();
    format!(
        "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}<device>\
         <deviceType>{IGD}</deviceType><friendlyName>{name}</friendlyName>\
         <serviceList>{services}</serviceList></device></root>"
    )
}

/// An answer to a search.
pub fn answer(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nST: {IGD}\r\nUSN: uuid:rogue::{IGD}\r\nLOCATION: {location}\r\n\r\n")
        .into_bytes()
}

/// The outcome of an action, in SOAP.
pub fn soap(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

/// A working service: takes every entry, and says that this is its external address.
pub fn service(external: String) -> impl FnMut(&str) -> Speech {
    move |request| {
        let action =
            request.split("\r\nSOAPAction: \"").nth(1).and_then(|rest| rest.split(['#', '"']).nth(1));
        match action {
            None => page(description("Rogue", "", &[(WAN, "/ctl")])),
            Some("GetExternalIPAddress") => page(soap(&format!(
                "<u:GetExternalIPAddressResponse xmlns:u=\"{WAN}\"><NewExternalIPAddress>{external}\
                 </NewExternalIPAddress></u:GetExternalIPAddressResponse>"
            ))),
            Some(action) => page(soap(&format!("<u:{action}Response xmlns:u=\"{WAN}\"/>"))),
        }
    }
}

struct Visit {
    to: SocketAddr,
    speech: Speech,
}

enum Deed {
    Hears { from: SocketAddr, bytes: Vec<u8> },
    Connects(ExchangeId),
    Refuses(ExchangeId),
    Speaks(ExchangeId, Piece),
}

/// The engine, with the rogues between it and the world.
pub struct Wired {
    engine: Engine,
    now: Time,
    servers: BTreeMap<SocketAddr, Server>,
    /// Sent in answer to each round of searches.
    pub answers: Vec<(SocketAddr, Vec<u8>)>,
    visits: BTreeMap<ExchangeId, Visit>,
    /// All connections, those to the world's hosts included, each with its host.
    open: BTreeMap<ExchangeId, IpAddr>,
    /// The world's own know nothing of connections to rogues.
    checks: Checks,
    deeds: BTreeMap<(Time, u64), Deed>,
    sequence: u64,
    outputs: VecDeque<Output>,
    /// Hosts that have answered a search from their own address: these may be contacted, and the gateway.
    answered: BTreeSet<IpAddr>,
    /// Hosts that must not be contacted, whoever answered in their name.
    pub forbidden: BTreeSet<IpAddr>,
    pub most_open: usize,
    /// Every connection, with its time.
    pub connects: Vec<(Time, SocketAddr)>,
    /// Every datagram sent, with its time.
    pub sent: Vec<(Time, Socket, SocketAddr, Vec<u8>)>,
    /// Every datagram socket that was opened.
    pub opens: Vec<Socket>,
    /// Every request that a rogue's server received.
    pub requests: Vec<(SocketAddr, String)>,
}

impl Wired {
    fn new(engine: Engine) -> Wired {
        Wired {
            engine,
            now: Time::ZERO,
            servers: BTreeMap::new(),
            answers: Vec::new(),
            visits: BTreeMap::new(),
            open: BTreeMap::new(),
            checks: Checks::default(),
            deeds: BTreeMap::new(),
            sequence: 0,
            outputs: VecDeque::new(),
            answered: BTreeSet::new(),
            forbidden: BTreeSet::new(),
            most_open: 0,
            connects: Vec::new(),
            sent: Vec::new(),
            opens: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn later(&mut self, after: Duration, deed: Deed) {
        self.sequence += 1;
        self.deeds.insert((self.now + after, self.sequence), deed);
    }

    fn check_contact(&self, to: IpAddr) {
        let to = to.to_canonical();
        assert!(!self.forbidden.contains(&to), "{to} is contacted");
        assert!(to == GATEWAY || self.answered.contains(&to), "{to} is contacted, who has never answered");
    }

    /// Takes what the engine wants done: the rogues' part is done here, the rest waits for the world.
    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send { socket, to, ref bytes } => {
                    if to.ip() != SSDP_GROUP || socket != Socket::Ssdp {
                        self.check_contact(to.ip());
                    } else if !self.answers.is_empty() {
                        let first =
                            self.sent.last().is_none_or(|&(at, _, last, _)| at < self.now || last != to);
                        // Six searches make a round.
                        if first {
                            for (from, bytes) in self.answers.clone() {
                                self.later(CONNECT_TIME, Deed::Hears { from, bytes });
                            }
                        }
                    }
                    self.sent.push((self.now, socket, to, bytes.clone()));
                    assert!(self.sent.len() <= MAX_PACKETS, "more than {MAX_PACKETS} packets");
                }
                Output::Connect { exchange, to, .. } => {
                    self.check_contact(to.ip());
                    self.connects.push((self.now, to));
                    assert!(self.connects.len() <= MAX_PACKETS, "more than {MAX_PACKETS} connections");
                    self.open.insert(exchange, to.ip());
                    self.most_open = self.most_open.max(self.open.len());
                    let with_host = self.open.values().filter(|&&host| host == to.ip()).count();
                    self.checks.connect(exchange, self.open.len(), with_host);
                    let first = match self.servers.get_mut(&to) {
                        None if to.ip() == GATEWAY => None,
                        // Nobody is there.
                        None | Some(Server::NeverAccepts) => Some((silence(), None)),
                        Some(Server::Refuses) => Some((silence(), Some(Deed::Refuses(exchange)))),
                        Some(Server::Answers(_)) => Some((silence(), Some(Deed::Connects(exchange)))),
                        Some(Server::Greets(greet)) => Some((greet(), Some(Deed::Connects(exchange)))),
                    };
                    if let Some((speech, deed)) = first {
                        self.visits.insert(exchange, Visit { to, speech });
                        if let Some(deed) = deed {
                            self.later(CONNECT_TIME, deed);
                        }
                        continue;
                    }
                }
                Output::Write { exchange, ref bytes } => {
                    if let Some(visit) = self.visits.get_mut(&exchange) {
                        let request = String::from_utf8(bytes.clone()).expect("a request is text");
                        let head = request.split("\r\n\r\n").next().unwrap_or_default();
                        let is_plain = |c: char| c.is_ascii() && (!c.is_control() || c == '\r' || c == '\n');
                        assert!(head.chars().all(is_plain), "what we send is ASCII: {head:?}");
                        let is_answered = match self.servers.get_mut(&visit.to) {
                            Some(Server::Answers(answer)) => {
                                visit.speech = answer(&request);
                                true
                            }
                            _ => false,
                        };
                        self.requests.push((visit.to, request));
                        if is_answered {
                            self.speak(exchange);
                        }
                        continue;
                    }
                }
                Output::HangUp { exchange } => {
                    assert!(self.open.remove(&exchange).is_some(), "hung up twice: {exchange:?}");
                    if self.visits.remove(&exchange).is_some() {
                        continue;
                    }
                }
                Output::Open { socket, .. } => self.opens.push(socket),
                Output::Finished => self.deeds.clear(),
                _ => {}
            }
            self.outputs.push_back(output);
        }
    }

    /// The next piece of what a server has to say is on its way.
    fn speak(&mut self, exchange: ExchangeId) {
        if let Some(visit) = self.visits.get_mut(&exchange)
            && let Some((after, piece)) = visit.speech.next()
        {
            self.later(after, Deed::Speaks(exchange, piece));
        }
    }

    fn end(&mut self, exchange: ExchangeId, end: TcpEnd) {
        self.visits.remove(&exchange);
        self.open.remove(&exchange);
        self.engine.handle_tcp_end(self.now, exchange, end);
    }

    fn do_deed(&mut self, deed: Deed) {
        match deed {
            Deed::Hears { from, bytes } => self.hear(Socket::Ssdp, from, &bytes),
            Deed::Connects(exchange) | Deed::Refuses(exchange) | Deed::Speaks(exchange, _)
                if !self.visits.contains_key(&exchange) => {}
            Deed::Connects(exchange) => {
                let local = SocketAddr::new(LOCAL, 50_000);
                self.engine.handle_tcp_connected(self.now, exchange, local);
                let to = self.visits.get(&exchange).map(|visit| visit.to);
                if to.is_some_and(|to| matches!(self.servers.get(&to), Some(Server::Greets(_)))) {
                    self.speak(exchange);
                }
            }
            Deed::Refuses(exchange) => self.end(exchange, TcpEnd::Refused),
            Deed::Speaks(exchange, Piece::Bytes(bytes)) => {
                self.engine.handle_tcp_data(self.now, exchange, &bytes);
                self.drain();
                self.speak(exchange);
            }
            Deed::Speaks(exchange, Piece::Close) => self.end(exchange, TcpEnd::Closed),
            Deed::Speaks(exchange, Piece::Reset) => self.end(exchange, TcpEnd::Failed),
        }
    }

    /// A datagram comes.
    fn hear(&mut self, socket: Socket, from: SocketAddr, bytes: &[u8]) {
        if socket == Socket::Ssdp {
            self.answered.insert(from.ip());
        }
        self.engine.handle_datagram(self.now, socket, from, bytes);
        self.drain();
    }
}

impl Machine for Wired {
    fn handle_command(&mut self, now: Time, command: Command) {
        self.now = now;
        self.engine.handle_command(now, command);
    }
    fn handle_route(
        &mut self,
        now: Time,
        _: EngineId,
        route: Option<Route>,
        hardware: Option<HardwareAddress>,
    ) {
        self.now = now;
        self.engine.handle_route_via(now, route, hardware);
    }
    fn handle_opened(&mut self, now: Time, SocketId { socket, .. }: SocketId, local: Option<SocketAddr>) {
        self.now = now;
        self.engine.handle_opened(now, socket, local);
    }
    fn handle_datagram(&mut self, now: Time, SocketId { socket, .. }: SocketId, by: Arrival, bytes: &[u8]) {
        self.now = now;
        self.hear(socket, by.from, bytes);
    }
    fn handle_refused(&mut self, now: Time, SocketId { socket, .. }: SocketId) {
        self.now = now;
        self.engine.handle_refused(now, socket);
    }
    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.now = now;
        self.engine.handle_tcp_connected(now, exchange, local);
    }
    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.now = now;
        self.engine.handle_tcp_data(now, exchange, bytes);
    }
    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.now = now;
        self.open.remove(&exchange);
        self.engine.handle_tcp_end(now, exchange, end);
    }
    fn handle_network_changed(&mut self, now: Time) {
        self.now = now;
        self.engine.handle_network_changed(now);
    }
    fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        while let Some(entry) = self.deeds.first_entry()
            && entry.key().0 <= now
        {
            let deed = entry.remove();
            self.do_deed(deed);
            self.drain();
        }
        self.engine.handle_timeout(now);
    }
    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        self.drain();
        self.outputs.pop_front().map(|output| (EngineId::IPV4, output))
    }
    fn poll_timeout(&self) -> Option<Time> {
        let deeds = self.deeds.first_key_value().map(|(&(at, _), _)| at);
        [self.engine.poll_timeout(), deeds].into_iter().flatten().min()
    }
}

pub type Harness = World<Wired>;

/// A harness that begins otherwise.
pub fn set_up(change: impl FnOnce(&mut Setup)) -> Harness {
    let mut setup = Setup::default();
    change(&mut setup);
    let engine = Engine::new(setup.engine.clone(), Box::new(Seeded::new(setup.seed)));
    World::with_engine(setup, Wired::new(engine))
}

/// A harness whose gateway speaks all protocols.
pub fn harness() -> Harness {
    set_up(|_| {})
}

/// A harness whose gateway speaks UPnP only.
pub fn upnp_harness() -> Harness {
    let mut harness = harness();
    harness.gateway().faults.closed.pcp = true;
    harness.gateway().faults.closed.natpmp = true;
    harness
}

/// A harness whose gateway speaks nothing.
pub fn bare_harness() -> Harness {
    let mut harness = set_up(|setup| setup.gateways[0].igd = None);
    harness.gateway().faults.closed.pcp = true;
    harness.gateway().faults.closed.natpmp = true;
    harness
}

impl Harness {
    /// Somebody sends us this.
    pub fn inject(&mut self, socket: Socket, from: SocketAddr, bytes: &[u8]) {
        self.act(|wired, now| wired.handle_datagram(now, socket.into(), from.into(), bytes));
    }

    /// A host answers each round of searches like this.
    pub fn answers_with(&mut self, from: SocketAddr, location: &str) {
        self.act(|wired, _| wired.answers.push((from, answer(location))));
    }

    /// At this address is a server.
    pub fn serve(&mut self, at: SocketAddr, server: Server) {
        self.act(|wired, _| wired.servers.insert(at, server));
    }

    /// As `serve`, of a rogue that names its server in answer to searches, if that is asked, and answers requests.
    pub fn serve_answers(&mut self, at: SocketAddr, answer: impl FnMut(&str) -> Speech + 'static) {
        self.serve(at, Server::Answers(Box::new(answer)));
    }

    pub fn forbid(&mut self, address: IpAddr) {
        self.act(|wired, _| wired.forbidden.insert(address));
    }

    /// What has happened on the wire.
    pub fn wire<T>(&mut self, look: impl FnOnce(&Wired) -> T) -> T {
        self.act(|wired, _| look(wired))
    }

    /// Every host that was connected to.
    pub fn connected_to(&mut self) -> Vec<SocketAddr> {
        self.wire(|wired| wired.connects.iter().map(|&(_, to)| to).collect())
    }

    /// The true gateway makes the mapping within this time.
    #[track_caller]
    pub fn assert_made_by_the_gateway(&mut self, id: MappingId, within: Duration) {
        assert!(self.runs_until(within, |harness| harness.is_success(id)), "{:?}", self.timeline(id));
        let (_, address, port) = self.success(id).expect("it is made");
        assert_eq!(address, EXTERNAL);
        assert!(self.gateway().table().iter().any(|mapping| mapping.external_port == port));
    }

    /// The datagrams sent from a socket so far.
    pub fn sent_from(&mut self, socket: Socket) -> Vec<Vec<u8>> {
        let of_it = |wired: &Wired| {
            let of_it = wired.sent.iter().filter(|(_, from, _, _)| *from == socket);
            of_it.map(|(_, _, _, bytes)| bytes.clone()).collect()
        };
        self.wire(of_it)
    }

    /// The mapping fails within this time, and the engine comes to rest.
    #[track_caller]
    pub fn assert_fails(&mut self, id: MappingId, within: Duration) {
        assert!(self.runs_until(within, |harness| harness.is_failure(id)), "{:?}", self.timeline(id));
        assert_eq!(self.callbacks(id), [Event::Failure]);
    }

    /// By whom a mapping is made.
    pub fn made_by(&self, id: MappingId) -> Option<Protocol> {
        self.success(id).map(|(protocol, _, _)| protocol)
    }

    /// The program ends, in time, and with it everything.
    #[track_caller]
    pub fn assert_ends(&mut self) {
        let took = self.cleanup();
        assert!(took <= secs(5), "{took:?}");
        assert_eq!(self.wire(|wired| wired.open.len()), 0, "a connection is left open");
    }
}
