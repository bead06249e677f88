//! Why a protocol or service did not make a mapping.

use super::io::Protocol;
use std::fmt;
use std::net::IpAddr;

/// The cause of a failure, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Reason {
    /// There is no route to the internet, or to the named gateway.
    NoRoute,
    /// The route could not be looked up, or no socket could be opened.
    Shortage,
    /// The system gives no random numbers, which a PCP nonce needs.
    NoRandomness,
    /// No answer came.
    Silence,
    /// The port is closed (ICMP port unreachable), or the connection was refused.
    PortClosed,
    /// A firewall of this machine blocks the packet (EPERM).
    Firewall,
    /// No host answers at the gateway's address (ARP, ICMP host unreachable).
    Unreachable,
    /// The server does not support the protocol in a version known here.
    Unsupported,
    /// Another host answers in the server's name.
    Forged,
    /// A PCP or NAT-PMP result code.
    Result {
        /// PCP or NAT-PMP, whose codes differ.
        protocol: Protocol,
        code: u16,
    },
    /// A UPnP error.
    Upnp {
        /// The code; some devices send negative ones and others outside the standard.
        code: i64,
    },
    /// The HTTP status of a reply without a UPnP error.
    Http { status: u16 },
    /// The connection ended before a reply, or the reply cannot be read.
    Unreadable,
    /// A UPnP device was found, and its description was not to be had.
    NoDescription {
        /// The HTTP status of the reply; `None`: there was no reply that could be read.
        status: Option<u16>,
    },
    /// The grant has a lifetime or external port of 0.
    EmptyGrant,
    /// The gateway has no usable external address: its internet connection is down.
    NoAddress {
        /// The address that it reports; `None`: none.
        address: Option<IpAddr>,
    },
    /// The grant has an address that no host on the internet can reach by IPv6.
    NotGlobal { address: IpAddr },
    /// A connection would have left from another address of this machine.
    OtherSource,
    /// All external ports that were tried are taken.
    PortsTaken,
    /// A NAT stands between this machine and the server (PCP ADDRESS_MISMATCH).
    NatBetween,
    /// The entry was granted, but is not in the gateway's table.
    Vanished,
    /// PLUM_GATEWAY names a gateway of the other family.
    OtherFamily,
    /// There is no IPv6 route to the internet.
    NoIpv6Route,
    /// This machine has no global IPv6 address on the interface of its route to the internet.
    NoIpv6Address,
    /// The IPv6 address that the program names is not one of this machine.
    NotOurAddress { address: IpAddr },
    /// No host on the internet can reach this kind of address.
    NotReachable { address: IpAddr },
    /// Mappings lead to as many IPv6 addresses as can be looked after.
    TooManyAddresses,
}

/// The names of the PCP result codes (RFC 6887 §7.4), by code.
const PCP_NAMES: [&str; 14] = [
    "SUCCESS",
    "UNSUPP_VERSION",
    "NOT_AUTHORIZED",
    "MALFORMED_REQUEST",
    "UNSUPP_OPCODE",
    "UNSUPP_OPTION",
    "MALFORMED_OPTION",
    "NETWORK_FAILURE",
    "NO_RESOURCES",
    "UNSUPP_PROTOCOL",
    "USER_EX_QUOTA",
    "CANNOT_PROVIDE_EXTERNAL",
    "ADDRESS_MISMATCH",
    "EXCESSIVE_REMOTE_PEERS",
];

/// The names of the NAT-PMP result codes (RFC 6886 §3.5), by code.
const NATPMP_NAMES: [&str; 6] = [
    "Success",
    "Unsupported Version",
    "Not Authorized/Refused",
    "Network Failure",
    "Out of resources",
    "Unsupported opcode",
];

/// The standard name of a UPnP error code: UDA 2.0 §3.2.5 (401 to 606), WANIPv6FirewallControl:1 §2.5 (701 to 704),
/// WANIPConnection:2 §2.5 (714 and above).
fn upnp_name(code: i64) -> Option<&'static str> {
    Some(match code {
        401 => "Invalid Action",
        402 => "Invalid Args",
        403 => "Out of Sync",
        501 => "Action Failed",
        600 => "Argument Value Invalid",
        601 => "Argument Value Out of Range",
        602 => "Optional Action Not Implemented",
        603 => "Out of Memory",
        604 => "Human Intervention Required",
        605 => "String Argument Too Long",
        606 => "Action not authorized",
        701 => "PinholeSpaceExhausted",
        702 => "FirewallDisabled",
        703 => "InboundPinholeNotAllowed",
        704 => "NoSuchEntry",
        714 => "NoSuchEntryInArray",
        715 => "WildCardNotPermittedInSrcIP",
        716 => "WildCardNotPermittedInExtPort",
        718 => "ConflictInMappingEntry",
        724 => "SamePortValuesRequired",
        725 => "OnlyPermanentLeasesSupported",
        726 => "RemoteHostOnlySupportsWildcard",
        727 => "ExternalPortOnlySupportsWildcard",
        728 => "NoPortMapsAvailable",
        729 => "ConflictWithOtherMechanisms",
        732 => "WildCardNotPermittedInIntPort",
        _ => return None,
    })
}

impl Reason {
    /// Whether there was no answer, so that a sign of life makes another attempt worthwhile.
    pub fn is_silence(self) -> bool {
        matches!(
            self,
            Reason::Silence
                | Reason::PortClosed
                | Reason::Unreachable
                | Reason::NoDescription { status: None }
        )
    }

    /// The standard name of the code, if it has one.
    pub fn code_name(self) -> Option<&'static str> {
        match self {
            Reason::Result { protocol: Protocol::Pcp, code } => PCP_NAMES.get(usize::from(code)).copied(),
            Reason::Result { code, .. } => NATPMP_NAMES.get(usize::from(code)).copied(),
            Reason::Upnp { code } => upnp_name(code),
            _ => None,
        }
    }

    /// An explanation for users.
    fn sentence(self) -> &'static str {
        match self {
            Reason::NoRoute => "there is no route to a gateway",
            Reason::Shortage => "the system has no descriptor or memory left",
            Reason::NoRandomness => "the system gives no random numbers, which its requests need",
            Reason::Silence => "no answer",
            Reason::PortClosed => "the port is closed",
            Reason::Firewall => "a firewall of this machine lets no packet out",
            Reason::Unreachable => "no host answers at the gateway's address",
            Reason::Unsupported => "the gateway does not speak it",
            Reason::Forged => "another host answers in the gateway's name",
            Reason::Http { .. } => "the gateway answers with HTTP status",
            Reason::Unreadable => "the gateway's answer cannot be read",
            Reason::NoDescription { status: None } => "the description of its device was not to be had",
            Reason::NoDescription { status: Some(_) } => {
                "the description of its device was not to be had: HTTP status"
            }
            Reason::EmptyGrant => "the gateway grants nothing: port or lifetime 0",
            Reason::NoAddress { address: Some(_) } => {
                "the gateway has no external IPv4 address: its internet connection is down"
            }
            Reason::NoAddress { address: None } => "the gateway does not tell its external address",
            Reason::NotGlobal { .. } => "the gateway gives an address that is not a global IPv6 address",
            Reason::OtherSource => "the connection leaves from another address than the one to be reached",
            Reason::PortsTaken => "the external ports that were tried are taken",
            Reason::NatBetween => "another NAT stands between this machine and the gateway's server",
            Reason::Vanished => "the gateway says that it made the mapping, and does not have it",
            Reason::OtherFamily => "PLUM_GATEWAY names a gateway of the other IP version",
            Reason::NoIpv6Route => "this machine has no IPv6 route to the internet",
            Reason::NoIpv6Address => "this machine has no global IPv6 address",
            Reason::NotOurAddress { .. } => "this machine does not have the address",
            Reason::NotReachable { .. } => "no host on the internet can reach such an address",
            Reason::TooManyAddresses => "mappings lead to eight other IPv6 addresses already",
            Reason::Result { protocol: Protocol::Pcp, code: 2 } => {
                "the gateway does not let this host map ports, or keeps a mapping of this port left by an earlier run of the program"
            }
            Reason::Result { protocol: Protocol::Pcp, code: 7 }
            | Reason::Result { protocol: Protocol::NatPmp, code: 3 } => {
                "the gateway cannot map ports: its internet connection is down"
            }
            Reason::Result { protocol: Protocol::Pcp, code: 8 }
            | Reason::Result { protocol: Protocol::NatPmp, code: 4 }
            | Reason::Upnp { code: 603 | 728 } => "the gateway has no room for another mapping",
            Reason::Result { protocol: Protocol::Pcp, code: 10 } => {
                "the gateway has given this host as many mappings as it may have"
            }
            Reason::Result { protocol: Protocol::Pcp, code: 11 } => {
                "the gateway cannot provide the external address or port"
            }
            Reason::Result { protocol: Protocol::NatPmp, code: 2 } | Reason::Upnp { code: 606 } => {
                "the gateway does not let this host map ports"
            }
            Reason::Upnp { code: 701 } => "the gateway has no room for another pinhole",
            Reason::Upnp { code: 702 } => "the gateway's firewall is off",
            Reason::Upnp { code: 403 | 703 } => {
                "the gateway lets this host open no ports: its owner may allow that in its settings"
            }
            Reason::Upnp { code: 704 } => "the gateway does not have the pinhole",
            Reason::Upnp { code: 718 | 729 } => "the gateway has the external port mapped for another host",
            Reason::Result { .. } | Reason::Upnp { .. } => "the gateway refuses",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())?;
        let code = match *self {
            Reason::Result { code, .. } => i64::from(code),
            Reason::Upnp { code } => code,
            Reason::Http { status } | Reason::NoDescription { status: Some(status) } => {
                return write!(f, " {status}");
            }
            Reason::NoAddress { address: Some(address) }
            | Reason::NotGlobal { address }
            | Reason::NotOurAddress { address }
            | Reason::NotReachable { address } => return write!(f, " ({address})"),
            _ => return Ok(()),
        };
        let name = self.code_name().map(|name| format!("{name}, ")).unwrap_or_default();
        write!(f, " ({name}code {code})")
    }
}

#[cfg(test)]
mod tests;
