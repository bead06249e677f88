//! External addresses that are none, or not what they seem.

use crate::harness::{GATEWAY_HTTP, ip, secs, service, set_up, upnp_harness};
use crate::text::logged;
use crate::world::GATEWAY;
use plum_engine::io::{Allowed, Event, Socket};
use plum_wire::Transport::Tcp;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// No external IPv4 address: FAILURE.
const NONE: [&str; 22] = [
    "",
    " ",
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "::",
    "::1",
    "ff02::1",
    "::ffff:0.0.0.0",
    "::ffff:127.0.0.1",
    "not an address",
    "203.0.113.7 evil",
    "203.0.113.7;reboot",
    "203.0.113",
    "0xcb.0.113.7",
    "203.0.113.07",
    "fe80::1%eth0",
    "[2001:db8::1]",
    "2001:db8::1",
    "fd00::1",
];

/// Another NAT behind the gateway: SUCCESS, and a WARN.
const BEHIND_NAT: [&str; 5] = ["10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.1.1"];

/// Taken as it is.
const GOOD: [&str; 2] = ["203.0.113.9", "  203.0.113.9\r\n"];

#[test]
fn an_address_that_is_none_is_a_failure_by_upnp() {
    let megabyte = "9".repeat(60_000);
    for text in NONE.into_iter().chain([megabyte.as_str()]) {
        let mut harness = upnp_harness();
        harness.serve_answers(GATEWAY_HTTP, service(text.to_owned()));
        let id = harness.create(Tcp, 8000);
        harness.assert_fails(id, secs(21));
        harness.run_for(secs(1000));
        assert_eq!(harness.callbacks(id), [Event::Failure], "{text:.40}");
        harness.assert_ends();
    }
}

#[test]
fn a_private_address_is_a_success_with_a_warning_of_double_nat() {
    for text in BEHIND_NAT {
        let (lines, told) = logged(|| {
            let mut harness = upnp_harness();
            harness.serve_answers(GATEWAY_HTTP, service(text.to_owned()));
            let id = harness.create(Tcp, 8000);
            harness.run_until(|harness| harness.is_success(id));
            harness.success(id).map(|told| told.1)
        });
        assert_eq!(told, Some(ip(text)));
        let nat = if text.starts_with("100.64.") { "carrier-grade NAT" } else { "another NAT" };
        let is_warning =
            |line: &String| line.starts_with("Warn ") && line.contains(nat) && line.contains(text);
        assert!(lines.iter().any(is_warning), "{lines:#?}");
    }
}

#[test]
fn a_good_address_is_told_as_it_is_meant() {
    for text in GOOD {
        let mut harness = upnp_harness();
        harness.serve_answers(GATEWAY_HTTP, service(text.to_owned()));
        let id = harness.create(Tcp, 8000);
        harness.run_until(|harness| harness.is_success(id));
        assert_eq!(harness.success(id).map(|told| told.1), Some(ip(text.trim())));
        harness.assert_ends();
    }
}

#[test]
fn pcp_and_natpmp_are_held_to_the_same() {
    let addresses =
        NONE.iter().chain(&BEHIND_NAT).chain(&GOOD).filter_map(|text| text.trim().parse::<IpAddr>().ok());
    for address in addresses {
        let is_none = NONE.iter().any(|text| text.parse() == Ok(address));
        for natpmp in [false, true] {
            let mut harness = set_up(|setup| setup.engine.allowed = Allowed::Pcp);
            harness.network.cut = true;
            let id = harness.create(Tcp, 8000);
            let server = SocketAddr::new(GATEWAY, 5351);
            if natpmp {
                let octets = match address {
                    IpAddr::V4(v4) => v4.octets(),
                    IpAddr::V6(_) => continue,
                };
                harness.inject(Socket::Pcp, server, &[0, 129, 0, 1]);
                harness.inject(Socket::NatPmp, server, &[&[0, 128, 0, 0, 0, 0, 0, 9], &octets[..]].concat());
                harness.inject(
                    Socket::NatPmp,
                    server,
                    &[0, 130, 0, 0, 0, 0, 0, 9, 0x1f, 0x40, 0x1f, 0x40, 0, 0, 0x1c, 0x20],
                );
            } else {
                let mut reply = harness.sent_from(Socket::Pcp).pop().expect("a request");
                reply[1] |= 0x80;
                reply[8..24].fill(0);
                let octets = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                reply[44..60].copy_from_slice(&Ipv6Addr::octets(&octets));
                harness.inject(Socket::Pcp, server, &reply);
            }
            if is_none {
                // The other protocol, which is silent, is asked then.
                harness.assert_fails(id, secs(4));
            } else {
                let told = harness.success(id).map(|told| told.1);
                assert_eq!(told, Some(address.to_canonical()), "{natpmp}: {:?}", harness.timeline(id));
            }
        }
    }
}

#[test]
fn an_external_port_of_zero_is_a_failure() {
    let mut harness = set_up(|setup| setup.engine.allowed = Allowed::Pcp);
    harness.gateway().faults.assigned_port = plum_gateway::core::AssignedPort::Exactly(0);
    let id = harness.create(Tcp, 8000);
    harness.assert_fails(id, secs(5));
}
