//! The bench: a network of scripted devices, the driver, and the clock they share.

use crate::engine::driver::{Key, Notice, Status};
use crate::engine::io::{Cx, ExchangeId, Output, Random, Socket, Suggestion, TcpEnd};
use crate::engine::upnp_igd::{Network, UpnpIgd};
use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub const GATEWAY: &str = "192.168.1.1";
pub const LOCAL: &str = "192.168.1.20";
pub const EXTERNAL: &str = "8.8.4.4";
pub const IP1: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
pub const IP2: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";
pub const PPP1: &str = "urn:schemas-upnp-org:service:WANPPPConnection:1";
pub const IGD1: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";

/// How long a TCP connection takes to stand, or to be refused.
const CONNECT_MS: u64 = 1;
/// How long a device thinks about a request.
const REPLY_MS: u64 = 10;
/// How long a device thinks about a search.
const SEARCH_MS: u64 = 50;

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

/// How a server sends its replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// With the right Content-Length, in one piece, the connection kept open.
    Length,
    /// Chunked, one byte every 2 ms.
    SlowChunks,
    /// Without a length, ended by closing.
    UntilClose,
    /// With a Content-Length that is 100 too high, then closed.
    TooLongLength,
    /// With LF alone.
    BareLf,
}

/// What a server does when it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Answers.
    Well,
    /// Refuses connections.
    Refuses,
    /// Takes connections and requests, and says nothing.
    Silent,
    /// Takes connections and closes them on the request.
    HangsUp,
    /// Sends bytes without end.
    Babbles,
    /// Does what it is asked, and says nothing.
    Mute,
}

/// The table and the quirks behind one control URL.
#[derive(Clone, Debug)]
pub struct Igd {
    pub service_type: &'static str,
    pub external: String,
    pub connection_status: &'static str,
    /// (protocol, external port) -> (client, internal port, lease)
    pub table: BTreeMap<(String, u16), (String, u16, u32)>,
    /// Answers to come: the next call of the action gets the error.
    pub script: VecDeque<(&'static str, u16)>,
    /// Calls of the action get the error, always.
    pub always: Vec<(&'static str, u16)>,
    /// Errors for calls with a lease that is not 0.
    pub lease_error: Option<u16>,
    /// Errors for calls with different external and internal ports.
    pub different_ports_error: Option<u16>,
}

impl Igd {
    pub fn new(service_type: &'static str) -> Igd {
        Igd {
            service_type,
            external: EXTERNAL.to_owned(),
            connection_status: "Connected",
            table: BTreeMap::new(),
            script: VecDeque::new(),
            always: Vec::new(),
            lease_error: None,
            different_ports_error: None,
        }
    }

    fn call(&mut self, action: &str, request: &str) -> Result<Vec<(&'static str, String)>, u16> {
        if let Some(index) = self.script.iter().position(|(name, _)| *name == action) {
            let (_, code) = self.script.remove(index).expect("it is there");
            return Err(code);
        }
        if let Some((_, code)) = self.always.iter().find(|(name, _)| *name == action) {
            return Err(*code);
        }
        let text = |name: &str| argument(request, name).to_owned();
        let number = |name: &str| argument(request, name).parse::<u32>().expect("a number");
        let entry = || (text("NewProtocol"), u16::try_from(number("NewExternalPort")).expect("a port"));
        match action {
            "GetExternalIPAddress" => Ok(vec![("NewExternalIPAddress", self.external.clone())]),
            "GetStatusInfo" => Ok(vec![
                ("NewConnectionStatus", self.connection_status.to_owned()),
                ("NewLastConnectionError", "ERROR_NONE".to_owned()),
                ("NewUptime", "100".to_owned()),
            ]),
            "GetSpecificPortMappingEntry" => {
                let (client, port, lease) = self.table.get(&entry()).ok_or(714_u16)?;
                Ok(vec![
                    ("NewInternalPort", port.to_string()),
                    ("NewInternalClient", client.clone()),
                    ("NewEnabled", "1".to_owned()),
                    ("NewPortMappingDescription", "libplum".to_owned()),
                    ("NewLeaseDuration", lease.to_string()),
                ])
            }
            "DeletePortMapping" => self.table.remove(&entry()).map(|_| Vec::new()).ok_or(714),
            "AddPortMapping" | "AddAnyPortMapping" => {
                let (protocol, mut port) = entry();
                let internal_port = u16::try_from(number("NewInternalPort")).expect("a port");
                let lease = number("NewLeaseDuration");
                if let Some(code) = self.lease_error.filter(|_| lease != 0) {
                    return Err(code);
                }
                if let Some(code) = self.different_ports_error.filter(|_| port != internal_port) {
                    return Err(code);
                }
                let client = text("NewInternalClient");
                let is_any = action == "AddAnyPortMapping";
                let is_taken = |table: &BTreeMap<(String, u16), (String, u16, u32)>, port| {
                    table.get(&(protocol.clone(), port)).is_some_and(|(host, inner, _)| {
                        *host != client || (is_any && *inner != internal_port)
                    })
                };
                while is_taken(&self.table, port) {
                    if !is_any {
                        return Err(718);
                    }
                    port += 1;
                }
                self.table.insert((protocol.clone(), port), (client, internal_port, lease));
                Ok(if is_any { vec![("NewReservedPort", port.to_string())] } else { Vec::new() })
            }
            _ => Err(401),
        }
    }
}

fn argument<'a>(request: &'a str, name: &str) -> &'a str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let start = request.find(&open).map(|at| at + open.len());
    start
        .and_then(|start| request[start..].find(&close).map(|end| &request[start..start + end]))
        .unwrap_or("")
}

/// An HTTP server: pages, and control URLs.
#[derive(Debug)]
pub struct Server {
    pub mood: Mood,
    pub style: Style,
    /// Path -> status and body; for a redirect the body is the Location.
    pub pages: BTreeMap<String, (u16, String)>,
    pub controls: BTreeMap<String, Igd>,
    pub reply_ms: u64,
    /// That many requests to come are not answered.
    pub ignores: usize,
    /// That many requests to come end with their connection.
    pub cuts: usize,
    /// Connections since the beginning.
    pub connections: usize,
}

impl Server {
    pub fn new() -> Server {
        Server {
            mood: Mood::Well,
            style: Style::Length,
            pages: BTreeMap::new(),
            controls: BTreeMap::new(),
            reply_ms: REPLY_MS,
            ignores: 0,
            cuts: 0,
            connections: 0,
        }
    }

    pub fn page(mut self, path: &str, status: u16, body: &str) -> Server {
        self.pages.insert(path.to_owned(), (status, body.to_owned()));
        self
    }

    pub fn control(mut self, path: &str, igd: Igd) -> Server {
        self.controls.insert(path.to_owned(), igd);
        self
    }

    /// A gateway with one service: description at /root.xml, control URL /ctl.
    pub fn igd(service_type: &'static str) -> Server {
        Server::new()
            .page("/root.xml", 200, &description(&[(service_type, "/ctl")]))
            .control("/ctl", Igd::new(service_type))
    }

    fn reply(&mut self, request: &str) -> (String, u16, String) {
        let mut words = request.split(' ');
        let (verb, path) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_owned());
        if verb == "GET" {
            let (status, body) = self.pages.get(&path).cloned().unwrap_or((404, String::new()));
            return (format!("GET {path}"), status, body);
        }
        let action = request
            .lines()
            .find_map(|line| line.strip_prefix("SOAPAction: "))
            .and_then(|value| value.trim_matches('"').split_once('#'))
            .map(|(_, action)| action.to_owned())
            .unwrap_or_default();
        let mut line = action.clone();
        if action.ends_with("PortMapping") || action.contains("Entry") {
            line += &format!(
                " {} {}",
                argument(request, "NewProtocol").to_lowercase(),
                argument(request, "NewExternalPort")
            );
        }
        if action.starts_with("Add") {
            line += &format!(
                " to {}:{} for {}",
                argument(request, "NewInternalClient"),
                argument(request, "NewInternalPort"),
                argument(request, "NewLeaseDuration")
            );
            assert_eq!(argument(request, "NewPortMappingDescription"), "libplum");
        }
        let Some(igd) = self.controls.get_mut(&path) else { return (line, 404, String::new()) };
        match igd.call(&action, request) {
            Ok(arguments) => {
                let inner: String =
                    arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
                let of = igd.service_type;
                (
                    line,
                    200,
                    envelope(&format!("<u:{action}Response xmlns:u=\"{of}\">{inner}</u:{action}Response>")),
                )
            }
            Err(code) => {
                line += &format!(" -> {code}");
                let fault = format!(
                    "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
                     <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{code}</errorCode>\
                     <errorDescription>no\u{7}</errorDescription></UPnPError></detail></s:Fault>"
                );
                (line, 500, envelope(&fault))
            }
        }
    }
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

/// A device description with these services and control URLs.
pub fn description(services: &[(&str, &str)]) -> String {
    description_with_base("", services)
}

pub fn description_with_base(base: &str, services: &[(&str, &str)]) -> String {
    let services: String = services
        .iter()
        .map(|(service_type, control_url)| {
            format!(
                "<service><serviceType>{service_type}</serviceType><serviceId>x</serviceId>\
                 <controlURL>{control_url}</controlURL></service>"
            )
        })
        .collect();
    format!(
        "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}<device>\
         <deviceType>{IGD1}</deviceType><friendlyName>Test</friendlyName>\
         <deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>\
         <serviceList>{services}</serviceList></device></deviceList></device></root>"
    )
}

/// An answer to searches.
#[derive(Clone, Debug)]
pub struct SsdpDevice {
    pub from: SocketAddr,
    /// The search targets it answers to.
    pub targets: Vec<&'static str>,
    pub location: String,
    pub usn: String,
    pub boot_id: Option<u32>,
    pub delay_ms: u64,
    /// Answers to unicast searches, to multicast searches.
    pub unicast: bool,
    pub multicast: bool,
    /// That many rounds of searches are lost on the way.
    pub deaf_until_ms: u64,
}

impl SsdpDevice {
    pub fn new(from: &str, location: &str) -> SsdpDevice {
        SsdpDevice {
            from: addr(from),
            targets: vec![IGD1, IP1],
            location: location.to_owned(),
            usn: format!("uuid:{}", ip(from.split(':').next().expect("an address"))),
            boot_id: None,
            delay_ms: SEARCH_MS,
            unicast: true,
            multicast: true,
            deaf_until_ms: 0,
        }
    }

    fn hears(&self, to: SocketAddr, text: &str) -> Option<&'static str> {
        let is_unicast = to.ip() == self.from.ip();
        if !(is_unicast && self.unicast || to.ip().is_multicast() && self.multicast) {
            return None;
        }
        assert!(text.contains("MX: 1\r\n"), "strict servers want an MX: {text}");
        self.targets.iter().find(|target| text.contains(&format!("ST: {target}\r\n"))).copied()
    }

    fn answer(&self, target: &str) -> String {
        let boot_id =
            self.boot_id.map(|boot_id| format!("BOOTID.UPNP.ORG: {boot_id}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {target}\r\nUSN: {}::{target}\r\nEXT:\r\n\
             SERVER: Test/1.0 UPnP/1.1\r\nLOCATION: {}\r\n{boot_id}\r\n",
            self.usn, self.location
        )
    }
}

/// A NOTIFY of a device.
pub fn notify(kind: &str, usn: &str, location: &str, boot_id: Option<u32>) -> String {
    let boot_id = boot_id.map(|boot_id| format!("BOOTID.UPNP.ORG: {boot_id}\r\n")).unwrap_or_default();
    let location = if location.is_empty() { String::new() } else { format!("LOCATION: {location}\r\n") };
    format!(
        "NOTIFY * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n{location}NT: {IGD1}\r\nNTS: ssdp:{kind}\r\n\
         USN: {usn}::{IGD1}\r\n{boot_id}\r\n"
    )
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
        self.drive(|driver, cx| driver.abandon(cx, key));
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
        let mut cx = Cx { now: self.now, random: &mut self.random, outputs: &mut self.outputs };
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
