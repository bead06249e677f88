//! Routes from an address of ours.

use crate::{OURS, add_ipv6_cable, addresses, next_hop, route_from, router, v6};
use plum_engine::ipv6::{Ipv6Route, NextHop};
use plum_runtime::net::{self, Uplink};
use plum_testkit::namespace::{add_cable, index, ip, is_inside};
use std::net::Ipv6Addr;

#[test]
fn a_route_has_a_router_or_is_on_link_or_refuses() {
    if !is_inside("routes::a_route_has_a_router_or_is_on_link_or_refuses") {
        return;
    }
    ip("link set lo up");
    add_ipv6_cable("lan");
    assert_eq!(route_from(OURS, "lan"), None);
    ip("-6 route add default via fe80::1 dev lan");
    let expected = Ipv6Route {
        next_hop: NextHop::Router(v6("fe80::1")),
        interface: index("lan"),
        link_local: Some(v6("fe80::2")),
        other_routers: vec![],
    };
    assert_eq!(route_from(OURS, "lan").as_ref(), Some(&expected));
    // What is not ours has no route.
    assert_eq!(route_from("2600:0:0:7::99", "lan"), None);
    assert_eq!(net::find_ipv6_route(v6(OURS), 99, None).unwrap(), None);
    // Hosts of the link, and this one.
    for near in ["2600:0:0:7::99", "fe80::1", OURS] {
        let route = net::find_ipv6_route(v6(OURS), index("lan"), Some(v6(near))).unwrap();
        let on_link = Ipv6Route { next_hop: NextHop::OnLink, ..expected.clone() };
        assert_eq!(route, Some(on_link), "{near}");
    }
    let far = net::find_ipv6_route(v6(OURS), index("lan"), Some(v6("2600:0:0:8::1"))).unwrap();
    assert_eq!(far, Some(expected));
    ip("-6 route replace default dev lan");
    assert_eq!(next_hop(OURS, "lan"), Some(NextHop::OnLink));
    ip("-6 route del default");
    for kind in ["blackhole", "unreachable", "prohibit"] {
        ip(&format!("-6 route add {kind} default"));
        assert_eq!(route_from(OURS, "lan"), None, "{kind}");
        ip(&format!("-6 route del {kind} default"));
    }
}

#[test]
fn the_kernels_preferred_source_is_not_read() {
    if !is_inside("routes::the_kernels_preferred_source_is_not_read") {
        return;
    }
    add_ipv6_cable("lan");
    ip("-6 addr add 2600:0:0:8::2/64 dev lan nodad");
    ip("-6 route add default via fe80::1 dev lan src 2600:0:0:8::2");
    let of_ours = addresses().list.iter().filter(|known| !known.address.is_unicast_link_local()).count();
    assert_eq!(of_ours, 2);
    assert_eq!(next_hop(OURS, "lan"), router("fe80::1"));
}

#[test]
fn a_link_between_two_points_is_not_on_link() {
    if !is_inside("routes::a_link_between_two_points_is_not_on_link") {
        return;
    }
    ip("tuntap add tun0 mode tun");
    ip("link set tun0 up");
    ip(&format!("-6 addr add {OURS}/64 dev tun0 nodad"));
    ip("-6 route add default dev tun0");
    assert_eq!(addresses().interface, Some(index("tun0")));
    assert_eq!(next_hop(OURS, "tun0"), Some(NextHop::PointToPoint));
}

#[test]
fn the_next_hop_depends_on_the_source() {
    if !is_inside("routes::the_next_hop_depends_on_the_source") {
        return;
    }
    add_ipv6_cable("lan");
    ip("-6 addr add 2600:0:0:8::2/64 dev lan nodad");
    ip("-6 route add default from 2600:0:0:7::/64 via fe80::7 dev lan");
    ip("-6 route add default from 2600:0:0:8::/64 via fe80::8 dev lan");
    // No route leads to the internet without a source.
    assert_eq!(addresses().interface, Some(index("lan")));
    assert_eq!(next_hop(OURS, "lan"), router("fe80::7"));
    assert_eq!(route_from("2600:0:0:8::2", "lan").unwrap().other_routers, [] as [Ipv6Addr; 0]);
    assert_eq!(next_hop("2600:0:0:8::2", "lan"), router("fe80::8"));
    // The same by rules.
    ip("-6 route flush root default");
    ip("-6 rule add from 2600:0:0:8::/64 table 100");
    ip("-6 route add default via fe80::1 dev lan");
    ip("-6 route add default via fe80::9 dev lan table 100");
    assert_eq!(next_hop(OURS, "lan"), router("fe80::1"));
    assert_eq!(next_hop("2600:0:0:8::2", "lan"), router("fe80::9"));
}

#[test]
fn an_interface_that_is_named_has_its_own_addresses_and_routes() {
    if !is_inside("routes::an_interface_that_is_named_has_its_own_addresses_and_routes") {
        return;
    }
    const OTHER: &str = "2600:0:0:9::2";
    add_ipv6_cable("lan");
    add_cable("other", "10.2.0.2/24");
    ip(&format!("-6 addr add {OTHER}/64 dev other nodad"));
    ip("-6 route add default via fe80::1 dev lan metric 100");
    let other = Uplink::named("other").expect("a name");
    let addresses = |zone| other.find_ipv6_addresses(zone).expect("the kernel answers");
    assert_eq!(addresses(None).interface, Some(index("other")));
    assert_eq!(addresses(Some("other")).interface, Some(index("other")));
    assert_eq!(addresses(Some("lan")).interface, None, "a gateway of another link");
    let route = |source: &str, name: &str| {
        other.find_ipv6_route(v6(source), index(name), None).expect("the kernel answers")
    };
    assert_eq!(route(OTHER, "other"), None);
    ip("-6 route add default via fe80::9 dev other metric 200");
    let found = route(OTHER, "other").expect("a route");
    assert_eq!((found.next_hop, found.interface), (NextHop::Router(v6("fe80::9")), index("other")));
    assert_eq!(route(OURS, "lan"), None, "the address of another interface");
    assert_eq!(next_hop(OURS, "lan"), router("fe80::1"));
    // One that depends on the source.
    ip(&format!("-6 route add default from {OTHER} via fe80::7 dev other"));
    assert_eq!(route(OTHER, "other").map(|found| found.next_hop), router("fe80::7"));
    ip("link del other");
    assert_eq!(addresses(None).interface, None);
}

#[test]
fn the_other_default_routers_of_the_interface_are_known() {
    if !is_inside("routes::the_other_default_routers_of_the_interface_are_known") {
        return;
    }
    add_ipv6_cable("lan");
    add_cable("other", "10.2.0.2/24");
    ip("-6 route add default via fe80::1 dev lan metric 100");
    ip("-6 route add default via fe80::3 dev lan metric 300");
    ip("-6 route add default via fe80::4 dev lan metric 200");
    ip("-6 route add default via fe80::5 dev other metric 150");
    ip("-6 route add 2600:0:0:9::/64 via fe80::6 dev lan");
    let others = || route_from(OURS, "lan").unwrap().other_routers;
    assert_eq!(others(), [v6("fe80::4"), v6("fe80::3")]);
    // For a named gateway there are no others.
    let named = net::find_ipv6_route(v6(OURS), index("lan"), Some(v6("2600:0:0:9::1"))).unwrap().unwrap();
    assert_eq!((named.next_hop, named.other_routers.len()), (NextHop::Router(v6("fe80::6")), 0));
    for number in 10..20 {
        ip(&format!("-6 route add default via fe80::{number} dev lan metric 1{number}"));
    }
    assert_eq!(others(), ["fe80::10", "fe80::11", "fe80::12", "fe80::13"].map(v6));
}

#[test]
fn the_routers_of_several_next_hops_are_known() {
    if !is_inside("routes::the_routers_of_several_next_hops_are_known") {
        return;
    }
    add_ipv6_cable("lan");
    ip("-6 route add default nexthop via fe80::1 dev lan nexthop via fe80::3 dev lan");
    let route = route_from(OURS, "lan").unwrap();
    let NextHop::Router(chosen) = route.next_hop else { panic!("{route:?}") };
    let mut both = route.other_routers;
    both.push(chosen);
    both.sort();
    assert_eq!(both, [v6("fe80::1"), v6("fe80::3")]);
}
