//! What is found out about IPv6: the address that a pinhole would lead to, the gateway, and whether it opens one.

mod ask;
pub mod verdict;

pub use ask::look_around;

use super::{Choice, Finding, Pcp, Tried};
use serde::Serialize;
use std::net::{IpAddr, Ipv6Addr};

/// The findings about IPv6.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Ipv6 {
    pub state: State,
    /// The interface that is named, for IPv4 too.
    #[serde(skip)]
    pub uplink: Option<String>,
    pub interface: Option<String>,
    /// The address that a pinhole would lead to, and the reason for it.
    pub address: Option<Ipv6Addr>,
    pub reason: Option<&'static str>,
    /// All addresses but link-local ones and those of the loopback interface.
    pub addresses: Vec<Address>,
    pub next_hop: Option<NextHop>,
    /// The gateway that is asked: the next hop, or the one that was named.
    pub gateway: Option<IpAddr>,
    pub gateway_is_named: bool,
    /// The other default routers of the interface.
    pub other_routers: Vec<Ipv6Addr>,
    pub pcp: Finding<Pcp>,
    pub firewall: Finding<Firewall>,
    /// What the library would do.
    pub choice: Choice,
    /// The outcome of a trial pinhole.
    pub mapping: Option<Tried>,
}

impl Ipv6 {
    /// The end of a sentence about routes.
    pub fn by_uplink(&self) -> String {
        self.uplink.as_ref().map_or_else(String::new, |name| format!(" by {name}"))
    }
}

/// How far the questions got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The system does not say anything of IPv6.
    #[default]
    Unknown,
    /// The gateway that is named is one of IPv4.
    OtherFamily,
    NoRoute,
    /// No address can be reached from the internet.
    NoAddress,
    /// The addresses are still being checked for duplicates.
    Tentative,
    Asked,
}

/// The next hop of the route to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum NextHop {
    Router,
    OnLink,
    PointToPoint,
    Unknown,
}

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    pub address: Ipv6Addr,
    pub interface_index: u32,
    pub is_temporary: bool,
    pub is_deprecated: bool,
    pub is_tentative: bool,
    /// `None`: without end.
    pub preferred_secs: Option<u32>,
}

/// What WANIPv6FirewallControl says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Firewall {
    pub address: IpAddr,
    pub friendly_name: String,
    pub control_url: String,
    /// `None`: not told.
    pub firewall_enabled: Option<bool>,
    pub inbound_pinhole_allowed: Option<bool>,
    /// Why it says nothing.
    pub error: Option<String>,
}
