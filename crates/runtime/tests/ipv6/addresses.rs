//! The addresses of this machine, and the interface toward the internet.

use crate::hosts::host_behind;
use crate::{OURS, add_ipv6_cable, addresses, known, set, v6, wait_until};
use plum_engine::ipv6::{Ipv6Addresses, LocalAddress};
use plum_runtime::net;
use plum_testkit::namespace::{add_cable, index, ip, is_inside};
use std::process::Command;

#[test]
fn addresses_have_their_flags_and_lifetimes() {
    if !is_inside("addresses::addresses_have_their_flags_and_lifetimes") {
        return;
    }
    ip("link set lo up");
    add_ipv6_cable("lan");
    // So many probes take minutes.
    set("lan", "dad_transmits", "200");
    ip("-6 addr add 2600:0:0:7::3/64 dev lan nodad preferred_lft 0");
    ip("-6 addr add 2600:0:0:7::4/64 dev lan");
    ip("-6 addr add 2600:0:0:7::5/64 dev lan optimistic");
    ip("-6 addr add 2600:0:0:7::6/64 dev lan nodad valid_lft 7200 preferred_lft 3600");
    ip("-6 addr add 2600:0:0:7::7 peer 2600:0:0:7::8 dev lan nodad");
    let found = addresses();
    let plain = LocalAddress {
        address: v6(OURS),
        interface: index("lan"),
        is_temporary: false,
        is_deprecated: false,
        is_tentative: false,
        preferred_secs: u32::MAX,
    };
    let of = |text: &str| LocalAddress { address: v6(text), ..plain };
    assert_eq!(found.list.len(), 7, "loopback and IPv4 are left out: {:?}", found.list);
    assert!(found.list.is_sorted_by_key(|known| (known.interface, known.address)));
    assert_eq!(known(OURS), Some(plain));
    assert_eq!(known("fe80::2"), Some(of("fe80::2")));
    let deprecated = LocalAddress { is_deprecated: true, preferred_secs: 0, ..of("2600:0:0:7::3") };
    assert_eq!(known("2600:0:0:7::3"), Some(deprecated));
    let tentative = LocalAddress { is_tentative: true, ..of("2600:0:0:7::4") };
    assert_eq!(known("2600:0:0:7::4"), Some(tentative));
    let short = known("2600:0:0:7::6").expect("it is there");
    assert!((3000..=3600).contains(&short.preferred_secs), "{short:?}");
    assert_eq!(known("2600:0:0:7::7"), Some(of("2600:0:0:7::7")), "not its peer");
}

#[test]
fn an_optimistic_address_is_ready() {
    if !is_inside("addresses::an_optimistic_address_is_ready") {
        return;
    }
    add_ipv6_cable("lan");
    set("lan", "dad_transmits", "200");
    set("lan", "optimistic_dad", "1");
    set("lan", "use_optimistic", "1");
    ip("-6 addr add 2600:0:0:7::5/64 dev lan optimistic");
    assert!(known("2600:0:0:7::5").is_some_and(|known| !known.is_tentative));
    ip("-6 addr add 2600:0:0:7::4/64 dev lan");
    assert!(known("2600:0:0:7::4").is_some_and(|known| known.is_tentative));
}

#[test]
fn an_address_that_another_host_has_is_left_out() {
    if !is_inside("addresses::an_address_that_another_host_has_is_left_out") {
        return;
    }
    let _far = host_behind("lan", OURS, "2600:0:0:7::9");
    // The first probe may be lost while the link comes up.
    set("lan", "dad_transmits", "200");
    ip("-6 addr add 2600:0:0:7::9/64 dev lan");
    let shown = |flag: &str| {
        let words = ["-6", "addr", "show", "dev", "lan", flag];
        let output = Command::new("ip").args(words).output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).contains("2600:0:0:7::9")
    };
    wait_until("the kernel finds the duplicate", || shown("dadfailed"));
    assert_eq!(known("2600:0:0:7::9"), None);
}

#[test]
fn a_temporary_address_is_known_as_one() {
    if !is_inside("addresses::a_temporary_address_is_known_as_one") {
        return;
    }
    add_ipv6_cable("lan");
    set("lan", "use_tempaddr", "2");
    set("lan", "dad_transmits", "0");
    set("lan", "accept_dad", "0");
    ip("-6 addr add 2600:0:0:8::1/64 dev lan mngtmpaddr nodad valid_lft 7200 preferred_lft 3600");
    let of_prefix = || -> Vec<bool> {
        let of_prefix = |known: &&LocalAddress| known.address.segments()[3] == 8;
        addresses().list.iter().filter(of_prefix).map(|known| known.is_temporary).collect()
    };
    wait_until("the kernel makes a temporary address", || of_prefix().len() == 2);
    assert_eq!(of_prefix().iter().filter(|&&is_temporary| is_temporary).count(), 1);
    assert!(known("2600:0:0:8::1").is_some_and(|known| !known.is_temporary));
}

#[test]
fn the_interface_is_that_of_the_route_or_of_the_zone() {
    if !is_inside("addresses::the_interface_is_that_of_the_route_or_of_the_zone") {
        return;
    }
    add_ipv6_cable("lan");
    add_cable("other", "10.2.0.2/24");
    assert_eq!(addresses().interface, None);
    ip("-6 route add default via fe80::1 dev lan");
    assert_eq!(addresses().interface, Some(index("lan")));
    let of_zone = |zone: &str| net::find_ipv6_addresses(Some(zone)).expect("the kernel answers").interface;
    assert_eq!(of_zone("other"), Some(index("other")));
    assert_eq!(of_zone(&index("other").to_string()), Some(index("other")));
    for nothing in ["none", "", "0", "-1", "lan\0", "4294967296"] {
        assert_eq!(of_zone(nothing), None, "{nothing:?}");
    }
    // A route without a next hop leads there, too; one that refuses does not hide it.
    ip("-6 route replace default dev lan");
    assert_eq!(addresses().interface, Some(index("lan")));
    for kind in ["blackhole", "unreachable", "prohibit"] {
        ip(&format!("-6 route add {kind} 2001:db8::/32"));
        assert_eq!(addresses().interface, Some(index("lan")), "{kind}");
        ip(&format!("-6 route del {kind} 2001:db8::/32"));
    }
}

#[test]
fn where_ipv6_is_turned_off_there_are_no_addresses() {
    if !is_inside("addresses::where_ipv6_is_turned_off_there_are_no_addresses") {
        return;
    }
    set("all", "disable_ipv6", "1");
    set("default", "disable_ipv6", "1");
    add_cable("lan", "10.1.0.2/24");
    assert_eq!(addresses(), Ipv6Addresses::default());
    assert_eq!(net::find_ipv6_route(v6(OURS), index("lan"), None).unwrap(), None);
    assert_eq!(net::local_address(), None);
}

#[test]
fn the_local_address_is_of_ipv6_where_there_is_no_route_of_ipv4() {
    if !is_inside("addresses::the_local_address_is_of_ipv6_where_there_is_no_route_of_ipv4") {
        return;
    }
    add_ipv6_cable("lan");
    assert_eq!(net::local_address(), None);
    ip("-6 route add default via fe80::1 dev lan");
    assert_eq!(net::local_address(), Some(v6(OURS).into()));
    ip("route add default via 10.1.0.1");
    assert_eq!(net::local_address(), Some([10, 1, 0, 2].into()));
}
