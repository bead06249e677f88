//! Which protocol a mapping has: gateways that refuse by one, fall silent, unlearn it, or answer by it late.

use crate::{mapped_by, millis, secs, upnp_mapping_beside_pcp};
use plum_engine::io::{Event, Protocol, Socket, Suggestion};
use plum_gateway::core::{Config, Kind, Spoken, Times};
use plum_testkit::world::World;
use plum_wire::Transport::{Tcp, Udp};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

#[test]
fn a_mapping_whose_renewal_is_refused_for_good_moves_to_the_next_protocol_unbroken() {
    for port in [8000, 4711] {
        let mut world = World::new();
        let id = world.create_wishing(
            Tcp,
            8000,
            Suggestion { address: None, port: NonZeroU16::new(port), ..Suggestion::default() },
        );
        world.run_until(|world| world.is_success(id));
        // NOT_AUTHORIZED.
        world.gateway().faults.refuse(Kind::PcpMap, 2);
        world.run_for(secs(20_000));
        assert!(!world.events(id).contains(&Event::Pending), "{:?}", world.timeline(id));
        assert_eq!(mapped_by(&world, id), Some(Protocol::NatPmp));
        assert_eq!(world.gateway().table().len(), 1);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_better_protocol_that_refuses_does_not_keep_a_mapping_from_its_renewals() {
    // NO_RESOURCES, NOT_AUTHORIZED.
    for code in [8, 2] {
        let mut world = World::new();
        let id = upnp_mapping_beside_pcp(&mut world);
        world.gateway().faults.refuse_port(Kind::PcpMap, code, 8000);
        world.run_for(secs(30_000));
        assert_eq!(world.callbacks(id).len(), 1, "{:?}", world.timeline(id));
        assert!(!world.events(id).contains(&Event::Pending));
        assert_eq!(world.gateway().table().len(), 2);
    }
}

#[test]
fn a_better_protocol_without_an_external_address_does_not_cost_the_mapping() {
    let mut world = World::new();
    let id = upnp_mapping_beside_pcp(&mut world);
    world.gateway().faults.external_address_text = Some("203.0.113.7".into());
    world.gateway().set_external_address(Ipv4Addr::UNSPECIFIED, false);
    world.run_for(secs(30_000));
    assert_eq!(world.callbacks(id).len(), 1, "{:?}", world.timeline(id));
    assert_eq!(mapped_by(&world, id), Some(Protocol::UpnpIgd));
}

/// The deletion of what PCP may have made is under way when its grant comes: what it would take out takes nothing over.
#[test]
fn a_late_grant_whose_deletion_is_under_way_waits_for_the_next_recheck() {
    let stranger = IpAddr::from([192, 168, 1, 2]);
    let mut world = World::set_up(|setup| setup.gateways.push(Config::at(stranger)));
    world.gateway().set_igd(None);
    world.gateway().faults.silence.natpmp = Times::Always;
    world.gateway().faults.delay = millis(1300);
    let id = world.create(Tcp, 8000);
    world.run_until(|world| mapped_by(world, id) == Some(Protocol::UpnpIgd));
    world.run_for(secs(6));
    assert!(world.counts().pcp_delete > 0, "no deletion was under way");
    assert_eq!(mapped_by(&world, id), Some(Protocol::UpnpIgd));
    assert!(world.gateway().table().is_empty());
    world.run_for(secs(300));
    assert_eq!(mapped_by(&world, id), Some(Protocol::Pcp), "the gateway's own");
    assert_eq!(world.gateway().table().len(), 1);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_mapping_destroyed_around_the_change_of_protocols_leaves_nothing_behind() {
    // PCP answers its retransmission only, just after NAT-PMP was taken.
    for at in (200..700).step_by(3) {
        let mut world = World::set_up(|setup| setup.latency = millis(20));
        world.gateway().faults.silence.pcp = Times::Next(1);
        let stays = world.create(Udp, 9000);
        let id = world.create(Tcp, 8000);
        world.run_for(millis(at));
        world.destroy(id);
        world.run_for(secs(3));
        assert!(world.is_success(stays));
        assert_eq!(world.gateway().table().len(), 1, "after {at} ms");
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn cleanup_around_the_change_of_protocols_leaves_nothing_behind() {
    for at in (200..700).step_by(3) {
        let mut world = World::set_up(|setup| setup.latency = millis(20));
        world.gateway().faults.silence.pcp = Times::Next(1);
        for port in 0..3 {
            world.create(Tcp, 8000 + port);
        }
        world.run_for(millis(at));
        world.cleanup();
        world.run_for(secs(1));
        world.assert_nothing_left();
    }
}

#[test]
fn an_outage_longer_than_the_lease_ends_with_one_mapping() {
    for index in 0..2 {
        let mut world = World::with_best(index);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(id));
        world.network.lose_requests = u32::MAX;
        world.run_for(secs(7150));
        world.network.lose_requests = 0;
        // No renewal is left; or only ones that fail.
        world.network.cut = true;
        world.run_for(secs(45));
        world.network.cut = false;
        world.run_for(secs(1100));
        assert!(world.is_success(id), "{:?}", world.timeline(id));
        assert_eq!(world.gateway().table().len(), 1);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_gateway_that_hung_once_is_used_again() {
    for index in 0..3 {
        let mut world = World::with_best(index);
        let first = world.create(Tcp, 8000);
        world.run_until(|world| world.is_success(first));
        world.run_for(secs(60));
        let silence = &mut world.gateway().faults.silence;
        (silence.pcp, silence.natpmp, silence.http) = (Times::Always, Times::Always, Times::Always);
        let second = world.create(Tcp, 8001);
        assert!(world.runs_until(secs(11), |world| world.is_failure(second)), "protocol {index}");
        let silence = &mut world.gateway().faults.silence;
        (silence.pcp, silence.natpmp, silence.http) = (Times::Never, Times::Never, Times::Never);
        assert!(world.runs_until(secs(31), |world| world.is_success(second)), "protocol {index}");
        assert_eq!(world.events(first).len(), 1);
        world.cleanup();
        world.assert_nothing_left();
    }
}

#[test]
fn a_gateway_that_unlearns_pcp_keeps_its_mappings_by_natpmp() {
    let mut world = World::new();
    let ids: Vec<_> = (8000..8005).map(|port| world.create(Tcp, port)).collect();
    world.run_until(World::all_success);
    world.gateway().faults.pcp = Spoken::UnsuppVersion(0);
    world.run_for(secs(20_000));
    for id in ids {
        assert!(!world.events(id).contains(&Event::Pending), "{:?}", world.timeline(id));
        assert_eq!(mapped_by(&world, id), Some(Protocol::NatPmp));
    }
    assert_eq!(world.gateway().table().len(), 5);
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_mapping_made_before_an_address_mismatch_is_deleted_in_the_end() {
    let mut world = World::new();
    let old = world.create(Tcp, 8000);
    world.run_until(|world| world.is_success(old));
    // ADDRESS_MISMATCH, once.
    world.gateway().faults.refuse_next(Kind::PcpMap, 12, 1);
    let new = world.create(Tcp, 8001);
    world.run_until(|world| world.is_success(new));
    assert_eq!(mapped_by(&world, new), Some(Protocol::Pcp));
    world.destroy_and_wait(old);
    assert_eq!(world.gateway().table().len(), 1);
    // A week later it may happen again.
    world.run_for(secs(600_000));
    world.gateway().faults.refuse_next(Kind::PcpMap, 12, 1);
    let third = world.create(Tcp, 8002);
    world.run_until(|world| world.is_success(third));
    assert_eq!(mapped_by(&world, third), Some(Protocol::Pcp));
    world.cleanup();
    world.assert_nothing_left();
}

#[test]
fn a_gateway_that_answers_pcp_only_at_the_second_try_has_one_entry_in_the_end() {
    for latency in [1, 5, 20, 60] {
        for natpmp in [true, false] {
            let mut world = World::set_up(|setup| setup.latency = millis(latency));
            world.gateway().faults.silence.pcp = Times::Next(1);
            world.gateway().faults.closed.natpmp = !natpmp;
            let id = world.create(Tcp, 8000);
            world.run_for(secs(5));
            // In one table a late answer takes over what the other protocol has made.
            assert!(world.is_success(id), "{latency} ms, NAT-PMP {natpmp}");
            assert!(world.callbacks(id).len() <= 2);
            assert_eq!(world.gateway().table().len(), 1);
            world.run_for(secs(20_000));
            assert_eq!(world.gateway().table().len(), 1);
            assert!(world.callbacks(id).len() <= 2);
            world.cleanup();
            world.assert_nothing_left();
        }
    }
}

#[test]
fn the_notifications_port_is_given_back_when_upnp_is_out_of_use() {
    let mut world = World::new();
    let id = upnp_mapping_beside_pcp(&mut world);
    assert!(world.network.is_open(Socket::Notifications.into()));
    world.destroy_and_wait(id);
    world.run_for(secs(310));
    assert!(!world.network.is_open(Socket::Notifications.into()));
}
