//! The SSDP search: what is sent when, and which answers are listened to.

use super::Network;
use crate::engine::io::{Cx, Output, Socket};
use crate::time::Time;
use crate::wire::http::Url;
use crate::wire::ssdp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What is searched for. UPnP Device Architecture 2.0, section 1.3.2; some gateways answer to only one of these.
const TARGETS: [&str; 6] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
    "upnp:rootdevice",
];
/// Targets that begin so are gateways' own.
const GATEWAY_TARGETS: [&str; 3] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:",
    "urn:schemas-upnp-org:service:WANIPConnection:",
    "urn:schemas-upnp-org:service:WANPPPConnection:",
];
/// Seconds within which a device shall answer: strict servers drop a search without it, unicast ones too.
const MX_SECS: u8 = 1;
/// UPnP Device Architecture 2.0, section 1.1.
const MULTICAST: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250));
/// How long each round of searches waits for an answer before the next; the last wait is the end.
const WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// The socket that searches leave by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SearchSocket {
    /// Not heard of yet.
    #[default]
    Unopened,
    /// There.
    Open,
    /// Not to be had.
    Failed,
}

/// Where a search stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Search {
    /// None was asked for.
    #[default]
    Idle,
    /// Asked for, and not over.
    Active {
        /// How many rounds have been sent.
        rounds: usize,
    },
    /// The schedule is used up.
    Over,
}

impl Search {
    /// How many rounds of searches have been sent.
    pub(super) fn rounds(self) -> usize {
        match self {
            Search::Idle => 0,
            Search::Active { rounds } => rounds,
            Search::Over => WAITS.len(),
        }
    }
}

/// When a search that begins now is over.
pub(super) fn end_at(now: Time, discover_timeout: Duration) -> Time {
    now + WAITS.iter().sum::<Duration>().min(discover_timeout)
}

/// How long to wait after round number `round` (from 0) before the next; `None`: it was the last.
pub(super) fn wait_after(cx: &mut Cx<'_>, round: usize) -> Option<Duration> {
    let wait = *WAITS[..WAITS.len() - 1].get(round)?;
    Some(cx.between(wait, 9, 10, 10))
}

/// Sends one round of searches: to the gateway itself first, then (unless that was named) to the device that was lost,
/// if it is another, then to all.
pub(super) fn send_round(cx: &mut Cx<'_>, network: &Network, lost: Option<IpAddr>) {
    let lost = lost.filter(|&address| !network.named && network.gateway != Some(address));
    let multicast = (!network.named && network.local.is_ipv4()).then_some(MULTICAST);
    for address in [network.gateway, lost, multicast].into_iter().flatten() {
        let to = SocketAddr::new(address, ssdp::PORT);
        for target in TARGETS {
            let bytes = ssdp::emit_search(to, target, MX_SECS);
            cx.output(Output::Send { socket: Socket::Ssdp, to, bytes });
        }
    }
}

/// Whether a search target (ST, NT) is that of a gateway.
pub(super) fn is_gateway_target(target: &str) -> bool {
    GATEWAY_TARGETS
        .iter()
        .any(|known| target.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known)))
}

/// The device's own name in a USN: `uuid:...` without what follows `::`; empty if there is none.
pub(super) fn uuid(usn: &str) -> &str {
    usn.split("::").next().unwrap_or_default().trim()
}

/// Whether an answer from this address may be looked at: the gateway's own, those of hosts on the LAN, and those from our
/// own address there, where a gateway's daemon may run (Linux drops what others send in its name). What claims to come
/// from elsewhere would have us fetch a URL there: in the Internet, at what this machine serves to itself alone, or
/// (where nobody else has a link-local address) at a cloud's metadata service, 169.254.169.254.
pub(super) fn may_answer(network: &Network, from: IpAddr) -> bool {
    let from = from.to_canonical();
    if network.gateway == Some(from) {
        return true;
    }
    if network.named {
        return false;
    }
    if from == network.local {
        return true;
    }
    match (from, network.local) {
        (IpAddr::V4(v4), IpAddr::V4(local)) => {
            let is_shared = u32::from(v4) & 0xffc0_0000 == u32::from(Ipv4Addr::new(100, 64, 0, 0));
            v4.is_private()
                || is_shared
                || (v4.is_link_local() && local.is_link_local())
                || (v4.is_loopback() && local.is_loopback())
        }
        (IpAddr::V6(v6), _) => v6.is_unique_local() || v6.is_unicast_link_local(),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

/// The URL of a description, if it is on the host that answered, or on the gateway.
pub(super) fn location(network: &Network, from: IpAddr, text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.address.ip().to_canonical();
    (host == from.to_canonical() || Some(host) == network.gateway).then_some(url)
}
