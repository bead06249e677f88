//! What the simulation (`crates/simulation/`) has found, each in its shortest form.

mod entries;
mod protocols;
mod upnp;

use plum_engine::io::{Allowed, Protocol, Socket, Suggestion};
use plum_gateway::core::{self as gateway, Chance, Gateway, Igd, Kind, Spoken, Times, WanKind};
use plum_testkit::packets::most_packets_a_second;
use plum_testkit::world::{GATEWAY, Node, START, World, gateway_time};
use plum_wire::Transport::{Tcp, Udp};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Another home whose gateway has the address of the first.
fn add_home(world: &mut World, change: impl FnOnce(&mut gateway::Config)) {
    let mut config = gateway::Config { seed: 77, first_epoch: 5_000_000, ..gateway::Config::at(GATEWAY) };
    change(&mut config);
    let gateway = Gateway::new(config, gateway_time(world.now()));
    world.network.nodes.push(Node { home: 1, ..Node::new(gateway) });
}

/// A second device of the home speaks all protocols: node 1.
fn add_device(world: &mut World) {
    let config =
        gateway::Config { seed: 9, ..gateway::Config::at(IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2))) };
    let gateway = Gateway::new(config, gateway_time(world.now()));
    world.network.nodes.push(Node::new(gateway));
}

/// The machine is carried to the other home, where it finds the same route.
fn move_house(world: &mut World) {
    world.network.move_to_home(1);
    world.change_network();
}

/// The most packets that the gateway got in any second since `from`.
fn most_packets_a_second_since(world: &mut World, from: Duration) -> usize {
    let start = gateway_time(START) + from;
    most_packets_a_second(world.counts().received.iter().filter(|received| received.at >= start))
}
