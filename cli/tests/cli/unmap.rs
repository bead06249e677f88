//! `plum unmap` and what it leaves alone.

use super::ground::{Running, dead_gateway, gateway, order, plum_at, run, table};
use rustix::process::Signal;

/// Mappings that a program has left behind.
fn left_behind(words: &str) -> plum_gateway::server::Server {
    let server = gateway();
    let running = Running::start(plum_at(&server, &format!("map {words}")));
    running.line();
    running.signal(Signal::KILL);
    running.end();
    assert!(!table(&server).is_empty());
    server
}

#[test]
fn removes_by_external_port_what_upnp_has_made() {
    let server = left_behind("8080:18080 --protocol upnp");
    let (code, output, _) = run(plum_at(&server, "unmap 8080:18080 --protocol upnp"));
    assert_eq!(output, "8080/tcp removed by UPnP: the external port 18080 is free\n");
    assert_eq!(code, 0);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn removes_by_internal_port_what_natpmp_has_made() {
    let server = gateway();
    order(&server, "natpmp-only");
    let running = Running::start(plum_at(&server, "map 8080/udp:18080"));
    running.line();
    running.signal(Signal::KILL);
    running.end();
    assert_eq!(table(&server), ["Udp 18080 -> 8080"]);
    let (code, output, _) = run(plum_at(&server, "unmap 8080/udp --protocol pcp"));
    assert_eq!(output, "8080/udp is mapped no more by NAT-PMP\n");
    assert_eq!(code, 0);
    assert_eq!(table(&server), [""; 0]);
}

#[test]
fn what_is_not_mapped_is_no_failure() {
    let server = gateway();
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol upnp"));
    assert_eq!(output, "8080/tcp is not mapped by UPnP: the external port 8080 is free\n");
    assert_eq!(code, 0);
}

#[test]
fn leaves_other_hosts_alone_unless_told_otherwise() {
    let server = gateway();
    order(&server, "occupy tcp 8080 192.0.2.77:80");
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol upnp"));
    assert!(output.contains("8080/tcp not removed: external port 8080 is mapped to 192.0.2.77"), "{output}");
    assert_eq!(code, 1);
    assert_eq!(table(&server), ["Tcp 8080 -> 80"]);
}

#[test]
fn says_that_pcp_mappings_are_their_makers() {
    let server = left_behind("8080");
    order(&server, "pcp-only");
    let (code, output, _) = run(plum_at(&server, "unmap 8080 --protocol pcp"));
    assert!(output.contains("8080/tcp not removed: by PCP only the program that made a mapping"), "{output}");
    assert_eq!(code, 1);
    assert_eq!(table(&server), ["Tcp 8080 -> 8080"]);
}

#[test]
fn says_when_nobody_answers() {
    let server = dead_gateway();
    let (code, output, errors) = run(plum_at(&server, "unmap 8080 --timeout 300ms"));
    assert_eq!((code, output.as_str()), (3, ""));
    assert_eq!(errors, "plum: no gateway answers by NAT-PMP or UPnP (plum probe tells more)\n");
}
