//! `plum map` in odd networks, each in a namespace of its own.

use super::harness::{plum, run, run_for_lines};
use super::terminal::{end, start};
use plum_testkit::namespace::{add_cable, ip, is_inside};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// The name of a test of this file, as the harness knows it.
macro_rules! here {
    ($test:ident) => {
        concat!("networks::", stringify!($test))
    };
}

/// A machine on a cable, and its route to a gateway that nobody is.
fn network(address: &str, gateway: &str) {
    ip("link set lo up");
    add_cable("lan1", address);
    ip(&format!("route add default via {gateway} dev lan1"));
}

/// Exit code, code in JSON, and both sentences of the failure.
fn failure(command: Command) -> (i32, String, String) {
    let (code, output, errors) = run(command);
    let object: Value =
        serde_json::from_str(&output).unwrap_or_else(|_| panic!("an object: {output}{errors}"));
    (code, object["reason"].as_str().expect("a reason").to_owned(), errors)
}

#[test]
fn a_gateway_that_no_host_is_has_its_own_sentence() {
    if !is_inside(here!(a_gateway_that_no_host_is_has_its_own_sentence)) {
        return;
    }
    network("10.1.0.2/24", "10.1.0.1");
    let (code, reason, errors) = failure(plum("map 8080 --json"));
    assert_eq!((code, reason.as_str()), (10, "no-host"), "{errors}");
    assert!(errors.starts_with("plum: no host answers at the address of the gateway 10.1.0.1: "), "{errors}");
}

#[test]
fn a_firewall_of_this_machine_has_its_own_sentence() {
    let nft = |words: &str| {
        Command::new("nft").args(words.split(' ')).status().is_ok_and(|status| status.success())
    };
    if !nft("--version") {
        assert!(std::env::var_os("CI").is_none(), "this test needs nft");
        return;
    }
    if !is_inside(here!(a_firewall_of_this_machine_has_its_own_sentence)) {
        return;
    }
    network("10.1.0.2/24", "10.1.0.1");
    assert!(nft("add table ip wall"));
    assert!(nft("add chain ip wall out { type filter hook output priority 0; policy drop; }"));
    let (code, reason, errors) = failure(plum("map 8080 --json"));
    assert_eq!((code, reason.as_str()), (9, "firewall"), "{errors}");
    assert!(errors.contains("let UDP to ports 5351 and 1900 of the gateway pass"), "{errors}");
}

#[test]
fn a_public_address_needs_no_gateway_and_that_is_said() {
    if !is_inside(here!(a_public_address_needs_no_gateway_and_that_is_said)) {
        return;
    }
    network("11.1.0.2/24", "11.1.0.1");
    let (code, output, _) = run_for_lines(2, plum("map 8080"));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((code, lines[0]), (0, "8080/tcp mapped 11.1.0.2:8080 without a gateway"));
    assert!(
        lines[1].starts_with("8080/tcp note: this machine has the address 11.1.0.2 itself, so no "),
        "{output}"
    );
    let (code, reason, errors) = failure(plum("map 8080:443 --exact --json"));
    assert_eq!((code, reason.as_str()), (12, "same-port-only"), "{errors}");
    assert!(errors.contains("has the external address itself"), "{errors}");
    let mut session = start(plum("map 8080"));
    session.exp_string("8080/tcp    mapped   11.1.0.2:8080         itself   never").expect("the row");
    session.exp_string("its own firewall has to let it in").expect("the sentence");
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 0);
}

#[test]
fn with_ipv6_alone_there_is_a_route_and_a_way() {
    if !is_inside(here!(with_ipv6_alone_there_is_a_route_and_a_way)) {
        return;
    }
    ip("link set lo up");
    let says = |command| {
        let (code, reason, errors) = failure(command);
        assert_eq!((code, reason.as_str()), (3, "no-network"), "{errors}");
        errors
    };
    let errors = says(plum("map 8080 --json"));
    assert!(errors.contains("no IPv4 route") && !errors.contains("--ipv6"), "{errors}");
    let _server = super::ipv6::network();
    let errors = says(plum("map 8080 --json"));
    assert!(errors.contains("no IPv4 route") && errors.contains("IPv6, which it has, by --ipv6"), "{errors}");
}

#[test]
fn a_reason_that_has_passed_gives_way_to_the_present_one() {
    if !is_inside(here!(a_reason_that_has_passed_gives_way_to_the_present_one)) {
        return;
    }
    ip("link set lo up");
    let mut session = start(plum("map 8080 --keep-trying"));
    session.exp_string("failed   this machine has no IPv4 route to a gateway").expect("the first reason");
    network("10.1.0.2/24", "10.1.0.1");
    session
        .exp_string("failed   no host answers at the address of the gateway 10.1.0.1")
        .expect("the next one");
    session.send_control('c').expect("the terminal takes it");
    assert_eq!(end(session).0, 10);
}

#[test]
fn containers_are_spoken_of_in_containers_alone() {
    if !is_inside(here!(containers_are_spoken_of_in_containers_alone)) {
        return;
    }
    network("10.1.0.2/24", "10.1.0.1");
    // So that there is a host, which is silent.
    ip("neigh add 10.1.0.1 lladdr 02:00:00:00:00:01 dev lan1");
    let in_container = |words: &str| {
        let mut command = Command::new("unshare");
        // Else it shows the interfaces of the namespace that it was mounted in.
        let sysfs = "mount -t sysfs none /sys";
        let script = "SYSFS && mount -t tmpfs none /run && mkdir /run/systemd && : >/run/systemd/container && exec \"$0\" \"$@\"";
        let script = script.replace("SYSFS", sysfs);
        command.args(["--mount", "sh", "-c", &script]).arg(plum("").get_program()).args(words.split(' '));
        command
    };
    let (code, reason, errors) = failure(in_container("map 8080 --json"));
    assert_eq!((code, reason.as_str()), (3, "no-answer"), "{errors}");
    assert!(errors.contains("this is a container") && !errors.contains("switch on UPnP"), "{errors}");
    let (_, _, errors) = failure(in_container("map 8080 --json --gateway 10.1.0.1"));
    assert!(errors.contains("switch on UPnP") && !errors.contains("container"), "{errors}");
    // Where the tests themselves run in a container, all of it is one.
    if !Path::new("/.dockerenv").exists() && !Path::new("/run/.containerenv").exists() {
        let (_, _, errors) = failure(plum("map 8080 --json"));
        assert!(errors.contains("switch on UPnP") && !errors.contains("container"), "{errors}");
    }
}
