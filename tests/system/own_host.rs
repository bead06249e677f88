//! A gateway on this very host: its packets never leave it.

use crate::harness::{LONG, Program, settings};
use plum_engine::io::Protocol;
use plum_gateway::server::{Config, Server};
use plum_testkit::namespace::{add_cable, ip, is_inside};
use std::net::Ipv4Addr;

/// A gateway on our own address 10.1.0.2; the default route leads to this address.
fn beside_a_gateway(default_route: &str) -> Server {
    ip("link set lo up");
    add_cable("lan1", "10.1.0.2/24");
    ip(&format!("route add default via {default_route} dev lan1"));
    let mut config = Config::at(Ipv4Addr::new(10, 1, 0, 2));
    config.gateway.external_address = Ipv4Addr::new(203, 0, 113, 1);
    config.gateway.announcements = 1;
    config.multicast = true;
    Server::start(config).expect("a gateway")
}

#[test]
fn a_gateway_on_this_host_is_asked_and_heard() {
    if !is_inside("own_host::a_gateway_on_this_host_is_asked_and_heard") {
        return;
    }
    let gateway = beside_a_gateway("10.1.0.2");
    let program = Program::start(settings());
    let id = program.create(4000);
    assert_eq!(program.expect_success(id, 1).protocol, Protocol::Pcp);
    // Its announcement comes back to this host.
    gateway.with_core(|core| core.restart(false));
    assert_eq!(program.expect_success(id, 1).protocol, Protocol::Pcp);
    assert_eq!(gateway.with_core(|core| core.table().len()), 1);
    program.cleanup();
    assert_eq!(gateway.with_core(|core| core.table().len()), 0);
}

#[test]
fn a_upnp_device_on_this_host_is_found_where_the_gateway_is_silent() {
    if !is_inside("own_host::a_upnp_device_on_this_host_is_found_where_the_gateway_is_silent") {
        return;
    }
    // Nobody has that address.
    let gateway = beside_a_gateway("10.1.0.1");
    let program = Program::start(settings());
    let id = program.create(4000);
    assert_eq!(program.expect_success(id, 1).protocol, Protocol::UpnpIgd);
    assert!(gateway.wait_until(LONG, |core| core.table().len() == 1));
    assert_eq!(gateway.with_core(|core| core.counts.pcp() + core.counts.natpmp()), 0);
    program.cleanup();
    assert_eq!(gateway.with_core(|core| core.table().len()), 0);
}
