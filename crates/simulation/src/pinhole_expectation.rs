//! The expected state of a pinhole by the rules.

use crate::agreement::{is_spoken, transport};
use crate::checked_engine::CheckedEngine;
use crate::expectation::{Expectation, is_small};
use crate::firewall_reference::FirewallAnswer;
use crate::ipv6_homes::is_global;
use crate::pinholes::{Ipv6Place, pinhole_key};
use crate::reference::{Answer, Asked};
use crate::world::World;
use plum_engine::driver::Key;
use plum_engine::io::{Allowed, Protocol, Source};
use plum_engine::ipv6::NextHop;
use plum_gateway::core::WanKind;
use std::net::{IpAddr, Ipv6Addr};

/// Default routers beside that of the route, at most.
const MOST_OTHER_ROUTERS: usize = 4;

impl Ipv6Place {
    /// What should become of a mapping that leads to an address.
    pub fn expectation(&self, world: &World<CheckedEngine>, key: Key, source: Source) -> Expectation {
        let Some(route) = world.network.ipv6.look_up(source) else { return Expectation::Failed };
        let named = match self.gateway {
            Some(IpAddr::V6(gateway)) => Some(gateway),
            _ => None,
        };
        let next_hop = match (route.next_hop, named) {
            (_, Some(named)) => named,
            (NextHop::Router(router), None) => router,
            (NextHop::OnLink, None) if is_global(source.address) => {
                return Expectation::Granted(Protocol::Direct);
            }
            (NextHop::OnLink, None) => return Expectation::Failed,
            // A device that a search finds may say that its firewall is off, or open it.
            _ => return Expectation::Unclear,
        };
        let first = self.expectation_of_router(world, key, source, next_hop);
        let others = route.other_routers.iter().take(MOST_OTHER_ROUTERS).filter(|_| named.is_none());
        if first != Expectation::Failed || others.clone().next().is_none() {
            return first;
        }
        // Another router is asked only where the first has granted nothing to any mapping of that address.
        let is_mute = self.node_at(world, next_hop, source.interface).is_none_or(|node| {
            let gateway = &world.network.nodes[node].gateway;
            !is_spoken(gateway, Protocol::Pcp) && !is_spoken(gateway, Protocol::UpnpIgd)
        });
        let mut others = others.map(|&router| self.expectation_of_router(world, key, source, router));
        match others.next() {
            Some(grant @ Expectation::Granted(_)) if is_mute => grant,
            Some(Expectation::Failed) => Expectation::Failed,
            _ => Expectation::Unclear,
        }
    }

    fn node_at(&self, world: &World<CheckedEngine>, router: Ipv6Addr, interface: u32) -> Option<usize> {
        let mut nodes = self.nodes(world);
        let found =
            nodes.find(|(_, node)| node.interface == interface && node.gateway.config().ipv6 == Some(router));
        found.map(|(n, _)| n)
    }

    fn expectation_of_router(
        &self,
        world: &World<CheckedEngine>,
        key: Key,
        source: Source,
        router: Ipv6Addr,
    ) -> Expectation {
        let Some(n) = self.node_at(world, router, source.interface) else { return Expectation::Failed };
        let by_pcp = match self.allowed {
            Allowed::Upnp => Expectation::Failed,
            _ => self.expectation_of_pcp(world, key, source, n),
        };
        if by_pcp != Expectation::Failed || self.allowed == Allowed::Pcp {
            return by_pcp;
        }
        self.expectation_of_firewall(world, key, source, n)
    }

    fn expectation_of_pcp(
        &self,
        world: &World<CheckedEngine>,
        key: Key,
        source: Source,
        node: usize,
    ) -> Expectation {
        let gateway = &world.network.nodes[node].gateway;
        let pinhole = pinhole_key(key, source.address);
        if !is_spoken(gateway, Protocol::Pcp) {
            return Expectation::Failed;
        }
        // A pinhole with another nonce than ours is nobody's to renew; which one is ours we cannot tell.
        let is_held = gateway.pinholes().get(&pinhole).is_some_and(|pinhole| pinhole.nonce.is_some());
        if self.mismatch || is_small(gateway) || is_held || self.stale.contains(&(node, pinhole)) {
            return Expectation::Unclear;
        }
        let asked = Asked::pinhole(transport(key.transport), key.internal_port.get());
        match self.reference(world, node, source.address).asks_pcp(asked) {
            Answer::Grant(_) => Expectation::Granted(Protocol::Pcp),
            Answer::Refusal(12) => Expectation::Unclear,
            Answer::Refusal(_) | Answer::Nothing => Expectation::Failed,
        }
    }

    fn expectation_of_firewall(
        &self,
        world: &World<CheckedEngine>,
        key: Key,
        source: Source,
        node: usize,
    ) -> Expectation {
        let gateway = &world.network.nodes[node].gateway;
        let reference = self.reference(world, node, source.address);
        let is_there = reference.all_services().iter().any(|&(_, kind)| kind == WanKind::Firewall1);
        // docs/protocols.md, IPv6: a unique local address is for PCP, with a prefix translator.
        if !is_there || !is_spoken(gateway, Protocol::UpnpIgd) || !is_global(source.address) {
            return Expectation::Failed;
        }
        if self.has_taught || is_small(gateway) || !reference.answers_a_search() {
            return Expectation::Unclear;
        }
        match reference.adds_pinhole(transport(key.transport), key.internal_port.get()) {
            FirewallAnswer::Grant => Expectation::Granted(Protocol::UpnpIgd),
            FirewallAnswer::Off => Expectation::Granted(Protocol::Direct),
            FirewallAnswer::Refusal => Expectation::Failed,
        }
    }
}
