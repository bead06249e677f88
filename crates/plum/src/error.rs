//! Errors, with messages that say what to do about them.

use super::{External, MappingId, Protocol};
use plum_engine::time::Time;
use plum_engine::{Engines, Reason};
use plum_runtime::net::Uplink;
use std::fmt;
use std::net::IpAddr;

/// Why a call failed. The messages say what to do, and each is whole by itself: the [source](std::error::Error::source) is for
/// programs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system gives no thread, no descriptor or no randomness, or a log callback tried to start a session.
    NotStarted(std::io::Error),
    /// The text names no gateway (see [`Gateway`](super::Gateway)).
    BadGateway(String),
    /// No interface can have the name (see [`Builder::interface`](super::Builder::interface)).
    BadInterface(String),
    /// Interfaces cannot be chosen on this system, but on Linux and Android only.
    InterfaceUnsupported,
    /// Port 0 cannot be mapped.
    PortZero,
    /// The text is no [description](super::Request::description).
    BadDescription(String),
    /// There are no pinholes for IPv6 [without end](super::Request::permanent).
    PermanentPinhole,
    /// The process is the child of a fork: the session is its parent's.
    Forked,
    /// All ids of a session have been given out, two thousand million of them.
    IdsUsedUp,
    /// There is no memory for another mapping.
    NoMemory,
    /// The mapping cannot be made for now. The library goes on trying.
    NotMapped(Obstacle),
    /// Nothing was decided within the time given. The library goes on trying.
    TimedOut,
    /// The session has ended, or the mapping was removed.
    Removed,
    /// The session ends without an outcome: the caller is a log callback, which must not wait, the system gives no thread, or a
    /// defect has ended the library's.
    NotClosed,
}

impl Error {
    /// A word for it that stays the same, for programs and logs: that of the obstacle if there is one.
    pub fn code(&self) -> &'static str {
        match self {
            Error::NotStarted(_) => "not-started",
            Error::BadGateway(_) => "bad-gateway",
            Error::BadInterface(_) => "bad-interface",
            Error::InterfaceUnsupported => "interface-unsupported",
            Error::PortZero => "port-zero",
            Error::BadDescription(_) => "bad-description",
            Error::PermanentPinhole => "permanent-pinhole",
            Error::Forked => "forked",
            Error::IdsUsedUp => "ids-used-up",
            Error::NoMemory => "no-memory",
            Error::NotMapped(obstacle) => obstacle.code(),
            Error::TimedOut => "timed-out",
            Error::Removed => "removed",
            Error::NotClosed => "not-closed",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotStarted(error) => write!(
                f,
                "the session cannot be started: {error} (look at the limits of open files and threads: ulimit -a)"
            ),
            Error::BadGateway(text) => {
                write!(f, "{text:?} is no gateway: give its address, as in 192.168.1.1 or [fd00::1]:5351")
            }
            Error::BadInterface(text) => write!(
                f,
                "{text:?} is no name of an interface: give 1 to 15 bytes without white space, / and :, as in eth1"
            ),
            Error::InterfaceUnsupported => f.write_str(
                "an interface cannot be chosen on this system, but on Linux and Android only: name the gateway in its place",
            ),
            Error::PortZero => {
                f.write_str("port 0 cannot be mapped: give the port that your program listens on")
            }
            Error::BadDescription(text) => {
                write!(f, "{text:?} is no description: give 1 to 63 bytes without control characters")
            }
            Error::PermanentPinhole => f.write_str(
                "pinholes for IPv6 end within a day unless they are renewed: name a lifetime, or ask for IPv4",
            ),
            Error::Forked => f.write_str(
                "this process is the child of a fork, and the session its parent's: start one here",
            ),
            Error::IdsUsedUp => f.write_str("the session has given out all its ids: start another one"),
            Error::NoMemory => f.write_str("there is no memory for another mapping: remove some"),
            Error::NotMapped(obstacle) => obstacle.fmt(f),
            Error::TimedOut => f.write_str("not decided in time: wait longer, or look at the log"),
            Error::Removed => f.write_str("the mapping is gone: its session has ended, or it was removed"),
            Error::NotClosed => f.write_str(
                "the session ends without an outcome: close it outside of log callbacks, or look at the log",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::NotStarted(error) => Some(error),
            Error::NotMapped(obstacle) => Some(obstacle),
            _ => None,
        }
    }
}

/// Why one protocol did not make a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Cause {
    /// The protocol.
    pub protocol: Protocol,
    /// Its reason.
    pub reason: Reason,
}

impl Cause {
    /// Whether it explains more than silence.
    pub fn has_spoken(&self) -> bool {
        !is_mere_silence(self.reason)
    }
}

/// A device that was found and not described has been heard of.
fn is_mere_silence(reason: Reason) -> bool {
    reason.is_silence() && !matches!(reason, Reason::NoDescription { .. })
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.protocol, self.reason)
    }
}

impl std::error::Error for Cause {}

/// What prevents a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Obstacle {
    /// There is no IPv4 route to the internet, or to the gateway that was named; by the interface if one was named.
    NoNetwork,
    /// The interface that was [named](super::Builder::interface) is not there.
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// No gateway has answered by any protocol that may be used.
    NoAnswer {
        /// The next hop of the route; `None`: it has none.
        gateway: Option<IpAddr>,
    },
    /// No host answers at the gateway's address (by ARP, or by what the last router says).
    NoHost {
        /// The gateway; `None`: it is not known.
        gateway: Option<IpAddr>,
    },
    /// A firewall of this machine lets no request out.
    Firewall,
    /// The gateway has refused this mapping, or left it unanswered.
    Refused {
        /// The gateway.
        gateway: Option<IpAddr>,
        /// Why each protocol failed that was tried, the best first.
        causes: Vec<Cause>,
    },
    /// IPv6: there is no route to the internet; by the interface if one was named.
    NoIpv6Route,
    /// IPv6: this machine has no address that hosts on the internet could reach.
    NoIpv6Address,
    /// IPv6: the address that the request names is not one of this machine, or not any more.
    NotOurAddress {
        /// The address.
        address: IpAddr,
    },
    /// IPv6: no host on the internet can reach the kind of address that the request names (loopback, link-local, multicast,
    /// Teredo, 6to4, documentation).
    NotReachable {
        /// The address.
        address: IpAddr,
    },
    /// IPv6: mappings of the session lead to eight other addresses already.
    TooManyAddresses,
    /// The gateway that was named is one of the other IP version.
    OtherFamily,
    /// The request names [one external port](super::Request::exact_external_port), and the mapping is at another: another mapping of
    /// the session shares it, or no gateway is needed, where the ports are the same.
    OtherPort {
        /// Where it is.
        external: External,
    },
    /// The library cannot tell: this machine had no memory for the mapping, the library's thread has ended by a defect, or the
    /// caller is a log callback, which must not wait for the answer.
    Unknown,
}

impl Obstacle {
    /// That of a mapping; `None`: it is unknown, or nothing hinders it.
    pub(super) fn of(
        now: Time,
        engine: &Engines,
        uplink: &Uplink,
        mapping: MappingId,
        is_ipv6: bool,
    ) -> Option<Obstacle> {
        let reasons = engine.mapping_status(now, mapping.0)?.reasons?;
        let obstacle = Obstacle::new(is_ipv6, engine.way_of(mapping.0), reasons);
        Some(match (obstacle, uplink.name()) {
            (Obstacle::NoNetwork | Obstacle::NoIpv6Route, Some(name)) if uplink.is_missing() => {
                Obstacle::NoInterface { interface: name.to_owned() }
            }
            (obstacle, _) => obstacle,
        })
    }

    /// `way`: whether there is a route, and its gateway.
    fn new(
        is_ipv6: bool,
        (is_routed, gateway): (bool, Option<IpAddr>),
        reasons: Vec<(Protocol, Reason)>,
    ) -> Obstacle {
        // These hold for all protocols.
        match reasons.first() {
            Some((_, Reason::NoIpv6Route)) => return Obstacle::NoIpv6Route,
            Some((_, Reason::NoIpv6Address)) => return Obstacle::NoIpv6Address,
            Some(&(_, Reason::NotOurAddress { address })) => return Obstacle::NotOurAddress { address },
            Some(&(_, Reason::NotReachable { address })) => return Obstacle::NotReachable { address },
            Some((_, Reason::TooManyAddresses)) => return Obstacle::TooManyAddresses,
            Some((_, Reason::OtherFamily)) => return Obstacle::OtherFamily,
            _ if is_routed => {}
            _ if is_ipv6 => return Obstacle::NoIpv6Route,
            _ => return Obstacle::NoNetwork,
        }
        let has = |wanted| reasons.iter().any(|&(_, reason)| reason == wanted);
        if reasons.iter().all(|&(_, reason)| is_mere_silence(reason) || reason == Reason::Firewall) {
            return match () {
                () if has(Reason::Firewall) => Obstacle::Firewall,
                () if has(Reason::Unreachable) => Obstacle::NoHost { gateway },
                () => Obstacle::NoAnswer { gateway },
            };
        }
        let causes = reasons.into_iter().map(|(protocol, reason)| Cause { protocol, reason }).collect();
        Obstacle::Refused { gateway, causes }
    }
}

impl Obstacle {
    /// A word for it that stays the same, for programs and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Obstacle::NoNetwork => "no-network",
            Obstacle::NoInterface { .. } => "no-interface",
            Obstacle::NoAnswer { .. } => "no-answer",
            Obstacle::NoHost { .. } => "no-host",
            Obstacle::Firewall => "firewall",
            Obstacle::Refused { .. } => "refused",
            Obstacle::NoIpv6Route => "no-ipv6-route",
            Obstacle::NoIpv6Address => "no-ipv6-address",
            Obstacle::NotOurAddress { .. } => "not-our-address",
            Obstacle::NotReachable { .. } => "not-reachable",
            Obstacle::TooManyAddresses => "too-many-addresses",
            Obstacle::OtherFamily => "other-family",
            Obstacle::OtherPort { .. } => "other-port",
            Obstacle::Unknown => "unknown",
        }
    }
}

impl std::error::Error for Obstacle {
    /// The first cause that is more than silence.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let Obstacle::Refused { causes, .. } = self else { return None };
        let spoken = causes.iter().find(|cause| cause.has_spoken());
        spoken.map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NoNetwork => f.write_str(
                "this machine has no IPv4 route to a gateway: connect it to a network, or ask for IPv6",
            ),
            Obstacle::NoInterface { interface } => write!(
                f,
                "this machine has no interface {interface}: connect what it belongs to, or name another (ip link shows them)"
            ),
            Obstacle::NoAnswer { gateway: Some(gateway @ IpAddr::V6(_)) } => write!(
                f,
                "the gateway {gateway} does not answer by IPv6: allow PCP, or pinholes by UPnP, in its settings"
            ),
            Obstacle::NoAnswer { gateway: Some(gateway) } => write!(
                f,
                "the gateway {gateway} does not answer: switch on UPnP, NAT-PMP or PCP in its settings"
            ),
            Obstacle::NoAnswer { gateway: None } => f.write_str(
                "no gateway answers: switch on UPnP, NAT-PMP or PCP in the settings of yours, or name it",
            ),
            Obstacle::NoHost { gateway } => {
                f.write_str("no host answers at the address of the gateway")?;
                if let Some(gateway) = gateway {
                    write!(f, " {gateway}")?;
                }
                f.write_str(": look whether it is switched on, and whether the route is right")
            }
            Obstacle::Firewall => f.write_str(
                "a firewall of this machine lets no request out: let UDP to ports 5351 and 1900 of the gateway pass",
            ),
            Obstacle::Refused { gateway, causes } => write_refusal(f, *gateway, causes),
            Obstacle::NoIpv6Route => f.write_str(
                "this machine has no IPv6 route to the internet: connect to a network with IPv6, or ask for IPv4",
            ),
            Obstacle::NoIpv6Address => f.write_str(
                "this machine has no global IPv6 address: look whether the gateway announces a prefix, or ask for IPv4",
            ),
            Obstacle::NotOurAddress { address } => {
                write!(f, "this machine does not have the address {address}: name one that it has, or none")
            }
            Obstacle::NotReachable { address } => write!(
                f,
                "no host on the internet can reach an address like {address}: name a global one of this machine, or none"
            ),
            Obstacle::TooManyAddresses => f.write_str(
                "mappings lead to eight other IPv6 addresses already: remove those of one, or name one of the eight",
            ),
            Obstacle::OtherFamily => f.write_str(
                "the gateway that is named has the other IP version: name none, or ask for mappings of its version",
            ),
            Obstacle::OtherPort { external } if external.protocol == Protocol::Direct => write!(
                f,
                "this machine has the external address {} itself, so the external port is the internal one: listen on the port that is wished for",
                external.address.ip()
            ),
            Obstacle::OtherPort { external } => write!(
                f,
                "the port is mapped at {external} already: remove the other mapping of it, or take this external port"
            ),
            Obstacle::Unknown => f.write_str("the library cannot tell what prevents the mapping: look at its log"),
        }
    }
}

fn write_refusal(f: &mut fmt::Formatter<'_>, gateway: Option<IpAddr>, causes: &[Cause]) -> fmt::Result {
    f.write_str("the gateway")?;
    if let Some(gateway) = gateway {
        write!(f, " {gateway}")?;
    }
    f.write_str(" does not make the mapping")?;
    // A reason of a protocol that has answered explains more than silence.
    let spoken = causes.iter().filter(|cause| cause.has_spoken());
    for (index, cause) in spoken.enumerate() {
        write!(f, "{}{cause}", if index == 0 { " (" } else { "; " })?;
    }
    f.write_str(")")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTED: (bool, Option<IpAddr>) = (true, None);

    #[test]
    fn what_holds_for_all_protocols_is_an_obstacle_of_its_own() {
        let address: IpAddr = "2600::1".parse().unwrap();
        for (reason, obstacle) in [
            (Reason::NoIpv6Route, Obstacle::NoIpv6Route),
            (Reason::NoIpv6Address, Obstacle::NoIpv6Address),
            (Reason::NotOurAddress { address }, Obstacle::NotOurAddress { address }),
            (Reason::NotReachable { address }, Obstacle::NotReachable { address }),
            (Reason::TooManyAddresses, Obstacle::TooManyAddresses),
            (Reason::OtherFamily, Obstacle::OtherFamily),
        ] {
            assert_eq!(Obstacle::new(true, (false, None), vec![(Protocol::Pcp, reason)]), obstacle);
            // What to do stands behind the colon.
            assert!(obstacle.to_string().contains(": "), "{obstacle}");
        }
    }

    #[test]
    fn silence_is_told_apart_by_what_else_is_known() {
        let gateway: Option<IpAddr> = "192.168.1.1".parse().ok();
        let obstacle = |reasons: &[Reason]| {
            let reasons = Protocol::ASKING.into_iter().zip(reasons.iter().copied()).collect();
            Obstacle::new(false, (true, gateway), reasons)
        };
        let silent = Reason::Silence;
        assert_eq!(obstacle(&[silent, Reason::PortClosed, silent]), Obstacle::NoAnswer { gateway });
        let absent = obstacle(&[Reason::Unreachable, Reason::Unreachable, silent]);
        assert_eq!(absent, Obstacle::NoHost { gateway });
        assert!(absent.to_string().contains("the gateway 192.168.1.1: "), "{absent}");
        assert_eq!(obstacle(&[Reason::Firewall, Reason::Firewall, silent]), Obstacle::Firewall);
        let described = obstacle(&[silent, silent, Reason::NoDescription { status: None }]);
        assert!(matches!(described, Obstacle::Refused { .. }), "{described:?}");
        assert!(
            described.to_string().ends_with("(UPnP-IGD: the description of its device was not to be had)")
        );
    }

    #[test]
    fn errors_have_codes_and_sources_and_go_to_other_threads() {
        use std::error::Error as _;
        fn goes_anywhere<T: Send + Sync + 'static>() {}
        goes_anywhere::<Error>();
        let silent = Cause { protocol: Protocol::Pcp, reason: Reason::Silence };
        let spoken = Cause { protocol: Protocol::UpnpIgd, reason: Reason::PortsTaken };
        let error = Error::NotMapped(Obstacle::Refused { gateway: None, causes: vec![silent, spoken] });
        assert_eq!(error.code(), "refused");
        let obstacle = error.source().expect("the obstacle");
        let cause = obstacle.source().expect("what has answered");
        assert_eq!((obstacle.to_string(), cause.to_string()), (error.to_string(), spoken.to_string()));
        assert!(Error::NotMapped(Obstacle::NoNetwork).source().is_some_and(|found| found.source().is_none()));
        let refusal = Error::NotStarted(std::io::Error::other("no thread"));
        assert_eq!(refusal.source().map(ToString::to_string).as_deref(), Some("no thread"));
        assert!(Error::PortZero.source().is_none());
        let all = [
            refusal,
            Error::BadGateway(String::new()),
            Error::BadInterface(String::new()),
            Error::InterfaceUnsupported,
            Error::PortZero,
            Error::BadDescription(String::new()),
            Error::PermanentPinhole,
            Error::Forked,
            Error::IdsUsedUp,
            Error::NoMemory,
            Error::NotMapped(Obstacle::Unknown),
            Error::TimedOut,
            Error::Removed,
            Error::NotClosed,
        ];
        let codes: std::collections::BTreeSet<&str> = all.iter().map(Error::code).collect();
        assert_eq!(codes.len(), all.len(), "each has its own");
    }

    #[test]
    fn protocols_and_transports_are_read_as_they_are_written() {
        for protocol in [Protocol::Pcp, Protocol::NatPmp, Protocol::UpnpIgd, Protocol::Direct] {
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
            assert_eq!(protocol.to_string().to_lowercase().parse(), Ok(protocol));
        }
        for transport in [crate::Transport::Tcp, crate::Transport::Udp] {
            assert_eq!(transport.to_string().parse(), Ok(transport));
        }
        assert!("".parse::<Protocol>().is_err() && "sctp".parse::<crate::Transport>().is_err());
    }

    #[test]
    fn a_missing_route_is_told_for_each_family() {
        assert_eq!(Obstacle::new(false, (false, None), Vec::new()), Obstacle::NoNetwork);
        assert_eq!(Obstacle::new(true, (false, None), Vec::new()), Obstacle::NoIpv6Route);
        assert_eq!(Obstacle::new(true, ROUTED, Vec::new()), Obstacle::NoAnswer { gateway: None });
    }
}
