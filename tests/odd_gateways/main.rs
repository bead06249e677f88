//! Gateways that misbehave in the ways real ones do, on a virtual clock: what the program must not suffer from.

mod answers;
mod pace;
mod protocols;
mod whereabouts;
#[path = "../world/mod.rs"]
mod world;

use plum::engine::io::{MappingId, Protocol, Route};
use plum::wire::Transport::Tcp;
use plum_gateway::core::{Kind, Received};
use std::time::Duration;
use world::{GATEWAY, INTERFACE, LOCAL, World};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

const ROUTE: Route = Route { gateway: Some(GATEWAY), local: LOCAL, interface: INTERFACE };

/// Closes the ports of all protocols better than the one of this index (0: PCP, 1: NAT-PMP, 2: UPnP).
fn only_from(world: &mut World, index: usize) {
    let faults = &mut world.gateway().faults;
    faults.closed.pcp = index > 0;
    faults.closed.natpmp = index > 1;
}

fn world_of(index: usize) -> World {
    let mut world = World::new();
    only_from(&mut world, index);
    world
}

fn mapped_by(world: &World, id: MappingId) -> Option<Protocol> {
    world.success(id).map(|(protocol, _, _)| protocol)
}

/// A mapping that UPnP made at a gateway whose PCP is up, but had refused it.
fn upnp_mapping_beside_pcp(world: &mut World) -> MappingId {
    world.gateway().faults.closed.natpmp = true;
    // NOT_AUTHORIZED.
    world.gateway().faults.refuse_port(Kind::PcpMap, 2, 8000);
    let id = world.create(Tcp, 8000);
    let other = world.create(Tcp, 9000);
    world.run_until(World::all_success);
    assert_eq!(mapped_by(world, id), Some(Protocol::UpnpIgd));
    assert_eq!(mapped_by(world, other), Some(Protocol::Pcp));
    world.gateway().faults.refusals.clear();
    id
}

/// The most packets that a gateway got in any one second: an HTTP exchange is six of them (SYN, its ACK, the request,
/// the reply's ACK, FIN and its ACK).
fn most_packets_a_second<'a>(received: impl Iterator<Item = &'a Received>) -> usize {
    let packets = |kind| match kind {
        Kind::HttpDescription | Kind::Soap(_) => 6,
        _ => 1,
    };
    let all: Vec<(Duration, usize)> = received.map(|r| (r.at, packets(r.kind))).collect();
    let within = |(first, &(start, _)): (usize, &(Duration, usize))| {
        all[first..].iter().take_while(|(at, _)| *at < start + secs(1)).map(|(_, n)| n).sum()
    };
    all.iter().enumerate().map(within).max().unwrap_or(0)
}
