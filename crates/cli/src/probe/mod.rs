//! Finds out which ways of mapping a network offers: all protocols are asked at the same time, and nothing is changed.

mod ask;
pub mod ipv6;
mod surroundings;
pub mod verdict;
pub mod view;

pub use ask::{look_around, try_mapping};
pub use surroundings::{Surroundings, is_absent};

use crate::inquiry;
use plum_engine::Reason;
use serde::{Serialize, Serializer};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The findings.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// The way to the gateway by IPv4; `None`: there is none.
    pub way: Option<Way>,
    /// How this machine is connected, where that is special.
    pub surroundings: Option<Surroundings>,
    /// A public IPv6 address of this machine, if it has any.
    pub public_ipv6: Option<Ipv6Addr>,
    pub pcp: Finding<Pcp>,
    pub natpmp: Finding<Natpmp>,
    pub upnp: Finding<Upnp>,
    pub ipv6: ipv6::Ipv6,
    /// What the library would do.
    pub choice: Choice,
    /// The outcome of a trial mapping.
    pub mapping: Option<Tried>,
    /// The step at which the time ended.
    pub unfinished: Option<&'static str>,
}

/// What the library would do for a new mapping, by its ladder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The protocol that it would map by: the first that nothing speaks against.
    pub protocol: Option<String>,
    /// Why others fail, as far as that is known.
    pub failures: Vec<Failed>,
}

/// Why a protocol would make no mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub protocol: String,
    #[serde(serialize_with = "text")]
    pub reason: Reason,
}

impl From<inquiry::Choice> for Choice {
    fn from(choice: inquiry::Choice) -> Choice {
        let failures = choice.failures.into_iter();
        Choice {
            protocol: choice.rung.map(|rung| rung.protocol().to_string()),
            failures: failures
                .map(|(protocol, reason)| Failed { protocol: protocol.to_string(), reason })
                .collect(),
        }
    }
}

impl Choice {
    /// Whether a NAT stands between this machine and the server.
    pub fn is_nat_between(&self) -> bool {
        self.failures.iter().any(|failed| failed.reason == Reason::NatBetween)
    }
}

/// The way to the gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    pub interface: Option<String>,
    pub interface_index: u32,
    pub internal_address: IpAddr,
    /// Whether everyone can reach that address.
    pub is_public: bool,
    /// `None`: the route has no next hop.
    pub gateway: Option<IpAddr>,
    /// No host has the gateway's address, as far as this machine knows (ARP).
    pub gateway_is_absent: bool,
    /// The gateway was named, and is not that of the default route.
    pub gateway_is_named: bool,
}

/// The answer by one protocol.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Finding<T> {
    /// There is no server to ask.
    #[default]
    NotAsked,
    /// An answer, after so long.
    Answered {
        #[serde(rename = "took_ms", serialize_with = "millis")]
        took: Duration,
        #[serde(flatten)]
        answer: T,
    },
    /// The port is closed.
    Closed {
        #[serde(rename = "took_ms", serialize_with = "millis")]
        took: Duration,
    },
    /// No answer.
    Silent,
    /// The question could not be sent, or not to that host.
    NotSent {
        #[serde(serialize_with = "text")]
        reason: Reason,
    },
}

impl<T> Finding<T> {
    pub fn answer(&self) -> Option<&T> {
        match self {
            Finding::Answered { answer, .. } => Some(answer),
            _ => None,
        }
    }

    pub fn not_sent(&self) -> Option<Reason> {
        match self {
            Finding::NotSent { reason } => Some(*reason),
            _ => None,
        }
    }
}

/// What PCP says to ANNOUNCE and to MAP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pcp {
    /// The version that the server speaks; below 2 it is no PCP.
    pub version: u8,
    /// The result of ANNOUNCE by RFC 6887 §7.4, in the standard's words; `None`: no answer.
    pub result: Option<String>,
    /// The result of a MAP request that maps nothing; `None`: no answer.
    pub map_result: Option<String>,
    /// Nothing speaks against a mapping by it.
    pub is_usable: bool,
    /// A NAT stands between us and the server.
    pub is_address_mismatch: bool,
    /// For how long the server has known its mappings.
    pub epoch_secs: Option<u32>,
}

/// What NAT-PMP says to the question for the external address, and to a request that maps nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Natpmp {
    /// RFC 6886 §3.5, in the standard's words; `None`: the server speaks PCP only.
    pub result: Option<String>,
    /// The result of a mapping request; `None`: no answer.
    pub map_result: Option<String>,
    /// Nothing speaks against a mapping by it.
    pub is_usable: bool,
    pub external_address: Option<Ipv4Addr>,
    /// The gateway has no connection.
    pub is_network_failure: bool,
    pub epoch_secs: Option<u32>,
}

/// The devices that answer by UPnP.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Upnp {
    pub devices: Vec<Device>,
    /// Descriptions of the gateway that could not be read, and why.
    pub unreadable: Vec<String>,
}

/// A gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    pub address: IpAddr,
    pub location: String,
    pub friendly_name: String,
    pub manufacturer: String,
    pub model_name: String,
    pub igd_version: Option<u32>,
    /// When it answered the search.
    #[serde(rename = "found_ms", serialize_with = "millis")]
    pub found: Duration,
    pub services: Vec<Service>,
}

/// A service that can map ports.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    pub name: &'static str,
    pub control_url: String,
    /// The service answers at all.
    pub is_alive: bool,
    /// GetStatusInfo's word, or why there is none.
    pub connection_status: Option<String>,
    pub is_connected: bool,
    pub external_address: Option<IpAddr>,
    /// Why there is no external address.
    pub external_address_error: Option<String>,
    /// The service reports that it has no address.
    #[serde(skip)]
    pub is_without_address: bool,
    pub nat_enabled: Option<bool>,
    /// When the last of these answers came.
    #[serde(rename = "took_ms", serialize_with = "millis")]
    pub took: Duration,
    /// The library would use this one of all UPnP services.
    pub is_chosen: bool,
}

/// The outcome of a trial mapping.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Tried {
    Made {
        protocol: String,
        external_address: IpAddr,
        external_port: u16,
        #[serde(rename = "took_ms", serialize_with = "millis")]
        took: Duration,
        /// The gateway has confirmed that it is gone again.
        removed: bool,
    },
    Failed {
        reason: String,
    },
}

impl Upnp {
    /// The service that the library would use, and its device.
    pub fn chosen(&self) -> Option<(&Device, &Service)> {
        self.devices
            .iter()
            .flat_map(|device| device.services.iter().map(move |service| (device, service)))
            .find(|(_, service)| service.is_chosen)
    }

    /// Likewise, or the first service, where the library would get nothing of any.
    pub fn chosen_or_first(&self) -> Option<(&Device, &Service)> {
        let first = || self.devices.iter().find_map(|device| Some((device, device.services.first()?)));
        self.chosen().or_else(first)
    }
}

fn text<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(reason)
}

/// Milliseconds, with three digits behind the point.
fn millis<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((span.as_secs_f64() * 1e6).round() / 1e3)
}
