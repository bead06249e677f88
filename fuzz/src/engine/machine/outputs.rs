//! What the engine wants done: carried out as the worker would, and looked at.

use super::{Exchange, GATEWAY, Input, LOCAL, Machine, Open, Power, gateway_time};
use crate::memory;
use plum_engine::Engine;
use plum_engine::io::{Allowed, ExchangeId, Output, Route, Socket, TcpEnd};
use plum_engine::time::Time;
use plum_gateway::core::{self as gateway, ANNOUNCEMENTS, ConnectionId, SSDP_GROUP, UdpPort};
use plum_testkit::world::Seen;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a packet takes one way.
const LATENCY: Duration = Duration::from_millis(1);
/// The most outputs of one input, beside those that mappings and requests in flight account for (128 at most).
const MAX_OUTPUTS: usize = 500;
/// The most outputs of one input for each mapping there ever was: sockets and deletions by three protocols, an event.
const MAX_OUTPUTS_A_MAPPING: usize = 12;
/// The last requests of each socket that can be answered out of the way.
const REQUESTS_KEPT: usize = 8;
/// What the engine may hold, in octets: itself, up to 16 devices (docs/protocols.md) of 32 services, and for every mapping
/// its state in the core and in three drivers.
const MEMORY: i64 = 512 * 1024;
const MEMORY_A_MAPPING: i64 = 16 * 1024;
/// What each octet on an open connection may cost: the body as it grows, and what is parsed of it.
const MEMORY_A_RECEIVED_OCTET: i64 = 4;
/// The longest HTTP reply that is read.
const MAX_REPLY: i64 = 1 << 20;
/// How long a deletion, and cleanup, wait for the gateway's next sign of life.
const LAST_SIGN_OF_LIFE: Duration = Duration::from_millis(800);

impl Machine {
    /// Calls the engine, carries out what it wants done, and looks at what must hold.
    pub(super) fn call(&mut self, act: impl FnOnce(&mut Engine, Time)) {
        self.count(|engine, now| act(engine, now));
        let most = MAX_OUTPUTS + MAX_OUTPUTS_A_MAPPING * self.created();
        let mut outputs = 0;
        self.take_outputs();
        while let Some(output) = self.outputs.pop_front() {
            outputs += 1;
            assert!(outputs <= most, "more than {most} outputs after one input: {output:?}");
            self.carry_out(output);
            self.take_outputs();
        }
        self.check();
    }

    /// All at once: what is wanted from before an input is told from what it brought about.
    fn take_outputs(&mut self) {
        while let Some(output) = self.count(|engine, _| engine.poll_output()) {
            // It is the machine's now.
            self.held -= match &output {
                Output::Send { bytes, .. } | Output::Write { bytes, .. } => {
                    i64::try_from(bytes.capacity()).expect("a short message")
                }
                _ => 0,
            };
            self.outputs.push_back(output);
        }
    }

    /// A connection breaks while outputs are carried out. The engine may have hung it up before it hears of that.
    fn break_exchange(&mut self, exchange: ExchangeId) {
        self.exchanges.remove(&exchange);
        self.outputs.retain(|output| *output != Output::HangUp { exchange });
        self.count(|engine, now| engine.handle_tcp_end(now, exchange, TcpEnd::Failed));
    }

    /// Calls the engine and counts what it allocates and frees.
    pub(super) fn count<T>(&mut self, act: impl FnOnce(&mut Engine, Time) -> T) -> T {
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
            // last sign of life (docs/protocols.md, Ending).
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
            Output::LookUpAddresses { .. } | Output::LookUpIpv6Route { .. } => {
                panic!("{output:?} of the engine for IPv4")
            }
            Output::LookUpRoute { toward } => {
                assert_eq!(toward, self.config.gateway.map(|(address, _)| address));
                // The gateway that was named is on-link; what lies behind it goes through it.
                let route = self
                    .route
                    .map(|route| Route { gateway: route.gateway.filter(|_| toward.is_none()), ..route });
                self.count(|engine, now| engine.handle_route_via(now, route, None));
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
            Output::Connect { exchange, to, .. } => self.connect(exchange, to),
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
            _ => SocketAddr::new(local, self.port()),
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
            _ => panic!("Send on {socket:?}, which only listens, or is of IPv6"),
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
        let with_host = self.exchanges.values().filter(|tcp| tcp.to.ip() == to.ip()).count();
        self.checks.connect(exchange, self.exchanges.len() + 1, with_host + 1);
        // docs/protocols.md: LOCATION's host is the answering address or the gateway, all else stays on that host.
        let host = to.ip().to_canonical();
        let gateway = self.route.and_then(|route| route.gateway);
        let is_known = host == GATEWAY || Some(host) == gateway || self.heard.contains(&host);
        assert!(is_known, "Connect to {to}, of whom nobody has heard");
        let local = SocketAddr::new(self.route.map_or(LOCAL, |route| route.local), self.port());
        self.exchanges.insert(exchange, Exchange { to, established: false, received: 0 });
        if self.failing_connects > 0 {
            self.failing_connects -= 1;
            return self.break_exchange(exchange);
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
            self.gateway.handle_tcp_end(gateway_time(self.now), ConnectionId(exchange.0));
            self.break_exchange(exchange);
        } else if self.power == Power::On {
            self.gateway.handle_tcp_data(gateway_time(self.now), ConnectionId(exchange.0), &bytes);
        }
    }

    /// Puts on its way what the gateway sends by now.
    pub(super) fn collect(&mut self) {
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
                gateway::Output::Reset { connection } => {
                    (Input::TcpEnd { exchange: ExchangeId(connection.0), end: TcpEnd::Failed }, 1)
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
