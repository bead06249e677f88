//! What the gateway received: counted by kind, and kept with its time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// The UPnP actions the gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // Their names are the standard's.
pub enum Action {
    GetExternalIPAddress,
    GetStatusInfo,
    GetNATRSIPStatus,
    GetSpecificPortMappingEntry,
    GetGenericPortMappingEntry,
    AddPortMapping,
    AddAnyPortMapping,
    DeletePortMapping,
    GetFirewallStatus,
    AddPinhole,
    UpdatePinhole,
    DeletePinhole,
    CheckPinholeWorking,
    GetPinholePackets,
    GetConnectionTypeInfo,
    GetCommonLinkProperties,
    GetTotalBytesSent,
    GetTotalBytesReceived,
    GetTotalPacketsSent,
    GetTotalPacketsReceived,
    GetListOfPortMappings,
    /// Any other.
    Unknown,
}

impl Action {
    /// Every action the gateway knows.
    pub const ALL: [Action; 21] = [
        Action::GetExternalIPAddress,
        Action::GetStatusInfo,
        Action::GetNATRSIPStatus,
        Action::GetSpecificPortMappingEntry,
        Action::GetGenericPortMappingEntry,
        Action::AddPortMapping,
        Action::AddAnyPortMapping,
        Action::DeletePortMapping,
        Action::GetFirewallStatus,
        Action::AddPinhole,
        Action::UpdatePinhole,
        Action::DeletePinhole,
        Action::CheckPinholeWorking,
        Action::GetPinholePackets,
        Action::GetConnectionTypeInfo,
        Action::GetCommonLinkProperties,
        Action::GetTotalBytesSent,
        Action::GetTotalBytesReceived,
        Action::GetTotalPacketsSent,
        Action::GetTotalPacketsReceived,
        Action::GetListOfPortMappings,
    ];

    /// Whether it is one of WANCommonInterfaceConfig.
    pub const fn is_of_interface(self) -> bool {
        use Action::{GetCommonLinkProperties, GetTotalBytesReceived, GetTotalBytesSent};
        use Action::{GetTotalPacketsReceived, GetTotalPacketsSent};
        matches!(
            self,
            GetCommonLinkProperties
                | GetTotalBytesSent
                | GetTotalBytesReceived
                | GetTotalPacketsSent
                | GetTotalPacketsReceived
        )
    }

    /// Whether it is one of WANIPv6FirewallControl.
    pub const fn is_of_firewall(self) -> bool {
        use Action::{AddPinhole, CheckPinholeWorking, DeletePinhole};
        use Action::{GetFirewallStatus, GetPinholePackets, UpdatePinhole};
        matches!(
            self,
            GetFirewallStatus
                | AddPinhole
                | UpdatePinhole
                | DeletePinhole
                | CheckPinholeWorking
                | GetPinholePackets
        )
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Action> {
        Action::ALL.into_iter().find(|action| format!("{action:?}") == name)
    }
}

/// The kinds of requests the gateway tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// PCP MAP with a lifetime.
    PcpMap,
    /// PCP MAP with lifetime 0.
    PcpDelete,
    /// PCP ANNOUNCE.
    PcpAnnounce,
    /// NAT-PMP external address request.
    NatPmpAddress,
    /// NAT-PMP mapping request with a lifetime.
    NatPmpMap,
    /// NAT-PMP mapping request with lifetime 0.
    NatPmpDelete,
    /// SSDP M-SEARCH, unicast or multicast, also one that is dropped for its form.
    SsdpSearch,
    /// HTTP GET of the device description.
    HttpDescription,
    /// A UPnP action.
    Soap(Action),
    /// Anything else: not a request, or not one of this gateway's.
    Other,
}

impl Kind {
    /// Its name in a script: `pcp-map`, `ssdp-search`, `AddPortMapping`.
    pub fn name(self) -> String {
        match self {
            Kind::PcpMap => "pcp-map".into(),
            Kind::PcpDelete => "pcp-delete".into(),
            Kind::PcpAnnounce => "pcp-announce".into(),
            Kind::NatPmpAddress => "natpmp-address".into(),
            Kind::NatPmpMap => "natpmp-map".into(),
            Kind::NatPmpDelete => "natpmp-delete".into(),
            Kind::SsdpSearch => "ssdp-search".into(),
            Kind::HttpDescription => "http-description".into(),
            Kind::Soap(action) => format!("{action:?}"),
            Kind::Other => "other".into(),
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Kind> {
        use Kind::{HttpDescription, NatPmpAddress, NatPmpDelete, NatPmpMap, Other};
        use Kind::{PcpAnnounce, PcpDelete, PcpMap, SsdpSearch};
        [PcpMap, PcpDelete, PcpAnnounce, NatPmpAddress, NatPmpMap, NatPmpDelete]
            .into_iter()
            .chain([SsdpSearch, HttpDescription, Other])
            .chain(Action::ALL.map(Kind::Soap))
            .find(|kind| kind.name() == name)
    }
}

/// One request, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// When, on the gateway's clock.
    pub at: Duration,
    pub kind: Kind,
    pub from: SocketAddr,
    /// The internal port it names (PCP, NAT-PMP, adding by UPnP), or else the external one.
    pub port: Option<u16>,
    /// The lifetime it asks for, in seconds.
    pub lifetime: Option<u32>,
}

/// How many of each kind have come, since the start or the last [`Counts::reset`].
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// PCP MAP with a lifetime.
    pub pcp_map: u64,
    /// PCP MAP with lifetime 0.
    pub pcp_delete: u64,
    /// PCP ANNOUNCE.
    pub pcp_announce: u64,
    /// NAT-PMP external address requests.
    pub natpmp_address: u64,
    /// NAT-PMP mapping requests with a lifetime.
    pub natpmp_map: u64,
    /// NAT-PMP mapping requests with lifetime 0.
    pub natpmp_delete: u64,
    /// M-SEARCH, unicast and multicast.
    pub ssdp_search: u64,
    /// GET of the device description.
    pub http_description: u64,
    /// UPnP actions, each by itself.
    pub soap: BTreeMap<Action, u64>,
    /// Anything else.
    pub other: u64,
    /// HTTP connections opened.
    pub http_connections: u64,
    /// The most HTTP connections open at one time.
    pub max_http_connections: usize,
    /// The most datagrams within any one second.
    pub max_packets_per_second: usize,
    /// Datagrams the script lost on their way in: not counted anywhere else.
    pub lost_requests: u64,
    /// Datagrams the script lost on their way out.
    pub lost_replies: u64,
    /// The latest requests, oldest first; at most [`Counts::KEPT`].
    pub received: VecDeque<Received>,
    last_second: VecDeque<Duration>,
}

impl Counts {
    /// How many requests `received` keeps.
    pub const KEPT: usize = 20_000;

    /// Starts anew at zero.
    pub fn reset(&mut self) {
        *self = Counts::default();
    }

    /// How many of this kind have come.
    pub fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::PcpMap => self.pcp_map,
            Kind::PcpDelete => self.pcp_delete,
            Kind::PcpAnnounce => self.pcp_announce,
            Kind::NatPmpAddress => self.natpmp_address,
            Kind::NatPmpMap => self.natpmp_map,
            Kind::NatPmpDelete => self.natpmp_delete,
            Kind::SsdpSearch => self.ssdp_search,
            Kind::HttpDescription => self.http_description,
            Kind::Soap(action) => self.soap.get(&action).copied().unwrap_or(0),
            Kind::Other => self.other,
        }
    }

    /// PCP requests of all kinds.
    pub const fn pcp(&self) -> u64 {
        self.pcp_map + self.pcp_delete + self.pcp_announce
    }

    /// NAT-PMP requests of all kinds.
    pub const fn natpmp(&self) -> u64 {
        self.natpmp_address + self.natpmp_map + self.natpmp_delete
    }

    /// SSDP searches, descriptions and actions.
    pub fn upnp(&self) -> u64 {
        self.ssdp_search + self.http_description + self.soap.values().sum::<u64>()
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.pcp() + self.natpmp() + self.upnp() + self.other
    }

    /// When each request of this kind came (of those still kept).
    pub fn times(&self, kind: Kind) -> Vec<Duration> {
        self.received.iter().filter(|r| r.kind == kind).map(|r| r.at).collect()
    }

    pub(super) fn count(&mut self, received: Received) {
        let counter = match received.kind {
            Kind::PcpMap => &mut self.pcp_map,
            Kind::PcpDelete => &mut self.pcp_delete,
            Kind::PcpAnnounce => &mut self.pcp_announce,
            Kind::NatPmpAddress => &mut self.natpmp_address,
            Kind::NatPmpMap => &mut self.natpmp_map,
            Kind::NatPmpDelete => &mut self.natpmp_delete,
            Kind::SsdpSearch => &mut self.ssdp_search,
            Kind::HttpDescription => &mut self.http_description,
            Kind::Soap(action) => self.soap.entry(action).or_default(),
            Kind::Other => &mut self.other,
        };
        *counter += 1;
        self.received.push_back(received);
        if self.received.len() > Counts::KEPT {
            self.received.pop_front();
        }
    }

    pub(super) fn count_datagram(&mut self, now: Duration) {
        while self.last_second.front().is_some_and(|&at| at + Duration::from_secs(1) <= now) {
            self.last_second.pop_front();
        }
        self.last_second.push_back(now);
        self.max_packets_per_second = self.max_packets_per_second.max(self.last_second.len());
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use Kind::{HttpDescription, NatPmpAddress, NatPmpDelete, NatPmpMap, Other};
        use Kind::{PcpAnnounce, PcpDelete, PcpMap, SsdpSearch};
        let plain = [PcpMap, PcpDelete, PcpAnnounce, NatPmpAddress, NatPmpMap, NatPmpDelete];
        let plain = plain.into_iter().chain([SsdpSearch, HttpDescription]);
        let actions = self.soap.keys().map(|&action| Kind::Soap(action));
        for kind in plain.chain(actions).chain([Other]) {
            write!(f, "{} {} ", kind.name(), self.of(kind))?;
        }
        write!(f, "http-connections {} ", self.http_connections)?;
        write!(f, "max-http-connections {} ", self.max_http_connections)?;
        write!(f, "max-packets-per-second {}", self.max_packets_per_second)
    }
}
