//! What the protocol drivers (pcp, natpmp, upnp_igd) and the engine's core say to each other.
//!
//! A driver knows how to ask one gateway by one protocol. It retransmits, paces and matches replies by
//! itself; which mapping is asked of which driver, renewals and events are the core's. All drivers have
//! these methods, and notices are taken with `poll_notice` until `None` after every call:
//!
//! - `map(cx, key, suggestion)`: make or renew the gateway mapping of a key. Ends in `Granted`, `Refused` or
//!   `TimedOut`. A second call while one is open replaces its suggestion, nothing else.
//! - `delete(cx, key)`: remove it. Ends in `Deleted`, always, within the deletion's own schedule. `map` of the same
//!   key while it is open takes it over: no `Deleted` comes then.
//! - `abandon(cx, key)`: another protocol won. Forget an unsent request; for one that was sent and neither
//!   answered nor refused, send one deletion and do not wait. A grant that still comes is a `Granted`.
//! - `forget(cx, key)`: drop all knowledge of a key without a packet (its gateway mapping is known to be gone or foreign).

use crate::ordered::Word;
use crate::wire::Transport;
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
        let transport = match self.transport {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        };
        write!(f, "{transport} {}", self.internal_port)
    }
}

/// What a refusal means for the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This protocol cannot make it: try the next one; this one again after `retry_after`.
    NextProtocol {
        /// How long the refusal holds.
        retry_after: Duration,
    },
    /// The gateway cannot make it now: FAILURE, tried again.
    Failed {
        /// How long the refusal holds, by the gateway's account; zero when it gave none.
        retry_after: Duration,
    },
}

/// How a protocol stands at this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not asked, or asked and silent so far.
    Unknown,
    /// It has answered and is still at work (a description is being fetched).
    Working,
    /// Spoken here: mappings can be asked for.
    Up,
    /// Not spoken here, until the next recheck or reset.
    Out,
}

/// What a driver tells the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `status()` changed.
    StatusChanged,
    /// PCP only: the gateway says that it speaks NAT-PMP instead (PCP is `Out` with it).
    SpeaksNatPmp,
    /// NAT-PMP only: the gateway says that it speaks PCP instead (NAT-PMP is `Out` with it).
    SpeaksPcp,
    /// The gateway made or renewed the mapping.
    Granted {
        /// Which.
        key: Key,
        /// External address as the gateway says it; unchecked.
        address: IpAddr,
        /// External port; 0 is possible (an error).
        port: u16,
        /// For how long; `None`: for ever.
        lifetime: Option<Duration>,
    },
    /// The gateway refused.
    Refused {
        /// Which.
        key: Key,
        /// What follows.
        refusal: Refusal,
    },
    /// No answer within the mapping timeout, at a gateway that is known. (In discovery there is none: the request
    /// stays open, a late answer counts, and the next `probe` sends it again.)
    TimedOut {
        /// Which.
        key: Key,
    },
    /// A deletion is answered, or given up.
    Deleted {
        /// Which.
        key: Key,
        /// Whether the gateway answered it.
        answered: bool,
    },
    /// The gateway lost its mappings (epoch). All but the one whose answer shows it are gone.
    Restarted {
        /// The key whose grant comes with it and is good.
        shown_by: Option<Key>,
    },
    /// The gateway means to keep the mapping for less time than was granted (UPnP check).
    EndsIn {
        /// Which.
        key: Key,
        /// What is left of its lifetime.
        left: Duration,
    },
    /// The mapping is no more on the gateway (UPnP check).
    Gone {
        /// Which.
        key: Key,
    },
    /// The external address is another one now (address request, UPnP check): mappings of this protocol have it.
    AddressChanged {
        /// The new one.
        address: IpAddr,
    },
    /// The gateway is to be looked at again (SSDP notification).
    Recheck,
    /// The gateway's UPnP control point is lost: search anew. Open `map` calls end with it, without a notice of
    /// their own; open deletions end in `Deleted`.
    Lost,
    /// PCP only: a NAT is between us and the gateway: look the route up, open a new socket, once.
    AddressMismatch,
}
