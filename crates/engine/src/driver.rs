//! What the drivers (PCP, NAT-PMP, UPnP-IGD) and the core of the engine say to each other.
//!
//! A driver asks one gateway by one protocol: it sends, retransmits, paces, matches replies, writes what it sends into the
//! ledger, and tells by notices what came of it. Which mapping is asked of which driver, which entry is deleted, what the
//! program is told: those are the core's.

use super::io::{Cx, Protocol, Suggestion};
use super::reason::Reason;
use crate::ordered::Word;
use crate::time::Time;
use plum_wire::Transport;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

/// What a gateway mapping is known by on our side: one a process, shared by all its mappings of that key.
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

/// A UPnP service that can map ports; the ledger gives the ids out, the same one for a service that is found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u16);

/// Who could make a mapping.
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
    /// Its protocol.
    pub fn protocol(self) -> Protocol {
        match self {
            Rung::Pcp => Protocol::Pcp,
            Rung::NatPmp => Protocol::NatPmp,
            Rung::Upnp(_) => Protocol::UpnpIgd,
        }
    }

    /// The UPnP service that it is.
    pub fn service(self) -> Option<ServiceId> {
        match self {
            Rung::Upnp(id) => Some(id),
            Rung::Pcp | Rung::NatPmp => None,
        }
    }
}

/// Names an entry of the ledger by what its deletion hits: a PCP or NAT-PMP deletion the internal port, a UPnP deletion
/// the external one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Where the entry is.
    pub rung: Rung,
    /// Whose it is.
    pub key: Key,
    /// UPnP: the external port, 0 where the gateway chose it and its reply was lost. PCP and NAT-PMP: 0.
    pub port: u16,
}

/// What a mapping is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// To make it: the program waits.
    Make,
    /// The same, but nobody waits: it has failed before, or another rung holds it.
    Retry,
    /// To renew it.
    Renew,
}

/// What a gateway has granted, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which entry.
    pub slot: Slot,
    /// The external address; `None`: the gateway tells none.
    pub address: Option<IpAddr>,
    /// The external port; 0 is an error of the gateway.
    pub port: u16,
    /// For how long; `None`: for ever.
    pub lifetime: Option<Duration>,
}

/// What came of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionOutcome {
    /// The gateway has confirmed it, or has no such entry of ours.
    Deleted,
    /// The gateway accepts it, and keeps the port for this long still (RFC 6887 §15: it carries traffic).
    DeletedIn(Duration),
    /// The gateway refuses it, or does not answer.
    NotConfirmed(Reason),
}

/// What a driver tells the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A protocol or one of its services is there, or out, or may be asked again: whoever waits looks again.
    Changed,
    /// The first request for a key has left.
    Sent {
        /// Which.
        key: Key,
        /// For how long the program waits for it.
        within: Duration,
    },
    /// A mapping was made or renewed; perhaps by the late answer to a request that nobody waits for any more.
    Granted(Grant),
    /// A request has failed; a refused or unanswered renewal says nothing about what it was to renew.
    Failed {
        /// Whose.
        key: Key,
        /// Who was asked.
        rung: Rung,
        /// Why.
        reason: Reason,
        /// How long the refusal holds, by the gateway's account.
        lifetime: Option<Duration>,
    },
    /// A deletion that was awaited is answered, or given up.
    Deleted {
        /// Of which entry.
        slot: Slot,
        /// What came of it.
        outcome: DeletionOutcome,
    },
    /// The gateway may have lost its mappings: all are made anew but the one whose answer shows it.
    Restarted {
        /// The protocol whose epoch shows it.
        protocol: Protocol,
        /// The key whose grant follows and is good.
        shown_by: Option<Key>,
    },
    /// An entry is gone from the gateway's table. `quiet`: it is made anew without a word if it comes out the same.
    Gone {
        /// Which.
        slot: Slot,
        /// It was an early look, and the program had not relied on the entry for long.
        quiet: bool,
    },
    /// The gateway keeps an entry for less time than was granted.
    EndsIn {
        /// Which.
        slot: Slot,
        /// What is left.
        left: Duration,
    },
    /// The external address is another one now.
    AddressChanged {
        /// Who says so, for what it has made.
        rung: Rung,
        /// The new one.
        address: IpAddr,
    },
    /// A UPnP service was found again on a device that has restarted: what it held is made anew.
    ServiceRestarted {
        /// Which.
        rung: Rung,
    },
    /// An entry has turned up that the mapping of this key does not need.
    Superfluous {
        /// Which.
        key: Key,
    },
    /// No gateway answers the search so far: it may yet announce itself.
    Unanswered,
    /// The gateway's own device is there: what is made elsewhere moves to it.
    BetterService,
    /// Something changed that makes it worth asking again those that were silent.
    SignOfLife,
    /// A NAT stands between us and the PCP server: look the route up and open another socket.
    AddressMismatch,
    /// What came to the NAT-PMP socket is in doubt: open another one.
    Doubtful,
}

/// One protocol's way to a gateway. Notices are taken with `poll_notice` until `None` after every call.
pub trait Driver {
    /// Makes or renews the mapping of a key. Ends in `Granted` or `Failed`, or silently when the whole protocol
    /// goes out. While a request of the key is open, only its suggestion is replaced.
    fn map(&mut self, cx: &mut Cx, key: Key, rung: Rung, suggestion: Suggestion, request_kind: RequestKind);

    /// Another rung has made the mapping: nothing more is sent for it here. An answer that comes still counts.
    fn leave(&mut self, cx: &mut Cx, key: Key, rung: Rung);

    /// Deletes an entry. `awaited`: ends in `Deleted`, unless a new `map` of the key takes it over; else one datagram or
    /// exchange is spent on it and nothing is said.
    fn delete(&mut self, cx: &mut Cx, slot: Slot, awaited: bool);

    /// Looks for the gateway: what is silent is asked (again).
    fn probe(&mut self, cx: &mut Cx);

    /// All who waited have what they wanted: what is only discovery falls silent.
    fn rest(&mut self, cx: &mut Cx);

    /// The recheck period has passed. `in_use`: mappings of ours are by this protocol.
    fn recheck(&mut self, cx: &mut Cx, in_use: bool);

    /// The time of `poll_timeout` has come (earlier calls do no harm).
    fn handle_timeout(&mut self, cx: &mut Cx);

    /// When to call `handle_timeout`.
    fn poll_timeout(&self) -> Option<Time>;

    /// What the core is told, until `None`.
    fn poll_notice(&mut self) -> Option<Notice>;
}
