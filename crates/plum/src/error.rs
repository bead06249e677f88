//! Errors, with messages that say what to do about them.

use super::Protocol;
use plum_engine::Reason;
use std::fmt;
use std::net::IpAddr;

/// Why a call failed. The messages say what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system gives no thread, no descriptor or no randomness, or a log callback tried to start a session.
    NotStarted(std::io::Error),
    /// The text names no gateway (see [`Gateway`](super::Gateway)).
    BadGateway(String),
    /// Port 0 cannot be mapped.
    PortZero,
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
            Error::PortZero => {
                f.write_str("port 0 cannot be mapped: give the port that your program listens on")
            }
            Error::Forked => f.write_str(
                "this process is the child of a fork, and the session its parent's: start one here",
            ),
            Error::IdsUsedUp => f.write_str("the session has given out all its ids: start another one"),
            Error::NoMemory => f.write_str("there is no memory for another mapping: remove some"),
            Error::NotMapped(obstacle) => obstacle.fmt(f),
            Error::TimedOut => f.write_str("not decided in time: wait longer, or look at the log"),
            Error::Removed => f.write_str("the mapping is gone: its session has ended, or it was removed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::NotStarted(error) => Some(error),
            _ => None,
        }
    }
}

/// Why one protocol did not make a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Cause {
    /// The protocol.
    pub protocol: Protocol,
    /// Its reason.
    pub reason: Reason,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.protocol, self.reason)
    }
}

/// What prevents a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// There is no route to the internet, or to the gateway that was named.
    NoNetwork,
    /// No gateway has answered by any protocol that may be used.
    NoAnswer {
        /// The next hop of the route; `None`: it has none.
        gateway: Option<IpAddr>,
    },
    /// The gateway has refused this mapping, or left it unanswered.
    Refused {
        /// The gateway.
        gateway: Option<IpAddr>,
        /// Why each protocol failed that was tried, the best first.
        causes: Vec<Cause>,
    },
}

impl Obstacle {
    pub(super) fn new(
        is_routed: bool,
        gateway: Option<IpAddr>,
        reasons: Vec<(Protocol, Reason)>,
    ) -> Obstacle {
        if !is_routed {
            return Obstacle::NoNetwork;
        }
        if reasons.iter().all(|(_, reason)| reason.is_silence()) {
            return Obstacle::NoAnswer { gateway };
        }
        let causes = reasons.into_iter().map(|(protocol, reason)| Cause { protocol, reason }).collect();
        Obstacle::Refused { gateway, causes }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NoNetwork => f.write_str("there is no route to a gateway: connect to a network"),
            Obstacle::NoAnswer { gateway: Some(gateway) } => write!(
                f,
                "the gateway {gateway} does not answer: switch on UPnP, NAT-PMP or PCP in its settings"
            ),
            Obstacle::NoAnswer { gateway: None } => f.write_str(
                "no gateway answers: switch on UPnP, NAT-PMP or PCP in the settings of yours, or name it",
            ),
            Obstacle::Refused { gateway, causes } => {
                f.write_str("the gateway")?;
                if let Some(gateway) = gateway {
                    write!(f, " {gateway}")?;
                }
                f.write_str(" does not make the mapping")?;
                // A reason of a protocol that has answered explains more than silence.
                let spoken = causes.iter().filter(|cause| !cause.reason.is_silence());
                for (index, cause) in spoken.enumerate() {
                    write!(f, "{}{cause}", if index == 0 { " (" } else { "; " })?;
                }
                f.write_str(")")
            }
        }
    }
}
