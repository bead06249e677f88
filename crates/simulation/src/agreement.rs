//! Checks of a quiet world: the program's view agrees with the gateways' tables.

use crate::checked_engine::CheckedEngine;
use crate::expectation::{Expectation, expectation};
use crate::reference::{ReferenceGateway, is_upnps, is_usable};
use crate::traits::Traits;
use crate::world::{World, gateway_time};
use plum_engine::driver::Key;
use plum_engine::io::{Allowed, Event, MappingId, Protocol};
use plum_engine::time::Time;
use plum_gateway::core::{self as gateway, Gateway, Leases, Spoken, Times};
use plum_wire::Transport;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Where the machine is, as far as it matters to what its engine should find.
#[derive(Clone, Debug)]
pub struct Place {
    /// The home.
    pub home: usize,
    /// The gateway that is asked: the next hop, or the one that was named.
    pub gateway: IpAddr,
    /// It was named: nobody else is asked.
    pub named: bool,
    /// The machine's address.
    pub local: IpAddr,
    /// The machine's interface toward the gateway.
    pub interface: u32,
    /// That address is public.
    pub direct: bool,
    /// Which protocols may be used.
    pub allowed: Allowed,
    /// A gateway may have said that a NAT stands between us and it, which puts PCP and NAT-PMP out (docs/protocols.md, PCP:
    /// ADDRESS_MISMATCH, if it stays).
    pub mismatch: bool,
    /// UPnP may have learnt of a gateway that it maps equal ports only, or does not tell of its entries.
    pub has_taught: bool,
    /// What is odd with each gateway.
    pub traits: Rc<[Traits]>,
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

    /// A copy of a gateway, for requests from here.
    pub fn reference<'a>(&'a self, world: &'a World<CheckedEngine>, node: usize) -> ReferenceGateway<'a> {
        let gateway = &world.network.nodes[node].gateway;
        ReferenceGateway::of(gateway, &self.traits[node], gateway_time(world.now()), self.local)
    }

    /// The gateways that may have made a mapping by a protocol.
    pub fn nodes_of<'a>(
        &'a self,
        world: &'a World<CheckedEngine>,
        protocol: Protocol,
    ) -> impl Iterator<Item = (usize, &'a Gateway)> {
        world.network.nodes.iter().enumerate().filter_map(move |(n, node)| {
            let address = node.gateway.config().address;
            let is_asked = address == self.gateway || (protocol == Protocol::UpnpIgd && !self.named);
            let is_here = node.home == self.home && node.interface == self.interface;
            (is_here && is_asked).then_some((n, &node.gateway))
        })
    }

    /// Whether a gateway may have an entry for a mapping that is FAILURE: it makes one, but has no external address or
    /// port for it (docs/protocols.md: FAILURE, tried again). It is deleted with the mapping.
    fn may_keep(&self, gateway: &Gateway) -> bool {
        let has_address = |protocol| external_address(gateway, protocol).is_some_and(is_usable);
        !has_address(Protocol::Pcp) || !has_address(Protocol::UpnpIgd)
    }

    /// Whether a SUCCESS can speak of this gateway.
    pub fn is_by(&self, world: &World<CheckedEngine>, node: usize, event: Event) -> bool {
        let Event::Success { protocol, address, .. } = event else { return false };
        let mut nodes = self.nodes_of(world, protocol);
        nodes.any(|(n, gateway)| n == node && external_address(gateway, protocol) == Some(address))
    }

    /// The entry that a SUCCESS speaks of.
    pub fn claim(&self, world: &World<CheckedEngine>, key: Key, event: Event) -> Option<Claim> {
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

/// docs/contract.md, protocols and states: SUCCESS means that the gateway has exactly that external port for our address
/// and internal port, and that external address; a mapping that can be made is neither FAILURE nor PENDING.
pub fn the_reported_state_is_the_gateways(
    world: &World<CheckedEngine>,
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
                    let may_be_so = match protocol {
                        Protocol::UpnpIgd => may_lose_unseen(world, place),
                        // An answer that names no mapping may be a copy, or late, and another's.
                        Protocol::NatPmp => is_among_unnamed(world, place, live, key),
                        _ => false,
                    };
                    assert!(
                        may_be_so,
                        "agreement: {id} ({key}) is {state:?}, but no gateway has it:\n{}",
                        tables(world)
                    );
                    continue;
                };
                let gateway = &world.network.nodes[claim.node].gateway;
                // Without a connection the gateway has no address for now, and keeps its table.
                if let Some(truth) = external_address(gateway, protocol).filter(|&address| is_usable(address))
                {
                    assert_eq!(address, truth, "agreement: the external address of {id} ({key}), {state:?}");
                }
            }
            Event::Failure => {
                let expectation = expectation(world, place, key);
                let can_be_made =
                    matches!(expectation, Expectation::Granted(_) | Expectation::GrantedAtLast(_));
                assert!(!can_be_made, "agreement: {id} ({key}) is FAILURE, but it is {expectation:?}");
            }
            Event::Pending if is_just_over(world, place, id) => {}
            Event::Pending => {
                panic!("agreement: {id} ({key}) is PENDING, though all has been quiet for long")
            }
            Event::Destroyed => panic!("agreement: {id} ({key}) is DESTROYED, which nobody asked for"),
        }
    }
}

/// Whether the answers of a gateway's NAT-PMP may be another mapping's: they do not say which, and there are several.
/// docs/protocols.md: such an answer counts where one request is open.
fn is_among_unnamed(
    world: &World<CheckedEngine>,
    place: &Place,
    live: &BTreeMap<MappingId, Key>,
    key: Key,
) -> bool {
    live.values().any(|&other| other != key && other.transport == key.transport)
        && place.nodes_of(world, Protocol::NatPmp).any(|(n, _)| place.reference(world, n).names_no_port())
}

/// Whether a gateway may have no entry though it said that it made or renewed it, and looks do not tell, or not at once.
fn may_lose_unseen(world: &World<CheckedEngine>, place: &Place) -> bool {
    place.nodes_of(world, Protocol::UpnpIgd).any(|(n, gateway)| {
        let is_odd = !place.traits[n].is_empty();
        is_odd && (ends_leases(gateway) || !place.reference(world, n).looks_are_true())
    })
}

/// Whether an entry by UPnP may end unseen: its lease ends before its time, or is shorter than was asked for, which looks
/// alone would tell.
pub fn may_end_unseen(
    world: &World<CheckedEngine>,
    place: &Place,
    node: usize,
    entry: &gateway::TableEntry,
) -> bool {
    let gateway = &world.network.nodes[node].gateway;
    let is_short = entry.expires_at.is_some_and(|at| at < entry.granted_at + Duration::from_secs(7200));
    is_upnps(entry) && (ends_leases(gateway) || (is_short && !place.reference(world, node).looks_are_true()))
}

/// Whether a gateway's leases by UPnP end before their time.
fn ends_leases(gateway: &Gateway) -> bool {
    gateway.faults.leases != Leases::Kept
}

/// Whether a mapping's lifetime has just ended because its protocol is spoken no more: another is being looked for.
fn is_just_over(world: &World<CheckedEngine>, place: &Place, id: MappingId) -> bool {
    let [.., (_, before), (since, _)] = world.timeline(id) else { return false };
    let config = world.engine().config();
    let Event::Success { protocol, .. } = *before else { return false };
    let is_spoken = place.nodes_of(world, protocol).any(|(_, gateway)| is_spoken(gateway, protocol));
    !is_spoken && world.now().since(*since) <= config.discover_timeout + config.mapping_timeout * 2
}

/// docs/contract.md, callback rule 3: an uneventful renewal is silent; docs/protocols.md: a mapping stays SUCCESS until its
/// lifetime ends. In a quiet world nothing is lost.
///
/// `unseen_restart`: a gateway has restarted that nobody asked by PCP or NAT-PMP since. The first answer shows it, and
/// all mappings are made anew, also those that another protocol, or another device, has made.
pub fn nothing_is_lost_in_quiet(
    world: &World<CheckedEngine>,
    place: &Place,
    live: &BTreeMap<MappingId, Key>,
    quiet_since: Time,
    unseen_restart: bool,
) {
    let may_lose = place.nodes_of(world, Protocol::UpnpIgd).any(|(n, gateway)| {
        let reference = place.reference(world, n);
        ends_leases(gateway) || reference.looks_deny_entries() || !reference.renews_by_upnp()
    });
    let epoch_errs = place.nodes_of(world, Protocol::Pcp).any(|(n, _)| place.reference(world, n).is_late());
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
            let by_natpmp = matches!(before, Event::Success { protocol: Protocol::NatPmp, .. });
            let is_excused = is_over
                || epoch_errs
                || (by_upnp(before) && (unseen_restart || may_lose))
                || (by_natpmp && is_among_unnamed(world, place, live, key));
            timeline[n].1 == Event::Pending && !is_excused
        });
        let lost = lost.map(|n| timeline[n]);
        assert!(lost.is_none(), "quiet: {id} ({key}) was lost at {lost:?}, though nothing has happened");
    }
}

/// docs/protocols.md, many mappings: what is not answered is sent again.
pub fn a_lost_request_is_sent_again(state: Event) {
    let is_made = matches!(state, Event::Success { .. });
    assert!(is_made, "resend: {state:?} four seconds after three datagrams at most were lost");
}

/// docs/protocols.md, discovery: no mapping of ours is left behind unknown. Every entry for our address that was made or
/// renewed since all was quiet is one that the program was told of.
pub fn no_entry_is_unknown(
    world: &World<CheckedEngine>,
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
            // An entry for a mapping that another device has is made, and deleted if it is of no use.
            let is_elsewhere = live.iter().any(|(&id, &key)| {
                let state = world.state(id);
                entry.internal == place.internal(key)
                    && place.claim(world, key, state).is_some_and(|claim| claim.node != n)
            });
            // docs/protocols.md, the ledger: a deletion by PCP or NAT-PMP, or of an entry whose port is not known, could hit the entry that holds the mapping, and waits for
            // the end.
            let may_hit = entry.made_by != gateway::Protocol::Upnp || place.reference(world, n).hides_ports();
            let waits = may_hit
                && live.iter().any(|(&id, &key)| {
                    matches!(world.state(id), Event::Success { .. })
                        && entry.transport == transport(key.transport)
                        && entry.internal == place.internal(key)
                });
            let is_known = !is_ours
                || waits
                || entry.granted_at < quiet_since
                || claims.binary_search(&claim).is_ok()
                || (is_elsewhere && is_being_asked(world, entry))
                || (has_failed && (place.may_keep(&node.gateway) || is_being_asked(world, entry)))
                || may_stay(world, place, n, entry);
            assert!(is_known, "left behind: nobody knows of {entry:?} on gateway {n}\n{}", tables(world));
        }
    }
}

/// docs/protocols.md, ending: nothing of ours is left on a gateway that answers.
pub fn a_destroyed_mapping_is_gone(world: &World<CheckedEngine>, place: &Place, claim: Claim, key: Key) {
    let table = world.network.nodes[claim.node].gateway.table();
    let left = table
        .get(claim.transport, claim.external_port)
        .filter(|entry| entry.internal == place.internal(key) && entry.made_by != gateway::Protocol::Script);
    assert!(left.is_none(), "left behind: {key} is destroyed, but gateway {} has {left:?}", claim.node);
}

/// Whether an entry may be of an attempt that is still going on: what it leaves is deleted at its end.
fn is_being_asked(world: &World<CheckedEngine>, entry: &gateway::TableEntry) -> bool {
    let config = world.engine().config();
    gateway_time(world.now()) <= entry.granted_at + config.discover_timeout + config.mapping_timeout
}

/// Whether a gateway may have an entry of ours that no mapping needs: it does not let it be deleted, or has made it after the
/// deletion, and for a time; or it has denied that the entry is there, and was believed.
fn may_stay(world: &World<CheckedEngine>, place: &Place, node: usize, entry: &gateway::TableEntry) -> bool {
    let reference = place.reference(world, node);
    let is_leased_late =
        entry.made_by == gateway::Protocol::Pcp && entry.expires_at.is_some() && reference.is_late();
    let is_denied = is_upnps(entry) && reference.looks_deny_entries();
    // A copy of a request that arrives after its deletion makes it anew; where the gateway does not answer requests, nobody hears.
    let is_copied = world.network.nodes[node].gateway.faults.duplicate.requests > 0.0;
    let is_unheard =
        is_copied && entry.made_by == gateway::Protocol::Pcp && !reference.answers_pcp_requests();
    is_leased_late || is_denied || is_unheard || !reference.deletes(entry)
}

/// docs/protocols.md, the ledger: at the end of the program all is deleted that may be on the gateway because of it, whatever the
/// gateway has answered; but for what it does not let be deleted.
///
/// `begun_at`: what earlier runs of the program have left is not known to this one.
pub fn nothing_is_left_behind(world: &World<CheckedEngine>, place: &Place, begun_at: Duration) {
    let soon = gateway_time(world.now()) + Duration::from_secs(5);
    for (n, node) in world.network.nodes.iter().enumerate().filter(|(_, node)| node.home == place.home) {
        for entry in node.gateway.table().iter() {
            let is_ours = entry.internal.ip() == place.local
                && entry.made_by != gateway::Protocol::Script
                && entry.granted_at >= begun_at;
            // The latest time that an entry may live: what UPnP grants beyond what was asked for it does not say.
            let ends_at = entry.expires_at.map(|at| at.min(entry.granted_at + Duration::from_secs(7200)));
            let is_over = ends_at.is_some_and(|at| at <= soon);
            // A device that answers no search is not found again by a machine that was in another network, or in none.
            let is_hidden = is_upnps(entry) && !place.reference(world, n).answers_a_search();
            let is_left = is_ours && !is_over && !is_hidden && !may_stay(world, place, n, entry);
            assert!(!is_left, "left behind: at the end gateway {n} has {entry:?}\n{}", tables(world));
        }
    }
}

/// Whether the gateway that made a mapping still listens to the protocol by which it did: else no deletion reaches it.
pub fn can_be_deleted(world: &World<CheckedEngine>, place: &Place, key: Key, event: Event) -> bool {
    let Event::Success { protocol, .. } = event else { return false };
    let Some(claim) = place.claim(world, key, event) else { return false };
    let gateway = &world.network.nodes[claim.node].gateway;
    let entry = gateway.table().get(claim.transport, claim.external_port);
    is_spoken(gateway, protocol)
        && entry.is_some_and(|entry| place.reference(world, claim.node).deletes(entry))
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
        _ => false,
    }
}

fn tables(world: &World<CheckedEngine>) -> String {
    let mut text = String::new();
    for (n, node) in world.network.nodes.iter().enumerate() {
        for entry in node.gateway.table().iter().take(20) {
            text += &format!("gateway {n} (home {}): {entry:?}\n", node.home);
        }
    }
    text
}
