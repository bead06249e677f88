//! `--interface` on machines with two uplinks, each with a router of its own.

use super::harness::{Running, order, plum, run, run_for_lines, table};
use super::routers::gateway_behind;
use plum_gateway::server::{Config, Server};
use plum_testkit::namespace::{ip, is_inside};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The name of a test of this file, as the harness knows it.
macro_rules! here {
    ($test:ident) => {
        concat!("uplinks::", stringify!($test))
    };
}

/// A router behind our interface eth*number*, with this address and the external address 203.0.113.*number*. Our own ends with `ours`. No
/// route leads to the router but that of its network.
fn router(number: u8, address: Ipv4Addr, ours: u8) -> Server {
    let mut config = Config { multicast: true, ..Config::at(address) };
    config.gateway.external_address = Ipv4Addr::new(203, 0, 113, number);
    let server = gateway_behind(&format!("eth{number}"), &[&format!("{address}/24")], config);
    let [a, b, c, _] = address.octets();
    ip(&format!("addr add {a}.{b}.{c}.{ours}/24 dev eth{number}"));
    server
}

/// Routers behind eth0 and eth1, of which the default route prefers the first.
fn two_routers() -> [Server; 2] {
    ip("link set lo up");
    [0, 1].map(|number| {
        let server = router(number, Ipv4Addr::new(10, number, 0, 1), 2);
        ip(&format!("route add default via 10.{number}.0.1 dev eth{number} metric {number}00"));
        server
    })
}

/// How many requests a router has heard.
fn heard(server: &Server) -> u64 {
    server.with_core(|core| core.counts.total())
}

/// What the first line says of a command that is ended then.
fn first_line(words: &str) -> String {
    let (code, output, errors) = run_for_lines(1, plum(words));
    assert_eq!((code, errors.as_str()), (0, ""), "{output}");
    output.lines().next().expect("a line").to_owned()
}

/// Exit code, code in JSON, and the sentences of the failure.
fn failure(words: &str) -> (i32, String, String) {
    let (code, output, errors) = run(plum(&format!("{words} --json")));
    let object: Value =
        serde_json::from_str(&output).unwrap_or_else(|_| panic!("an object: {output}{errors}"));
    (code, object["reason"].as_str().expect("a reason").to_owned(), errors)
}

#[test]
fn a_port_is_mapped_at_the_router_of_the_interface() {
    if !is_inside(here!(a_port_is_mapped_at_the_router_of_the_interface)) {
        return;
    }
    let [first, second] = two_routers();
    for (protocol, name) in
        [("any", "PCP"), ("pcp-only", "PCP"), ("nat-pmp", "NAT-PMP"), ("upnp", "UPnP-IGD")]
    {
        let line = first_line(&format!("map 8080 --interface eth1 --protocol {protocol}"));
        assert_eq!(line, format!("8080/tcp mapped 203.0.113.1:8080 by {name}"));
    }
    assert_eq!(heard(&first), 0, "the other router is left alone");
    assert_eq!(first_line("map 8080 --interface eth0"), "8080/tcp mapped 203.0.113.0:8080 by PCP");
    assert_eq!(first_line("map 8080"), "8080/tcp mapped 203.0.113.0:8080 by PCP");
    assert_eq!((table(&first), table(&second)), (vec![], vec![]));
}

#[test]
fn all_commands_ask_the_router_of_the_interface() {
    if !is_inside(here!(all_commands_ask_the_router_of_the_interface)) {
        return;
    }
    let [first, second] = two_routers();
    let says = |words: &str, expected: &str| {
        let (code, output, errors) = run(plum(&format!("{words} --interface eth1")));
        assert_eq!(code, 0, "{words}: {output}{errors}");
        assert!(output.contains(expected), "{words}: {output}");
    };
    let running = Running::start(plum("map 8080 --interface eth1 --protocol upnp"));
    assert_eq!(running.line(), "8080/tcp mapped 203.0.113.1:8080 by UPnP-IGD");
    says("address", "203.0.113.1\n");
    says("status", "203.0.113.1\n");
    says("list", "8080/tcp");
    says("probe", "the external address is 203.0.113.1.");
    says("probe --try-map", "the external address is 203.0.113.1.");
    says("unmap 8080", "8080/tcp");
    assert_eq!(table(&second), [""; 0]);
    running.signal(Signal::INT);
    running.end();
    assert_eq!(heard(&first), 0, "the other router is left alone");
}

#[test]
fn routers_with_the_same_address_are_told_apart() {
    if !is_inside(here!(routers_with_the_same_address_are_told_apart)) {
        return;
    }
    ip("link set lo up");
    // Two routers as they are sold. Our addresses differ.
    let address = Ipv4Addr::new(192, 168, 1, 1);
    let first = router(0, address, 2);
    let second = router(1, address, 3);
    ip("route flush 192.168.1.0/24");
    for (name, ours, metric) in [("eth0", 2, 100), ("eth1", 3, 200)] {
        ip(&format!("route add 192.168.1.0/24 dev {name} src 192.168.1.{ours} metric {metric}"));
        ip(&format!("route add default via 192.168.1.1 dev {name} src 192.168.1.{ours} metric {metric}"));
    }
    assert_eq!(first_line("map 8080"), "8080/tcp mapped 203.0.113.0:8080 by PCP");
    for (protocol, name) in [("pcp-only", "PCP"), ("nat-pmp", "NAT-PMP"), ("upnp", "UPnP-IGD")] {
        let line = first_line(&format!("map 8080 --interface eth1 --protocol {protocol}"));
        assert_eq!(line, format!("8080/tcp mapped 203.0.113.1:8080 by {name}"));
    }
    assert_eq!((table(&first), table(&second)), (vec![], vec![]));
}

#[test]
fn a_table_that_a_rule_selects_by_the_address_counts() {
    if !is_inside(here!(a_table_that_a_rule_selects_by_the_address_counts)) {
        return;
    }
    let [_first, _second] = two_routers();
    ip("route del default via 10.1.0.1 dev eth1");
    ip("route add default via 10.1.0.1 dev eth1 table 101");
    let (code, reason, errors) = failure("map 8080 --interface eth1");
    assert_eq!((code, reason.as_str()), (3, "no-network"));
    assert!(errors.contains("no IPv4 route to a gateway by eth1: "), "{errors}");
    ip("rule add from 10.1.0.2 table 101");
    let line = first_line("map 8080 --interface eth1");
    assert_eq!(line, "8080/tcp mapped 203.0.113.1:8080 by PCP");
}

#[test]
fn a_gateway_that_is_named_is_asked_by_the_interface() {
    if !is_inside(here!(a_gateway_that_is_named_is_asked_by_the_interface)) {
        return;
    }
    let [first, _second] = two_routers();
    let line = first_line("map 8080 --gateway 10.1.0.1 --interface eth1");
    assert_eq!(line, "8080/tcp mapped 203.0.113.1:8080 by PCP");
    // By that interface, the way to this address leads by the second router, where no such host is.
    let (code, reason, _) = failure("map 8080 --gateway 10.0.0.1 --interface eth1 --discover-timeout 1s");
    assert!(code == 3 && reason == "no-answer" || code == 10 && reason == "no-host", "{reason}");
    assert_eq!(heard(&first), 0, "the router that has the address is left alone");
    ip("route del default via 10.1.0.1 dev eth1");
    let line = first_line("map 8080 --gateway 10.1.0.1 --interface eth1");
    assert_eq!(line, "8080/tcp mapped 203.0.113.1:8080 by PCP", "it is on the link");
    let (code, reason, _) = failure("map 8080 --gateway 10.0.0.1 --interface eth1");
    assert_eq!((code, reason.as_str()), (3, "no-network"));
}

/// Waits for a line that begins so.
fn wait_for(running: &Running, beginning: &str) {
    while !running.line().starts_with(beginning) {}
}

#[test]
fn an_interface_may_be_away_and_come_back() {
    if !is_inside(here!(an_interface_may_be_away_and_come_back)) {
        return;
    }
    ip("link set lo up");
    let _first = router(0, Ipv4Addr::new(10, 0, 0, 1), 2);
    ip("route add default via 10.0.0.1 dev eth0");
    let (code, reason, errors) = failure("map 8080 --interface eth1");
    assert_eq!((code, reason.as_str()), (3, "no-interface"));
    assert!(errors.contains("this machine has no interface eth1: "), "{errors}");
    for command in ["address", "address --ipv6", "status", "list", "probe", "unmap 8080"] {
        let (code, output, errors) = run(plum(&format!("{command} --interface eth1")));
        assert_eq!((code, output.as_str()), (3, ""), "{command}");
        assert!(errors.starts_with("plum: this machine has no interface eth1: "), "{command}: {errors}");
    }

    let running = Running::start(plum("map 8080 --interface eth1 --keep-trying"));
    assert!(running.line().starts_with("8080/tcp failed: this machine has no interface eth1: "));
    for _ in 0..2 {
        let second = router(1, Ipv4Addr::new(10, 1, 0, 1), 2);
        ip("route add default via 10.1.0.1 dev eth1 metric 100");
        wait_for(&running, "8080/tcp mapped 203.0.113.1:8080 by PCP");
        ip("link del eth1");
        // The interface, or its route, which goes a moment sooner.
        wait_for(&running, "8080/tcp failed: this machine has no ");
        second.stop();
    }
    running.signal(Signal::INT);
    running.end();
}

/// The same two routers, for IPv6: 2600:0:0:*number*::1, which are the next hops of the default routes.
fn two_ipv6_routers() -> [Server; 2] {
    ip("link set lo up");
    for name in ["all", "default"] {
        write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").expect("it is the namespace's own");
    }
    [0, 1].map(|number: u8| {
        let address = Ipv6Addr::new(0x2600, 0, 0, number.into(), 0, 0, 0, 1);
        let mut config = Config::at(address);
        config.gateway = config.gateway.with_ipv6(address);
        let server = gateway_behind(&format!("eth{number}"), &[&format!("{address}/64")], config);
        ip(&format!("addr add 2600:0:0:{number}::17/64 dev eth{number} nodad"));
        ip(&format!("route add default via {address} dev eth{number} metric {}", 100 + u32::from(number)));
        server
    })
}

#[test]
fn a_pinhole_is_opened_by_the_router_of_the_interface() {
    if !is_inside(here!(a_pinhole_is_opened_by_the_router_of_the_interface)) {
        return;
    }
    let [first, second] = two_ipv6_routers();
    let expected = "8080/tcp mapped [2600:0:0:1::17]:8080 by PCP";
    assert_eq!(first_line("map 8080 --ipv6 --interface eth1"), expected);
    assert_eq!(first_line("map 8080 --ipv6=2600:0:0:1::17 --interface eth1"), expected);
    assert_eq!(first_line("map 8080 --ipv6 --interface eth1 --gateway 2600:0:0:1::1"), expected);
    order(&second, "close pcp");
    let line = first_line("map 8080 --ipv6 --interface eth1 --gateway 2600:0:0:1::1");
    assert_eq!(line, "8080/tcp mapped [2600:0:0:1::17]:8080 by UPnP-IGD");
    assert_eq!(heard(&first), 0, "the other router is left alone");
    assert_eq!(first_line("map 8080 --ipv6"), "8080/tcp mapped [2600::17]:8080 by PCP");
    let (code, output, _) = run(plum("address --ipv6 --interface eth1"));
    assert_eq!((code, output.as_str()), (0, "2600:0:0:1::17\n"));
    let (code, reason, errors) = failure("map 8080 --ipv6=2600::17 --interface eth1");
    assert_eq!((code, reason.as_str()), (3, "no-ipv6-route"), "an address of the other interface");
    assert!(errors.contains("no IPv6 route to the internet by eth1: "), "{errors}");
    ip("route del default via 2600:0:0:1::1 dev eth1");
    let (code, reason, _) = failure("map 8080 --ipv6 --interface eth1");
    assert_eq!((code, reason.as_str()), (3, "no-ipv6-route"));
}

#[test]
fn a_name_that_no_interface_can_have_is_refused() {
    for command in ["map 8080", "address", "status", "list", "probe", "unmap 8080"] {
        for name in ["", "sixteen-letters!", "eth 0", "a/b", "eth0:1", "."] {
            let mut refused = plum(command);
            refused.args(["--interface", name]);
            let (code, output, errors) = run(refused);
            assert_eq!((code, output.as_str()), (2, ""), "{command} {name:?}");
            assert!(
                errors.contains(&format!("{name:?} is no name of an interface: give 1 to 15 bytes")),
                "{errors}"
            );
        }
    }
}
