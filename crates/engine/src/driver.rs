//! The interface between the core of the engine and the drivers (PCP, NAT-PMP, UPnP-IGD).
//!
//! A driver speaks one protocol with one gateway: it sends, retransmits, paces, matches replies, records requests in
//! the ledger, and reports outcomes by notices. The core decides which driver is asked for a mapping, which entry is
//! deleted, and what the program is told.

use super::io::{Cx, Protocol, Suggestion};
use super::reason::Reason;
use crate::ordered::Word;
use crate::time::Time;
use plum_wire::Transport;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// Identifies a gateway mapping on our side: there is one for each key, shared by all mappings of the process with that
/// key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// TCP or UDP.
    pub transport: Transport,
    /// The port on this machine.
    pub internal_port: NonZeroU16,
}

impl Word for Key {
    fn word(self) -> u64 {
        (self.transport as u64) << 16 | u64::from(self.internal_port.get())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.transport, self.internal_port)
    }
}

/// A UPnP service that can map ports. The ledger assigns the ids; a service that is found again keeps its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u16);

/// A service that could make a mapping: a step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// The gateway, by PCP.
    Pcp,
    /// The gateway, by NAT-PMP.
    NatPmp,
    /// A UPnP service, on the gateway or elsewhere.
    Upnp(ServiceId),
}

impl Rung {
    pub fn protocol(self) -> Protocol {
        match self {
            Rung::Pcp => Protocol::Pcp,
            Rung::NatPmp => Protocol::NatPmp,
            Rung::Upnp(_) => Protocol::UpnpIgd,
        }
    }

    /// The UPnP service, if it is one.
    pub fn service(self) -> Option<ServiceId> {
        match self {
            Rung::Upnp(id) => Some(id),
            Rung::Pcp | Rung::NatPmp => None,
        }
    }
}

/// Identifies an entry of the ledger by what its deletion removes: a PCP or NAT-PMP deletion names the internal port, a
/// UPnP deletion the external port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// The service that has the entry.
    pub rung: Rung,
    /// The mapping that the entry is for.
    pub key: Key,
    /// UPnP: the external port, of a pinhole 0; 0 if the gateway chose it and its reply was lost. PCP and NAT-PMP: 0.
    pub port: u16,
}

/// The purpose of a request for a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Make the mapping; the program waits.
    Make,
    /// Make the mapping; the program does not wait: it was told FAILURE, or another rung holds the mapping.
    Retry,
    /// Renew the mapping.
    Renew,
}

/// A grant of a gateway, not checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub slot: Slot,
    /// The external address; `None`: the gateway reports none.
    pub address: Option<IpAddr>,
    /// The external port; 0 is an error of the gateway.
    pub port: u16,
    /// The lifetime; `None`: permanent.
    pub lifetime: Option<Duration>,
}

/// The outcome of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionOutcome {
    /// The gateway has confirmed it, or has no such entry of ours.
    Deleted,
    /// RFC 6887 §15: the gateway accepts it, but keeps the port for this long, because it carries traffic.
    DeletedIn(Duration),
    /// The gateway has refused it, or did not answer.
    NotConfirmed(Reason),
}

/// What a driver reports to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A protocol or service has appeared, gone out, or may be asked again: seeking mappings decide again.
    Changed,
    /// The first request for a key was sent.
    Sent {
        key: Key,
        /// How long the program waits for the answer.
        within: Duration,
    },
    /// A mapping was made or renewed, perhaps by the late answer to a request that was left.
    Granted(Grant),
    /// A request has failed. A refused or unanswered renewal says nothing about the entry.
    Failed {
        key: Key,
        /// The rung that was asked.
        rung: Rung,
        reason: Reason,
        /// How long the refusal holds, if the gateway says so.
        lifetime: Option<Duration>,
    },
    /// An awaited deletion was answered, or given up.
    Deleted { slot: Slot, outcome: DeletionOutcome },
    /// The gateway may have lost its mappings: all are made again, except the one whose answer shows it.
    Restarted {
        /// The protocol whose epoch shows it.
        protocol: Protocol,
        /// The key whose grant follows and is valid.
        shown_by: Option<Key>,
    },
    /// An entry is gone from the gateway's table.
    Gone {
        slot: Slot,
        /// It was found by an early check: the mapping is made again, and nothing is reported if it comes out the same.
        quiet: bool,
    },
    /// The gateway keeps an entry for less time than was granted.
    EndsIn {
        slot: Slot,
        /// The rest of its lifetime.
        left: Duration,
    },
    /// The external address has changed.
    AddressChanged {
        /// The rung that reports it, for its own mappings.
        rung: Rung,
        address: IpAddr,
    },
    /// The gateway's firewall for IPv6 is off: the mapping needs no pinhole.
    FirewallOff {
        key: Key,
        /// The rung that was asked.
        rung: Rung,
    },
    /// The firewall is on again, or its state is not known any more.
    FirewallOn,
    /// A UPnP service was found on a device that has restarted: its mappings are made again.
    ServiceRestarted { rung: Rung },
    /// An entry has appeared that the mapping of this key does not need.
    Superfluous { key: Key },
    /// No gateway has answered the search yet: one may announce itself.
    Unanswered,
    /// The gateway's own device has appeared: mappings on other devices move to it.
    BetterService,
    /// A sign of life: silent protocols may answer now.
    SignOfLife,
    /// A NAT stands between us and the PCP server: look up the route and open another socket.
    AddressMismatch,
    /// Replies to the NAT-PMP socket may be forged: open another socket.
    Doubtful,
}

/// A protocol at one gateway. After every call, take the notices with `poll_notice` until `None`.
pub trait Driver {
    /// Makes or renews the mapping of a key. Ends in `Granted`, `Failed` or `FirewallOff`, or silently if the whole protocol goes out.
    /// If a request of the key is open, only its suggestion is replaced.
    fn map(&mut self, cx: &mut Cx, key: Key, rung: Rung, suggestion: Suggestion, request_kind: RequestKind);

    /// Another rung has granted the mapping: no more requests are sent here. A late answer still counts.
    fn leave(&mut self, cx: &mut Cx, key: Key, rung: Rung);

    /// Deletes an entry. `awaited`: ends in `Deleted`, unless a new `map` of the key takes the entry over. Otherwise
    /// sends one datagram or exchange and reports nothing.
    fn delete(&mut self, cx: &mut Cx, slot: Slot, awaited: bool);

    /// Starts or repeats discovery.
    fn probe(&mut self, cx: &mut Cx);

    /// No mapping waits any more: ends discovery.
    fn rest(&mut self, cx: &mut Cx);

    /// The recheck interval has passed. `in_use`: some of our mappings use this protocol.
    fn recheck(&mut self, cx: &mut Cx, in_use: bool);

    /// The time of `poll_timeout` has come. Early calls are harmless.
    fn handle_timeout(&mut self, cx: &mut Cx);

    /// When to call `handle_timeout`.
    fn poll_timeout(&self) -> Option<Time>;

    /// The next notice for the core.
    fn poll_notice(&mut self) -> Option<Notice>;
}
