//! The SSDP search: its messages and times, and which answers are accepted.

use super::Network;
use crate::io::{Arrival, Config, Cx, Output, Socket};
use crate::time::Time;
use plum_wire::http::Url;
use plum_wire::ssdp;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// UDA 2.0 §1.3.2: the search targets. Some gateways answer only one of them.
const TARGETS: [&str; 6] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
    ROOT_DEVICE,
];
/// The search target that every device answers.
const ROOT_DEVICE: &str = "upnp:rootdevice";
/// MX: the seconds within which a device shall answer. Strict servers drop any search without it, unicast ones
/// included.
const MX_SECS: u8 = 1;
/// UDA 2.0 §1.3.2: the multicast address of searches.
const MULTICAST: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250));
/// How long each round waits for answers before the next; the search ends after the last.
const WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];
/// When all devices that obey MX have answered: devices other than the gateway's are not used before.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1200);

/// How long after a search the next is due, if only other devices have answered and grant nothing.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The latest search.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Search {
    /// When it began; `None`: none was made.
    pub(super) since: Option<Time>,
    /// How many rounds were sent; `None`: the search has ended.
    pub(super) rounds: Option<usize>,
    /// When the last round after the end of the search was sent.
    pub(super) again_at: Option<Time>,
}

impl Search {
    /// When all devices that obey MX have answered.
    pub(super) fn answered_at(self) -> Option<Time> {
        self.since.map(|since| since + ANSWERS_WITHIN)
    }

    /// Whether another round is due because only other devices than the gateway's have answered: each waits twice as
    /// long as the one before, at most `most`.
    pub(super) fn is_due_again(self, now: Time, most: Duration) -> bool {
        let (Some(since), None) = (self.since, self.rounds) else { return false };
        let last = self.again_at.unwrap_or(since);
        now.since(last) >= last.since(since).min(most).max(AGAIN_AFTER)
    }

    /// When it ends.
    pub(super) fn ends_at(since: Time, config: &Config) -> Time {
        since + WAITS.iter().sum::<Duration>().min(config.discover_timeout)
    }
}

/// When the next round of a search is due, which ends at `ends_at`.
pub(super) fn next_at(cx: &mut Cx, rounds: usize, ends_at: Time) -> Time {
    let wait = WAITS[..WAITS.len() - 1].get(rounds - 1);
    wait.map_or(ends_at, |&wait| ends_at.min(cx.now + cx.between(wait, 9, 10, 10)))
}

/// Sends one round of searches: to the gateway, then (unless the gateway was named) to the lost device and to the
/// multicast group.
pub(super) fn send_round(cx: &mut Cx, network: &Network, lost: Option<IpAddr>) {
    let lost = lost.filter(|&address| !network.named && network.gateway != Some(address));
    let multicast = (!network.named && network.local.is_ipv4()).then_some(MULTICAST);
    for address in [network.gateway, lost, multicast].into_iter().flatten() {
        let to = SocketAddr::new(address, ssdp::PORT);
        cx.pace.spend(cx.now, TARGETS.len() as u32);
        for target in TARGETS {
            let bytes = ssdp::emit_search(to, target, MX_SECS);
            cx.output(Output::Send { socket: Socket::Ssdp, to, bytes });
        }
    }
}

/// Whether a search target (ST or NT) is that of a gateway, in any version.
pub(super) fn is_gateway_target(target: &str) -> bool {
    let unversioned = |target: &str| target.rsplit_once(':').map(|(kind, _)| kind.to_ascii_lowercase());
    TARGETS.iter().any(|known| *known != ROOT_DEVICE && unversioned(known) == unversioned(target))
}

/// The UUID in a USN: `uuid:...` without the part after `::`; empty: none.
pub(super) fn uuid(usn: &str) -> &str {
    usn.split("::").next().unwrap_or_default().trim()
}

/// Whether a datagram is accepted: from the gateway; from a host on the link of our interface, received there; from our
/// own address there, since a gateway may run on this host. Accepting others would let them make us fetch a URL
/// elsewhere: on the internet, in a container, or at a cloud's metadata service, 169.254.169.254.
pub fn may_answer(network: &Network, by: Arrival) -> bool {
    let from = by.from.ip().to_canonical();
    if network.gateway == Some(from) || network.named {
        return network.gateway == Some(from);
    }
    let (IpAddr::V4(v4), IpAddr::V4(local)) = (from, network.local) else { return false };
    let is_ours = by.interface == network.interface || by.interface == 0 || network.interface == 0;
    // An unknown prefix counts as one of the larger networks.
    let prefix = by.prefix.unwrap_or(16).clamp(8, 32);
    is_ours && (u32::from(v4) ^ u32::from(local)) >> (32 - prefix) == 0
}

/// The URL of a description: at the gateway if it names the gateway's address; otherwise (a name, another or a stale
/// address) at the sender, with port and path as written.
pub(super) fn location(network: &Network, from: IpAddr, text: &str) -> Option<Url> {
    let place = |host: Option<IpAddr>| match host.map(|host| host.to_canonical()) {
        Some(host) if Some(host) == network.gateway => Some(host),
        _ => Some(from.to_canonical()),
    };
    Url::parse_at(text, place).ok()
}
