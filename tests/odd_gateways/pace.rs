//! How much a gateway is asked, and how soon: limits of its own, many mappings, extreme settings, notices without end.

use crate::{millis, secs};
use plum_engine::io::Event;
use plum_gateway::core::{Action, Kind, Reply, Times};
use plum_gateway::odd;
use plum_testkit::packets::most_packets_a_second;
use plum_testkit::world::World;
use plum_wire::Transport::Tcp;
use std::time::Duration;

#[test]
fn a_gateway_that_takes_few_connections_at_a_time_gets_few() {
    for most in 1..=3 {
        let mut world = World::with_best(2);
        world.gateway().faults.http.max_connections = Some(most);
        world.gateway().faults.delay = millis(20);
        let ids: Vec<_> = (1..=40).map(|port| world.create(Tcp, 8000 + port)).collect();
        world.run_until(World::all_success);
        assert!(world.elapsed() < secs(15), "{most} at a time: {:?}", world.elapsed());
        for id in ids {
            assert_eq!(world.events(id).len(), 1, "{most} at a time: {:?}", world.timeline(id));
        }
        world.run_for(secs(1000));
        let took = world.cleanup();
        assert!(took < secs(5), "{took:?}");
        world.assert_nothing_left();
    }
}

#[test]
fn a_server_that_answers_no_look_is_searched_for_seldom() {
    let mut world = World::with_best(2);
    odd::looks_get(world.gateway(), Reply::close);
    let _ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
    world.run_until(World::all_success);
    world.run_for(secs(100));
    let searches = world.counts().of(Kind::SsdpSearch);
    world.gateway().counts.received.clear();
    world.run_for(secs(3000));
    let most = most_packets_a_second(world.counts().received.iter());
    assert!(most <= 100, "{most} packets in one second");
    // Ten rechecks, each with a doubt or two: twelve datagrams a search.
    let searches = world.counts().of(Kind::SsdpSearch) - searches;
    assert!(searches <= 10 * 2 * 12, "{searches} searches");
}

#[test]
fn looking_after_many_upnp_mappings_stays_below_a_hundred_packets_a_second() {
    let mut world = World::with_best(2);
    for port in 1..=300 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    world.run_for(secs(10));
    world.gateway().counts.reset();
    world.run_for(secs(5000));
    let quiet = most_packets_a_second(world.counts().received.iter());
    assert!(quiet <= 100, "{quiet} packets in one second of quiet");
    world.gateway().counts.reset();
    world.gateway().forget_mappings();
    assert!(world.runs_until(secs(600), |world| world.table().len() == 300), "{}", world.table().len());
    let remade = most_packets_a_second(world.counts().received.iter());
    assert!(remade <= 100, "{remade} packets in one second of making anew");
    world.gateway().counts.reset();
    world.gateway().announce();
    world.run_for(secs(200));
    let renewed = most_packets_a_second(world.counts().received.iter());
    assert!(renewed <= 100, "{renewed} packets in one second after an announcement");
}

#[test]
fn looks_wait_for_deletions_that_could_not_wait() {
    let mut world = World::with_best(2);
    let ids: Vec<_> = (1..=40).map(|port| world.create(Tcp, 8000 + port)).collect();
    world.run_until(World::all_success);
    world.run_for(secs(100));
    world.gateway().counts.reset();
    for &id in &ids[..12] {
        world.destroy(id);
    }
    // Another recheck, which looks at the rest.
    world.change_network();
    world.run_for(secs(10));
    assert!(world.counts().soap[&Action::GetSpecificPortMappingEntry] >= 28);
    let most = most_packets_a_second(world.counts().received.iter());
    assert!(most <= 100, "{most} packets in one second");
}

#[test]
fn the_shortest_recheck_interval_stays_below_a_hundred_packets_a_second() {
    for index in 0..3 {
        let mut world = World::set_up(|setup| setup.engine.recheck_interval = millis(100));
        world.close_better(index);
        for port in 1..=20 {
            world.create(Tcp, 8000 + port);
        }
        world.run_until(World::all_success);
        world.run_for(secs(5));
        world.gateway().counts.reset();
        world.run_for(secs(100));
        let most = most_packets_a_second(world.counts().received.iter());
        assert!(most <= 100, "protocol {index}: {most} packets in one second");
    }
}

#[test]
fn the_shortest_recheck_interval_without_a_gateway_is_no_flood() {
    let mut world = World::set_up(|setup| setup.engine.recheck_interval = millis(100));
    world.stop_gateway();
    let id = world.create(Tcp, 8000);
    world.run_for(secs(100));
    assert_eq!(world.callbacks(id), [Event::Failure]);
    world.start_gateway(false);
    // It announces itself, or is asked again after 30 s at most.
    assert!(world.runs_until(secs(31), |world| world.is_success(id)));
}

#[test]
fn the_longest_timeouts_are_no_trap() {
    let longest = Duration::from_millis(i32::MAX as u64);
    for index in 0..3 {
        let mut world = World::set_up(|setup| {
            setup.engine.discover_timeout = longest;
            setup.engine.mapping_timeout = longest;
            if index < 2 {
                setup.engine.recheck_interval = longest;
            }
        });
        world.close_better(index);
        // The description hangs, and the first requests after it.
        world.gateway().faults.silence.http = Times::Next(3);
        let id = world.create(Tcp, 8000);
        assert!(world.runs_until(secs(2000), |world| world.is_success(id)), "protocol {index}");
        world.run_for(secs(100_000));
        assert_eq!(world.gateway().table().len(), 1, "protocol {index}");
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn the_shortest_timeouts_end_at_once() {
    for index in 0..3 {
        let mut world = World::set_up(|setup| {
            setup.engine.discover_timeout = millis(1);
            setup.engine.mapping_timeout = millis(1);
            setup.engine.recheck_interval = millis(100);
        });
        world.close_better(index);
        let ids: Vec<_> = (8000..8010).map(|port| world.create(Tcp, port)).collect();
        world.run_for(secs(10));
        for id in ids {
            assert!(!world.callbacks(id).is_empty(), "protocol {index}");
        }
        world.cleanup();
    }
}

#[test]
fn a_burst_of_notices_costs_the_gateway_next_to_nothing() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        for port in 1..=100 {
            world.create(Tcp, 8000 + port);
        }
        world.run_until(World::all_success);
        world.run_for(secs(10));
        world.gateway().counts.reset();
        world.route_lookups = 0;
        for _ in 0..3000 {
            world.change_network();
            world.run_for(millis(1));
        }
        assert!(world.route_lookups <= 35, "{} lookups in 3 s", world.route_lookups);
        let most = most_packets_a_second(world.counts().received.iter());
        assert!(most <= 100, "protocol {index}: {most} packets in one second");
        let checks = world.counts().pcp_announce + world.counts().natpmp_address;
        assert!(checks <= 5, "protocol {index}: {checks} checks");
    }
}

/// How many requests a gateway gets for ten mappings while it announces itself every 100 ms, for 100 s.
fn requests_for_announcements_without_end(index: usize, first_epoch: u32) -> u64 {
    let mut world = World::set_up(|setup| {
        setup.gateways[0].announcements = 1;
        setup.gateways[0].first_epoch = first_epoch;
    });
    world.close_better(index);
    for port in 1..=10 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    world.run_for(secs(10));
    world.gateway().counts.reset();
    for _ in 0..1000 {
        world.gateway().announce();
        world.run_for(millis(100));
    }
    for (id, seen) in world.mappings() {
        assert_eq!(seen.events.len(), 1, "no state changes: {id}");
    }
    world.counts().pcp_map + world.counts().natpmp_map
}

#[test]
fn announcements_of_a_gateway_that_has_started_cost_nothing_while_its_clock_runs_on() {
    for index in 0..2 {
        let requests = requests_for_announcements_without_end(index, 0);
        assert_eq!(requests, 0, "protocol {index}");
    }
}

#[test]
fn announcements_without_end_are_followed_once_in_ten_seconds() {
    // No announcement of a start comes so late: its clock tells nothing of what has started.
    for index in 0..2 {
        let requests = requests_for_announcements_without_end(index, 1000);
        assert!((90..=110).contains(&requests), "protocol {index}: {requests} requests in 100 s");
    }
}

#[test]
fn announcements_of_a_gateway_that_answers_nothing_cost_no_renewal() {
    let mut world = World::set_up(|setup| setup.gateways[0].announcements = 1);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(secs(10));
    world.network.lose_requests = u32::MAX;
    for _ in 0..20 {
        world.gateway().announce();
        world.run_for(secs(30));
    }
    world.network.lose_requests = 0;
    world.run_for(secs(20_000));
    assert_eq!(world.events(id).len(), 1, "{:?}", world.timeline(id));
    assert_eq!(world.gateway().table().len(), 1);
}
