//! Scripted devices: what they answer to searches and requests.

use super::bench::{addr, ip};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

pub const EXTERNAL: &str = "8.8.4.4";
pub const IP1: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
pub const IP2: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";
pub const PPP1: &str = "urn:schemas-upnp-org:service:WANPPPConnection:1";
pub const IGD1: &str = "urn:schemas-upnp-org:device:InternetGatewayDevice:1";

/// How long a device thinks about a request.
const REPLY_MS: u64 = 10;
/// How long a device thinks about a search.
const SEARCH_MS: u64 = 50;

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
    /// Success has no body, where there is nothing that must be told.
    pub terse: bool,
    /// Entries are told without the host and port they lead to.
    pub vague: bool,
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
            terse: false,
            vague: false,
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
                if self.vague {
                    return Ok(vec![("NewEnabled", "1".to_owned())]);
                }
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

    pub fn reply(&mut self, request: &str) -> (String, u16, String) {
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
            Ok(_) if igd.terse && !action.starts_with("Get") => (line, 200, String::new()),
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

    pub fn hears(&self, to: SocketAddr, text: &str) -> Option<&'static str> {
        let is_unicast = to.ip() == self.from.ip();
        if !(is_unicast && self.unicast || to.ip().is_multicast() && self.multicast) {
            return None;
        }
        assert!(text.contains("MX: 1\r\n"), "strict servers want an MX: {text}");
        self.targets.iter().find(|target| text.contains(&format!("ST: {target}\r\n"))).copied()
    }

    pub fn answer(&self, target: &str) -> String {
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
