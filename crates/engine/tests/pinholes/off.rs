//! A firewall that is off: no pinhole is needed.

use super::*;

#[test]
fn a_firewall_that_is_off_is_direct_until_it_is_on_again() {
    let mut world = firewall_world();
    world.gateway().faults.firewall_disabled = true;
    let ids = [8000, 8001, 8002].map(|port| world.create(Tcp, port));
    world.run_until(World::all_success);
    for (id, port) in ids.into_iter().zip(8000..) {
        assert_eq!(world.success(id), Some((Protocol::Direct, IPV6_LOCAL.into(), port)));
    }
    let asked = received(&world, ADD).len();
    assert_eq!(asked, 1, "one answer is true of all");
    world.run_for(secs(1000));
    assert_eq!(received(&world, ADD).len() - asked, 3, "asked again each recheck");
    assert!(ids.iter().all(|&id| world.events(id).len() == 1));
    world.gateway().faults.firewall_disabled = false;
    world.run_for(secs(310));
    for id in ids {
        assert_eq!(world.success(id).map(|success| success.0), Some(Protocol::UpnpIgd));
    }
    assert_eq!(world.gateway().pinholes().len(), 3);
    assert_removed(world);
}

#[test]
fn a_status_of_off_is_direct_whatever_add_pinhole_says() {
    let mut world = firewall_world();
    world.gateway().add_script(|request| match request.kind {
        STATUS => Reply::edited(|body| {
            let text = String::from_utf8_lossy(body);
            *body = text.replace("<FirewallEnabled>1<", "<FirewallEnabled>no<").into_bytes();
        }),
        _ => Reply::usual(),
    });
    let id = opened(&mut world);
    assert_eq!(world.success(id).unwrap().0, Protocol::Direct);
    world.gateway().clear_scripts();
    world.run_for(secs(310));
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    assert_removed(world);
}

#[test]
fn a_firewall_that_goes_off_turns_a_pinhole_into_direct() {
    let mut world = firewall_world();
    let id = opened(&mut world);
    world.gateway().faults.firewall_disabled = true;
    world.run_for(secs(310));
    assert_eq!(world.success(id).unwrap().0, Protocol::Direct);
    world.gateway().faults.firewall_disabled = false;
    assert_removed(world);
}

#[test]
fn an_unanswered_question_keeps_direct() {
    let mut world = firewall_world();
    world.gateway().faults.firewall_disabled = true;
    let id = opened(&mut world);
    world.gateway().faults.silence.http = Times::Always;
    world.run_for(secs(1000));
    assert_eq!(world.events(id).len(), 1, "{:?}", world.timeline(id));
}

#[test]
fn a_destroyed_mapping_that_was_direct_is_not_asked_for_again() {
    let mut world = firewall_world();
    world.gateway().faults.firewall_disabled = true;
    let id = opened(&mut world);
    world.run_for(secs(310));
    world.destroy_and_wait(id);
    let before = received(&world, ADD).len();
    world.run_for(secs(1000));
    assert_eq!(received(&world, ADD).len(), before);
    assert_removed(world);
}

#[test]
fn a_device_elsewhere_cannot_say_that_the_firewall_is_off() {
    let mut world = firewall_world();
    world.gateway().set_igd(None);
    let other = Ipv6Addr::new(0x2600, 1, 0, 0, 0, 0, 0, 2);
    let config = gateway::Config { seed: 9, ..gateway::Config::at([192, 168, 1, 2].into()) };
    let mut gateway = Gateway::new(config.with_ipv6(other), gateway_time(world.now()));
    gateway.faults.firewall_disabled = true;
    world.network.nodes.push(Node::new(gateway));
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(upnp_error(&mut world, id), Some(702));
}

#[test]
fn a_service_that_is_gone_says_nothing_about_the_firewall_any_more() {
    let mut world = firewall_world();
    world.gateway().faults.firewall_disabled = true;
    let id = opened(&mut world);
    world.gateway().faults.firewall_disabled = false;
    // Another BOOTID.
    world.start_gateway(false);
    world.run_for(secs(20));
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd, "{:?}", world.timeline(id));
}
