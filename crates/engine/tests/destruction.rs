//! Destroying and cleanup on a virtual clock: nothing is left behind, and nobody waits long.

use plum_engine::io::{Allowed, Event, MappingId, OnCleanup};
use plum_gateway::core::{Action, AssignedPort, Igd, Kind, Times, WanKind};
use plum_testkit::world::World;
use plum_wire::Transport::{Tcp, Udp};
use std::collections::BTreeSet;
use std::time::Duration;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// How many kinds of gateways there are, see `world_of`.
const KINDS: usize = 4;

/// A gateway whose best protocol is the one of this index: 0 PCP, 1 NAT-PMP, 2 UPnP, 3 UPnP with AddAnyPortMapping, which
/// assigns another external port than the suggested one.
fn world_of(index: usize) -> World {
    world_with(index, OnCleanup::Remove)
}

fn world_with(index: usize, on_cleanup: OnCleanup) -> World {
    let mut world = World::set_up(|setup| {
        setup.engine.on_cleanup = on_cleanup;
        if index == 3 {
            setup.gateways[0].igd = Some(Igd::with(2, &[WanKind::Ip2]));
        }
    });
    world.close_better(index);
    if index == 3 {
        world.gateway().faults.assigned_port = AssignedPort::Offset(1000);
    }
    world
}

#[test]
fn destroying_takes_one_round_trip_by_any_protocol() {
    for (index, most) in [(0, 2), (1, 2), (2, 4)] {
        let mut world = world_of(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        assert!(world.destroy_and_wait(id) <= millis(most), "protocol {index}");
        world.assert_nothing_left();
    }
}

#[test]
fn cleanup_removes_all_mappings() {
    for index in 0..KINDS {
        let mut world = world_of(index);
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

/// The internal ports that the gateway maps.
fn ports_left(world: &mut World) -> BTreeSet<u16> {
    world.gateway().table().iter().map(|mapping| mapping.internal.port()).collect()
}

#[test]
fn cleanup_that_keeps_mappings_leaves_those_that_are_made() {
    for index in 0..KINDS {
        let mut world = world_with(index, OnCleanup::Keep);
        for port in 8001..=8020 {
            world.create(Tcp, port);
        }
        let destroyed = world.create(Tcp, 8100);
        world.run_until(|world| world.all_success());
        world.destroy(destroyed);
        let pending = world.create(Tcp, 8101);
        let took = world.cleanup();
        assert!(took < millis(800), "{took:?} by protocol {index}");
        assert!(world.is_destroyed(0) && world.is_destroyed(pending), "the program is told as ever");
        world.run_for(Duration::from_secs(2));
        assert_eq!(ports_left(&mut world), (8001..=8020).collect(), "protocol {index}");
    }
}

#[test]
fn cleanup_that_keeps_mappings_sends_nothing_for_those_that_are_made() {
    for index in 0..KINDS {
        let mut world = world_with(index, OnCleanup::Keep);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.run_for(Duration::from_secs(10));
        let packets = world.gateway().counts.total();
        assert_eq!(world.cleanup(), Duration::ZERO);
        assert_eq!(world.gateway().counts.total(), packets, "protocol {index}");
    }
}

/// Cleans up a world that keeps, and looks later what the gateway has: the mappings that the program was told of. The
/// gateway has one table for all protocols, so a deletion by one that was only tried may hit what another has made.
#[track_caller]
fn assert_keeps_what_was_told(world: &mut World, ids: &[MappingId], what: &str) {
    let kept = (8000..).zip(ids).filter(|&(_, &id)| world.is_success(id)).map(|(port, _)| port).collect();
    world.cleanup();
    world.run_for(Duration::from_secs(3));
    assert_eq!(ports_left(world), kept, "{what}");
}

#[test]
fn cleanup_that_keeps_mappings_in_the_midst_of_discovery_keeps_those_that_were_told_of() {
    for at in (0..60).chain([100, 249, 250, 251, 252, 253, 300]) {
        for (index, lost) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0)] {
            let mut world = world_with(index, OnCleanup::Keep);
            world.gateway().faults.delay = millis(8);
            let ids = [8000, 8001, 8002, 8003, 8004].map(|port| world.create(Tcp, port));
            // Nobody waits for the answer of a gateway that has not said anything before.
            world.network.lose_requests = if at > 10 { lost } else { 0 };
            world.run_for(millis(at));
            assert_keeps_what_was_told(
                &mut world,
                &ids,
                &format!("after {at} ms, protocol {index}, {lost} lost"),
            );
        }
    }
}

#[test]
fn cleanup_that_keeps_mappings_around_the_change_of_protocols_keeps_those_that_were_told_of() {
    // PCP answers its retransmission only, just after NAT-PMP was taken.
    for at in (200..700).step_by(3) {
        let mut world = world_with(0, OnCleanup::Keep);
        world.network.latency = millis(20);
        world.gateway().faults.silence.pcp = Times::Next(1);
        let ids = [world.create(Udp, 8000), world.create(Tcp, 8001)];
        world.run_for(millis(at));
        assert_keeps_what_was_told(&mut world, &ids, &format!("after {at} ms"));
    }
}

#[test]
fn cleanup_that_keeps_a_mapping_asks_for_it_again_after_late_deletions_by_other_protocols() {
    let is_lost = |&seed: &u64| {
        let mut world = World::set_up(|setup| {
            setup.seed = seed;
            setup.engine.on_cleanup = OnCleanup::Keep;
        });
        // PCP is silent, but takes what it is asked for; the network reorders.
        world.network.jitter = millis(50);
        world.gateway().faults.delay = millis(200);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.cleanup();
        world.run_for(Duration::from_secs(3));
        world.gateway().table().is_empty()
    };
    // Nobody waits for ever: what is reordered once more is lost. Without a second request that were 33 of them.
    let lost: Vec<u64> = (1..=100).filter(is_lost).collect();
    assert!(lost.len() <= 3, "{lost:?}");
}

#[test]
fn cleanup_with_the_gateway_gone_ends_after_800_ms() {
    for index in 0..KINDS {
        let mut world = world_of(index);
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
        for index in 0..KINDS {
            let mut world = world_of(index);
            world.gateway().faults.delay = millis(8);
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
        for index in 0..KINDS {
            let mut world = world_of(index);
            world.gateway().faults.delay = millis(5);
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
fn a_deletion_that_overtakes_the_request_is_sent_again_at_a_gateway_that_was_never_heard() {
    for (seed, gap) in (0..50).flat_map(|seed| [(seed, 0), (seed, 5)]) {
        let mut world = World::set_up(|setup| setup.seed = seed);
        world.network.jitter = millis(20);
        let id = world.create(Tcp, 8000);
        world.run_for(millis(gap));
        world.destroy(id);
        world.run_for(Duration::from_secs(5));
        assert!(world.is_destroyed(id) && world.table().is_empty(), "seed {seed}, after {gap} ms");
    }
}

#[test]
fn a_mapping_created_while_its_key_is_being_deleted_lives() {
    for at in 0..12 {
        for index in 0..KINDS {
            let mut world = world_of(index);
            world.gateway().faults.delay = millis(5);
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
fn what_an_open_request_makes_is_not_deleted_if_it_is_wanted_again() {
    for at in (10..290).step_by(10) {
        for index in [2, 3] {
            let mut world = world_of(index);
            world.gateway().faults.delay = millis(50);
            let stays = world.create(Udp, 9000);
            world.run_until(|world| world.is_success(stays));
            world.gateway().faults.delay = millis(300);
            let old = world.create(Tcp, 8000);
            world.run_for(millis(at));
            world.destroy(old);
            let new = world.create(Tcp, 8000);
            world.run_for(Duration::from_secs(5));
            assert!(world.is_destroyed(old) && world.is_success(new), "after {at} ms, protocol {index}");
            assert_eq!(world.gateway().table().len(), 2, "after {at} ms, protocol {index}");
            let deletions = world.counts().of(Kind::Soap(Action::DeletePortMapping));
            assert_eq!(deletions, 0, "after {at} ms, protocol {index}");
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
        let mut world = world_of(index);
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

#[test]
fn a_late_answer_to_a_request_before_the_deletion_makes_no_new_mapping() {
    // A new PCP mapping has the old nonce only while the deletion is unanswered. NAT-PMP has no nonces.
    for (index, wait) in [(0, 0), (1, 0), (1, 400)] {
        let mut world = world_of(index);
        let other = world.create(Udp, 9000);
        world.run_until(|world| world.is_success(other));
        world.gateway().faults.delay = Duration::from_secs(3);
        let old = world.create(Tcp, 8000);
        world.run_until(|world| world.table().len() == 2);
        world.gateway().faults.delay = millis(1);
        world.destroy(old);
        world.run_until(|world| world.table().len() == 1);
        world.run_for(millis(wait));
        let new = world.create(Tcp, 8000);
        let silence = &mut world.gateway().faults.silence;
        (silence.pcp, silence.natpmp) = (Times::Always, Times::Always);
        let is_success = |world: &World| world.is_success(new);
        assert!(!world.runs_until(Duration::from_secs(4), is_success), "protocol {index}, after {wait} ms");
        let silence = &mut world.gateway().faults.silence;
        (silence.pcp, silence.natpmp) = (Times::Never, Times::Never);
        world.run_until(is_success);
        assert_eq!(world.table().len(), 2, "protocol {index}, after {wait} ms");
    }
}

#[test]
fn a_deletion_that_a_new_request_has_overtaken_holds_nothing_up() {
    let mut world = World::set_up(|setup| setup.engine.allowed = Allowed::Pcp);
    let faults = &mut world.gateway().faults;
    (faults.closed.natpmp, faults.max_lifetime) = (true, Some(120));
    let ids = [8000, 8001].map(|port| {
        let id = world.create(Tcp, port);
        world.run_for(millis(200));
        id
    });
    assert!(world.all_success());
    world.gateway().faults.closed.pcp = true;
    // The entry of the first is being deleted when the lease of the second ends: PCP is to be asked for both, and is out.
    let has_failed = |world: &World| ids.iter().all(|&id| world.is_failure(id));
    assert!(world.runs_until(Duration::from_secs(130), has_failed));
    world.gateway().faults.closed.natpmp = false;
    world.change_network();
    world.run_until(World::all_success);
    ids.iter().for_each(|&id| world.destroy(id));
    world.run_for(Duration::from_secs(1));
    assert!(world.table().is_empty());
}

#[test]
fn after_a_cleanup_that_found_no_descriptor_nothing_is_waited_for() {
    let mut world = world_of(2);
    world.network.is_starved = true;
    world.create(Tcp, 8000);
    world.run_for(millis(300));
    // The world sees that the engine has no timeout then.
    world.cleanup();
}
