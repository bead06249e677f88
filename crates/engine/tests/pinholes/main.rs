//! Pinholes for IPv6 on a virtual clock: one engine with an address of its own, and a gateway with a firewall.

mod deletion;
mod firewall;
mod off;
mod pcp;
mod search;
mod troubles;

use plum_engine::io::{Allowed, Arrival, Event, MappingId, Protocol, Source, Suggestion};
use plum_engine::reason::Reason;
use plum_engine::upnp::{Network, may_answer};
use plum_gateway::core::{
    self as gateway, Action, Gateway, Igd, Kind, PinholeKey, Received, Reply, Request, Spoken, Times, WanKind,
};
use plum_testkit::world::{
    GATEWAY, INTERFACE, IPV6_LOCAL, LINK_LOCAL, Node, ROUTER, Setup, World, gateway_time, stable,
};
use plum_wire::Transport::{self, Tcp, Udp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

const ADD: Kind = Kind::Soap(Action::AddPinhole);
const UPDATE: Kind = Kind::Soap(Action::UpdatePinhole);
const DELETE: Kind = Kind::Soap(Action::DeletePinhole);
const STATUS: Kind = Kind::Soap(Action::GetFirewallStatus);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A gateway with all protocols, toward which this machine has a route by IPv6.
fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Setup)) -> World {
    World::with_ipv6(change)
}

/// A gateway without PCP.
fn firewall_world() -> World {
    let mut world = world();
    world.gateway().faults.closed.pcp = true;
    world
}

/// A pinhole for TCP 8000 that is made, and looked at by nobody yet.
fn opened(world: &mut World) -> MappingId {
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    id
}

fn key(transport: Transport, port: u16) -> PinholeKey {
    let transport = match transport {
        Tcp => gateway::Transport::Tcp,
        Udp => gateway::Transport::Udp,
    };
    PinholeKey::for_all(transport, IPV6_LOCAL, port)
}

/// The UniqueID of the pinhole for TCP 8000 at the gateway.
fn unique_id(world: &mut World) -> Option<u16> {
    world.gateway().pinholes().get(&key(Tcp, 8000)).map(|pinhole| pinhole.id)
}

fn reasons(world: &mut World, id: MappingId) -> Vec<(Protocol, Reason)> {
    let status = world.act(|engine, now| engine.mapping_status(now, id)).expect("the mapping is known");
    status.reasons.unwrap_or_default()
}

/// The UPnP error of a mapping that has failed.
fn upnp_error(world: &mut World, id: MappingId) -> Option<i64> {
    reasons(world, id).into_iter().find_map(|(_, reason)| match reason {
        Reason::Upnp { code } => Some(code),
        _ => None,
    })
}

/// What the gateway was asked of this kind.
fn received(world: &World, kind: Kind) -> Vec<Received> {
    world.counts().received.iter().filter(|received| received.kind == kind).cloned().collect()
}

/// The leases or lifetimes that were asked for.
fn lifetimes(world: &World, kind: Kind) -> Vec<Option<u32>> {
    received(world, kind).iter().map(|received| received.lifetime).collect()
}

/// The program destroys the mapping and ends: nothing is left anywhere.
#[track_caller]
fn assert_removed(mut world: World) {
    world.cleanup();
    world.assert_nothing_left();
}
