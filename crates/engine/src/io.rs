//! Inputs and outputs of the engine: plain values, no I/O.

pub use super::config::{Allowed, Config, OnCleanup};
use super::descriptions::{Description, Descriptions};
use super::driver::Key;
use super::ledger::Ledger;
use super::protocols::Protocols;
use super::reason::Reason;
use super::schedule::{Pace, wait_after_failure};
use crate::log::log;
use crate::ordered::Word;
use crate::time::Time;
use plum_wire::{Transport, UnknownName, pcp};
use std::collections::LinkedList;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

/// The id of a mapping of the program; never reused.
pub type MappingId = i32;

/// Randomness: in the library from a seed and the operating system, in tests from a seed only.
pub trait Random: Send {
    /// Fills `bytes` with predictable random numbers, for times and ports.
    fn fill(&mut self, bytes: &mut [u8]);

    /// An unpredictable nonce; `None`: the operating system gives none.
    fn nonce(&mut self) -> Option<[u8; 12]> {
        let mut bytes = [0; 12];
        self.fill(&mut bytes);
        Some(bytes)
    }

    /// Another sequence, for another engine.
    fn fork(&mut self) -> Box<dyn Random>;

    /// A number in `low..=high`.
    fn in_range(&mut self, low: u64, high: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        let span = (high - low).saturating_add(1);
        // The bias of the remainder is below 2^-32 for the spans used here (times and ports).
        low + u64::from_le_bytes(bytes) % span
    }
}

/// A mapping as the program requests it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// TCP or UDP.
    pub transport: Transport,
    /// The internal port.
    pub internal_port: NonZeroU16,
    /// The suggested external address and port.
    pub wish: Suggestion,
    /// What a UPnP entry is called in the gateway's table; `None`: the library's name.
    pub description: Option<Description>,
}

/// Suggested external address and port, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suggestion {
    /// External address.
    pub address: Option<IpAddr>,
    /// External port.
    pub port: Option<NonZeroU16>,
    /// Only this external port will do.
    pub is_exact: bool,
    /// The lifetime to ask for, in seconds; 0: one without end, which UPnP-IGD alone has; `None`: the usual one.
    pub lifetime_secs: Option<u32>,
    /// The number of its description; the engine sets it.
    pub description: Option<u16>,
}

impl Suggestion {
    /// Whether a grant of this external port will do.
    pub fn accepts(&self, port: NonZeroU16) -> bool {
        !self.is_exact || self.port.is_none_or(|wished| wished == port)
    }

    /// Warns of what a second mapping of the key does not get.
    pub(crate) fn warn_of_others(&self, id: MappingId, key: Key, other: &Suggestion) {
        for (is_other, what) in [
            (other.port.is_some() && other.port != self.port, "suggests another external port"),
            (
                other.lifetime_secs.is_some() && other.lifetime_secs != self.lifetime_secs,
                "asks for another lifetime",
            ),
            (other.description.is_some() && other.description != self.description, "has another description"),
        ] {
            if is_other {
                log!(Warn, "mapping {id}: shares {key}, which {what}");
            }
        }
    }

    /// Whether a protocol can make what is asked for: only UPnP-IGD has entries without end.
    pub fn is_possible_by(&self, protocol: Protocol) -> bool {
        self.lifetime_secs != Some(0) || protocol == Protocol::UpnpIgd
    }
}

/// A protocol that makes mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Protocol {
    /// RFC 6887.
    #[cfg_attr(feature = "serde", serde(rename = "PCP"))]
    Pcp,
    /// RFC 6886.
    #[cfg_attr(feature = "serde", serde(rename = "NAT-PMP"))]
    NatPmp,
    /// UPnP IGD 1 or 2.
    #[cfg_attr(feature = "serde", serde(rename = "UPnP-IGD"))]
    UpnpIgd,
    /// The local address is public: no gateway is asked.
    #[cfg_attr(feature = "serde", serde(rename = "direct"))]
    Direct,
}

impl Protocol {
    /// The protocols that ask a gateway, in order of preference.
    pub const ASKING: [Protocol; 3] = [Protocol::Pcp, Protocol::NatPmp, Protocol::UpnpIgd];
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Protocol::Pcp => "PCP",
            Protocol::NatPmp => "NAT-PMP",
            Protocol::UpnpIgd => "UPnP-IGD",
            Protocol::Direct => "direct",
        })
    }
}

impl std::str::FromStr for Protocol {
    type Err = UnknownName;

    /// Reads what `Display` writes, in upper or lower case.
    fn from_str(text: &str) -> Result<Protocol, UnknownName> {
        let mut all = Protocol::ASKING.into_iter().chain([Protocol::Direct]);
        all.find(|protocol| protocol.to_string().eq_ignore_ascii_case(text)).ok_or(UnknownName)
    }
}

/// An event of a mapping, for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The mapping is being made, or made again. Only queries show it; there is no callback.
    Pending,
    /// The mapping is made.
    Success {
        protocol: Protocol,
        /// External address.
        address: IpAddr,
        /// External port.
        port: NonZeroU16,
    },
    /// No gateway can make the mapping for now.
    Failure,
    /// The mapping is destroyed: the last event of an id.
    Destroyed,
}

/// The route toward the gateway or the internet, as the kernel would choose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Next hop; `None`: on-link.
    pub gateway: Option<IpAddr>,
    /// Source address.
    pub local: IpAddr,
    /// Interface index.
    pub interface: u32,
}

/// An IPv6 address of this machine on the interface that has it: the source of everything that one engine sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub address: Ipv6Addr,
    /// The index of its interface.
    pub interface: u32,
}

/// The number of an engine: that for IPv4, or that of an IPv6 address. Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineId(pub u32);

impl EngineId {
    /// The engine for IPv4.
    pub const IPV4: EngineId = EngineId(0);
}

/// The origin of a datagram on an unconnected socket, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The source address.
    pub from: SocketAddr,
    /// The index of the interface that received it; 0: not known, or sent by this machine.
    pub interface: u32,
    /// The prefix length of our network; `None`: not known.
    pub prefix: Option<u8>,
    /// IPv6: the route from our address to the source has no next hop, on the interface of the socket.
    pub is_on_link: bool,
}

impl From<SocketAddr> for Arrival {
    /// An arrival of which only the source is known.
    fn from(from: SocketAddr) -> Arrival {
        Arrival { from, interface: 0, prefix: None, is_on_link: false }
    }
}

/// The engine's UDP sockets, at most one of each open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Socket {
    /// Connected to the gateway's PCP port.
    Pcp,
    /// Connected to the gateway's NAT-PMP port (the same number as PCP's, but another socket).
    NatPmp,
    /// SSDP searches and their replies: unconnected, bound to the local address.
    Ssdp,
    /// Receives 224.0.0.1:5350 on the interface (PCP ANNOUNCE, NAT-PMP address changes); never sends.
    Announcements,
    /// Receives 239.255.255.250:1900 on the interface (SSDP NOTIFY); never sends.
    Notifications,
    /// IPv6: SSDP searches on the link and their replies, bound to the interface's link-local address.
    LinkSsdp,
    /// IPv6: SSDP searches by IPv4 and their replies, bound to the IPv4 address toward the internet.
    Ipv4Ssdp,
}

impl Word for Socket {
    fn word(self) -> u64 {
        self as u64
    }
}

/// A socket of one of the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    pub engine: EngineId,
    pub socket: Socket,
}

impl From<Socket> for SocketId {
    /// The socket of the engine for IPv4.
    fn from(socket: Socket) -> SocketId {
        SocketId { engine: EngineId::IPV4, socket }
    }
}

impl Word for SocketId {
    fn word(self) -> u64 {
        u64::from(self.engine.0) << 8 | self.socket.word()
    }
}

impl Socket {
    /// UDA 2.0 §1.3.2: the TTL of a multicast search is 2 by default.
    pub const MULTICAST_HOPS: u32 = 2;

    /// The multicast group and port of a listening socket, in the family of `local`; `None`: the socket is not a
    /// listener.
    pub fn group(self, local: IpAddr) -> Option<SocketAddr> {
        // RFC 6887 §14.1.3: announcements go to 224.0.0.1 and [ff02::1].
        // UDA 2.0 §1.3.2, Annex A: SSDP uses 239.255.255.250:1900 and [ff02::c]:1900.
        let (v4, v6, port) = match self {
            Socket::Announcements => ([224, 0, 0, 1], [0xff02, 0, 0, 0, 0, 0, 0, 1], pcp::CLIENT_PORT),
            Socket::Notifications => ([239, 255, 255, 250], [0xff02, 0, 0, 0, 0, 0, 0, 0xc], 1900),
            Socket::Pcp | Socket::NatPmp | Socket::Ssdp | Socket::LinkSsdp | Socket::Ipv4Ssdp => return None,
        };
        let address = if local.is_ipv4() { IpAddr::from(v4) } else { IpAddr::from(v6) };
        Some(SocketAddr::new(address, port))
    }
}

/// The id of a TCP connection; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId(pub u64);

impl ExchangeId {
    /// The last number before those of an engine.
    pub fn before(engine: EngineId) -> u64 {
        u64::from(engine.0) << 40
    }

    /// The engine that opened it.
    pub fn engine(self) -> EngineId {
        EngineId((self.0 >> 40) as u32)
    }
}

impl Word for ExchangeId {
    fn word(self) -> u64 {
        self.0
    }
}

/// Why a TCP connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpEnd {
    /// The peer closed it after it was established.
    Closed,
    /// The connection was refused.
    Refused,
    /// Any other error (reset, unreachable).
    Failed,
    /// The system has no descriptor or memory for it: no request was sent.
    Starved,
    /// It ended while another engine had one open with the same host, which may take few at a time.
    CrowdedOut,
}

/// An output of the engine: what the worker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look up the route toward an address or the internet; answer with `handle_route_via` or `handle_route_unknown`.
    LookUpRoute {
        /// The address; `None`: the internet.
        toward: Option<IpAddr>,
    },
    /// Look up the IPv6 addresses of this machine; answer with `handle_addresses`.
    LookUpAddresses {
        /// The interface that is to be resolved, by name or number.
        zone: Option<String>,
    },
    /// Look up the route from an address of ours; answer with `handle_ipv6_route`.
    LookUpIpv6Route {
        source: Source,
        /// The address; `None`: the internet.
        toward: Option<Ipv6Addr>,
    },
    /// Open a UDP socket (closing the one it replaces); answer at once with `handle_opened`.
    Open {
        socket: Socket,
        /// Local address to bind to, with port 0 (listeners bind to their group instead).
        local: IpAddr,
        /// Interface for multicast.
        interface: u32,
        /// The gateway, for connected sockets.
        remote: Option<SocketAddr>,
    },
    /// Close a UDP socket.
    Close { socket: Socket },
    /// Send a datagram.
    Send {
        socket: Socket,
        /// The destination: for a connected socket, its peer.
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Open a TCP connection; answer with `handle_tcp_connected` or `handle_tcp_end`.
    Connect {
        /// Its id.
        exchange: ExchangeId,
        to: SocketAddr,
        /// The local address; `None`: the system chooses it.
        source: Option<Source>,
    },
    /// Send on a TCP connection that is established.
    Write { exchange: ExchangeId, bytes: Vec<u8> },
    /// Drop a TCP connection: no input about it may follow. It may be gone already, if it broke after this output was
    /// queued.
    HangUp { exchange: ExchangeId },
    /// Report an event to the program.
    Event { id: MappingId, event: Event },
    /// Cleanup is complete: every mapping had its `Destroyed`. There are no more outputs.
    Finished,
}

/// The context that all parts of an engine share.
pub struct Cx {
    /// The current time, which may be later than a timer's deadline.
    pub now: Time,
    /// What the engine was told at its start.
    pub config: Config,
    /// Randomness.
    pub random: Box<dyn Random>,
    pub outputs: LinkedList<Output>,
    /// The limit of packets sent on the library's own initiative.
    pub pace: Pace,
    /// The entries that may exist on gateways because of us.
    pub ledger: Ledger,
    /// What entries of ours may be called.
    pub descriptions: Descriptions,
    /// The states of the protocols.
    pub protocols: Protocols,
    /// When cleanup began.
    pub cleanup_at: Option<Time>,
}

impl Cx {
    /// A context without outputs, entries or known protocols.
    pub fn new(config: Config, random: Box<dyn Random>) -> Cx {
        Cx {
            now: Time::ZERO,
            config,
            random,
            outputs: LinkedList::new(),
            pace: Pace::default(),
            ledger: Ledger::default(),
            descriptions: Descriptions::default(),
            protocols: Protocols::default(),
            cleanup_at: None,
        }
    }

    /// Whether cleanup has begun.
    pub fn is_cleaning_up(&self) -> bool {
        self.cleanup_at.is_some()
    }

    /// Sets the time, and returns the context.
    pub fn at(&mut self, now: Time) -> &mut Cx {
        self.now = now;
        self
    }

    /// Adds an output.
    pub fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Records that a protocol cannot be used for now; `lifetime`: how long its refusal holds.
    pub fn note_out(&mut self, protocol: Protocol, reason: Reason, lifetime: Option<Duration>) {
        let wait = wait_after_failure(self, lifetime, self.protocols.of(protocol).outs);
        self.protocols.note_out(self.now, protocol, reason, wait);
    }

    /// A random time between `low`/`of` and `high`/`of` of `span`.
    pub fn between(&mut self, span: Duration, low: u64, high: u64, of: u64) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX / high.max(1));
        Duration::from_micros(self.random.in_range(micros * low / of, micros * high / of))
    }
}
