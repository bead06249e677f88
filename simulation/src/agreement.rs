//! What is true of a quiet world: what the program was told is what the gateways have.

use crate::watched::Watched;
use crate::world::World;
use plum::engine::driver::Key;
use plum::engine::io::{Allowed, Event, MappingId, Protocol};
use plum::time::Time;
use plum::wire::Transport;
use plum_gateway::core::{self as gateway, Action, AssignedPort, Gateway, Kind, Spoken, Times};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Where the machine is, as far as it matters to what its engine should find.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The home.
    pub home: usize,
    /// The gateway that is asked: the next hop, or the one that was named.
    pub gateway: IpAddr,
    /// It was named: nobody else is asked.
    pub named: bool,
    /// The machine's address.
    pub local: IpAddr,
    /// That address is public.
    pub direct: bool,
    /// Which protocols may be used.
    pub allowed: Allowed,
    /// A gateway may have said that a NAT stands between us and it, which puts PCP and NAT-PMP out (`protocols.md`, PCP:
    /// ADDRESS_MISMATCH, if it stays).
    pub mismatch: bool,
    /// UPnP may have learnt of a gateway that it maps equal ports only, or does not tell of its entries.
    pub has_taught: bool,
}

/// An external port of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The gateway's number.
    pub node: usize,
    /// TCP or UDP.
    pub transport: gateway::Transport,
    /// The port outside.
    pub external_port: u16,
}

/// The transport in the gateway's words.
pub fn transport(transport: Transport) -> gateway::Transport {
    match transport {
        Transport::Tcp => gateway::Transport::Tcp,
        Transport::Udp => gateway::Transport::Udp,
    }
}

impl Place {
    fn internal(&self, key: Key) -> SocketAddr {
        SocketAddr::new(self.local, key.internal_port.get())
    }

    /// The gateways that may have made a mapping by a protocol.
    fn nodes_of<'a>(
        &'a self,
        world: &'a World<Watched>,
        protocol: Protocol,
    ) -> impl Iterator<Item = (usize, &'a Gateway)> {
        world.network.nodes.iter().enumerate().filter_map(move |(n, node)| {
            let address = node.gateway.config().address;
            let is_asked = address == self.gateway || (protocol == Protocol::UpnpIgd && !self.named);
            (node.home == self.home && is_asked).then_some((n, &node.gateway))
        })
    }

    /// Whether a gateway may have an entry for a mapping that is FAILURE: it makes one, but has no external address or
    /// port for it (`protocols.md`: FAILURE, tried again). It is deleted with the mapping.
    fn may_keep(&self, gateway: &Gateway) -> bool {
        let has_address = |protocol| {
            external_address(gateway, protocol)
                .is_some_and(|address| !address.is_unspecified() && !address.is_multicast())
        };
        !has_address(Protocol::Pcp) || !has_address(Protocol::UpnpIgd)
    }

    /// Whether a SUCCESS can speak of this gateway.
    pub fn is_by(&self, world: &World<Watched>, node: usize, event: Event) -> bool {
        let Event::Success { protocol, address, .. } = event else { return false };
        let mut nodes = self.nodes_of(world, protocol);
        nodes.any(|(n, gateway)| n == node && external_address(gateway, protocol) == Some(address))
    }

    /// The entry that a SUCCESS speaks of.
    pub fn claim(&self, world: &World<Watched>, key: Key, event: Event) -> Option<Claim> {
        let Event::Success { protocol, address, port } = event else { return None };
        let transport = transport(key.transport);
        let claims = self.nodes_of(world, protocol).filter_map(|(node, gateway)| {
            let entry = gateway.table().get(transport, port.get())?;
            let is_ours = entry.internal == self.internal(key) && entry.made_by != gateway::Protocol::Script;
            let is_elsewhere = external_address(gateway, protocol) != Some(address);
            is_ours.then_some((is_elsewhere, Claim { node, transport, external_port: port.get() }))
        });
        // Another gateway may have such an entry left from before.
        claims.min().map(|(_, claim)| claim)
    }
}

/// What GetExternalIPAddress, and PCP and NAT-PMP, say.
fn external_address(gateway: &Gateway, protocol: Protocol) -> Option<IpAddr> {
    match &gateway.faults.external_address_text {
        Some(text) if protocol == Protocol::UpnpIgd => text.parse().ok(),
        _ => Some(gateway.config().external_address.into()),
    }
}

/// `behaviour.md`, protocols and states: SUCCESS means that the gateway has exactly that external port for our address
/// and internal port, and that external address; a mapping that can be made is neither FAILURE nor PENDING.
pub fn the_reported_state_is_the_gateways(
    world: &World<Watched>,
    place: &Place,
    live: &BTreeMap<MappingId, Key>,
) {
    for (&id, &key) in live {
        let state = world.state(id);
        match state {
            Event::Success { protocol: Protocol::Direct, address, port } => {
                let is_right = place.direct && address == place.local && port == key.internal_port;
                assert!(is_right, "agreement: {id} ({key}) is {state:?} at {place:?}");
            }
            Event::Success { protocol, address, .. } => {
                let claim = place.claim(world, key, state);
                let Some(claim) = claim else {
                    panic!("agreement: {id} ({key}) is {state:?}, but no gateway has it:\n{}", tables(world))
                };
                let gateway = &world.network.nodes[claim.node].gateway;
                let truth = external_address(gateway, protocol);
                assert_eq!(
                    Some(address),
                    truth,
                    "agreement: the external address of {id} ({key}), {state:?}"
                );
            }
            Event::Failure => {
                let outlook = outlook(world, place, key);
                let can_be_made = matches!(outlook, Outlook::Granted(_));
                assert!(!can_be_made, "agreement: {id} ({key}) is FAILURE, but it is {outlook:?}");
            }
            Event::Pending if is_just_over(world, place, id) => {}
            Event::Pending => {
                panic!("agreement: {id} ({key}) is PENDING, though all has been quiet for long")
            }
            Event::Destroyed => panic!("agreement: {id} ({key}) is DESTROYED, which nobody asked for"),
        }
    }
}

/// Whether a mapping's lifetime has just ended because its protocol is spoken no more: another is being looked for.
fn is_just_over(world: &World<Watched>, place: &Place, id: MappingId) -> bool {
    let [.., (_, before), (since, _)] = world.timeline(id) else { return false };
    let config = world.endpoint().config();
    let Event::Success { protocol, .. } = *before else { return false };
    let is_spoken = place.nodes_of(world, protocol).any(|(_, gateway)| is_spoken(gateway, protocol));
    !is_spoken && world.now().since(*since) <= config.discover_timeout + config.mapping_timeout * 2
}

/// `behaviour.md`, callback rule 3: an uneventful renewal is silent; `protocols.md`: a mapping stays SUCCESS until its
/// lifetime ends. In a quiet world nothing is lost.
///
/// `unseen_restart`: a gateway has restarted that nobody asked by PCP or NAT-PMP since. The first answer shows it, and
/// all mappings are made anew, also those that another protocol, or another device, has made.
pub fn nothing_is_lost_in_quiet(
    world: &World<Watched>,
    place: &Place,
    live: &BTreeMap<MappingId, Key>,
    quiet_since: Time,
    unseen_restart: bool,
) {
    for (&id, &key) in live {
        let timeline = world.timeline(id);
        let since = timeline.partition_point(|&(at, _)| at <= quiet_since);
        let by_upnp = |event| matches!(event, Event::Success { protocol: Protocol::UpnpIgd, .. });
        let lost = (since..timeline.len()).find(|&n| {
            let before = if n > 0 { timeline[n - 1].1 } else { Event::Pending };
            // A protocol that is spoken no more leaves its mappings SUCCESS until their lifetimes end.
            let is_over = match before {
                Event::Success { protocol, .. } => {
                    !place.nodes_of(world, protocol).any(|(_, gateway)| is_spoken(gateway, protocol))
                }
                _ => false,
            };
            let is_excused = is_over || (unseen_restart && by_upnp(before));
            timeline[n].1 == Event::Pending && !is_excused
        });
        let lost = lost.map(|n| timeline[n]);
        assert!(lost.is_none(), "quiet: {id} ({key}) was lost at {lost:?}, though nothing has happened");
    }
}

/// `protocols.md`, many mappings: what is not answered is sent again.
pub fn a_lost_request_is_sent_again(state: Event) {
    let is_made = matches!(state, Event::Success { .. });
    assert!(is_made, "resend: {state:?} four seconds after three datagrams at most were lost");
}

/// `protocols.md`, discovery: no mapping of ours is left behind unknown. Every entry for our address that was made or
/// renewed since all was quiet is one that the program was told of.
pub fn no_entry_is_unknown(
    world: &World<Watched>,
    place: &Place,
    live: &BTreeMap<MappingId, Key>,
    quiet_since: Duration,
) {
    let mut claims: Vec<Claim> =
        live.iter().filter_map(|(&id, &key)| place.claim(world, key, world.state(id))).collect();
    claims.sort();
    for (n, node) in world.network.nodes.iter().enumerate().filter(|(_, node)| node.home == place.home) {
        for entry in node.gateway.table().iter() {
            let is_ours = entry.internal.ip() == place.local && entry.made_by != gateway::Protocol::Script;
            let claim = Claim { node: n, transport: entry.transport, external_port: entry.external_port };
            let has_failed = live.iter().any(|(&id, &key)| {
                world.state(id) == Event::Failure
                    && entry.transport == transport(key.transport)
                    && entry.internal == place.internal(key)
            });
            let is_known = !is_ours
                || entry.granted_at < quiet_since
                || claims.binary_search(&claim).is_ok()
                || (has_failed && place.may_keep(&node.gateway));
            assert!(is_known, "left behind: nobody knows of {entry:?} on gateway {n}\n{}", tables(world));
        }
    }
}

/// `protocols.md`, ending: nothing of ours is left on a gateway that answers.
pub fn a_destroyed_mapping_is_gone(world: &World<Watched>, place: &Place, claim: Claim, key: Key) {
    let table = world.network.nodes[claim.node].gateway.table();
    let left = table
        .get(claim.transport, claim.external_port)
        .filter(|entry| entry.internal == place.internal(key) && entry.made_by != gateway::Protocol::Script);
    assert!(left.is_none(), "left behind: {key} is destroyed, but gateway {} has {left:?}", claim.node);
}

/// Whether the gateway that made a mapping still listens to the protocol by which it did: else no deletion reaches it.
pub fn can_be_deleted(world: &World<Watched>, place: &Place, key: Key, event: Event) -> bool {
    let Event::Success { protocol, .. } = event else { return false };
    let Some(claim) = place.claim(world, key, event) else { return false };
    let gateway = &world.network.nodes[claim.node].gateway;
    let deletion = match protocol {
        Protocol::Pcp => Kind::PcpDelete,
        Protocol::NatPmp => Kind::NatPmpDelete,
        _ => Kind::Soap(Action::DeletePortMapping),
    };
    is_spoken(gateway, protocol) && refusal(gateway, deletion, key.internal_port.get()).is_none()
}

/// Whether a gateway answers to the protocol that made a mapping.
pub fn is_spoken_by(gateway: &Gateway, event: Event) -> bool {
    matches!(event, Event::Success { protocol, .. } if is_spoken(gateway, protocol))
}

/// Whether a gateway answers to a protocol.
pub fn is_spoken(gateway: &Gateway, protocol: Protocol) -> bool {
    let faults = &gateway.faults;
    match protocol {
        Protocol::Pcp => {
            !faults.closed.pcp && faults.silence.pcp != Times::Always && faults.pcp == Spoken::Yes
        }
        Protocol::NatPmp => {
            !faults.closed.natpmp && faults.silence.natpmp != Times::Always && faults.natpmp == Spoken::Yes
        }
        Protocol::UpnpIgd => {
            let is_silent = faults.silence.ssdp == Times::Always || faults.silence.http == Times::Always;
            let is_closed = faults.closed.ssdp || faults.closed.http;
            gateway.config().igd.is_some() && !is_closed && !is_silent
        }
        Protocol::Direct => false,
    }
}

fn tables(world: &World<Watched>) -> String {
    let mut text = String::new();
    for (n, node) in world.network.nodes.iter().enumerate() {
        for entry in node.gateway.table().iter().take(20) {
            text += &format!("gateway {n} (home {}): {entry:?}\n", node.home);
        }
    }
    text
}

/// What should become of a mapping that is made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is made, by this protocol.
    Granted(Protocol),
    /// It is refused, or there is nobody to ask.
    Failed,
    /// That is not for us to say.
    Unclear,
}

/// What one protocol would do.
enum Word {
    Grants,
    Refuses,
    NextProtocol,
    Unclear,
}

/// `protocols.md`, discovery: PCP, then NAT-PMP, then UPnP; a refusal ends it or leaves it to the next, by its code.
pub fn outlook(world: &World<Watched>, place: &Place, key: Key) -> Outlook {
    if place.direct {
        return Outlook::Granted(Protocol::Direct);
    }
    let gateway = place.nodes_of(world, Protocol::Pcp).next().map(|(_, gateway)| gateway);
    for protocol in [Protocol::Pcp, Protocol::NatPmp, Protocol::UpnpIgd] {
        let is_allowed = match place.allowed {
            Allowed::Any => true,
            Allowed::Pcp => protocol != Protocol::UpnpIgd,
            Allowed::Upnp => protocol == Protocol::UpnpIgd,
        };
        if !is_allowed {
            continue;
        }
        let word = match (protocol, gateway) {
            (Protocol::Pcp | Protocol::NatPmp, _) if place.mismatch => Word::Unclear,
            (Protocol::Pcp, Some(gateway)) => pcp_word(gateway, place, key),
            (Protocol::NatPmp, Some(gateway)) => natpmp_word(gateway, key),
            (Protocol::UpnpIgd, _) => upnp_word(world, place),
            _ => Word::NextProtocol,
        };
        match word {
            Word::Grants => return Outlook::Granted(protocol),
            Word::Refuses => return Outlook::Failed,
            Word::NextProtocol => {}
            Word::Unclear => return Outlook::Unclear,
        }
    }
    Outlook::Failed
}

/// The error that a request of this kind gets.
fn refusal(gateway: &Gateway, kind: Kind, port: u16) -> Option<u16> {
    let fits =
        |r: &&gateway::Refusal| r.kind == kind && r.port.is_none_or(|p| p == port) && r.times != Times::Never;
    gateway.faults.refusals.iter().find(fits).map(|refusal| refusal.code)
}

/// What granting comes to, for PCP and NAT-PMP.
fn granting_word(gateway: &Gateway) -> Word {
    let faults = &gateway.faults;
    let gives_nothing = faults.lifetime == Some(0) || faults.assigned_port == AssignedPort::Exactly(0);
    // Whether there was room when it was refused, and its next try is still to come, we cannot tell.
    if gateway.config().max_mappings < 65_536 {
        return Word::Unclear;
    }
    let has_address = !gateway.config().external_address.is_unspecified();
    if gives_nothing || !has_address { Word::Refuses } else { Word::Grants }
}

fn pcp_word(gateway: &Gateway, place: &Place, key: Key) -> Word {
    if !is_spoken(gateway, Protocol::Pcp) {
        return Word::NextProtocol;
    }
    // RFC 6887 §11.3: an entry with another nonce than ours is nobody's to renew; which one is ours we cannot tell.
    let mut entries = gateway.table().of_internal(transport(key.transport), place.internal(key));
    if entries.any(|entry| entry.nonce.is_some()) {
        return Word::Unclear;
    }
    match refusal(gateway, Kind::PcpMap, key.internal_port.get()) {
        None => granting_word(gateway),
        // protocols.md, PCP: NOT_AUTHORIZED, UNSUPP_OPCODE, UNSUPP_PROTOCOL, MALFORMED_*: next protocol.
        Some(2 | 3 | 4 | 6 | 9) => Word::NextProtocol,
        Some(7 | 8 | 10) => Word::Refuses,
        Some(_) => Word::Unclear,
    }
}

fn natpmp_word(gateway: &Gateway, key: Key) -> Word {
    if !is_spoken(gateway, Protocol::NatPmp) {
        return Word::NextProtocol;
    }
    if refusal(gateway, Kind::NatPmpAddress, 0).is_some()
        || gateway.config().external_address.is_unspecified()
    {
        return Word::Unclear;
    }
    match refusal(gateway, Kind::NatPmpMap, key.internal_port.get()) {
        None => granting_word(gateway),
        // protocols.md, NAT-PMP: 2 or 5: next protocol; 3 or 4: FAILURE.
        Some(2 | 5) => Word::NextProtocol,
        Some(3 | 4) => Word::Refuses,
        Some(_) => Word::Unclear,
    }
}

fn upnp_word(world: &World<Watched>, place: &Place) -> Word {
    let mut grants = false;
    let mut count = 0;
    for (_, gateway) in place.nodes_of(world, Protocol::UpnpIgd) {
        let faults = &gateway.faults;
        if !is_spoken(gateway, Protocol::UpnpIgd) {
            continue;
        }
        count += 1;
        let refuses = |r: &gateway::Refusal| matches!(r.kind, Kind::Soap(_) | Kind::HttpDescription);
        let has_habits = faults.refusals.iter().any(refuses) || faults.same_ports_only || place.has_taught;
        let is_full = gateway.config().max_mappings < 65_536;
        let address = external_address(gateway, Protocol::UpnpIgd);
        let has_address = address.is_some_and(|address| address != IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if has_habits || is_full || !has_address {
            return Word::Unclear;
        }
        grants = true;
    }
    match (count, grants) {
        (0, _) => Word::NextProtocol,
        (_, true) => Word::Grants,
        _ => Word::Unclear,
    }
}
