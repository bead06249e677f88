//! Why a port is not mapped: the words, the advice, the exit code and the JSON code of each cause, in one table.

use crate::exit::Exit;
use crate::probe::{Surroundings, is_absent};
use plum::{Cause, Obstacle, Protocol, Reason};
use std::fmt;
use std::io::IsTerminal;
use std::net::IpAddr;

/// A cause. In its texts `{gateway}`, `{interface}`, `{address}` and `{external}` stand for what is known of them.
#[derive(Debug, PartialEq, Eq)]
pub struct FailureKind {
    /// In JSON.
    pub code: &'static str,
    pub exit: Exit,
    /// What prevents the mapping.
    pub words: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

const NO_NETWORK: FailureKind = FailureKind {
    code: "no-network",
    exit: Exit::NoGateway,
    words: "this machine has no IPv4 route to a gateway",
    advice: "connect it to a network",
};
const NO_INTERFACE: FailureKind = FailureKind {
    code: "no-interface",
    exit: Exit::NoGateway,
    words: "this machine has no interface {interface}",
    advice: "connect what it belongs to, or name another (ip link shows them)",
};
const NO_ANSWER: FailureKind = FailureKind {
    code: "no-answer",
    exit: Exit::NoGateway,
    words: "{gateway} does not answer",
    advice: "switch on UPnP, NAT-PMP or PCP in its settings",
};
const NO_HOST: FailureKind = FailureKind {
    code: "no-host",
    exit: Exit::NoHost,
    words: "no host answers at the address of {gateway}",
    advice: "look whether it is switched on, and whether the route or --gateway is right",
};
const FIREWALL: FailureKind = FailureKind {
    code: "firewall",
    exit: Exit::Firewall,
    words: "a firewall of this machine lets no request out",
    advice: "let UDP to ports 5351 and 1900 of the gateway pass (nft list ruleset shows the rules)",
};
const WAN_DOWN: FailureKind = FailureKind {
    code: "wan-down",
    exit: Exit::WanDown,
    words: "{gateway} has no connection to the internet",
    advice: "look at its cable, its access data and its log",
};
const NAT_BETWEEN: FailureKind = FailureKind {
    code: "nat-between",
    exit: Exit::NatBetween,
    words: "another NAT stands between this machine and {gateway}",
    advice: "connect this machine to the network of that gateway itself, or make the one in between an access point",
};
const NOT_ALLOWED: FailureKind = FailureKind {
    code: "not-allowed",
    exit: Exit::NotAllowed,
    words: "{gateway} opens no ports for this machine",
    advice: "allow it in its settings, or forward the port there by hand",
};
const LEFT_OVER: FailureKind = FailureKind {
    code: "left-over",
    exit: Exit::LeftOver,
    words: "{gateway} refuses this port: it has a mapping of it left over from an earlier run, or allows none",
    advice: "wait until the other has expired, within two hours, or take another port; if all are refused, allow them in its settings",
};
const NO_ROOM: FailureKind = FailureKind {
    code: "no-room",
    exit: Exit::NoRoom,
    words: "{gateway} has no room for another mapping",
    advice: "remove mappings that nobody needs (plum list shows them), or restart it",
};
const PORT_TAKEN: FailureKind = FailureKind {
    code: "port-taken",
    exit: Exit::PortTaken,
    words: "{gateway} does not assign the external port, which may be in use for something else",
    advice: "name another external port, as in 8080:18080",
};
const NO_DESCRIPTION: FailureKind = FailureKind {
    code: "no-description",
    exit: Exit::NoDescription,
    words: "{gateway} answers by UPnP, but its description is not to be had",
    advice: "restart it, or look whether a firewall keeps TCP connections from it",
};
const SHORTAGE: FailureKind = FailureKind {
    code: "shortage",
    exit: Exit::Failed,
    words: "this machine has no descriptor, memory or randomness left",
    advice: "look at its limits (ulimit -a)",
};
const REFUSED: FailureKind = FailureKind {
    code: "refused",
    exit: Exit::Failed,
    words: "{gateway} does not make the mapping",
    advice: "look at its settings for port mapping; -vv shows what it answers",
};
const NO_IPV6_ROUTE: FailureKind = FailureKind {
    code: "no-ipv6-route",
    exit: Exit::NoGateway,
    words: "this machine has no IPv6 route to the internet",
    advice: "connect it to a network with IPv6, or ask for IPv4",
};
const NO_IPV6_ADDRESS: FailureKind = FailureKind {
    code: "no-ipv6-address",
    exit: Exit::NoGateway,
    words: "this machine has no global IPv6 address",
    advice: "look whether the gateway announces a prefix, or ask for IPv4",
};
const NOT_OUR_ADDRESS: FailureKind = FailureKind {
    code: "not-our-address",
    exit: Exit::Failed,
    words: "this machine does not have the address {address}",
    advice: "name one that it has, or none",
};
const NOT_REACHABLE: FailureKind = FailureKind {
    code: "not-reachable",
    exit: Exit::Failed,
    words: "no host on the internet can reach an address like {address}",
    advice: "name a global one of this machine, or none",
};
const TOO_MANY_ADDRESSES: FailureKind = FailureKind {
    code: "too-many-addresses",
    exit: Exit::Failed,
    words: "mappings lead to eight other IPv6 addresses already",
    advice: "remove those of one, or name one of the eight",
};
const OTHER_FAMILY: FailureKind = FailureKind {
    code: "other-family",
    exit: Exit::Failed,
    words: "the gateway that is named has the other IP version",
    advice: "name none, or ask for mappings of its version",
};
const OTHER_PORT: FailureKind = FailureKind {
    code: "other-port",
    exit: Exit::PortTaken,
    words: "the port is mapped at {external} already",
    advice: "remove the other mapping of it, or take this external port",
};
const SAME_PORT_ONLY: FailureKind = FailureKind {
    code: "same-port-only",
    exit: Exit::PortTaken,
    words: "this machine has the external address itself, so the external port is the internal one",
    advice: "map the port that is wished for, and let the program listen on it",
};
const TIME_IS_UP: FailureKind = FailureKind {
    code: "time-is-up",
    exit: Exit::Unfinished,
    words: "{gateway} has not made the mapping yet, and the time of --for is over",
    advice: "give it more time",
};
const UNKNOWN: FailureKind = FailureKind {
    code: "unknown",
    exit: Exit::Failed,
    words: "the port cannot be mapped for now",
    advice: "-v shows what happens",
};

/// All of them: those for all commands and families first.
pub const KINDS: [&FailureKind; 24] = [
    &NO_NETWORK,
    &NO_INTERFACE,
    &NO_ANSWER,
    &NO_HOST,
    &FIREWALL,
    &WAN_DOWN,
    &NAT_BETWEEN,
    &NOT_ALLOWED,
    &LEFT_OVER,
    &NO_ROOM,
    &PORT_TAKEN,
    &NO_DESCRIPTION,
    &SHORTAGE,
    &REFUSED,
    &TIME_IS_UP,
    &NO_IPV6_ROUTE,
    &NO_IPV6_ADDRESS,
    &NOT_OUR_ADDRESS,
    &NOT_REACHABLE,
    &TOO_MANY_ADDRESSES,
    &OTHER_FAMILY,
    &OTHER_PORT,
    &SAME_PORT_ONLY,
    &UNKNOWN,
];

impl FailureKind {
    /// What it says of any gateway and address.
    pub fn general_words(&self) -> String {
        let words = self.words.replace("{gateway}", "the gateway");
        words
            .replace(" like {address}", " like this")
            .replace("{address}", "that is named")
            .replace("{interface}", "of the name that is given")
            .replace("{external}", "another external port")
    }
}

/// Why one port is not mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFailure {
    pub kind: &'static FailureKind,
    /// In short.
    pub words: String,
    /// What the protocols said that have answered; may be empty.
    causes: String,
    pub advice: String,
}

impl MappingFailure {
    /// The failure by an obstacle; `None`: it has passed, or is not known.
    pub fn of(obstacle: Option<&Obstacle>) -> MappingFailure {
        use Obstacle::*;
        let (kind, gateway) = match obstacle {
            Some(NoNetwork) => (&NO_NETWORK, None),
            Some(NoInterface { .. }) => (&NO_INTERFACE, None),
            Some(NoAnswer { gateway: Some(gateway) }) if is_absent(*gateway) => (&NO_HOST, Some(*gateway)),
            Some(NoAnswer { gateway }) => (&NO_ANSWER, *gateway),
            Some(NoHost { gateway }) => (&NO_HOST, *gateway),
            Some(Firewall) => (&FIREWALL, None),
            Some(Refused { gateway, causes }) => (kind_of(causes), *gateway),
            Some(NoIpv6Route) => (&NO_IPV6_ROUTE, None),
            Some(NoIpv6Address) => (&NO_IPV6_ADDRESS, None),
            Some(NotOurAddress { .. }) => (&NOT_OUR_ADDRESS, None),
            Some(NotReachable { .. }) => (&NOT_REACHABLE, None),
            Some(TooManyAddresses) => (&TOO_MANY_ADDRESSES, None),
            Some(OtherFamily) => (&OTHER_FAMILY, None),
            Some(OtherPort { external }) if external.protocol == Protocol::Direct => (&SAME_PORT_ONLY, None),
            Some(OtherPort { .. }) => (&OTHER_PORT, None),
            _ => (&UNKNOWN, None),
        };
        let mut words = with_gateway(kind, gateway);
        match obstacle {
            Some(NotOurAddress { address } | NotReachable { address }) => {
                words = words.replace("{address}", &address.to_string());
            }
            Some(NoInterface { interface }) => words = words.replace("{interface}", interface),
            Some(OtherPort { external }) => words = words.replace("{external}", &external.to_string()),
            _ => {}
        }
        let causes = match obstacle {
            Some(Refused { causes, .. }) => causes
                .iter()
                .filter(|cause| cause.has_spoken())
                .map(Cause::to_string)
                .collect::<Vec<_>>()
                .join("; "),
            _ => String::new(),
        };
        MappingFailure { kind, words, causes, advice: kind.advice.to_owned() }
    }

    /// Nothing was decided within the time of `--for`.
    pub fn of_time(gateway: Option<IpAddr>) -> MappingFailure {
        let words = with_gateway(&TIME_IS_UP, gateway);
        MappingFailure {
            kind: &TIME_IS_UP,
            words,
            causes: String::new(),
            advice: TIME_IS_UP.advice.to_owned(),
        }
    }

    /// What standard error says at the end of a command that has mapped nothing. Standard output has the sentence already, so on a
    /// terminal that shows both it does not stand there twice.
    pub fn last_words(&self) -> String {
        match std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
            true => "nothing is mapped (plum probe tells more)".to_owned(),
            false => format!("{self} (plum probe tells more)"),
        }
    }

    /// Of a command that was told to ask by this interface.
    #[must_use]
    pub fn by(mut self, interface: Option<&str>) -> MappingFailure {
        if let Some(name) = interface.filter(|_| [&NO_NETWORK, &NO_IPV6_ROUTE].contains(&self.kind)) {
            self.words.push_str(&format!(" by {name}"));
        }
        self
    }

    /// With advice for how this machine is connected: `is_named`: the gateway is named; `own`: gives the address toward the
    /// internet.
    #[must_use]
    pub fn for_this_machine(mut self, is_named: bool, own: impl Fn() -> Option<IpAddr>) -> MappingFailure {
        if self.kind == &NO_NETWORK && own().is_some_and(|own| own.is_ipv6()) {
            self.advice.push_str(", or open a pinhole for IPv6, which it has, by --ipv6");
        } else if self.kind == &NO_ANSWER && !is_named && is_in_container(own()) {
            "this is a container, behind the NAT of its host: use the host's network (--network host), or name the router with --gateway"
                .clone_into(&mut self.advice);
        }
        self
    }

    /// What prevents the mapping, with what the protocols said.
    pub fn sentence(&self) -> String {
        if self.causes.is_empty() { self.words.clone() } else { format!("{} ({})", self.words, self.causes) }
    }
}

/// All of it in one line.
impl fmt::Display for MappingFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sentence(), self.advice)
    }
}

fn with_gateway(kind: &FailureKind, gateway: Option<IpAddr>) -> String {
    let gateway =
        gateway.map_or_else(|| "the gateway".to_owned(), |address| format!("the gateway {address}"));
    kind.words.replace("{gateway}", &gateway)
}

fn is_in_container(own: Option<IpAddr>) -> bool {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let interface = interfaces.iter().find(|interface| Some(interface.ip()) == own);
    Surroundings::of(interface.map(|interface| interface.name.as_str())) == Some(Surroundings::Container)
}

/// The reasons that are of a kind.
type Rule = (fn(Reason) -> bool, &'static FailureKind);

/// The cause that explains most of several: without a connection no other counts, and so on.
fn kind_of(causes: &[Cause]) -> &'static FailureKind {
    let has = |is_it: fn(Reason) -> bool| causes.iter().any(|cause| is_it(cause.reason));
    let rules: [Rule; 9] = [
        (is_wan_down, &WAN_DOWN),
        (is_nat_between, &NAT_BETWEEN),
        (is_not_allowed, &NOT_ALLOWED),
        (is_left_over, &LEFT_OVER),
        (is_no_room, &NO_ROOM),
        (is_port_taken, &PORT_TAKEN),
        (|reason| reason == Reason::Firewall, &FIREWALL),
        (|reason| matches!(reason, Reason::NoDescription { .. }), &NO_DESCRIPTION),
        (|reason| matches!(reason, Reason::Shortage | Reason::NoRandomness), &SHORTAGE),
    ];
    rules.into_iter().find(|&(is_it, _)| has(is_it)).map_or(&REFUSED, |(_, kind)| kind)
}

/// RFC 6887 §7.4, RFC 6886 §3.5.
fn code(reason: Reason) -> Option<(Protocol, u16)> {
    match reason {
        Reason::Result { protocol, code } => Some((protocol, code)),
        _ => None,
    }
}

fn is_wan_down(reason: Reason) -> bool {
    matches!(reason, Reason::NoAddress { .. })
        || matches!(code(reason), Some((Protocol::Pcp, 7) | (Protocol::NatPmp, 3)))
}

fn is_nat_between(reason: Reason) -> bool {
    reason == Reason::NatBetween || code(reason) == Some((Protocol::Pcp, 12))
}

/// WANIPConnection:2 §2.5, WANIPv6FirewallControl:1 §2.5.
fn is_not_allowed(reason: Reason) -> bool {
    code(reason) == Some((Protocol::NatPmp, 2)) || matches!(reason, Reason::Upnp { code: 403 | 606 | 703 })
}

/// PCP has one code for this and for what is not allowed; the other protocols tell which.
fn is_left_over(reason: Reason) -> bool {
    code(reason) == Some((Protocol::Pcp, 2))
}

fn is_no_room(reason: Reason) -> bool {
    matches!(code(reason), Some((Protocol::Pcp, 8 | 10) | (Protocol::NatPmp, 4)))
        || matches!(reason, Reason::Upnp { code: 603 | 701 | 728 })
}

fn is_port_taken(reason: Reason) -> bool {
    reason == Reason::PortsTaken
        || code(reason) == Some((Protocol::Pcp, 11))
        || matches!(reason, Reason::Upnp { code: 718 | 729 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_has_its_own_code_and_words() {
        let codes: BTreeSet<&str> = KINDS.iter().map(|kind| kind.code).collect();
        let words: BTreeSet<String> = KINDS.iter().map(|kind| kind.general_words()).collect();
        assert_eq!((codes.len(), words.len()), (KINDS.len(), KINDS.len()));
        assert!(words.iter().all(|words| !words.contains('{')), "{words:?}");
    }

    #[test]
    fn words_name_the_address_that_they_are_about() {
        let address: IpAddr = "fe80::1".parse().unwrap();
        let failure = MappingFailure::of(Some(&Obstacle::NotReachable { address }));
        assert_eq!(failure.words, "no host on the internet can reach an address like fe80::1");
        let gateway = "192.168.1.1".parse().ok();
        let failure = MappingFailure::of(Some(&Obstacle::NoHost { gateway }));
        assert_eq!(failure.words, "no host answers at the address of the gateway 192.168.1.1");
    }

    #[test]
    fn a_machine_with_ipv6_alone_is_told_of_it() {
        let advice = |own: &str| {
            MappingFailure::of(Some(&Obstacle::NoNetwork)).for_this_machine(false, || own.parse().ok()).advice
        };
        assert!(advice("2600::1").ends_with("--ipv6"));
        assert_eq!(advice(""), NO_NETWORK.advice);
    }
}
