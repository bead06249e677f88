//! Deleting pinholes, by firewall control and beside PCP.

use super::*;

/// The kinds of what the gateway was asked about pinholes since `from`, in order.
fn asked_since(world: &World, from: usize) -> Vec<Kind> {
    let kinds = [ADD, UPDATE, DELETE, Kind::PcpMap, Kind::PcpDelete];
    let received = world.counts().received.iter().skip(from);
    received.map(|received| received.kind).filter(|kind| kinds.contains(kind)).collect()
}

fn count(world: &World) -> usize {
    world.counts().received.len()
}

#[test]
fn a_pinhole_is_deleted_by_its_number() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    let from = count(&world);
    world.destroy_and_wait(id);
    assert_eq!(asked_since(&world, from), [DELETE]);
    assert!(world.gateway().pinholes().is_empty());
    assert_removed(world);
}

#[test]
fn what_an_open_request_makes_is_not_deleted_if_it_is_wanted_again() {
    for at in (10..290).step_by(10) {
        let mut world = firewall_world();
        world.create(Udp, 9000);
        world.run_until(World::all_success);
        world.gateway().faults.delay = millis(300);
        let old = world.create(Tcp, 8000);
        world.run_for(millis(at));
        world.destroy(old);
        let new = world.create(Tcp, 8000);
        world.run_for(secs(5));
        assert!(world.is_destroyed(old) && world.is_success(new), "after {at} ms");
        assert_eq!(world.gateway().pinholes().len(), 2, "after {at} ms");
        assert_eq!(world.counts().of(DELETE), 0, "after {at} ms");
        assert_removed(world);
    }
}

#[test]
fn a_pinhole_without_a_known_number_is_adopted_first() {
    let mut world = firewall_world();
    // The reply is lost, and with it the number.
    world.gateway().add_script(|request| match request.kind {
        ADD if request.lifetime == Some(3600) => Reply::nothing().with_effect(),
        _ => Reply::usual(),
    });
    let id = world.create(Tcp, 8000);
    world.run_for(secs(2));
    assert_eq!(world.gateway().pinholes().len(), 1);
    world.gateway().clear_scripts();
    let from = count(&world);
    world.destroy(id);
    world.run_for(secs(5));
    assert_eq!(asked_since(&world, from), [ADD, DELETE]);
    assert!(world.is_destroyed(id) && world.gateway().pinholes().is_empty());
    assert_removed(world);
}

#[test]
fn a_number_from_before_a_restart_deletes_nothing() {
    let mut world = firewall_world();
    let ids = [8000, 8001].map(|port| world.create(Tcp, port));
    world.run_until(World::all_success);
    let first = unique_id(&mut world).unwrap();
    // Neither answers nor is heard: its numbers are those of others by now.
    world.gateway().faults.refuse(ADD, 501);
    world.start_gateway(false);
    world.run_for(secs(8));
    let (now, end) = (gateway_time(world.now()), gateway_time(world.now()) + secs(999));
    let script = gateway::Protocol::Script;
    assert_eq!(world.gateway().pinholes_mut().open(key(Udp, 9), script, None, now, end), first);
    for id in ids {
        world.destroy_and_wait(id);
    }
    world.run_for(secs(60));
    assert_eq!(world.counts().of(DELETE), 0);
    assert!(world.gateway().pinholes().get(&key(Udp, 9)).is_some());
}

#[test]
fn a_number_that_is_void_before_it_is_sent_is_asked_for_again() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.run_for(secs(10));
    world.start_gateway(true);
    world.run_for(millis(1));
    // The restart is announced, and its description arrives before the connection of the deletion stands.
    world.network.latency = millis(50);
    world.destroy(id);
    world.network.latency = millis(1);
    let from = count(&world);
    world.run_for(secs(1));
    assert!(world.is_destroyed(id));
    assert_eq!(asked_since(&world, from), [ADD, DELETE]);
    assert!(world.gateway().pinholes().is_empty());
    assert_removed(world);
}

#[test]
fn a_refused_deletion_leaves_the_shortest_lease() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.gateway().faults.refuse(DELETE, 606);
    let from = count(&world);
    world.destroy_and_wait(id);
    assert_eq!(asked_since(&world, from), [DELETE, UPDATE]);
    assert_eq!(lifetimes(&world, UPDATE), [Some(1)]);
    world.run_for(secs(2));
    assert!(world.gateway().pinholes().is_empty());
    world.run_for(secs(4000));
    assert_eq!(asked_since(&world, from).len(), 2, "it is not repeated");
    assert_removed(world);
}

#[test]
fn no_such_entry_ends_a_deletion() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.gateway().forget_mappings();
    let from = count(&world);
    world.destroy_and_wait(id);
    world.run_for(secs(4000));
    assert_eq!(asked_since(&world, from), [DELETE]);
}

#[test]
fn a_deletion_that_is_refused_in_every_way_is_repeated_after_adopting_the_pinhole() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.gateway().faults.refuse(DELETE, 606);
    world.gateway().faults.refuse(UPDATE, 606);
    world.destroy_and_wait(id);
    assert_eq!(world.gateway().pinholes().len(), 1);
    world.gateway().faults.refusals.clear();
    let from = count(&world);
    world.run_for(secs(40));
    assert_eq!(asked_since(&world, from), [ADD, DELETE]);
    assert!(world.gateway().pinholes().is_empty());
}

#[test]
fn a_destroyed_mapping_whose_request_is_under_way_leaves_nothing() {
    for delay in [millis(100), millis(700), secs(3)] {
        let mut world = firewall_world();
        world.gateway().add_script(move |request| match request.kind {
            ADD => Reply::usual().after(delay),
            _ => Reply::usual(),
        });
        let id = world.create(Tcp, 8000);
        world.run_for(millis(20));
        assert_eq!(world.gateway().pinholes().len(), 1);
        world.destroy(id);
        // Where the gateway takes longer than the deletion waits, the deletion is repeated.
        world.run_for(secs(40));
        assert!(world.is_destroyed(id) && world.gateway().pinholes().is_empty(), "{delay:?}");
        assert_removed(world);
    }
}

#[test]
fn cleanup_deletes_all_pinholes_within_its_bounds() {
    let mut world = firewall_world();
    for port in 1..=50 {
        world.create(Tcp, 10_000 + port);
    }
    world.run_until(World::all_success);
    assert!(world.cleanup() < secs(2));
    world.assert_nothing_left();
}

#[test]
fn entries_of_both_protocols_wait_for_the_end_and_the_holder_goes_first() {
    let mut world = world();
    // PCP's answer comes after firewall control has made the pinhole.
    world.gateway().add_script(|request| match request.kind {
        Kind::PcpMap => Reply::usual().after(secs(1)),
        _ => Reply::usual(),
    });
    let id = world.create(Tcp, 8000);
    world.run_for(secs(100));
    assert!(received(&world, ADD).len() == 1 && !received(&world, Kind::PcpMap).is_empty());
    assert_eq!((world.counts().of(DELETE), world.counts().of(Kind::PcpDelete)), (0, 0));
    let holder = world.success(id).unwrap().0;
    assert_eq!(world.gateway().pinholes().len(), 1);
    world.run_for(secs(1000));
    assert_eq!(world.gateway().pinholes().len(), 1);
    let from = count(&world);
    world.destroy_and_wait(id);
    let deletions: Vec<Kind> = asked_since(&world, from)
        .into_iter()
        .filter(|&kind| [DELETE, Kind::PcpDelete].contains(&kind))
        .collect();
    let first = if holder == Protocol::Pcp { Kind::PcpDelete } else { DELETE };
    assert_eq!((deletions.len(), deletions[0]), (2, first), "{deletions:?}");
    assert!(world.gateway().pinholes().is_empty());
    assert_removed(world);
}

/// A gateway that takes PCP's requests with a new nonce for a pinhole that lives, but not their deletion.
fn left_by_another_nonce() -> World {
    let mut world = world();
    world.gateway().faults.nonce_guards_deletion_only = true;
    let (now, end) = (gateway_time(world.now()), gateway_time(world.now()) + secs(7200));
    let made_by = gateway::Protocol::Pcp;
    world.gateway().pinholes_mut().open(key(Tcp, 8000), made_by, Some([7; 12]), now, end);
    world
}

#[test]
fn a_pcp_deletion_that_is_not_authorized_is_done_by_firewall_control() {
    let mut world = left_by_another_nonce();
    // Another port, which PCP refuses, has firewall control found.
    world.gateway().faults.refuse_port(Kind::PcpMap, 11, 8001);
    let other = world.create(Udp, 8001);
    let id = opened(&mut world);
    world.run_until(|world| world.is_success(other));
    assert_eq!([id, other].map(|id| world.success(id).unwrap().0), [Protocol::Pcp, Protocol::UpnpIgd]);
    let from = count(&world);
    world.destroy_and_wait(id);
    assert_eq!(asked_since(&world, from), [Kind::PcpDelete, ADD, DELETE]);
    assert!(world.gateway().pinholes().get(&key(Tcp, 8000)).is_none());
    world.run_for(secs(4000));
    assert_eq!(world.counts().of(Kind::PcpDelete), 1, "both entries have ended");
    assert!(world.is_success(other));
    assert_removed(world);
}

#[test]
fn firewall_control_is_searched_for_what_pcp_may_not_delete() {
    for ends in [false, true] {
        let mut world = left_by_another_nonce();
        let id = opened(&mut world);
        world.run_for(secs(10));
        assert_eq!(world.counts().of(Kind::HttpDescription), 0, "nobody needed it before");
        let from = count(&world);
        match ends {
            true => assert!(world.cleanup() < millis(100)),
            false => assert!(world.destroy_and_wait(id) < millis(100)),
        }
        assert_eq!(asked_since(&world, from), [Kind::PcpDelete, ADD, DELETE]);
        assert!(world.gateway().pinholes().is_empty());
        world.run_for(secs(4000));
        assert_eq!(count(&world) - from, 21 + 4, "a round of searches, the description and the three");
    }
}

#[test]
fn a_mapping_that_is_wanted_again_ends_the_search_for_its_deletion() {
    let mut world = left_by_another_nonce();
    let id = opened(&mut world);
    world.gateway().faults.silence.ssdp = Times::Always;
    world.destroy(id);
    world.run_for(millis(100));
    let id = opened(&mut world);
    world.gateway().faults.silence.ssdp = Times::Never;
    world.run_for(secs(100));
    assert!(world.is_success(id));
    assert_eq!((world.gateway().pinholes().len(), world.counts().of(DELETE)), (1, 0));
    assert_removed(world);
}

#[test]
fn cleanup_adopts_what_pcp_may_not_delete() {
    let mut world = left_by_another_nonce();
    world.gateway().faults.refuse_port(Kind::PcpMap, 11, 8001);
    world.create(Udp, 8001);
    opened(&mut world);
    world.run_until(World::all_success);
    assert_removed(world);
}

#[test]
fn a_pcp_deletion_that_is_not_authorized_stays_unconfirmed_without_firewall_control() {
    let mut world = left_by_another_nonce();
    world.gateway().set_igd(None);
    let id = opened(&mut world);
    world.destroy_and_wait(id);
    world.run_for(secs(40));
    assert_eq!(world.counts().of(Kind::PcpDelete), 2);
    assert_eq!(world.gateway().pinholes().len(), 1);
}

#[test]
fn a_pinhole_on_another_device_is_deleted_there() {
    let mut world = firewall_world();
    world.gateway().set_igd(None);
    let config = gateway::Config { seed: 9, ..gateway::Config::at([192, 168, 1, 2].into()) };
    let other = Ipv6Addr::new(0x2600, 1, 0, 0, 0, 0, 0, 2);
    let gateway = Gateway::new(config.with_ipv6(other), gateway_time(world.now()));
    world.network.nodes.push(Node::new(gateway));
    let id = opened(&mut world);
    // The gateway's own device appears, and takes the mapping over at a recheck.
    world.gateway().set_igd(Some(Igd::with(1, &[WanKind::Firewall1])));
    world.run_for(secs(700));
    assert!(world.is_success(id) && world.gateway_at(1).pinholes().is_empty());
    assert_eq!(world.gateway().pinholes().len(), 1);
    assert_removed(world);
}

#[test]
fn a_repeated_pcp_deletion_is_done_by_firewall_control_too() {
    let mut world = left_by_another_nonce();
    world.gateway().faults.refuse_port(Kind::PcpMap, 11, 8001);
    world.create(Udp, 8001);
    let id = opened(&mut world);
    world.run_until(World::all_success);
    // The deletion is not answered at first.
    world.gateway().faults.silence.pcp = Times::Always;
    world.destroy(id);
    world.run_for(secs(20));
    assert!(world.is_destroyed(id));
    world.gateway().faults.silence.pcp = Times::Never;
    world.run_for(secs(60));
    assert!(world.gateway().pinholes().get(&key(Tcp, 8000)).is_none());
    assert_removed(world);
}
