//! IPv6 addresses, routes and sockets, in namespaces made here.
#![cfg(target_os = "linux")]

mod addresses;
#[path = "../../../../tests/system/far_side.rs"]
mod far_side;
mod hosts;
mod routes;
mod sockets;

use mio::event::Source;
use mio::{Events, Interest, Poll, Token};
use plum_engine::ipv6::{Ipv6Addresses, Ipv6Route, LocalAddress, NextHop};
use plum_runtime::net::{self, Watch, clock};
use plum_testkit::namespace::{add_cable, index, ip};
use std::net::Ipv6Addr;
use std::time::Duration;

/// What is waited for comes within milliseconds; this is for machines that are very busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Our address, in a prefix that is not of documentation.
const OURS: &str = "2600:0:0:7::2";

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

fn set(interface: &str, name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/{name}"), value).expect("sysctl");
}

/// A cable from the interface `name`, with [`OURS`] and fe80::2, to its far end, `name` with an `x`, that is without IPv6.
fn add_ipv6_cable(name: &str) {
    set("default", "addr_gen_mode", "1");
    set("default", "accept_ra", "0");
    add_cable(name, "10.1.0.2/24");
    set(&format!("{name}x"), "disable_ipv6", "1");
    ip(&format!("-6 addr add {OURS}/64 dev {name} nodad"));
    ip(&format!("-6 addr add fe80::2/64 dev {name} nodad"));
}

fn addresses() -> Ipv6Addresses {
    net::find_ipv6_addresses(None).expect("the kernel answers")
}

/// The entry of an address.
fn known(address: &str) -> Option<LocalAddress> {
    addresses().list.into_iter().find(|known| known.address == v6(address))
}

/// The route from an address on an interface toward the internet.
fn route_from(source: &str, interface: &str) -> Option<Ipv6Route> {
    net::find_ipv6_route(v6(source), index(interface), None).expect("the kernel answers")
}

fn next_hop(source: &str, interface: &str) -> Option<NextHop> {
    route_from(source, interface).map(|route| route.next_hop)
}

fn router(address: &str) -> Option<NextHop> {
    Some(NextHop::Router(v6(address)))
}

/// Waits for a state that the kernel tells of.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let mut watch = Watch::open().expect("a netlink socket");
    wait_for(&mut watch, Interest::READABLE, what, |watch| {
        watch.drain();
        is_so()
    });
}

/// Waits until a source is in a state, which is looked at now and after each of its events.
fn wait_for<S: Source>(
    source: &mut S,
    interest: Interest,
    what: &str,
    mut is_so: impl FnMut(&mut S) -> bool,
) {
    let (mut poll, mut events) = (Poll::new().expect("a poll"), Events::with_capacity(8));
    poll.registry().register(source, Token(7), interest).expect("registers");
    let deadline = clock::now() + PATIENCE;
    while !is_so(source) {
        let left = deadline.since(clock::now());
        assert!(!left.is_zero(), "it never came to pass that {what}");
        poll.poll(&mut events, Some(left)).expect("polls");
    }
    poll.registry().deregister(source).expect("was registered");
}
