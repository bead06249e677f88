//! Many mappings at once, on a virtual clock: windows, loss, and what one mapping's trouble costs the others.

mod world;

use plum::engine::io::{Event, Protocol};
use plum::wire::Transport::{Tcp, Udp};
use plum_gateway::core::{Chance, Kind};
use std::time::Duration;
use world::World;

/// A gateway that takes 20 ms for every answer, on a fast link.
fn world_at_20_ms() -> World {
    let mut world = World::set_up(|setup| setup.latency = Duration::from_micros(50));
    world.gateway().faults.delay = Duration::from_millis(20);
    world
}

#[test]
fn fifty_mappings_take_one_round_trip() {
    let mut world = world_at_20_ms();
    for port in 1..=50 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    assert!(world.elapsed() < Duration::from_millis(22), "{:?}", world.elapsed());
}

#[test]
fn five_hundred_mappings_take_five_round_trips() {
    let mut world = world_at_20_ms();
    for port in 1..=500 {
        world.create(Udp, 8000 + port);
    }
    world.run_until(World::all_success);
    assert!(world.elapsed() <= Duration::from_millis(125), "{:?}", world.elapsed());
    assert_eq!(world.gateway().counts.pcp_map, 500, "none was sent twice");
    let took = world.cleanup();
    assert!(took <= Duration::from_millis(110), "{took:?}");
    world.assert_nothing_left();
}

#[test]
fn a_hundred_upnp_mappings_go_four_at_a_time() {
    let mut world = world_at_20_ms();
    (world.gateway().faults.closed.pcp, world.gateway().faults.closed.natpmp) = (true, true);
    for port in 1..=100 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    assert!(world.elapsed() <= Duration::from_millis(650), "{:?}", world.elapsed());
    assert!(world.gateway().counts.max_http_connections <= 4);
}

#[test]
fn one_refused_among_a_hundred_delays_no_other() {
    let mut world = world_at_20_ms();
    // USER_EX_QUOTA for one of them.
    world.gateway().faults.refuse_port(Kind::PcpMap, 10, 8050);
    let ids: Vec<_> = (1..=100).map(|port| world.create(Tcp, 8000 + port)).collect();
    world.run_for(Duration::from_millis(60));
    for (port, &id) in (1..).zip(&ids) {
        if port == 50 {
            assert_eq!(world.callbacks(id), [Event::Failure]);
        } else {
            assert_eq!(world.success(id).unwrap().0, Protocol::Pcp, "port {port}");
        }
    }
    world.run_for(Duration::from_secs(1000));
    assert!(ids.iter().all(|&id| world.callbacks(id).len() == 1), "and none is told anything more");
}

#[test]
fn at_30_percent_loss_twenty_mappings_are_made_by_pcp_and_nothing_is_left() {
    let (runs, mut late, mut left_behind) = (200, 0, 0);
    for seed in 1..=runs {
        let mut world = World::set_up(|setup| {
            setup.seed = seed;
            setup.gateways[0].seed = seed;
            setup.latency = Duration::from_micros(50);
        });
        world.gateway().faults.delay = Duration::from_millis(20);
        world.gateway().faults.loss = Chance::both(0.3);
        let ids: Vec<_> = (1..=20).map(|port| world.create(Tcp, 8000 + port)).collect();
        world.run_until(World::all_success);
        late += u64::from(world.elapsed() > Duration::from_millis(2500));
        for id in ids {
            assert_eq!(world.success(id).unwrap().0, Protocol::Pcp, "seed {seed}");
        }
        assert_eq!(world.gateway().table().len(), 20, "seed {seed}: none that the program does not know");
        // The deletions are lost as easily: now and then one is given up.
        let took = world.cleanup();
        assert!(took <= Duration::from_secs(5), "seed {seed}: {took:?}");
        left_behind += u64::from(!world.gateway().table().is_empty());
    }
    assert!(late * 20 <= runs, "{late} of {runs} runs took more than 2.5 s");
    assert!(left_behind * 20 <= runs, "{left_behind} of {runs} runs left a mapping behind");
}

#[test]
fn the_work_grows_with_the_number_of_mappings_not_faster() {
    // Outputs and inputs, not time: a test must not depend on the machine.
    let packets = |count: u16| {
        let mut world = world_at_20_ms();
        for port in 1..=count {
            world.create(Tcp, 8000 + port);
        }
        world.run_until(World::all_success);
        world.run_for(Duration::from_secs(7200));
        world.cleanup();
        world.gateway().counts.total()
    };
    let (few, many) = (packets(100), packets(1000));
    assert!(many < 11 * few, "{few} packets for 100 mappings, {many} for 1000");
}
