//! The bench: a network of scripted devices, the driver, and the clock they share.

pub use super::devices::*;
use crate::engine::driver::{Key, Notice, Status};
use crate::engine::io::{Cx, ExchangeId, Output, Random, Socket, Suggestion, TcpEnd};
use crate::engine::schedule::Pace;
use crate::engine::upnp_igd::{Network, UpnpIgd};
use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub const GATEWAY: &str = "192.168.1.1";
pub const LOCAL: &str = "192.168.1.20";

/// How long a TCP connection takes to stand, or to be refused.
const CONNECT_MS: u64 = 1;

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

/// Numbers from a seed (splitmix64).
pub struct Seeded(pub u64);

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

enum Input {
    Datagram(SocketAddr, String),
    Connected(ExchangeId),
    Data(ExchangeId, Vec<u8>),
    End(ExchangeId, TcpEnd),
}

pub struct Bench {
    pub driver: UpnpIgd,
    now: Time,
    random: Seeded,
    pace: Pace,
    outputs: VecDeque<Output>,
    inputs: BTreeMap<(Time, u64), Input>,
    sequence: u64,
    pub devices: Vec<SsdpDevice>,
    pub servers: BTreeMap<SocketAddr, Server>,
    open: BTreeMap<ExchangeId, SocketAddr>,
    /// Transport and external port that an open exchange is about to change.
    targets: BTreeMap<ExchangeId, String>,
    /// The most connections that were open at once.
    pub max_open: usize,
    /// Every request that a server received, with the millisecond.
    pub requests: Vec<(u64, String)>,
    /// Every search sent, with the millisecond.
    pub searches: Vec<(u64, SocketAddr)>,
    /// Every connection asked for, with the millisecond.
    pub connects: Vec<(u64, SocketAddr)>,
    /// Every notice, with the millisecond.
    pub notices: Vec<(u64, Notice)>,
}

impl Bench {
    /// A network where nobody is.
    pub fn empty() -> Bench {
        Bench::with_seed(7)
    }

    /// The same, with other dice.
    pub fn with_seed(seed: u64) -> Bench {
        Bench {
            driver: UpnpIgd::new(Duration::from_secs(10), Duration::from_secs(10)),
            now: Time::ZERO,
            random: Seeded(seed),
            pace: Pace::default(),
            outputs: VecDeque::new(),
            inputs: BTreeMap::new(),
            sequence: 0,
            devices: Vec::new(),
            servers: BTreeMap::new(),
            open: BTreeMap::new(),
            targets: BTreeMap::new(),
            max_open: 0,
            requests: Vec::new(),
            searches: Vec::new(),
            connects: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// A network with one gateway that has one service.
    pub fn with_igd(service_type: &'static str) -> Bench {
        let mut bench = Bench::empty();
        bench.add_igd(service_type);
        bench
    }

    /// Adds the gateway.
    pub fn add_igd(&mut self, service_type: &'static str) {
        self.add(
            SsdpDevice::new("192.168.1.1:1900", "http://192.168.1.1:5000/root.xml"),
            "192.168.1.1:5000",
            Server::igd(service_type),
        );
    }

    pub fn add(&mut self, device: SsdpDevice, at: &str, server: Server) {
        self.devices.push(device);
        self.servers.insert(addr(at), server);
    }

    /// The gateway's server.
    pub fn server(&mut self) -> &mut Server {
        self.servers.get_mut(&addr("192.168.1.1:5000")).expect("the gateway's server")
    }

    /// The gateway's table and quirks.
    pub fn igd(&mut self) -> &mut Igd {
        self.server().controls.get_mut("/ctl").expect("the gateway's control URL")
    }

    /// The race begins in a network whose gateway is 192.168.1.1.
    pub fn start(&mut self) {
        self.start_in(Network { gateway: Some(ip(GATEWAY)), local: ip(LOCAL), named: false });
    }

    pub fn start_in(&mut self, network: Network) {
        self.drive(|driver, cx| driver.start(cx, network));
        self.drive(|driver, cx| driver.search(cx));
        self.drive(|driver, cx| driver.handle_opened(cx, Some(addr("192.168.1.20:40000"))));
    }

    /// Starts, and runs until the service is known and the external address too.
    pub fn start_up(&mut self) {
        self.start();
        self.run_until(200);
        assert_eq!(self.driver.status(), Status::Up);
        self.requests.clear();
        self.notices.clear();
    }

    pub fn map(&mut self, key: Key, suggestion: Suggestion) {
        self.drive(|driver, cx| driver.map(cx, key, suggestion));
    }

    pub fn delete(&mut self, key: Key) {
        self.drive(|driver, cx| driver.delete(cx, key));
    }

    pub fn abandon(&mut self, key: Key) {
        self.drive(|driver, cx| {
            driver.abandon(cx, key);
        });
    }

    pub fn forget(&mut self, key: Key) {
        self.drive(|driver, cx| driver.forget(cx, key));
    }

    pub fn search(&mut self) {
        self.drive(|driver, cx| driver.search(cx));
    }

    pub fn check(&mut self) {
        self.drive(|driver, cx| driver.check(cx));
    }

    pub fn notification(&mut self, from: &str, text: &str) {
        let from = addr(from);
        self.drive(|driver, cx| driver.handle_notification(cx, from, text.as_bytes()));
    }

    pub fn datagram(&mut self, from: &str, text: &str) {
        let from = addr(from);
        self.drive(|driver, cx| driver.handle_datagram(cx, from, text.as_bytes()));
    }

    /// Calls the driver, then carries out what it wants.
    pub fn drive(&mut self, call: impl FnOnce(&mut UpnpIgd, &mut Cx<'_>)) {
        let mut cx =
            Cx { now: self.now, random: &mut self.random, outputs: &mut self.outputs, pace: &mut self.pace };
        call(&mut self.driver, &mut cx);
        let millis = self.now.as_millis();
        while let Some(notice) = self.driver.poll_notice() {
            self.notices.push((millis, notice));
        }
        while let Some(output) = self.outputs.pop_front() {
            self.carry_out(output);
        }
        self.targets.retain(|id, _| self.open.contains_key(id));
        assert!(self.open.len() <= 4, "too many connections at {millis} ms");
    }

    fn later(&mut self, millis: u64, input: Input) {
        self.sequence += 1;
        self.inputs.insert((self.now + Duration::from_millis(millis), self.sequence), input);
    }

    fn carry_out(&mut self, output: Output) {
        let millis = self.now.as_millis();
        match output {
            Output::Send { socket, to, bytes } => {
                assert_eq!(socket, Socket::Ssdp);
                self.searches.push((millis, to));
                let text = String::from_utf8(bytes).expect("a search is text");
                let answers: Vec<_> = self
                    .devices
                    .iter()
                    .filter(|device| millis >= device.deaf_until_ms)
                    .filter_map(|device| {
                        device
                            .hears(to, &text)
                            .map(|target| (device.delay_ms, device.from, device.answer(target)))
                    })
                    .collect();
                for (delay_ms, from, answer) in answers {
                    self.later(delay_ms, Input::Datagram(from, answer));
                }
            }
            Output::Connect { exchange, to } => {
                self.connects.push((millis, to));
                self.open.insert(exchange, to);
                self.max_open = self.max_open.max(self.open.len());
                match self.servers.get_mut(&to) {
                    Some(server) if server.mood != Mood::Refuses => {
                        server.connections += 1;
                        self.later(CONNECT_MS, Input::Connected(exchange));
                    }
                    Some(_) => self.later(CONNECT_MS, Input::End(exchange, TcpEnd::Refused)),
                    // Nobody is there: no answer at all.
                    None => {}
                }
            }
            Output::Write { exchange, bytes } => self.serve(exchange, bytes),
            Output::HangUp { exchange } => {
                assert!(self.open.remove(&exchange).is_some(), "hung up twice: {exchange:?}");
                let of_it = |input: &Input| match input {
                    Input::Connected(id) | Input::Data(id, _) | Input::End(id, _) => *id == exchange,
                    Input::Datagram(..) => false,
                };
                self.inputs.retain(|_, input| !of_it(input));
            }
            other => panic!("not the driver's: {other:?}"),
        }
    }

    fn serve(&mut self, exchange: ExchangeId, bytes: Vec<u8>) {
        let millis = self.now.as_millis();
        let to = self.open[&exchange];
        let server = self.servers.get_mut(&to).expect("it was connected to");
        let request = String::from_utf8(bytes).expect("a request is text");
        assert!(request.contains(&format!("Host: {to}\r\n")), "{request}");
        let (mut mood, style, delay) = (server.mood, server.style, server.reply_ms);
        if server.ignores > 0 {
            server.ignores -= 1;
            mood = Mood::Silent;
        }
        if server.cuts > 0 {
            server.cuts -= 1;
            mood = Mood::HangsUp;
        }
        match mood {
            Mood::Silent => {
                self.requests.push((millis, "into silence".to_owned()));
                return;
            }
            Mood::HangsUp => {
                self.requests.push((millis, "cut".to_owned()));
                return self.later(delay, Input::End(exchange, TcpEnd::Closed));
            }
            Mood::Babbles => {
                self.later(delay, Input::Data(exchange, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
                for round in 0..64 {
                    self.later(delay + 16 * round, Input::Data(exchange, vec![b'<'; 32 << 10]));
                }
                return;
            }
            Mood::Well | Mood::Refuses | Mood::Mute => {}
        }
        let (line, status, body) = server.reply(&request);
        // One UPnP key, one request.
        let mut words = line.split(' ');
        let target = words.next().filter(|action| action.ends_with("PortMapping")).and_then(|_| {
            words.next().zip(words.next()).map(|(protocol, port)| format!("{protocol} {port}"))
        });
        self.requests.push((millis, line));
        if let Some(target) = target {
            assert!(!self.targets.values().any(|other| *other == target), "two at once: {target}");
            self.targets.insert(exchange, target);
        }
        if mood == Mood::Mute {
            return;
        }
        let head = match status {
            301..=308 => format!("HTTP/1.1 {status} Moved\r\nLocation: {body}\r\n"),
            _ => format!("HTTP/1.1 {status} Whatever\r\nContent-Type: text/xml\r\n"),
        };
        let body = if (301..=308).contains(&status) { String::new() } else { body };
        let length = body.len();
        match style {
            Style::Length => {
                let text = format!("{head}Content-Length: {length}\r\n\r\n{body}");
                self.later(delay, Input::Data(exchange, text.into_bytes()));
            }
            Style::BareLf => {
                let text = format!("{head}Content-Length: {length}\r\n\r\n").replace("\r\n", "\n") + &body;
                self.later(delay, Input::Data(exchange, text.into_bytes()));
            }
            Style::UntilClose => {
                self.later(delay, Input::Data(exchange, format!("{head}\r\n{body}").into_bytes()));
                self.later(delay + 1, Input::End(exchange, TcpEnd::Closed));
            }
            Style::TooLongLength => {
                let text = format!("{head}Content-Length: {}\r\n\r\n{body}", length + 100);
                self.later(delay, Input::Data(exchange, text.into_bytes()));
                self.later(delay + 1, Input::End(exchange, TcpEnd::Closed));
            }
            Style::SlowChunks => {
                let text =
                    format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
                for (at, byte) in text.bytes().enumerate() {
                    self.later(delay + 2 * at as u64, Input::Data(exchange, vec![byte]));
                }
            }
        }
    }

    /// Lets the time pass, up to and including this millisecond.
    pub fn run_until(&mut self, millis: u64) {
        let end = Time::from_millis(millis);
        for _ in 0..200_000 {
            let input_at = self.inputs.first_key_value().map(|(&(at, _), _)| at);
            let timer_at = self.driver.poll_timeout();
            let Some(next) = input_at.into_iter().chain(timer_at).min().filter(|&at| at <= end) else {
                self.now = self.now.max(end);
                return;
            };
            self.now = self.now.max(next);
            if input_at == Some(next) {
                let (_, input) = self.inputs.pop_first().expect("it is there");
                self.hand_over(input);
            } else {
                self.drive(|driver, cx| driver.handle_timeout(cx));
                let timer_at = self.driver.poll_timeout();
                assert!(timer_at.is_none_or(|at| at > self.now), "a timer that does not go off");
            }
        }
        panic!("it never settles");
    }

    fn hand_over(&mut self, input: Input) {
        match input {
            Input::Datagram(from, text) => {
                self.drive(|driver, cx| driver.handle_datagram(cx, from, text.as_bytes()));
            }
            Input::Connected(id) if self.open.contains_key(&id) => {
                self.drive(|driver, cx| driver.handle_tcp_connected(cx, id, addr("192.168.1.20:50000")));
            }
            Input::Data(id, bytes) if self.open.contains_key(&id) => {
                self.drive(|driver, cx| driver.handle_tcp_data(cx, id, &bytes));
            }
            Input::End(id, end) if self.open.remove(&id).is_some() => {
                self.drive(|driver, cx| driver.handle_tcp_end(cx, id, end));
            }
            Input::Connected(_) | Input::Data(..) | Input::End(..) => {}
        }
    }

    /// What the servers received, without the times.
    pub fn lines(&self) -> Vec<&str> {
        self.requests.iter().map(|(_, line)| line.as_str()).collect()
    }

    /// How many requests began so.
    pub fn count(&self, start: &str) -> usize {
        self.requests.iter().filter(|(_, line)| line.starts_with(start)).count()
    }

    /// The notices about this key.
    pub fn notices_of(&self, of: Key) -> Vec<Notice> {
        self.notices
            .iter()
            .map(|&(_, notice)| notice)
            .filter(|notice| match *notice {
                Notice::Granted { key, .. }
                | Notice::Refused { key, .. }
                | Notice::TimedOut { key }
                | Notice::Deleted { key, .. }
                | Notice::Gone { key } => key == of,
                _ => false,
            })
            .collect()
    }

    /// When a notice came.
    pub fn when(&self, wanted: impl Fn(&Notice) -> bool) -> Option<u64> {
        self.notices.iter().find(|(_, notice)| wanted(notice)).map(|&(at, _)| at)
    }
}

/// The notice of a grant for the usual lifetime.
pub fn granted(key: Key, port: u16) -> Notice {
    Notice::Granted { key, address: ip(EXTERNAL), port, lifetime: Some(Duration::from_secs(7200)) }
}

/// The notice of a permanent grant.
pub fn granted_for_ever(key: Key, port: u16) -> Notice {
    Notice::Granted { key, address: ip(EXTERNAL), port, lifetime: None }
}
