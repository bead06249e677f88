//! Destroying and cleanup on a virtual clock: nothing is left behind, and nobody waits long.

mod world;

use plum::engine::io::Event;
use plum::wire::Transport::{Tcp, Udp};
use plum_gateway::core::Times;
use std::time::Duration;
use world::World;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Closes the ports of all protocols better than the one of this index (0: PCP, 1: NAT-PMP, 2: UPnP).
fn only_from(world: &mut World, index: usize) {
    let faults = &mut world.gateway().faults;
    faults.closed.pcp = index > 0;
    faults.closed.natpmp = index > 1;
}

#[test]
fn destroying_takes_one_round_trip_by_any_protocol() {
    for (index, most) in [(0, 2), (1, 2), (2, 4)] {
        let mut world = World::new();
        only_from(&mut world, index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        assert!(world.destroy_and_wait(id) <= millis(most), "protocol {index}");
        world.assert_nothing_left();
    }
}

#[test]
fn cleanup_removes_all_mappings() {
    for index in 0..3 {
        let mut world = World::new();
        only_from(&mut world, index);
        for port in 1..=100 {
            world.create(if port % 2 == 0 { Tcp } else { Udp }, 8000 + port);
        }
        world.run_until(|world| world.all_success());
        assert_eq!(world.gateway().table().len(), 100);
        let took = world.cleanup();
        assert!(took < millis(800), "{took:?} by protocol {index}");
        world.assert_nothing_left();
    }
}

#[test]
fn cleanup_with_the_gateway_gone_ends_after_800_ms() {
    for index in 0..3 {
        let mut world = World::new();
        only_from(&mut world, index);
        for port in 1..=10 {
            world.create(Tcp, 8000 + port);
        }
        world.run_until(|world| world.all_success());
        world.run_for(Duration::from_secs(5));
        world.power_off();
        let took = world.cleanup();
        assert!(took <= millis(800), "{took:?} by protocol {index}");
    }
}

#[test]
fn cleanup_in_the_midst_of_discovery_leaves_nothing_behind() {
    // Every millisecond of the first 30, and some later: requests may be on their way to the gateway or back.
    for at in (0..30).chain([100, 249, 250, 251, 252, 253, 300]) {
        for index in 0..3 {
            let mut world = World::new();
            world.gateway().faults.delay = millis(8);
            only_from(&mut world, index);
            for port in 1..=5 {
                world.create(Tcp, 8000 + port);
            }
            world.run_for(millis(at));
            let took = world.cleanup();
            assert!(took <= Duration::from_secs(1), "{took:?}");
            world.run_for(Duration::from_secs(2));
            world.assert_nothing_left();
        }
    }
}

#[test]
fn a_mapping_destroyed_at_any_moment_is_gone_in_the_end() {
    for at in 0..80 {
        for index in 0..3 {
            let mut world = World::new();
            world.gateway().faults.delay = millis(5);
            only_from(&mut world, index);
            let stays = world.create(Udp, 9000);
            let id = world.create(Tcp, 8000);
            world.run_for(millis(at));
            world.destroy_and_wait(id);
            world.run_until(|world| world.is_success(stays));
            world.run_for(Duration::from_secs(3));
            assert_eq!(world.gateway().table().len(), 1, "after {at} ms, protocol {index}");
        }
    }
}

#[test]
fn a_mapping_created_while_its_key_is_being_deleted_lives() {
    for at in 0..12 {
        for index in 0..3 {
            let mut world = World::new();
            world.gateway().faults.delay = millis(5);
            only_from(&mut world, index);
            let old = world.create(Tcp, 8000);
            world.run_until(|world| world.is_success(old));
            world.destroy(old);
            world.run_for(millis(at));
            let new = world.create(Tcp, 8000);
            world.run_until(|world| world.is_success(new));
            world.run_for(Duration::from_secs(5));
            assert!(world.is_destroyed(old));
            assert!(world.is_success(new), "after {at} ms, protocol {index}");
            assert_eq!(world.gateway().table().len(), 1, "after {at} ms, protocol {index}");
            world.cleanup();
            world.assert_nothing_left();
        }
    }
}

#[test]
fn mappings_of_one_key_share_the_gateway_mapping_until_the_last_is_destroyed() {
    let mut world = World::new();
    let first = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(first));
    let second = world.create(Tcp, 8000);
    assert!(world.is_success(second), "at once");
    assert_eq!(world.gateway().counts.pcp_map, 1);
    world.destroy(first);
    assert!(world.is_destroyed(first), "at once");
    assert_eq!(world.gateway().table().len(), 1);
    world.destroy_and_wait(second);
    world.assert_nothing_left();
    assert_eq!(world.events(second).last(), Some(&Event::Destroyed));
}

#[test]
fn lost_deletions_are_sent_again() {
    for index in 0..2 {
        let mut world = World::new();
        only_from(&mut world, index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.network.lose_requests = 1;
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn destroyed_comes_within_a_second_though_nobody_answers() {
    let mut world = World::new();
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.gateway().faults.silence.pcp = Times::Always;
    assert_eq!(world.destroy_and_wait(id), millis(800));
}

#[test]
fn cleanup_without_mappings_is_immediate() {
    let mut world = World::new();
    assert_eq!(world.cleanup(), Duration::ZERO);
    assert_eq!(world.gateway().counts.total(), 0, "no packet before the first mapping");
}

#[test]
fn a_mapping_created_while_the_end_is_under_way_is_destroyed_at_once() {
    let mut world = World::new();
    let first = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(first));
    world.begin_cleanup();
    let second = world.create(Udp, 8001);
    assert!(world.is_destroyed(second));
    assert_eq!(world.callbacks(second).len(), 1);
    world.run_until(|world| world.finished_at().is_some());
    world.assert_nothing_left();
}
