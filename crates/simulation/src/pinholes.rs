//! Checks of pinholes in a quiet world: what the program was told against the gateways' firewalls.

use crate::agreement::{is_spoken, transport};
use crate::checked_engine::CheckedEngine;
use crate::expectation::Expectation;
use crate::ipv6_homes::is_global;
use crate::reference::{Answer, Asked, ReferenceGateway};
use crate::traits::Traits;
use crate::world::{Node, World, gateway_time};
use plum_engine::driver::Key;
use plum_engine::io::{Allowed, Event, MappingId, Protocol, Source};
use plum_engine::ipv6::{LocalAddress, NextHop};
use plum_engine::time::Time;
use plum_gateway::core::{self as gateway, Leases, PinholeKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// A mapping to an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinhole {
    /// Transport and internal port.
    pub key: Key,
    /// The address that the program named; `None`: the library chooses it.
    pub named: Option<Ipv6Addr>,
}

/// The machine's IPv6, as far as it matters to what its engines should find.
#[derive(Clone, Debug)]
pub struct Ipv6Place {
    /// The home.
    pub home: usize,
    /// PLUM_GATEWAY.
    pub gateway: Option<IpAddr>,
    /// Which protocols may be used.
    pub allowed: Allowed,
    /// See `agreement::Place`.
    pub mismatch: bool,
    /// See `agreement::Place`.
    pub has_taught: bool,
    /// What is odd with each gateway.
    pub traits: Rc<[Traits]>,
    /// Pinholes with nonces that the present engines may not know.
    pub stale: BTreeSet<(usize, PinholeKey)>,
    /// A gateway has restarted, and may count UniqueIDs from 1 again: an id may name another pinhole of ours, which is then
    /// made anew, or closed in place of the one that was meant.
    pub has_lost: bool,
    /// More addresses were in use than there are engines.
    pub is_crowded: bool,
    /// There was a time without an address that lasts: a temporary one may have been chosen, and stays.
    pub lacked_lasting: bool,
}

/// One of the gateways' pinholes.
pub fn pinhole_key(key: Key, client: Ipv6Addr) -> PinholeKey {
    PinholeKey::for_all(transport(key.transport), client, key.internal_port.get())
}

impl Ipv6Place {
    pub(crate) fn reference<'a>(
        &'a self,
        world: &'a World<CheckedEngine>,
        node: usize,
        client: Ipv6Addr,
    ) -> ReferenceGateway<'a> {
        let gateway = &world.network.nodes[node].gateway;
        ReferenceGateway::of(gateway, &self.traits[node], gateway_time(world.now()), client.into())
    }

    /// The gateways of this home.
    pub(crate) fn nodes<'a>(
        &'a self,
        world: &'a World<CheckedEngine>,
    ) -> impl Iterator<Item = (usize, &'a Node)> {
        let nodes = world.network.nodes.iter().enumerate();
        nodes.filter(|(_, node)| node.home == self.home && node.gateway.config().ipv6.is_some())
    }

    /// The addresses that a mapping may lead to; none: it fails.
    pub fn sources(&self, world: &World<CheckedEngine>, pinhole: &Pinhole) -> Vec<Source> {
        if self.gateway.is_some_and(|gateway| gateway.is_ipv4()) {
            return Vec::new();
        }
        let addresses = &world.network.ipv6.addresses;
        let source = |known: &&LocalAddress| Source { address: known.address, interface: known.interface };
        if let Some(named) = pinhole.named {
            let is_target = is_global(named) || named.is_unique_local();
            let known = addresses.list.iter().find(|known| known.address == named && is_target);
            return known.iter().map(source).collect();
        }
        let Some(interface) = addresses.interface else { return Vec::new() };
        let of = |is_wanted: &dyn Fn(&LocalAddress) -> bool| -> Vec<&LocalAddress> {
            addresses.list.iter().filter(|known| known.interface == interface && is_wanted(known)).collect()
        };
        let global = of(&|known| is_global(known.address));
        let candidates =
            if global.is_empty() { of(&|known| known.address.is_unique_local()) } else { global };
        let is_ready = |known: &&&LocalAddress| !known.is_tentative;
        let usable: Vec<_> =
            candidates.iter().filter(is_ready).filter(|known| !known.is_deprecated).copied().collect();
        let ready: Vec<_> = candidates.iter().filter(is_ready).copied().collect();
        let chosen = if usable.is_empty() { ready } else { usable };
        let lasting: Vec<_> = chosen.iter().filter(|known| !known.is_temporary).copied().collect();
        let chosen = if self.lacked_lasting || lasting.is_empty() { chosen } else { lasting };
        chosen.iter().map(source).collect()
    }

    /// The gateway and the address of the pinhole that a SUCCESS speaks of.
    pub fn claim(
        &self,
        world: &World<CheckedEngine>,
        wanted: &Pinhole,
        event: Event,
    ) -> Option<(usize, Ipv6Addr)> {
        let Event::Success { address: IpAddr::V6(told), .. } = event else { return None };
        let (key, sources) = (wanted.key, self.sources(world, wanted));
        let port = key.internal_port.get();
        // A gateway that says another address may say the same for pinholes of several.
        let mut addresses: Vec<_> = world.network.ipv6.addresses.list.iter().collect();
        addresses.sort_by_key(|known| !sources.iter().any(|source| source.address == known.address));
        let mut nodes: Vec<_> = self.nodes(world).collect();
        // Another router may have such a pinhole left from before.
        let is_asked = |node: &Node| {
            let addresses = world.network.ipv6.addresses.list.iter();
            let routers = addresses.filter_map(|known| router_of(world, known.address));
            routers.into_iter().any(|router| Some(router) == at_link(node))
        };
        nodes.sort_by_key(|(_, node)| !is_asked(node));
        for (n, node) in nodes {
            for known in addresses.iter().filter(|known| known.interface == node.interface) {
                let pinhole = pinhole_key(key, known.address);
                let is_open = node
                    .gateway
                    .pinholes()
                    .get(&pinhole)
                    .is_some_and(|p| p.made_by != gateway::Protocol::Script);
                // A gateway may say another address.
                let is_told = || {
                    let reference = self.reference(world, n, known.address);
                    reference.may_grant(pinhole.transport, port, told.into())
                };
                if is_open && (known.address == told || is_told()) {
                    return Some((n, known.address));
                }
            }
        }
        None
    }

    /// Whether packets from outside arrive at an address and port without a pinhole.
    fn is_direct(&self, world: &World<CheckedEngine>, address: IpAddr) -> bool {
        let IpAddr::V6(address) = address else { return false };
        let Some(known) = world.network.ipv6.addresses.list.iter().find(|known| known.address == address)
        else {
            return false;
        };
        let source = Source { address, interface: known.interface };
        match world.network.ipv6.look_up(source).map(|route| route.next_hop) {
            Some(NextHop::OnLink) => self.gateway.is_none(),
            Some(_) => self.nodes(world).any(|(_, node)| {
                let is_asked = router_of(world, address).is_none_or(|router| at_link(node) == Some(router));
                is_asked && node.interface == source.interface && node.gateway.faults.firewall_disabled
            }),
            None => false,
        }
    }

    fn ends_leases(&self, world: &World<CheckedEngine>) -> bool {
        // UPnP has no word for a lease that is shorter than what was asked for.
        self.nodes(world).any(|(_, node)| {
            let faults = &node.gateway.faults;
            faults.leases != Leases::Kept || faults.lifetime.is_some_and(|secs| secs < 3600)
        })
    }

    /// Whether the deletion of a grant by PCP may come after firewall control has made the pinhole, which it removes, too:
    /// the gateway answers PCP with an address of no use. docs/protocols.md, the ledger: the holder is looked at then.
    pub fn may_be_hit(&self, world: &World<CheckedEngine>, key: Key, event: Event) -> bool {
        let Event::Success { protocol: Protocol::UpnpIgd, address: IpAddr::V6(client), .. } = event else {
            return false;
        };
        let asked = Asked::pinhole(transport(key.transport), key.internal_port.get());
        let grants_in_vain =
            |(n, _): (usize, &Node)| self.reference(world, n, client).asks_pcp(asked) == Answer::Refusal(0);
        self.nodes(world).any(grants_in_vain)
    }

    /// docs/protocols.md, IPv6: a SUCCESS is true at once: a packet from outside arrives.
    pub fn a_success_is_true(&self, world: &World<CheckedEngine>, id: MappingId, wanted: &Pinhole) {
        let key = wanted.key;
        let state = world.state(id);
        let Event::Success { protocol, address, port } = state else { return };
        let is_open = match protocol {
            Protocol::Direct => self.is_direct(world, address),
            // A gateway that ends leases before their time: the next look shows it.
            Protocol::UpnpIgd if self.ends_leases(world) => return,
            _ => self.claim(world, wanted, state).is_some_and(|(n, client)| {
                let far = SocketAddr::new(Ipv4Addr::new(9, 9, 9, 9).to_ipv6_mapped().into(), 9);
                let to = SocketAddr::new(client.into(), key.internal_port.get());
                let mut pinholes = world.network.nodes[n].gateway.pinholes().clone();
                pinholes.let_in(transport(key.transport), far, to)
            }),
        };
        assert!(
            is_open && port == key.internal_port && is_global_one(address),
            "pinholes: {id} ({key}) is {state:?}, but nothing comes through:\n{}",
            firewalls(world)
        );
    }
}

/// Whether an address is a global one of IPv6.
fn is_global_one(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if is_global(address))
}

/// The firewalls, for a failure's report.
fn firewalls(world: &World<CheckedEngine>) -> String {
    let mut text = format!("{:?}\n", world.network.ipv6);
    for (n, node) in world.network.nodes.iter().enumerate() {
        for pinhole in node.gateway.pinholes().iter().take(20) {
            text += &format!("gateway {n} (home {}): {pinhole:?}\n", node.home);
        }
    }
    text
}

/// docs/protocols.md, IPv6: SUCCESS is true, and leads to the right address; what can be opened is neither FAILURE nor PENDING.
pub fn the_reported_state_is_the_firewalls(
    world: &World<CheckedEngine>,
    place: &Ipv6Place,
    live: &BTreeMap<MappingId, Pinhole>,
) {
    let mut chosen = BTreeSet::new();
    for (&id, pinhole) in live {
        let state = world.state(id);
        let sources = place.sources(world, pinhole);
        if sources.is_empty() {
            let has_failed = state == Event::Failure;
            assert!(
                has_failed,
                "pinholes: {id} ({pinhole:?}) is {state:?} without an address\n{}",
                firewalls(world)
            );
            continue;
        }
        let expectations = || sources.iter().map(|&source| place.expectation(world, pinhole.key, source));
        let can_be_made = expectations().all(|expected| matches!(expected, Expectation::Granted(_)));
        match state {
            Event::Success { address, .. } => {
                place.a_success_is_true(world, id, pinhole);
                let client = place.claim(world, pinhole, state).map_or(address, |(_, client)| client.into());
                let is_right = sources.iter().any(|source| client == IpAddr::V6(source.address));
                // The old address holds until the new one is made.
                assert!(
                    is_right || !can_be_made || place.is_crowded,
                    "pinholes: {id} ({pinhole:?}) is {state:?}, but should lead to {sources:?}\n{}",
                    firewalls(world)
                );
                if pinhole.named.is_none() && can_be_made {
                    chosen.insert(client);
                }
            }
            Event::Failure => assert!(
                !can_be_made || place.is_crowded,
                "pinholes: {id} ({pinhole:?}) is FAILURE, but can be made from {sources:?}\n{}",
                firewalls(world)
            ),
            Event::Pending if is_just_over(world, place, id) => {}
            _ => panic!("pinholes: {id} ({pinhole:?}) is {state:?}, though all has been quiet for long"),
        }
    }
    assert!(chosen.len() <= 1 || place.is_crowded, "pinholes: several addresses are chosen: {chosen:?}");
}

/// Whether a lifetime has just ended because its protocol is spoken no more.
fn is_just_over(world: &World<CheckedEngine>, place: &Ipv6Place, id: MappingId) -> bool {
    let [.., (_, before), (since, _)] = world.timeline(id) else { return false };
    let config = world.engine().config();
    is_unspoken(world, place, *before)
        && world.now().since(*since) <= config.discover_timeout + config.mapping_timeout * 2
}

/// Whether no gateway of this home speaks the protocol that made a pinhole.
fn is_unspoken(world: &World<CheckedEngine>, place: &Ipv6Place, event: Event) -> bool {
    let Event::Success { protocol, .. } = event else { return false };
    !place.nodes(world).all(|(_, node)| is_spoken(&node.gateway, protocol))
}

/// docs/contract.md, callback rule 3, and docs/protocols.md: in a quiet world nothing is lost.
pub fn nothing_is_lost_in_quiet(
    world: &World<CheckedEngine>,
    place: &Ipv6Place,
    live: &BTreeMap<MappingId, Pinhole>,
    quiet_since: Time,
) {
    let errs = |(n, _): (usize, _)| place.reference(world, n, Ipv6Addr::UNSPECIFIED).is_late();
    if place.nodes(world).any(errs) || place.ends_leases(world) {
        return;
    }
    for (&id, pinhole) in live {
        let timeline = world.timeline(id);
        let since = timeline.partition_point(|&(at, _)| at <= quiet_since).max(1);
        for n in since..timeline.len() {
            let (before, (at, event)) = (timeline[n - 1].1, timeline[n]);
            let is_ambiguous =
                place.has_lost && matches!(before, Event::Success { protocol: Protocol::UpnpIgd, .. });
            let is_lost = event == Event::Pending && matches!(before, Event::Success { .. }) && !is_ambiguous;
            assert!(
                !is_lost || is_unspoken(world, place, before),
                "quiet: {id} ({pinhole:?}) was lost at {at:?}, though nothing has happened"
            );
        }
    }
}

/// docs/protocols.md, discovery: every pinhole of ours that was made or renewed since all was quiet is one that the program
/// was told of.
pub fn no_pinhole_is_unknown(
    world: &World<CheckedEngine>,
    place: &Ipv6Place,
    live: &BTreeMap<MappingId, Pinhole>,
    quiet_since: Duration,
) {
    let claims: BTreeSet<(usize, PinholeKey)> = live
        .iter()
        .filter_map(|(&id, pinhole)| {
            let (node, client) = place.claim(world, pinhole, world.state(id))?;
            Some((node, pinhole_key(pinhole.key, client)))
        })
        .collect();
    for (n, node) in place.nodes(world) {
        for pinhole in node.gateway.pinholes().iter() {
            let is_failing = live.iter().any(|(&id, wanted)| {
                world.state(id) == Event::Failure
                    && pinhole_key(wanted.key, pinhole.key.client) == pinhole.key
            });
            let is_known = pinhole.made_by == gateway::Protocol::Script
                || pinhole.granted_at < quiet_since
                || claims.contains(&(n, pinhole.key.clone()))
                || is_failing
                || shares_id(node, pinhole)
                // What another router has made is deleted when that is asked again.
                || !is_asked(world, n, pinhole.key.client)
                || may_stay(world, place, n, pinhole);
            assert!(
                is_known,
                "left behind: nobody knows of {pinhole:?} on gateway {n}\n{}",
                firewalls(world)
            );
        }
    }
}

/// Whether another pinhole has the same UniqueID, as after a restart: which of them a deletion would hit nobody knows, and
/// it waits for the end of both.
fn shares_id(node: &Node, pinhole: &gateway::Pinhole) -> bool {
    node.gateway.pinholes().iter().filter(|other| other.id == pinhole.id).count() > 1
}

/// Whether a gateway may have a pinhole of ours that no mapping needs.
fn may_stay(
    world: &World<CheckedEngine>,
    place: &Ipv6Place,
    node: usize,
    pinhole: &gateway::Pinhole,
) -> bool {
    let reference = place.reference(world, node, pinhole.key.client);
    let is_copied = world.network.nodes[node].gateway.faults.duplicate.requests > 0.0;
    place.stale.contains(&(node, pinhole.key.clone()))
        || place.is_crowded
        || (place.has_lost && pinhole.made_by == gateway::Protocol::Upnp)
        || reference.is_late()
        || (is_copied && !reference.answers_pcp_requests())
        || !reference.closes(pinhole)
}

/// Whether the machine still asks a gateway from the address of a pinhole. What another router has made it deletes when it
/// asks that again.
fn is_asked(world: &World<CheckedEngine>, node: usize, client: Ipv6Addr) -> bool {
    let node = &world.network.nodes[node];
    let source = Source { address: client, interface: node.interface };
    world.network.ipv6.look_up(source).is_some() && router_of(world, client) == at_link(node)
}

/// The router that was asked last from an address.
fn router_of(world: &World<CheckedEngine>, client: Ipv6Addr) -> Option<(IpAddr, u32)> {
    world.engine().sockets.router_of(client.into())
}

/// A gateway's address and interface.
fn at_link(node: &Node) -> Option<(IpAddr, u32)> {
    Some((node.gateway.config().ipv6?.into(), node.interface))
}

/// Whether a pinhole that the program has destroyed must be gone soon.
/// With others in place: see `shares_id`.
pub fn can_be_closed_alone(
    world: &World<CheckedEngine>,
    place: &Ipv6Place,
    n: usize,
    key: &PinholeKey,
) -> bool {
    let node = &world.network.nodes[n];
    let is_shared = node.gateway.pinholes().get(key).is_some_and(|pinhole| shares_id(node, pinhole));
    !is_shared && can_be_closed(world, place, n, key)
}

/// Whether a pinhole must be gone after a deletion, with all others that have its UniqueID.
pub fn can_be_closed(world: &World<CheckedEngine>, place: &Ipv6Place, node: usize, key: &PinholeKey) -> bool {
    let gateway = &world.network.nodes[node].gateway;
    let Some(pinhole) = gateway.pinholes().get(key) else { return false };
    let is_spoken =
        is_spoken(gateway, Protocol::Pcp) && pinhole.nonce.is_some() || is_spoken(gateway, Protocol::UpnpIgd);
    is_spoken && is_asked(world, node, key.client) && !may_stay(world, place, node, pinhole)
}

/// docs/protocols.md, ending: nothing of ours is left on a gateway that answers.
pub fn a_destroyed_pinhole_is_gone(world: &World<CheckedEngine>, node: usize, key: &PinholeKey) {
    let left = world.network.nodes[node].gateway.pinholes().get(key);
    assert!(left.is_none(), "left behind: {key:?} is destroyed, but gateway {node} has {left:?}");
}

/// docs/protocols.md, the ledger: at the end all is deleted that may be on a gateway because of us; but for what is not let
/// be deleted, or led to an address that is gone.
pub fn nothing_is_left_behind(world: &World<CheckedEngine>, place: &Ipv6Place, begun_at: Duration) {
    let soon = gateway_time(world.now()) + Duration::from_secs(5);
    for (n, node) in place.nodes(world) {
        for pinhole in node.gateway.pinholes().iter() {
            let is_left = pinhole.made_by != gateway::Protocol::Script
                && pinhole.granted_at >= begun_at
                && pinhole.expires_at > soon
                && can_be_closed(world, place, n, &pinhole.key);
            assert!(!is_left, "left behind: at the end gateway {n} has {pinhole:?}\n{}", firewalls(world));
        }
    }
}
