//! IPv6 addresses and routes where a sandbox keeps netlink from a program.

use crate::filter::{Refused, refuse};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, NextHop};
use plum_runtime::net;
use plum_testkit::namespace::{add_cable, index, ip, is_inside};
use std::net::Ipv6Addr;

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

/// Runs something where these are refused.
fn without<T: Send>(refused: &[Refused], act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let sandbox = scope.spawn(|| {
            refuse(refused, libc::EPERM);
            act()
        });
        sandbox.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn addresses() -> Ipv6Addresses {
    net::find_ipv6_addresses(None).expect("some way is left")
}

fn route(lan: u32, source: &str, toward: Option<&str>) -> Option<Ipv6Route> {
    net::find_ipv6_route(v6(source), lan, toward.map(v6)).expect("some way is left")
}

/// An interface `lan` with two addresses, and fe80::2.
fn add_lan() {
    for (name, value) in [("addr_gen_mode", "1"), ("accept_ra", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{name}"), value).expect("sysctl");
    }
    ip("link set lo up");
    add_cable("lan", "10.1.0.2/24");
    for address in ["2600:0:0:7::2", "2600:0:0:8::2", "fe80::2"] {
        ip(&format!("-6 addr add {address}/64 dev lan nodad"));
    }
}

#[test]
fn without_netlink_addresses_and_routers_are_those_of_procfs() {
    if !is_inside("ipv6::without_netlink_addresses_and_routers_are_those_of_procfs") {
        return;
    }
    add_lan();
    ip("-6 addr add 2600:0:0:7::3/64 dev lan nodad preferred_lft 0");
    let lan = index("lan");
    let sandboxed = || without(&[Refused::Netlink], addresses);
    let without_lifetimes = |mut found: Ipv6Addresses| {
        found.list.iter_mut().for_each(|known| known.preferred_secs = 0);
        found
    };
    assert_eq!(sandboxed().interface, None);
    ip("-6 route add default via fe80::1 dev lan metric 100");
    ip("-6 route add default via fe80::3 dev lan metric 200");
    let netlinks = addresses();
    assert_eq!(netlinks.interface, Some(lan));
    assert_eq!(without_lifetimes(sandboxed()), without_lifetimes(netlinks));
    let of_zone =
        |zone| without(&[Refused::Netlink], move || net::find_ipv6_addresses(Some(zone)).unwrap().interface);
    assert_eq!(of_zone("lan"), Some(lan));
    let outside = ["2600:0:0:7::2", "2600:0:0:7::99"].map(|source| route(lan, source, None));
    let inside = without(&[Refused::Netlink], || {
        ["2600:0:0:7::2", "2600:0:0:7::99"].map(|source| route(lan, source, None))
    });
    assert_eq!(inside, outside);
    assert_eq!(inside[0].as_ref().map(|route| route.other_routers.clone()), Some(vec![v6("fe80::3")]));
}

#[test]
fn without_netlink_the_router_depends_on_the_source_and_on_link_is_unknown() {
    if !is_inside("ipv6::without_netlink_the_router_depends_on_the_source_and_on_link_is_unknown") {
        return;
    }
    add_lan();
    ip("-6 route add default from 2600:0:0:7::/64 via fe80::7 dev lan");
    ip("-6 route add default from 2600:0:0:8::/64 via fe80::8 dev lan");
    let lan = index("lan");
    let next_hop = |source: &'static str, toward: Option<&'static str>| {
        without(&[Refused::Netlink], move || route(lan, source, toward).map(|route| route.next_hop))
    };
    assert_eq!(next_hop("2600:0:0:7::2", None), Some(NextHop::Router(v6("fe80::7"))));
    assert_eq!(next_hop("2600:0:0:8::2", None), Some(NextHop::Router(v6("fe80::8"))));
    // The table may not be the one that counts.
    assert_eq!(next_hop("2600:0:0:8::2", Some("2600:0:0:8::99")), Some(NextHop::Unknown));
    ip("-6 route flush root default");
    assert_eq!(next_hop("2600:0:0:7::2", None), None);
    ip("-6 route add default dev lan");
    assert_eq!(next_hop("2600:0:0:7::2", None), Some(NextHop::Unknown));
    ip("-6 route replace unreachable default");
    assert_eq!(next_hop("2600:0:0:7::2", None), None);
}

#[test]
fn without_netlink_and_files_the_address_is_the_one_that_the_kernel_chooses() {
    if !is_inside("ipv6::without_netlink_and_files_the_address_is_the_one_that_the_kernel_chooses") {
        return;
    }
    add_lan();
    let refused = [Refused::Netlink, Refused::Files];
    assert_eq!(without(&refused, addresses), Ipv6Addresses::default());
    ip("-6 route add default via fe80::1 dev lan src 2600:0:0:8::2");
    let found = without(&refused, addresses);
    assert_eq!((found.list.len(), found.list[0].address, found.interface), (1, v6("2600:0:0:8::2"), Some(0)));
    let unknown = without(&refused, || net::find_ipv6_route(v6("2600:0:0:8::2"), 0, None).unwrap().unwrap());
    assert_eq!(
        (unknown.next_hop, unknown.link_local, unknown.other_routers),
        (NextHop::Unknown, None, vec![])
    );
}
