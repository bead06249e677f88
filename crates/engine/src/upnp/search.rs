//! The SSDP search: its messages and times, and which answers are accepted.

use super::{Network, Upnp};
use crate::io::{Arrival, Config, Cx, Output, Socket};
use crate::time::Time;
use plum_wire::http::Url;
use plum_wire::ssdp;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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
/// The search target of the service that opens pinholes, for IPv6.
pub(super) const FIREWALL_CONTROL: &str = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1";
/// The search target that every device answers.
const ROOT_DEVICE: &str = "upnp:rootdevice";
/// MX: the seconds within which a device shall answer. Strict servers drop any search without it, unicast ones
/// included.
const MX_SECS: u8 = 1;
/// UDA 2.0 §1.3.2: the multicast address of searches.
const MULTICAST: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250));
/// UDA 2.0 Annex A: those of IPv6, on the link and in the site.
const LINK_MULTICAST: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc));
const SITE_MULTICAST: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0xc));
/// How long a search by IPv6 goes on without an answer before the gateway is searched by IPv4, too.
pub(super) const IPV4_WAIT: Duration = Duration::from_millis(500);
/// How long each round waits for answers before the next; the search ends after the last.
const WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];
/// When all devices that obey MX have answered: devices other than the gateway's are not used before.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1200);

/// How long after a search the next is due, if the devices that have answered do not grant a mapping.
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

    /// Whether another round is due because the devices that have answered do not grant a mapping: each waits twice as long
    /// as the one before, at most `most`.
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

impl Upnp {
    /// A mapping that failed is asked for again. Another device may grant it: one whose answers were lost, or that was not
    /// there.
    pub(super) fn search_again(&mut self, cx: &mut Cx) {
        // The pauses between requests grow up to 9/10 of the recheck interval, or more by chance.
        let longest = cx.config.recheck_interval * 9 / 10;
        if self.search.is_due_again(cx.now, longest) {
            self.send_round(cx);
        }
    }

    /// Searches for the gateway's own device, while other devices hold the mappings.
    pub(super) fn search_for_better(&mut self, cx: &mut Cx) {
        let has_gateway = self.network.is_some_and(|network| network.gateway.is_some());
        if has_gateway && self.services.count(true) == 0 {
            self.send_round(cx);
        }
    }

    /// Sends one round of searches, whose answers are taken at any time.
    fn send_round(&mut self, cx: &mut Cx) {
        if let Some(network) = self.network.filter(|_| self.is_open == Some(true)) {
            self.resting = false;
            self.search.again_at = Some(cx.now);
            send_round(cx, &network, self.sockets, None);
        }
    }
}

/// When the next round of a search is due, which ends at `ends_at`.
pub(super) fn next_at(cx: &mut Cx, rounds: usize, ends_at: Time) -> Time {
    let wait = WAITS[..WAITS.len() - 1].get(rounds - 1);
    wait.map_or(ends_at, |&wait| ends_at.min(cx.now + cx.between(wait, 9, 10, 10)))
}

/// The sockets for searches that are open beside the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sockets {
    /// IPv6: that of our link-local address.
    pub(super) is_link_open: bool,
    /// IPv6: that for the IPv4 gateway.
    pub(super) is_ipv4_open: bool,
}

impl Sockets {
    /// The socket for a destination: UDA 2.0 Annex A has the link searched from a link-local address.
    fn toward(self, address: IpAddr) -> Socket {
        let is_of_link =
            matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local() || address == LINK_MULTICAST);
        if is_of_link && self.is_link_open { Socket::LinkSsdp } else { Socket::Ssdp }
    }
}

/// Sends one round of searches: to the gateway, then (unless the gateway was named) to the lost device and to the
/// multicast groups.
pub(super) fn send_round(cx: &mut Cx, network: &Network, sockets: Sockets, lost: Option<IpAddr>) {
    let is_of_family = |address: IpAddr| address.is_ipv4() == network.local.is_ipv4();
    let lost =
        lost.filter(|&address| is_of_family(address) && !network.named && network.gateway != Some(address));
    let groups: &[IpAddr] = match network.local {
        _ if network.named => &[],
        IpAddr::V4(_) => &[MULTICAST],
        IpAddr::V6(_) => &[LINK_MULTICAST, SITE_MULTICAST],
    };
    for address in network.gateway.into_iter().chain(lost).chain(groups.iter().copied()) {
        send(cx, sockets.toward(address), address, network.is_ipv6());
    }
}

/// Searches for the gateway by IPv4, for pinholes.
pub(super) fn send_ipv4_round(cx: &mut Cx, gateway: IpAddr) {
    for address in [gateway, MULTICAST] {
        send(cx, Socket::Ipv4Ssdp, address, true);
    }
}

fn send(cx: &mut Cx, socket: Socket, address: IpAddr, is_for_pinholes: bool) {
    let to = SocketAddr::new(address, ssdp::PORT);
    let targets = is_for_pinholes.then_some(FIREWALL_CONTROL).into_iter().chain(TARGETS);
    for target in targets {
        cx.pace.spend(cx.now, 1);
        let bytes = ssdp::emit_search(to, target, MX_SECS);
        cx.output(Output::Send { socket, to, bytes });
    }
}

/// Whether a search target (ST or NT) is that of a gateway, in any version.
pub(super) fn is_gateway_target(target: &str) -> bool {
    let unversioned = |target: &str| target.rsplit_once(':').map(|(kind, _)| kind.to_ascii_lowercase());
    let mut known = TARGETS.iter().filter(|known| **known != ROOT_DEVICE).chain([&FIREWALL_CONTROL]);
    known.any(|known| unversioned(known) == unversioned(target))
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
    let is_ours = by.interface == network.interface || by.interface == 0 || network.interface == 0;
    let is_gateway = network.gateway == Some(from);
    if network.is_ipv6() {
        // A link-local address is an address of one link only, and our own address may have no prefix to compare with.
        return is_ours && (is_gateway || by.is_on_link && !network.named);
    }
    if is_gateway || network.named {
        return is_gateway;
    }
    let (IpAddr::V4(v4), IpAddr::V4(local)) = (from, network.local) else { return false };
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

/// Where the gateway has a description that it has announced from another of its addresses, as far as that can be: the
/// description has to show it. IPv6 only: a gateway has several addresses there, and one by IPv4.
pub(super) fn location_at_gateway(network: &Network, from: IpAddr, text: &str) -> Option<Url> {
    let gateway = network.gateway.filter(|&gateway| network.is_ipv6() && gateway != from)?;
    Url::parse_at(text, |_| Some(gateway)).ok()
}
