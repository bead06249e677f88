//! A UPnP control point that waits for its answers: for commands that ask a gateway once. (The library's own asks many things
//! at once and never waits.)

mod search;

pub use search::{Found, Search, each};

use plum_engine::upnp::preference;
use plum_wire::http::{self, ReplyReader, Url};
use plum_wire::igd::{self, WanService};
use plum_wire::{printable, soap};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

/// The longest reply, in bytes.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// How often a description may be somewhere else.
const MAX_REDIRECTS: usize = 3;

/// How long an action may take.
const ACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Services of a device that are looked at: as many as the library does.
const MAX_SERVICES: usize = 8;

/// A gateway that was found.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its address.
    pub address: IpAddr,
    /// Where its description is.
    pub location: Url,
    /// Its names, by its own account; any of them may be empty.
    pub friendly_name: String,
    pub manufacturer: String,
    pub model_name: String,
    /// Of InternetGatewayDevice; `None`: its root device is something else.
    pub igd_version: Option<u32>,
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

/// What a service says of itself.
#[derive(Clone, Debug)]
pub struct Standing {
    /// GetStatusInfo's word: `Connected`, `Disconnected` and others; cleaned.
    pub status: Result<String, ActionError>,
    /// `None`: it says that it has none.
    pub external_address: Result<Option<IpAddr>, ActionError>,
    /// Whether NAT is switched on; `None`: it does not tell.
    pub nat_enabled: Option<bool>,
}

/// Why an action did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionError {
    /// The gateway says no.
    Refused {
        /// UPnP's error code; some devices send negative ones.
        code: i64,
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

/// Why a device that answered the search is no gateway to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undescribed {
    /// It is something else.
    NoGateway,
    /// Its description is not to be had: why.
    Unreadable(String),
}

/// Searches for gateways and reads their descriptions. With `only` that host alone is asked, else the gateway of the default
/// route and everybody on its interface.
///
/// The gateway of the route comes first, then the others in the order of their answers. Takes `silence` if nobody answers, and
/// no longer than `until` if descriptions are slow.
pub fn find(only: Option<IpAddr>, silence: Duration, until: Instant) -> io::Result<Vec<Device>> {
    let search = Search::toward(only, silence)?;
    let gateway = search.gateway;
    let mut devices = each(search, until, move |found| describe(found.from, &found.location, until).ok())?;
    devices.sort_by_key(|device| Some(device.address) != gateway);
    Ok(devices)
}

/// The service that the library would use, as indexes of device and service; asks them how they stand where that decides.
pub fn choose(devices: &[Device], gateway: Option<IpAddr>, until: Instant) -> Option<(usize, usize)> {
    let services = || {
        devices.iter().enumerate().flat_map(|(d, device)| {
            device.services.iter().enumerate().map(move |(s, service)| (d, s, service))
        })
    };
    let on_gateway = |d: usize| Some(devices[d].address) == gateway;
    if services().count() == 1 {
        return Some((0, 0));
    }
    services()
        .filter_map(|(d, s, service)| Some(((d, s), on_gateway(d), service, service.standing(until)?)))
        .min_by_key(|(_, on_gateway, service, standing)| {
            preference(*on_gateway, service.kind, standing.is_connected(), standing.address())
        })
        .map(|(place, ..)| place)
}

/// Reads a description.
pub fn describe(from: IpAddr, location: &Url, until: Instant) -> Result<Device, Undescribed> {
    let unreadable =
        |reason: String| Undescribed::Unreadable(format!("{}: {reason}", printable(&text(location), 100)));
    let mut url = location.clone();
    let mut redirects = 0;
    let body = loop {
        let reply =
            exchange(&url, &http::emit_get(&url), until).map_err(|error| unreadable(error.to_string()))?;
        match (reply.status, reply.location) {
            (200, _) => break reply.body,
            (301 | 302 | 303 | 307 | 308, Some(to)) if redirects < MAX_REDIRECTS => {
                redirects += 1;
                url = url
                    .join(&to)
                    .ok()
                    .filter(|to| http::same_host(to, location.address.ip()))
                    .ok_or_else(|| unreadable("it is said to be on another host".into()))?;
            }
            (status, _) => return Err(unreadable(format!("the answer is status {status}"))),
        }
    };
    let description =
        igd::parse(&body).map_err(|_| unreadable("what is there is no device description".into()))?;
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
    let mut services: Vec<Service> =
        description.services.iter().filter_map(service).take(MAX_SERVICES).collect();
    services.sort_by_key(|service| service.kind);
    if services.is_empty() {
        return Err(Undescribed::NoGateway);
    }
    let igd_version = description
        .root_device_type
        .strip_prefix("urn:schemas-upnp-org:device:InternetGatewayDevice:")
        .and_then(|version| version.parse().ok());
    Ok(Device {
        address: from,
        location: location.clone(),
        friendly_name: description.friendly_name,
        manufacturer: description.manufacturer,
        model_name: description.model_name,
        igd_version,
        services,
    })
}

/// A URL as it is written.
fn text(url: &Url) -> String {
    format!("http://{}{}", url.address, url.path)
}

impl Device {
    /// Where its description is.
    pub fn location(&self) -> String {
        text(&self.location)
    }
}

impl Standing {
    /// Whether the service says that it works, in the words that the library takes for that.
    pub fn is_connected(&self) -> bool {
        let is = |word: &str| self.status.as_ref().is_ok_and(|status| status.eq_ignore_ascii_case(word));
        is("Connected") || is("Up")
    }

    /// The external address, if there is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.external_address.as_ref().ok().copied().flatten()
    }
}

impl Service {
    /// Where actions go.
    pub fn control_url(&self) -> String {
        text(&self.control)
    }

    /// Its name in the standard.
    pub fn name(&self) -> &'static str {
        match self.kind {
            WanService::Ip2 => "WANIPConnection:2",
            WanService::Ip1 => "WANIPConnection:1",
            WanService::Ppp1 => "WANPPPConnection:1",
        }
    }

    /// Asks a service how it stands; `None`: it does not answer at all.
    pub fn standing(&self, until: Instant) -> Option<Standing> {
        let ask = |action: &str| self.call(action, &[], until);
        let is_no_answer = |error: &ActionError| matches!(error, ActionError::NoAnswer(_));
        let value =
            |values: &[(String, String)], name| printable(soap::get(values, name).unwrap_or_default(), 100);
        let external_address = ask("GetExternalIPAddress")
            .map(|values| value(&values, "NewExternalIPAddress").parse::<IpAddr>().ok());
        let status = ask("GetStatusInfo").map(|values| value(&values, "NewConnectionStatus"));
        if external_address.as_ref().is_err_and(is_no_answer) && status.as_ref().is_err_and(is_no_answer) {
            return None;
        }
        let nat = ask("GetNATRSIPStatus").ok().map(|values| value(&values, "NewNATEnabled"));
        let nat_enabled = nat.and_then(|text| match text.to_ascii_lowercase().as_str() {
            // UDA 2.0 §2.5: how a boolean is written.
            "1" | "true" | "yes" => Some(true),
            "0" | "false" | "no" => Some(false),
            _ => None,
        });
        Some(Standing { status, external_address, nat_enabled })
    }

    /// Calls an action; what it gives back, by name (see [`soap::get`]). It has its time, but never longer than `until`.
    pub fn call(
        &self,
        action: &str,
        arguments: &[(&str, &str)],
        until: Instant,
    ) -> Result<Vec<(String, String)>, ActionError> {
        let body = soap::emit(&self.service_type, action, arguments);
        let request = http::emit_post(&self.control, &soap::soap_action(&self.service_type, action), &body);
        let until = until.min(Instant::now() + ACTION_TIMEOUT);
        let reply = exchange(&self.control, &request, until).map_err(|error| {
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
    let left = || search::left(until).ok_or_else(timed_out);
    let mut stream = TcpStream::connect_timeout(&url.address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(request)?;
    let mut reader = ReplyReader::new(MAX_REPLY_BYTES);
    let unreadable = |_| io::Error::new(ErrorKind::InvalidData, "the answer cannot be read");
    let mut buffer = [0; 16 * 1024];
    loop {
        stream.set_read_timeout(Some(left()?))?;
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
