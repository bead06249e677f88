//! Entries that are easily forgotten: each is deleted, and what holds a mapping is not.

use crate::{ROUTE, millis, secs};
use plum_engine::io::{Event, Protocol, Route};
use plum_gateway::core::Action::AddPortMapping;
use plum_gateway::core::{self as gateway, Igd, Kind, Times, WanKind};
use plum_gateway::odd;
use plum_testkit::packets::most_packets_a_second;
use plum_testkit::world::{EXTERNAL, World};
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, Ipv4Addr};

/// A gateway that has nothing but UPnP, and another device beside it.
fn with_stranger() -> World {
    let stranger = IpAddr::from([192, 168, 1, 2]);
    let mut world = World::set_up(|setup| {
        setup.gateways.push(gateway::Config::at(stranger));
        setup.engine.recheck_interval = secs(30);
    });
    odd::closes_pcp_port(world.gateway());
    world
}

#[test]
fn what_a_retry_may_have_made_is_deleted_while_another_device_holds_the_mapping() {
    let mut world = with_stranger();
    odd::addition_is_not_answered(world.gateway());
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    for _ in 0..3 {
        let before = world.counts().of(Kind::Soap(AddPortMapping));
        world.run_for(secs(400));
        assert!(world.counts().of(Kind::Soap(AddPortMapping)) > before, "no retry");
        let is_tidy = |world: &World| world.table().is_empty();
        assert!(world.runs_until(secs(20), is_tidy), "{} entries are left", world.table().len());
    }
}

#[test]
fn another_device_is_searched_for_though_the_gateways_own_is_known() {
    let mut world = with_stranger();
    odd::address_is(world.gateway(), "");
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(secs(100));
    world.sleep_for(secs(60_000));
    assert!(world.runs_until(secs(10), |world| world.is_success(id)), "{:?}", world.state(id));
}

#[test]
fn a_copy_of_the_answer_to_a_deletion_is_not_that_to_the_mapping_that_follows() {
    for index in 0..2 {
        let mut world = World::with_best(index);
        (world.gateway().faults.closed.ssdp, world.gateway().faults.closed.natpmp) = (true, index == 0);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.network.duplicate = 1.0;
        world.network.jitter = millis(30);
        let mut id = id;
        for _ in 0..50 {
            world.destroy(id);
            id = world.create(Tcp, 8000);
            assert!(world.runs_until(secs(2), |world| world.is_success(id)), "protocol {index}");
            assert!(!world.events(id).contains(&Event::Failure));
        }
        world.network.duplicate = 0.0;
        // A copy of a request that arrives after the last deletion would make the mapping again.
        world.run_for(millis(100));
        world.cleanup();
        world.run_for(secs(1));
        world.assert_nothing_left();
    }
}

#[test]
fn a_copy_of_a_grant_is_not_the_answer_to_the_deletion_that_follows() {
    for index in 0..2 {
        let mut world = World::with_best(index);
        world.gateway().faults.duplicate.replies = 1.0;
        world.network.jitter = millis(30);
        for port in 8000..8100 {
            let id = world.create(Tcp, port);
            world.run_until(|world| world.is_success(id));
            world.destroy_and_wait(id);
        }
        world.run_for(secs(60));
        world.cleanup();
        world.run_for(secs(1));
        world.assert_nothing_left();
    }
}

#[test]
fn a_mapping_after_a_deletion_is_confirmed_though_its_grant_comes_twice() {
    let mut world = World::with_best(0);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.network.duplicate = 1.0;
    world.network.jitter = millis(1);
    world.destroy(id);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(millis(500));
    world.gateway().counts.reset();
    world.run_for(secs(5));
    assert_eq!(world.counts().pcp_map, 2, "one request, and its copy");
}

#[test]
fn the_gateway_is_the_same_by_way_of_another_interface() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.network.nodes[0].interface = 3;
        world.change_route(Some(Route { interface: 3, ..ROUTE }));
        world.run_for(millis(2));
        world.destroy_and_wait(id);
        world.run_for(secs(60));
        world.assert_nothing_left();
    }
}

#[test]
fn an_entry_is_not_called_gone_where_the_table_could_not_be_read() {
    let mut world = World::with_best(2);
    world.gateway().set_igd(Some(Igd::with(2, &[WanKind::Ip2])));
    odd::add_any_makes_and_hangs(world.gateway());
    world.gateway().faults.assigned_port = gateway::AssignedPort::Offset(1000);
    odd::address_is(world.gateway(), "");
    let id = world.create(Tcp, 8000);
    world.run_for(secs(1));
    world.network.latency = millis(300);
    world.run_until(|world| world.is_failure(id));
    world.run_for(secs(10));
    world.network.latency = millis(1);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn what_upnp_made_is_deleted_though_a_better_protocol_needs_no_search() {
    for ends in [false, true] {
        let mut world = World::with_best(2);
        world.gateway().faults.permanent_leases_only = true;
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.change_route(None);
        world.run_for(secs(60));
        world.gateway().faults.closed.pcp = false;
        world.gateway().faults.tables_apart = true;
        world.change_route(Some(ROUTE));
        world.run_until(|world| world.is_success(id));
        assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::Pcp));
        if !ends {
            world.run_for(secs(10));
            assert_eq!(world.table().len(), 1, "left behind beside what holds the mapping");
        }
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn what_an_addition_made_that_nobody_waits_for_is_deleted_beside_the_holder() {
    let mut world = World::with_best(0);
    world.gateway().set_igd(Some(Igd::with(2, &[WanKind::Ip2])));
    odd::add_any_makes_and_hangs(world.gateway());
    world.gateway().faults.closed.natpmp = true;
    world.gateway().faults.assigned_port = gateway::AssignedPort::Offset(1000);
    world.gateway().faults.silence.pcp = Times::Always;
    let id = world.create(Tcp, 8000);
    world.run_for(millis(255));
    world.gateway().faults.silence.pcp = Times::Never;
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::Pcp));
    let is_tidy = |world: &World| world.table().len() == 1;
    assert!(world.runs_until(secs(30), is_tidy), "left behind: {} entries", world.table().len());
    let port = world.success(id).expect("it stands").2;
    assert!(world.table().iter().all(|entry| entry.external_port == port), "the holder was deleted");
}

#[test]
fn an_address_that_another_protocol_tells_is_kept_up_with() {
    let new = Ipv4Addr::new(203, 0, 113, 99);
    let mut world = World::with_best(1);
    odd::natpmp_grants_nothing(world.gateway());
    odd::address_is(world.gateway(), "");
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    assert_eq!(world.success(id), Some((Protocol::UpnpIgd, EXTERNAL, 8000)));
    world.run_for(secs(100));
    world.gateway().set_external_address(new, false);
    world.run_for(secs(310));
    assert_eq!(world.success(id), Some((Protocol::UpnpIgd, new.into(), 8000)));
}

#[test]
fn what_is_deleted_beside_its_holder_is_deleted_in_the_pace() {
    let mut world = with_stranger();
    odd::addition_is_not_answered(world.gateway());
    for port in 0..30 {
        world.create(Tcp, 8000 + port);
    }
    world.run_until(World::all_success);
    world.run_for(secs(60));
    world.gateway().counts.reset();
    world.run_for(secs(2000));
    let most = most_packets_a_second(world.counts().received.iter());
    assert!(most <= 100, "{most} packets in a second");
}

#[test]
fn a_device_that_answered_when_nobody_needed_it_is_asked_when_the_gateway_fails() {
    let mut world = with_stranger();
    world.gateway_at(1).faults.delay = millis(50);
    world.gateway().faults.refuse_port(Kind::Soap(AddPortMapping), 728, 8001);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(id));
    world.run_for(secs(1));
    let id = world.create(Tcp, 8001);
    assert!(world.runs_until(secs(10), |world| world.is_success(id)), "{:?}", world.state(id));
    assert_eq!(world.gateway_at(1).table().len(), 1);
}

#[test]
fn an_entry_that_an_unanswered_addition_made_is_not_made_anew_for_ever() {
    let mut world = World::with_best(2);
    // Lease 0 alone is made, without a word, and the entry that is there then is in the way of the next lease.
    odd::leases_are_not_made(world.gateway());
    world.gateway().faults.no_replacement = true;
    odd::addition_is_not_answered(world.gateway());
    let id = world.create(Tcp, 8000);
    assert!(world.runs_until(secs(10), |world| world.is_success(id)), "{:?}", world.state(id));
    world.run_for(secs(60));
    let additions = world.counts().of(Kind::Soap(AddPortMapping));
    assert!(additions < 12, "{additions} additions");
    assert_eq!(world.table().len(), 1);
    world.cleanup();
    world.assert_nothing_left();
}

/// The addition is repeated when its connection ends, and what it may make is asked for twice: each answer is that to its own
/// question.
#[test]
fn a_mapping_destroyed_while_its_addition_is_not_answered_leaves_nothing_behind() {
    for at in 0..40 {
        let mut world = World::with_best(2);
        world.gateway().faults.delay = millis(3);
        let made = world.create(Tcp, 8001);
        world.run_until(|world| world.is_success(made));
        odd::addition_is_not_answered(world.gateway());
        let id = world.create(Tcp, 8000);
        world.run_for(millis(at));
        world.destroy(id);
        let is_alone = |world: &World| world.is_destroyed(id) && world.table().len() == 1;
        world.run_for(millis(900));
        assert!(is_alone(&world), "destroyed after {at} ms: {:?}", world.table());
    }
}
