//! The UPnP actions that we call, and their replies.

use crate::descriptions::Descriptions;
use crate::driver::Key;
use crate::log::log;
use crate::reason::Reason;
use plum_wire::http::Reply;
use plum_wire::{Transport, soap};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

/// UPnP error codes that need another reaction than the next variant of a request: UDA 2.0 §3.2.5 (401, 606),
/// WANIPConnection:1 §2.4 and WANIPConnection:2 §2.5 (the others).
pub mod code {
    /// Pinholes: the lease is refused, or another argument.
    pub const INVALID_ARGUMENTS: i64 = 402;
    /// Pinholes: a Fritz!Box, until its owner allows it for this host.
    pub const NOT_ALLOWED_YET: i64 = 403;
    /// WANIPv6FirewallControl:1 §2.5: there is no room.
    pub const PINHOLE_SPACE_EXHAUSTED: i64 = 701;
    /// The firewall is off.
    pub const FIREWALL_DISABLED: i64 = 702;
    /// Nobody may open pinholes.
    pub const PINHOLE_NOT_ALLOWED: i64 = 703;
    /// No pinhole has this UniqueID.
    pub const NO_SUCH_PINHOLE: i64 = 704;
    /// Unknown action: another service is at the control URL.
    pub const INVALID_ACTION: i64 = 401;
    /// Not allowed: another host's entry, or a port that must not be mapped.
    pub const NOT_AUTHORIZED: i64 = 606;
    /// No such entry.
    pub const NO_SUCH_ENTRY: i64 = 714;
    /// The external port is taken.
    pub const CONFLICT: i64 = 718;
    /// External and internal port must be the same.
    pub const SAME_PORTS_REQUIRED: i64 = 724;
    /// Only lease duration 0 is supported.
    pub const PERMANENT_LEASES_ONLY: i64 = 725;
    /// Only the wildcard external port is supported.
    pub const EXTERNAL_PORT_WILDCARD_ONLY: i64 = 727;
    /// The table is full.
    pub const NO_PORT_MAPS_AVAILABLE: i64 = 728;
    /// The external port is taken by another mechanism.
    pub const CONFLICT_WITH_OTHER: i64 = 729;
}

/// A longer UniqueID cannot be kept: the standard has 16-bit numbers.
const MAX_UNIQUE_ID_BYTES: usize = 64;

/// An action to call.
#[derive(Clone, Debug)]
pub struct Action {
    /// Its name in the standard.
    pub name: &'static str,
    /// In the order of the standard, which some servers require.
    arguments: Vec<(&'static str, String)>,
}

impl Action {
    /// An action with these arguments, in the order of the standard.
    pub fn new(name: &'static str, arguments: impl IntoIterator<Item = (&'static str, String)>) -> Action {
        Action { name, arguments: arguments.into_iter().collect() }
    }

    /// Reads the entry at an external port.
    pub fn read_entry(transport: Transport, port: u16) -> Action {
        Action::on_entry("GetSpecificPortMappingEntry", transport, port)
    }

    /// Deletes the entry at an external port.
    pub fn delete(transport: Transport, port: u16) -> Action {
        Action::on_entry("DeletePortMapping", transport, port)
    }

    fn on_entry(name: &'static str, transport: Transport, port: u16) -> Action {
        let arguments = vec![
            ("NewRemoteHost", String::new()),
            ("NewExternalPort", port.to_string()),
            ("NewProtocol", transport.to_string()),
        ];
        Action { name, arguments }
    }

    /// Adds or renews an entry for `client`, for `lease_secs` seconds (0: permanent).
    pub(super) fn add(
        name: &'static str,
        key: Key,
        port: u16,
        client: IpAddr,
        description: &str,
        lease_secs: u32,
    ) -> Action {
        let mut action = Action::on_entry(name, key.transport, port);
        action.arguments.extend([
            ("NewInternalPort", key.internal_port.to_string()),
            ("NewInternalClient", client.to_string()),
            ("NewEnabled", "1".to_owned()),
            ("NewPortMappingDescription", description.to_owned()),
            ("NewLeaseDuration", lease_secs.to_string()),
        ]);
        action
    }

    /// Opens or renews a pinhole to a port of `client` for every peer. The wildcard of RemoteHost is empty: some gateways
    /// take any other text for a peer.
    pub(super) fn add_pinhole(key: Key, client: Ipv6Addr, lease_secs: u32) -> Action {
        // WANIPv6FirewallControl:1 §2.4: the protocol's number of IANA.
        let protocol = match key.transport {
            Transport::Tcp => "6",
            Transport::Udp => "17",
        };
        let arguments = vec![
            ("RemoteHost", String::new()),
            ("RemotePort", "0".to_owned()),
            ("InternalClient", client.to_string()),
            ("InternalPort", key.internal_port.to_string()),
            ("Protocol", protocol.to_owned()),
            ("LeaseTime", lease_secs.to_string()),
        ];
        Action { name: "AddPinhole", arguments }
    }

    /// Gives a pinhole another lease.
    pub(super) fn update_pinhole(unique_id: &str, lease_secs: u32) -> Action {
        let arguments = vec![("UniqueID", unique_id.to_owned()), ("NewLeaseTime", lease_secs.to_string())];
        Action { name: "UpdatePinhole", arguments }
    }

    /// Deletes a pinhole.
    pub(super) fn delete_pinhole(unique_id: &str) -> Action {
        Action::new("DeletePinhole", Some(("UniqueID", unique_id.to_owned())))
    }

    /// The SOAP body.
    pub(super) fn body(&self, service_type: &str) -> String {
        let arguments: Vec<_> = self.arguments.iter().map(|(name, value)| (*name, value.as_str())).collect();
        soap::emit(service_type, self.name, &arguments)
    }
}

/// Why an exchange has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// The connection was refused: nothing was sent.
    Refused,
    /// The connection ended before the first byte of a reply.
    Reset,
    /// The connection left from another address of this machine: nothing was sent.
    OtherSource,
    /// No complete reply in time.
    TimedOut,
    /// The connection ended within the reply, or the data is not HTTP.
    Cut,
}

/// The outcome of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// HTTP success, whatever the body: the out arguments.
    Done(Vec<(String, String)>),
    /// A UPnP error.
    Fault(i64),
    /// An HTTP error without a UPnP error.
    Status(u16),
    /// No reply.
    Failed(ExchangeError),
}

impl Outcome {
    /// Reads a reply.
    pub fn read(result: &Result<Reply, ExchangeError>) -> Outcome {
        let reply = match result {
            Ok(reply) => reply,
            Err(trouble) => return Outcome::Failed(*trouble),
        };
        let is_success = (200..300).contains(&reply.status);
        match soap::parse(&reply.body) {
            Ok(soap::Reply::Fault { code, description }) => {
                log!(Debug, "UPnP-IGD: the gateway answers error {code} ({description})");
                Outcome::Fault(code)
            }
            Ok(soap::Reply::Response(arguments)) if is_success => Outcome::Done(arguments),
            Err(_) if is_success => Outcome::Done(Vec::new()),
            Ok(_) | Err(_) => {
                log!(Debug, "UPnP-IGD: the gateway answers HTTP status {}", reply.status);
                Outcome::Status(reply.status)
            }
        }
    }

    /// The reason of a failure; `None`: success.
    pub fn reason(&self) -> Option<Reason> {
        Some(match *self {
            Outcome::Done(_) => return None,
            Outcome::Fault(code) => Reason::Upnp { code },
            Outcome::Status(status) => Reason::Http { status },
            Outcome::Failed(ExchangeError::Refused) => Reason::PortClosed,
            Outcome::Failed(ExchangeError::TimedOut) => Reason::Silence,
            Outcome::Failed(ExchangeError::OtherSource) => Reason::OtherSource,
            Outcome::Failed(ExchangeError::Reset | ExchangeError::Cut) => Reason::Unreadable,
        })
    }
}

/// The owner of the entry at an external port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Our address and the internal port in question.
    Ours,
    /// Another host, or another of our ports.
    Foreign,
    /// Not known from the reply.
    Unclear,
}

/// The out arguments.
impl Outcome {
    fn text(&self, name: &str) -> Option<&str> {
        let Outcome::Done(arguments) = self else { return None };
        soap::get(arguments, name).map(str::trim)
    }

    fn parse<T: FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    /// NewExternalIPAddress; `None`: empty, or not an address.
    pub fn external_address(&self) -> Option<IpAddr> {
        self.parse("NewExternalIPAddress")
    }

    /// Whether NewConnectionStatus is that of a working connection.
    pub fn is_connected(&self) -> bool {
        // "Up" is not in the standard, but some gateways use it.
        self.text("NewConnectionStatus")
            .is_some_and(|status| ["Connected", "Up"].iter().any(|up| status.eq_ignore_ascii_case(up)))
    }

    /// UniqueID of a pinhole; `None`: missing, or longer than any that is used.
    pub(super) fn unique_id(&self) -> Option<&str> {
        self.text("UniqueID").filter(|id| !id.is_empty() && id.len() <= MAX_UNIQUE_ID_BYTES)
    }

    /// FirewallEnabled and InboundPinholeAllowed.
    pub(super) fn firewall_status(&self) -> Option<(bool, bool)> {
        let flag = |name| soap::boolean(self.text(name)?);
        Some((flag("FirewallEnabled")?, flag("InboundPinholeAllowed").unwrap_or(true)))
    }

    /// NewReservedPort: the external port that AddAnyPortMapping assigned.
    pub(super) fn reserved_port(&self) -> Option<u16> {
        self.parse("NewReservedPort").filter(|&port| port != 0)
    }

    /// NewLeaseDuration of an entry: the rest of its lease; `None`: 0, which some gateways report for every entry.
    pub(super) fn lease_left(&self) -> Option<Duration> {
        self.parse("NewLeaseDuration")
            .filter(|&secs: &u32| secs > 0)
            .map(|secs| Duration::from_secs(secs.into()))
    }

    /// The external port of an entry, if it is certainly ours and of this key: other programs have entries, too.
    pub(super) fn external_port_of(&self, key: Key, client: IpAddr, known: &Descriptions) -> Option<u16> {
        let is_its_transport = self.text("NewProtocol")?.eq_ignore_ascii_case(&key.transport.to_string());
        self.parse("NewExternalPort").filter(|_| is_its_transport && self.is_certainly_of(key, client, known))
    }

    /// Whether an entry is certainly ours and of this key, its transport being known.
    pub(super) fn is_certainly_of(&self, key: Key, client: IpAddr, known: &Descriptions) -> bool {
        self.text("NewPortMappingDescription").is_some_and(|text| known.are_ours(text))
            && self.parse("NewInternalClient").is_some_and(|said: IpAddr| said.to_canonical() == client)
            && self.parse("NewInternalPort") == Some(key.internal_port.get())
    }

    /// The owner of the entry at an external port. Some gateways report 0 or the external port as its internal port.
    pub(super) fn owner(&self, key: Key, external_port: u16, client: IpAddr) -> Owner {
        let is_port_of_key = |said| [key.internal_port.get(), 0, external_port].contains(&said);
        match (self.parse("NewInternalClient"), self.parse("NewInternalPort")) {
            (Some(said), _) if IpAddr::to_canonical(&said) != client => Owner::Foreign,
            (Some(_), Some(said)) if !is_port_of_key(said) => Owner::Foreign,
            (Some(_), Some(_)) => Owner::Ours,
            _ => Owner::Unclear,
        }
    }
}
