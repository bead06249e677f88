//! Mappings come and go by the ten thousand, a few alive at a time: the engine keeps nothing of them.

use plum_engine::io::Config;
use plum_gateway::core::{Silence, Times};
use plum_simulation::checked_engine::CheckedEngine;
use plum_simulation::world::{Setup, World};
use plum_wire::Transport;
use std::time::Duration;

/// Creates and destroys mappings on ever other ports. The gateway is away for three of every `silent_every`; 0: never.
fn come_and_go(world: &mut World<CheckedEngine>, mappings: u16, silent_every: u16) {
    let mut alive = Vec::new();
    for n in 0..mappings {
        let is_away = n.checked_rem(silent_every).is_some_and(|n| n < 3);
        let times = if is_away { Times::Always } else { Times::Never };
        world.gateway().faults.silence = Silence { pcp: times, natpmp: times, ..Silence::default() };
        alive.push(world.create(Transport::Udp, 1024 + n));
        world.run_for(Duration::from_millis(50));
        if alive.len() > 5 {
            world.destroy(alive.remove(0));
        }
    }
    world.gateway().faults.silence = Silence::default();
    alive.into_iter().for_each(|id| world.destroy(id));
    world.run_for(Duration::from_secs(60));
    // What is remembered of a deletion for a while is forgotten at the next occasion.
    let last = world.create(Transport::Udp, 1);
    world.run_for(Duration::from_secs(20));
    world.destroy(last);
    world.run_for(Duration::from_secs(60));
    world.gateway().counts.reset();
}

/// The bytes that the engine holds beyond those after a first round.
fn growth(closed: [bool; 2], mappings: u16, silent_every: u16) -> isize {
    let setup = Setup::default();
    // Keys are remembered until the next recheck.
    let config = Config { recheck_interval: Duration::from_secs(5), ..Config::default() };
    let checked = CheckedEngine::new(config, setup.seed);
    let mut world = World::with_engine(setup, checked);
    world.engine_mut().packets.is_troubled = true; // they are not counted here
    (world.gateway().faults.closed.pcp, world.gateway().faults.closed.natpmp) = (closed[0], closed[1]);
    come_and_go(&mut world, mappings / 10, silent_every);
    let before = world.engine().held();
    come_and_go(&mut world, mappings, silent_every);
    world.engine().held() - before
}

/// More than a queue that has doubled its room, less than a few bytes for each mapping.
const ROOM: isize = 64 * 1024;

#[test]
fn pcp_keeps_nothing_of_20_000_mappings() {
    let growth = growth([false, false], 20_000, 0);
    assert!(growth < ROOM, "{growth} bytes more");
}

#[test]
fn natpmp_keeps_nothing_of_20_000_mappings() {
    let growth = growth([true, false], 20_000, 0);
    assert!(growth < ROOM, "{growth} bytes more");
}

#[test]
fn upnp_keeps_nothing_of_20_000_mappings() {
    let growth = growth([true, true], 20_000, 0);
    assert!(growth < ROOM, "{growth} bytes more");
}

#[test]
fn a_gateway_that_comes_and_goes_leaves_nothing_either() {
    let growth = growth([false, false], 20_000, 500);
    assert!(growth < ROOM, "{growth} bytes more");
}
