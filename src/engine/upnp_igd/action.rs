//! The actions we call, as requests, and what their replies say.

use crate::engine::driver::Key;
use crate::log::log;
use crate::wire::http::Reply;
use crate::wire::{Transport, soap};
use std::net::IpAddr;
use std::time::Duration;

/// What is written into the gateway's table.
const DESCRIPTION: &str = "libplum";

/// UPnP error codes that lead to something other than a plain failure: UPnP Device Architecture 2.0, section
/// 3.1.2 (4xx, 5xx, 602), WANIPConnection:1 section 2.4 and WANIPConnection:2 section 2.5 (the others).
pub(super) mod code {
    /// No such action.
    pub const INVALID_ACTION: u16 = 401;
    /// An argument is missing, superfluous or of no use.
    pub const INVALID_ARGS: u16 = 402;
    /// The action did not work, for whatever reason.
    pub const ACTION_FAILED: u16 = 501;
    /// An optional action that is not there.
    pub const OPTIONAL_ACTION: u16 = 602;
    /// Not for us (another host's entry, a port that is not to be mapped).
    pub const NOT_AUTHORIZED: u16 = 606;
    /// No such entry.
    pub const NO_SUCH_ENTRY: u16 = 714;
    /// The external port is taken.
    pub const CONFLICT: u16 = 718;
    /// External and internal port have to be the same.
    pub const SAME_PORTS_REQUIRED: u16 = 724;
    /// Lease duration 0 only.
    pub const PERMANENT_LEASES_ONLY: u16 = 725;
    /// Only "every external port" can be mapped.
    pub const EXTERNAL_PORT_WILDCARD_ONLY: u16 = 727;
    /// The table is full.
    pub const NO_PORT_MAPS_AVAILABLE: u16 = 728;
    /// The external port is taken by another mechanism.
    pub const CONFLICT_WITH_OTHER: u16 = 729;
}

/// A call of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Whether the service is connected.
    GetStatusInfo,
    /// The external address.
    GetExternalIpAddress,
    /// Makes or renews an entry.
    AddPortMapping(Entry),
    /// Makes an entry, at another external port if that one is taken (WANIPConnection:2 only).
    AddAnyPortMapping(Entry),
    /// The entry at an external port.
    GetSpecificPortMappingEntry {
        /// TCP or UDP.
        transport: Transport,
        /// External port.
        port: u16,
    },
    /// Removes the entry at an external port.
    DeletePortMapping {
        /// TCP or UDP.
        transport: Transport,
        /// External port.
        port: u16,
    },
}

/// An entry to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Transport and internal port.
    pub(super) key: Key,
    /// External port.
    pub(super) port: u16,
    /// The host it leads to: ours.
    pub(super) client: IpAddr,
    /// Seconds; 0: for ever.
    pub(super) lease_duration: u32,
}

fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

impl Action {
    /// Its name in the standard.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Action::GetStatusInfo => "GetStatusInfo",
            Action::GetExternalIpAddress => "GetExternalIPAddress",
            Action::AddPortMapping(_) => "AddPortMapping",
            Action::AddAnyPortMapping(_) => "AddAnyPortMapping",
            Action::GetSpecificPortMappingEntry { .. } => "GetSpecificPortMappingEntry",
            Action::DeletePortMapping { .. } => "DeletePortMapping",
        }
    }

    /// The SOAP body; the arguments in the order of the standard, which some servers insist on.
    pub(super) fn body(&self, service_type: &str) -> String {
        match *self {
            Action::GetStatusInfo | Action::GetExternalIpAddress => {
                soap::emit(service_type, self.name(), &[])
            }
            Action::AddPortMapping(entry) | Action::AddAnyPortMapping(entry) => soap::emit(
                service_type,
                self.name(),
                &[
                    ("NewRemoteHost", ""),
                    ("NewExternalPort", &entry.port.to_string()),
                    ("NewProtocol", protocol(entry.key.transport)),
                    ("NewInternalPort", &entry.key.internal_port.to_string()),
                    ("NewInternalClient", &entry.client.to_string()),
                    ("NewEnabled", "1"),
                    ("NewPortMappingDescription", DESCRIPTION),
                    ("NewLeaseDuration", &entry.lease_duration.to_string()),
                ],
            ),
            Action::GetSpecificPortMappingEntry { transport, port }
            | Action::DeletePortMapping { transport, port } => soap::emit(
                service_type,
                self.name(),
                &[
                    ("NewRemoteHost", ""),
                    ("NewExternalPort", &port.to_string()),
                    ("NewProtocol", protocol(transport)),
                ],
            ),
        }
    }
}

/// What the gateway answered to an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done.
    Done(OutArguments),
    /// A UPnP error.
    Error(u16),
    /// Neither.
    Nonsense,
}

/// The out arguments of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OutArguments(Vec<(String, String)>);

impl Answer {
    /// Reads a reply.
    pub(super) fn read(reply: &Reply) -> Answer {
        let is_ok = (200..300).contains(&reply.status);
        match soap::parse(&reply.body) {
            Ok(soap::Reply::Response(arguments)) if is_ok => Answer::Done(OutArguments(arguments)),
            Ok(soap::Reply::Fault { code, description }) => {
                log!(Debug, "UPnP-IGD: error {code} ({description})");
                Answer::Error(code)
            }
            // Some servers have nothing to say about what they have done.
            Err(_) if is_ok && reply.body.iter().all(u8::is_ascii_whitespace) => {
                Answer::Done(OutArguments::default())
            }
            Ok(_) | Err(_) => {
                log!(Debug, "UPnP-IGD: reply without meaning, HTTP status {}", reply.status);
                Answer::Nonsense
            }
        }
    }
}

/// Whom the entry at an external port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Us, to the internal port in question.
    Ours,
    /// Another host, or another port of ours.
    Foreign,
    /// The reply does not say.
    Unclear,
}

impl OutArguments {
    /// NewExternalIPAddress; `None` where it is empty or no address.
    pub(super) fn external_address(&self) -> Option<IpAddr> {
        soap::get(&self.0, "NewExternalIPAddress")?.trim().parse().ok()
    }

    /// Whether NewConnectionStatus is that of a connection that works.
    pub(super) fn is_connected(&self) -> bool {
        // "Up" is no value of the standard, but some gateways use it.
        soap::get(&self.0, "NewConnectionStatus")
            .map(str::trim)
            .is_some_and(|status| ["Connected", "Up"].iter().any(|up| status.eq_ignore_ascii_case(up)))
    }

    /// NewReservedPort: the external port that AddAnyPortMapping has chosen.
    pub(super) fn reserved_port(&self) -> Option<u16> {
        soap::get(&self.0, "NewReservedPort")?.trim().parse().ok().filter(|&port| port != 0)
    }

    /// NewLeaseDuration of an entry: the seconds that are left of it; `None` where that is 0, which some gateways say of
    /// every entry.
    pub(super) fn lease_left(&self) -> Option<Duration> {
        let secs: u32 = soap::get(&self.0, "NewLeaseDuration")?.trim().parse().ok()?;
        (secs > 0).then(|| Duration::from_secs(secs.into()))
    }

    /// Whom an entry leads to.
    pub(super) fn owner(&self, key: Key, client: IpAddr) -> Owner {
        let said_client: Option<IpAddr> =
            soap::get(&self.0, "NewInternalClient").and_then(|text| text.trim().parse().ok());
        let said_port: Option<u16> =
            soap::get(&self.0, "NewInternalPort").and_then(|text| text.trim().parse().ok());
        match (said_client, said_port) {
            (Some(said), _) if said.to_canonical() != client => Owner::Foreign,
            (_, Some(said)) if said != key.internal_port.get() => Owner::Foreign,
            (Some(_), Some(_)) => Owner::Ours,
            _ => Owner::Unclear,
        }
    }
}
