//! The configuration of an engine.

use super::io::{Protocol, Route, Source};
use plum_wire::pcp::SERVER_PORT;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Which protocols may be used (`plum_config_t.protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Allowed {
    /// All.
    #[default]
    Any,
    /// PCP and NAT-PMP: no SSDP at all.
    Pcp,
    /// UPnP-IGD: no PCP or NAT-PMP packet at all.
    Upnp,
    /// PCP without NAT-PMP (Rust only).
    PcpOnly,
    /// NAT-PMP without PCP (Rust only).
    NatPmpOnly,
}

impl Allowed {
    /// Whether a gateway may be asked by this protocol.
    pub const fn permits(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Pcp => matches!(self, Allowed::Any | Allowed::Pcp | Allowed::PcpOnly),
            Protocol::NatPmp => matches!(self, Allowed::Any | Allowed::Pcp | Allowed::NatPmpOnly),
            Protocol::UpnpIgd => matches!(self, Allowed::Any | Allowed::Upnp),
            Protocol::Direct => false,
        }
    }
}

/// What cleanup does with live mappings (`PLUM_ON_CLEANUP`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCleanup {
    /// Delete them at the gateway.
    #[default]
    Remove,
    /// Leave them until their lifetime ends.
    Keep,
}

/// The configuration of an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which protocols may be used.
    pub allowed: Allowed,
    /// How long finding a gateway may take.
    pub discover_timeout: Duration,
    /// How long one mapping may take at a known gateway.
    pub mapping_timeout: Duration,
    /// How often the gateway is checked and failed mappings are retried.
    pub recheck_interval: Duration,
    /// The gateway named by PLUM_GATEWAY, with its PCP and NAT-PMP port, if given.
    pub gateway: Option<(IpAddr, Option<u16>)>,
    /// The interface that PLUM_GATEWAY names beside a link-local IPv6 address, by name or number.
    pub gateway_zone: Option<String>,
    /// What cleanup does with mappings in SUCCESS. All others are deleted.
    pub on_cleanup: OnCleanup,
    /// The address that the mappings of this engine lead to; `None`: it is the engine for IPv4.
    pub source: Option<Source>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            allowed: Allowed::Any,
            discover_timeout: Duration::from_secs(10),
            mapping_timeout: Duration::from_secs(10),
            recheck_interval: Duration::from_secs(300),
            gateway: None,
            gateway_zone: None,
            on_cleanup: OnCleanup::Remove,
            source: None,
        }
    }
}

impl Config {
    /// Where PCP and NAT-PMP requests go: to the gateway that is named, or to the next hop.
    pub fn server(&self, route: Route) -> Option<SocketAddr> {
        let (address, port) = self.gateway.or(route.gateway.map(|address| (address, None)))?;
        Some(SocketAddr::new(address, port.unwrap_or(SERVER_PORT)))
    }
}
