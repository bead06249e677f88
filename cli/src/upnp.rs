//! A UPnP control point that waits for its answers: for commands that ask a gateway once. (The library's own asks many things
//! at once and never waits.)

use plum::net;
use plum::wire::http::{self, ReplyReader, Url};
use plum::wire::igd::{self, WanService};
use plum::wire::{printable, soap, ssdp};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// UPnP Device Architecture 2.0 §1.1.
const MULTICAST: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);

/// What is searched for (§1.3.2); some gateways answer to one of these only.
const TARGETS: [&str; 6] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
    "upnp:rootdevice",
];

/// Devices answer within so many seconds.
const MX_SECS: u8 = 1;

/// The searches are sent again after this long without an answer.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

/// After the first gateway that was found others may still answer for this long.
const STRAGGLER_TIMEOUT: Duration = Duration::from_millis(200);

/// Descriptions that are fetched at most: anyone may answer a search.
const MAX_LOCATIONS: usize = 16;

/// The longest reply, in bytes.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// How often a description may be somewhere else.
const MAX_REDIRECTS: usize = 3;

/// A gateway that was found.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its address.
    pub address: IpAddr,
    /// Its name, by its own account; may be empty.
    pub name: String,
    /// The services that can map ports, best first; never empty.
    pub services: Vec<Service>,
}

/// A service that can map ports.
#[derive(Clone, Debug)]
pub struct Service {
    /// Which.
    pub kind: WanService,
    service_type: String,
    control: Url,
}

/// Why an action did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionError {
    /// The gateway says no.
    Refused {
        /// UPnP's error code.
        code: u16,
        /// Its words.
        description: String,
    },
    /// There is no answer that can be read: why.
    NoAnswer(String),
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActionError::Refused { code, description } if description.is_empty() => write!(f, "error {code}"),
            ActionError::Refused { code, description } => write!(f, "error {code}: {description}"),
            ActionError::NoAnswer(reason) => f.write_str(reason),
        }
    }
}

/// Searches for gateways and reads their descriptions. With `only` that host alone is asked, else the gateway of the default
/// route and everybody on its interface.
///
/// The gateway of the route comes first, then the others in the order of their answers. Takes `timeout` if nobody answers.
pub fn find(only: Option<IpAddr>, timeout: Duration) -> io::Result<Vec<Device>> {
    let route = net::look_up_route(only)
        .ok_or_else(|| io::Error::new(ErrorKind::NetworkUnreachable, "there is no route to a gateway"))?;
    let gateway = only.or(route.gateway);
    let mut to: Vec<SocketAddr> =
        gateway.map(|address| SocketAddr::new(address, ssdp::PORT)).into_iter().collect();
    if only.is_none() {
        to.push(SocketAddr::new(MULTICAST.into(), ssdp::PORT));
    }
    let socket = UdpSocket::bind(SocketAddr::new(route.local, 0))?;
    socket.set_multicast_ttl_v4(2)?;
    let until = Instant::now() + timeout;
    let mut search_at = Instant::now();
    let mut last_at = until;
    let mut locations = BTreeSet::new();
    let mut devices: Vec<Device> = Vec::new();
    loop {
        let now = Instant::now();
        if now >= last_at.min(until) {
            break;
        }
        if now >= search_at {
            for &to in &to {
                for target in TARGETS {
                    // What cannot be sent is sent again.
                    let _ = socket.send_to(&ssdp::emit_search(to, target, MX_SECS), to);
                }
            }
            search_at = now + SEARCH_INTERVAL;
        }
        let Some((from, location)) = receive(&socket, search_at.min(last_at))? else { continue };
        // A URL elsewhere would have us ask anybody: it is the sender's, or the gateway's.
        let is_near = location.address.ip() == from || Some(location.address.ip()) == gateway;
        let name = (location.address, location.path.clone());
        let is_known = locations.contains(&name) || locations.len() >= MAX_LOCATIONS;
        if !is_near || is_known || (only.is_some() && only != Some(from)) {
            continue;
        }
        locations.insert(name);
        if let Some(device) = describe(from, &location, until) {
            devices.push(device);
            last_at = Instant::now() + STRAGGLER_TIMEOUT;
        }
    }
    devices.sort_by_key(|device| Some(device.address) != gateway);
    Ok(devices)
}

/// The next answer to a search: who sent it and where its description is. `None`: it is `until`.
fn receive(socket: &UdpSocket, until: Instant) -> io::Result<Option<(IpAddr, Url)>> {
    let mut buffer = [0; 2048];
    loop {
        let Some(left) = left(until) else { return Ok(None) };
        socket.set_read_timeout(Some(left))?;
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionRefused) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Ok(ssdp::Message::Reply(headers)) = ssdp::parse(&buffer[..len])
            && let Ok(url) = Url::parse(&headers.location)
        {
            return Ok(Some((from.ip(), url)));
        }
    }
}

/// How long until then, where that is a time at all (a timeout of zero would mean none).
fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

/// Reads a description; `None`: there is none, or it is no gateway's.
fn describe(from: IpAddr, location: &Url, until: Instant) -> Option<Device> {
    let mut url = location.clone();
    let mut redirects = 0;
    let body = loop {
        let reply = exchange(&url, &http::emit_get(&url), until).ok()?;
        match (reply.status, reply.location) {
            (200, _) => break reply.body,
            (301 | 302 | 303 | 307 | 308, Some(to)) if redirects < MAX_REDIRECTS => {
                redirects += 1;
                url = url.join(&to).ok().filter(|to| http::same_host(to, location.address.ip()))?;
            }
            _ => return None,
        }
    };
    let description = igd::parse(&body).ok()?;
    let base = match &description.url_base {
        Some(base) => {
            url.join(base).ok().filter(|base| http::same_host(base, url.address.ip())).unwrap_or(url)
        }
        None => url,
    };
    let service = |service: &igd::Service| {
        let control =
            base.join(&service.control_url).ok().filter(|url| http::same_host(url, base.address.ip()))?;
        Some(Service { kind: service.kind()?, service_type: service.service_type.clone(), control })
    };
    let mut services: Vec<Service> = description.services.iter().filter_map(service).collect();
    services.sort_by_key(|service| service.kind);
    (!services.is_empty()).then_some(Device { address: from, name: description.name, services })
}

impl Service {
    /// Calls an action; what it gives back, by name (see [`soap::get`]).
    pub fn call(
        &self,
        action: &str,
        arguments: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<Vec<(String, String)>, ActionError> {
        let body = soap::emit(&self.service_type, action, arguments);
        let request = http::emit_post(&self.control, &soap::soap_action(&self.service_type, action), &body);
        let reply = exchange(&self.control, &request, Instant::now() + timeout).map_err(|error| {
            ActionError::NoAnswer(format!("{action} at {}: {error}", self.control.address))
        })?;
        match soap::parse(&reply.body) {
            Ok(soap::Reply::Fault { code, description }) => {
                Err(ActionError::Refused { code, description: printable(&description, 200) })
            }
            Ok(soap::Reply::Response(values)) if reply.status == 200 => Ok(values),
            Ok(soap::Reply::Response(_)) | Err(_) => Err(ActionError::NoAnswer(format!(
                "{action}: the gateway answers with status {}",
                reply.status
            ))),
        }
    }
}

/// One request and its reply, until this time.
fn exchange(url: &Url, request: &[u8], until: Instant) -> io::Result<http::Reply> {
    let timed_out = || io::Error::new(ErrorKind::TimedOut, "no answer in time");
    let mut stream = TcpStream::connect_timeout(&url.address, left(until).ok_or_else(timed_out)?)?;
    stream.set_write_timeout(Some(left(until).ok_or_else(timed_out)?))?;
    stream.write_all(request)?;
    let mut reader = ReplyReader::new(MAX_REPLY_BYTES);
    let unreadable = |_| io::Error::new(ErrorKind::InvalidData, "the answer cannot be read");
    let mut buffer = [0; 16 * 1024];
    loop {
        stream.set_read_timeout(Some(left(until).ok_or_else(timed_out)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => return reader.finish().map_err(unreadable),
            Ok(len) => {
                if let Some(reply) = reader.push(&buffer[..len]).map_err(unreadable)? {
                    return Ok(reply);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(timed_out()),
            Err(error) => return Err(error),
        }
    }
}
