//! What a gateway is.

use super::{Igd, Link, WanKind, WanService};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The configuration of a gateway, apart from its faults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its address inside.
    pub address: IpAddr,
    /// UDP port of PCP and NAT-PMP.
    pub pcp_port: u16,
    /// UDP port of SSDP.
    pub ssdp_port: u16,
    /// TCP port of the device description and the actions.
    pub http_port: u16,
    /// Its address for IPv6 clients, which it is a firewall to (`with_ipv6`); `None`: it has no pinholes.
    pub ipv6: Option<Ipv6Addr>,
    /// Its address outside.
    pub external_address: Ipv4Addr,
    /// The UPnP device it is; `None`: it has no UPnP.
    pub igd: Option<Igd>,
    /// Its link to the internet, of which its UPnP device tells.
    pub link: Link,
    /// The epoch that it starts with, in seconds.
    pub first_epoch: u32,
    /// How often it announces a restart to PCP and NAT-PMP clients, after 0, 250, 500, 1000 ms and so on.
    pub announcements: u32,
    /// The most mappings it has room for.
    pub max_mappings: usize,
    /// Determines everything random.
    pub seed: u64,
}

impl Config {
    /// A gateway with all protocols at this address, on their usual ports.
    pub fn at(address: IpAddr) -> Config {
        Config {
            address,
            pcp_port: 5351,
            ssdp_port: 1900,
            http_port: 5000,
            ipv6: None,
            external_address: Ipv4Addr::new(203, 0, 113, 7),
            igd: Some(Igd::default()),
            link: Link::default(),
            first_epoch: 0,
            // RFC 6887 §14.1.3 and RFC 6886 §3.2.1: ten times, the interval doubling from 250 ms.
            announcements: 10,
            max_mappings: 65_536,
            seed: 1,
        }
    }

    /// The same gateway, for IPv6 too: it has this address there, opens pinholes by PCP, and its UPnP device, if it has
    /// one, has a WANIPv6FirewallControl:1.
    pub fn with_ipv6(mut self, address: Ipv6Addr) -> Config {
        self.ipv6 = Some(address);
        if let Some(igd) = &mut self.igd {
            igd.services.push(WanService::connected(WanKind::Firewall1));
        }
        self
    }

    /// Its address for this client.
    pub(super) fn address_for(&self, client: IpAddr) -> IpAddr {
        match self.ipv6 {
            Some(address) if client.is_ipv6() => IpAddr::V6(address),
            _ => self.address,
        }
    }

    /// Those of these two groups that it is heard in.
    pub(super) fn groups(&self, groups: [SocketAddr; 2]) -> impl Iterator<Item = SocketAddr> + use<> {
        let is_ipv6_only = self.ipv6.is_some() && self.address.is_ipv6();
        let has_ipv6 = self.ipv6.is_some();
        groups.into_iter().filter(move |group| if group.is_ipv6() { has_ipv6 } else { !is_ipv6_only })
    }
}
