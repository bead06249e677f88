//! Which external addresses make a pinhole.

use plum_engine::io::Event;
use plum_gateway::core::{Kind, Reply};
use plum_testkit::world::World;
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// What becomes of a pinhole that PCP grants at this address, after some seconds; and how often it was deleted.
fn granted_at(address: &str) -> (Option<IpAddr>, u64) {
    let octets = match address.parse().unwrap() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let mut world = World::with_both();
    world.gateway().faults.closed.ssdp = true;
    world.gateway().add_script(move |request| match request.kind {
        Kind::PcpMap => Reply::edited(move |bytes| bytes[44..60].copy_from_slice(&octets)),
        _ => Reply::usual(),
    });
    let id = world.create_pinhole(Tcp, 8000);
    world.run_for(Duration::from_secs(12));
    let deletions = world.counts().pcp_delete;
    assert_eq!(world.events(id).len(), 1, "{:?}", world.events(id));
    let address = world.success(id).map(|(_, address, _)| address);
    assert!(address.is_some() || world.events(id) == [Event::Failure]);
    world.cleanup();
    world.assert_nothing_left();
    (address, deletions)
}

#[test]
fn a_grant_at_another_global_address_is_success() {
    let translated: Ipv6Addr = "2600:9::1".parse().unwrap();
    assert_eq!(granted_at("2600:9::1"), (Some(translated.into()), 0));
}

#[test]
fn a_grant_at_an_address_that_is_not_global_is_deleted() {
    let addresses = [
        "203.0.113.7",
        "fd00::1",
        "fe80::5",
        "::",
        "::1",
        "ff0e::1",
        "2001:db8::7",
        "2001::1",
        "2002:cb00:7107::1",
    ];
    for address in addresses {
        let (made, deletions) = granted_at(address);
        assert_eq!(made, None, "{address}");
        assert!(deletions > 0, "{address}");
    }
}
