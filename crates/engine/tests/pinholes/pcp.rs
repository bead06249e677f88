//! PCP for IPv6.

use super::*;

#[test]
fn the_first_pinhole_by_pcp_takes_one_round_trip() {
    let mut world = world();
    world.gateway().faults.delay = millis(20);
    let id = opened(&mut world);
    assert_eq!(world.success(id), Some((Protocol::Pcp, IPV6_LOCAL.into(), 8000)));
    assert_eq!(world.elapsed(), millis(22));
    assert_eq!(lifetimes(&world, Kind::PcpMap), [Some(3600)]);
    assert!(world.gateway().pinholes().get(&key(Tcp, 8000)).is_some());
    assert_removed(world);
}

#[test]
fn no_natpmp_packet_leaves_by_ipv6() {
    let changes: [fn(&mut gateway::Faults); 5] = [
        |_| {},
        |faults| faults.pcp = Spoken::UnsuppVersion(0),
        |faults| faults.pcp = Spoken::UnsuppVersion(2),
        |faults| faults.silence.pcp = Times::Always,
        |faults| faults.refuse(Kind::PcpMap, 12),
    ];
    for change in changes {
        let mut world = world();
        change(&mut world.gateway().faults);
        let id = world.create(Tcp, 8000);
        world.run_for(secs(2000));
        assert!(world.is_success(id));
        let counts = world.counts();
        assert_eq!((counts.natpmp_address, counts.natpmp_map, counts.of(Kind::Other)), (0, 0, 0));
        assert_removed(world);
    }
}

#[test]
fn a_server_of_another_version_gives_way_to_firewall_control_at_once() {
    let mut world = world();
    world.gateway().faults.pcp = Spoken::UnsuppVersion(2);
    let id = opened(&mut world);
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    assert!(world.elapsed() < millis(250), "{:?}", world.elapsed());
}

/// The address of the grant, in the place of the right one.
fn grants(world: &mut World, address: Ipv6Addr) {
    world.gateway().add_script(move |request| match request.kind {
        Kind::PcpMap if request.lifetime != Some(0) => {
            Reply::edited(move |bytes| bytes[44..60].copy_from_slice(&address.octets()))
        }
        _ => Reply::usual(),
    });
}

#[test]
fn a_grant_without_a_global_address_is_deleted_and_the_rung_fails() {
    for text in ["::ffff:8.8.8.8", "fd00::1", "fe80::100", "::", "ff0e::1", "2001:db8::1"] {
        let mut world = world();
        world.gateway().faults.closed.ssdp = true;
        let address: Ipv6Addr = text.parse().unwrap();
        grants(&mut world, address);
        let id = world.create(Tcp, 8000);
        world.run_until(|world| world.is_failure(id));
        let address = IpAddr::V6(address).to_canonical();
        assert!(reasons(&mut world, id).contains(&(Protocol::Pcp, Reason::NotGlobal { address })), "{text}");
        world.run_for(secs(1));
        assert!(world.gateway().pinholes().is_empty(), "{text}");
    }
}

#[test]
fn a_grant_of_another_global_address_is_told_as_the_gateway_says_it() {
    let mut world = world();
    // A prefix translator.
    let address: Ipv6Addr = "2600:1f00::100".parse().unwrap();
    grants(&mut world, address);
    let id = opened(&mut world);
    assert_eq!(world.success(id), Some((Protocol::Pcp, address.into(), 8000)));
    assert_removed(world);
}

#[test]
fn a_unique_local_address_is_opened_by_pcp_only() {
    let mut world = world_with(|setup| {
        let address: Ipv6Addr = "fd00::100".parse().unwrap();
        setup.engine.source = Some(Source { address, interface: INTERFACE });
        setup.ipv6.addresses.list = vec![stable(address, INTERFACE)];
    });
    let id = world.create(Tcp, 8000);
    world.run_until(|world| world.is_failure(id));
    assert_eq!(world.counts().ssdp_search, 0);
    let second = world.create(Tcp, 8001);
    grants(&mut world, "2600:1f00::100".parse().unwrap());
    world.run_for(secs(40));
    assert!(world.is_success(second), "{:?}", world.timeline(second));
    assert_eq!(world.counts().upnp(), 0);
}

#[test]
fn a_renewal_suggests_the_last_address_and_the_internal_port() {
    let mut world = world();
    world.gateway().faults.closed.ssdp = true;
    world.set_trace(10_000);
    let wish = Suggestion { address: None, port: NonZeroU16::new(20_000), ..Suggestion::default() };
    let id = world.create_wishing(Tcp, 8000, wish);
    world.run_for(secs(2400));
    assert_eq!(world.callbacks(id).len(), 1);
    world.destroy_and_wait(id);
    // RFC 6887 §11.1: from octet 40 on internal port, suggested port and suggested address.
    let maps = world.trace().filter_map(|(_, text)| text.strip_prefix("-> Pcp to [fe80::1]:5351: 0201"));
    let suggested: Vec<String> = maps.map(|hex| hex[76..116].to_owned()).collect();
    let address: String = IPV6_LOCAL.octets().iter().map(|octet| format!("{octet:02x}")).collect();
    let none = "0".repeat(32);
    let expected = [format!("1f401f40{none}"), format!("1f401f40{address}"), format!("1f400000{none}")];
    assert_eq!(suggested, expected, "first, renewed, deleted");
}

#[test]
fn an_address_mismatch_opens_another_socket_and_then_fails_pcp_alone() {
    let mut world = world();
    // ADDRESS_MISMATCH
    world.gateway().faults.refuse(Kind::PcpMap, 12);
    let id = opened(&mut world);
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    let ports: std::collections::BTreeSet<u16> =
        received(&world, Kind::PcpMap).iter().map(|received| received.from.port()).collect();
    assert_eq!(ports.len(), 2);
    assert_removed(world);
}

#[test]
fn a_mapping_that_an_earlier_program_left_is_adopted_by_firewall_control() {
    let mut world = world();
    let (now, end) = (gateway_time(world.now()), gateway_time(world.now()) + secs(3600));
    let made_by = gateway::Protocol::Pcp;
    world.gateway().pinholes_mut().open(key(Tcp, 8000), made_by, Some([7; 12]), now, end);
    let id = opened(&mut world);
    // NOT_AUTHORIZED
    assert_eq!(world.success(id).unwrap().0, Protocol::UpnpIgd);
    assert_eq!(world.gateway().pinholes().len(), 1);
    world.destroy_and_wait(id);
    assert!(world.gateway().pinholes().is_empty(), "it is removed for good");
    assert_removed(world);
}

#[test]
fn pcp_asks_for_the_lifetime_of_the_program() {
    let mut world = world();
    let wish = Suggestion { lifetime_secs: Some(600), ..Suggestion::default() };
    let id = world.create_wishing(Tcp, 8000, wish);
    world.run_until(|world| world.is_success(id));
    assert_eq!(lifetimes(&world, Kind::PcpMap), [Some(600)]);
    assert_removed(world);
}
