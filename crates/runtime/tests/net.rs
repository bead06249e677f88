//! The operating system's side, on Linux: routes and notices in namespaces made here, sockets on loopback.
#![cfg(target_os = "linux")]

use mio::{Events, Interest, Poll, Token};
use namespace::{add_cable, index, ip, ip_batch, is_inside};
use plum_runtime::net::udp::{Received, Udp};
use plum_runtime::net::{self, Notices, Route, Uplink, Watch, clock};
use plum_testkit::namespace;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// What is waited for comes within milliseconds; this is for machines that are very busy.
const PATIENCE: Duration = Duration::from_secs(10);

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The route to the internet, as (gateway, local) in text; `None` for no gateway.
fn internet() -> Option<(Option<String>, String)> {
    let route = net::look_up_route(None)?;
    Some((route.gateway.map(|gateway| gateway.to_string()), route.local.to_string()))
}

fn by(gateway: &str, local: &str) -> Option<(Option<String>, String)> {
    Some((Some(gateway.to_owned()), local.to_owned()))
}

#[test]
fn finds_next_hop_source_and_interface() {
    if !is_inside("finds_next_hop_source_and_interface") {
        return;
    }
    add_cable("lan", "192.168.7.20/24");
    ip("route add default via 192.168.7.1");
    let expected = Route {
        gateway: Some(address("192.168.7.1")),
        local: address("192.168.7.20"),
        interface: index("lan"),
    };
    assert_eq!(net::look_up_route(None), Some(expected));
    assert_eq!(net::local_address(), Some(expected.local));
    // A neighbour is on-link, what is behind the gateway is not, and we are our own neighbour.
    let neighbour = net::look_up_route(Some(address("192.168.7.77"))).unwrap();
    assert_eq!(neighbour, Route { gateway: None, ..expected });
    assert_eq!(net::look_up_route(Some(address("203.0.113.9"))), Some(expected));
    let own = net::look_up_route(Some(expected.local)).unwrap();
    assert_eq!((own.gateway, own.local), (None, expected.local));
}

#[test]
fn an_interface_that_is_named_has_its_own_route() {
    if !is_inside("an_interface_that_is_named_has_its_own_route") {
        return;
    }
    add_cable("one", "192.168.7.20/24");
    add_cable("two", "192.168.8.20/24");
    ip("route add default via 192.168.7.1 metric 100");
    let two = Uplink::named("two").expect("a name");
    let route = |toward: Option<&str>| two.find_route(toward.map(address)).expect("the kernel answers");
    assert_eq!(route(None), None, "none but that of its network is by it");
    assert_eq!(route(Some("203.0.113.9")), None);
    let on_link = Route { gateway: None, local: address("192.168.8.20"), interface: index("two") };
    assert_eq!(route(Some("192.168.8.77")), Some(on_link));
    assert_eq!(route(Some("192.168.7.1")), None);
    ip("route add default via 192.168.8.1 metric 200");
    let routed = Route { gateway: Some(address("192.168.8.1")), ..on_link };
    assert_eq!(route(None), Some(routed));
    assert_eq!(route(Some("192.168.7.1")), Some(routed));
    assert_eq!(internet(), by("192.168.7.1", "192.168.7.20"));
    // A table that a rule selects, as it is for machines with two uplinks.
    ip("route del default via 192.168.8.1");
    ip("route add default via 192.168.8.9 dev two table 100");
    ip("rule add from 192.168.8.20 table 100");
    assert_eq!(route(None), Some(Route { gateway: Some(address("192.168.8.9")), ..on_link }));
    // A link without a next hop.
    ip("route replace default dev two table 100");
    assert_eq!(route(None), Some(on_link));
    ip("addr del 192.168.8.20/24 dev two");
    assert_eq!(route(None), None);
    assert!(!two.is_missing());
    ip("link del two");
    assert!(route(None).is_none() && two.is_missing());
}

#[test]
fn finds_no_route_where_there_is_none() {
    if !is_inside("finds_no_route_where_there_is_none") {
        return;
    }
    assert_eq!(internet(), None);
    assert_eq!(net::local_address(), None);
    add_cable("lan", "192.168.7.20/24");
    assert_eq!(internet(), None);
    for kind in ["blackhole", "unreachable", "prohibit"] {
        ip(&format!("route add {kind} default"));
        assert_eq!(internet(), None, "{kind}");
        ip(&format!("route del {kind} default"));
    }
}

#[test]
fn a_network_that_uses_the_documentation_block_is_no_way_to_the_internet() {
    if !is_inside("a_network_that_uses_the_documentation_block_is_no_way_to_the_internet") {
        return;
    }
    add_cable("lan", "192.0.2.2/24");
    assert_eq!(internet(), None);
    ip("route add default via 192.0.2.1");
    assert_eq!(internet(), by("192.0.2.1", "192.0.2.2"));
}

#[test]
fn a_blackholed_documentation_block_hides_no_route() {
    if !is_inside("a_blackholed_documentation_block_hides_no_route") {
        return;
    }
    add_cable("lan", "192.168.7.20/24");
    ip("route add default via 192.168.7.1");
    // As firewalls do with addresses that have no business on the internet.
    ip("route add blackhole 192.0.2.0/24");
    assert_eq!(internet(), by("192.168.7.1", "192.168.7.20"));
}

#[test]
fn honours_metrics_policy_and_source() {
    if !is_inside("honours_metrics_policy_and_source") {
        return;
    }
    add_cable("slow", "10.1.0.2/24");
    add_cable("fast", "10.2.0.2/24");
    ip("route add default via 10.1.0.1 metric 600");
    ip("route add default via 10.2.0.1 metric 100");
    assert_eq!(internet(), by("10.2.0.1", "10.2.0.2"));
    // As VPNs do it: a rule and a table of its own.
    ip("route add default via 10.1.0.1 table 100");
    ip("rule add table 100");
    assert_eq!(internet(), by("10.1.0.1", "10.1.0.2"));
    ip("addr add 10.1.0.99/24 dev slow");
    ip("route replace default via 10.1.0.1 src 10.1.0.99 table 100");
    assert_eq!(internet(), by("10.1.0.1", "10.1.0.99"));
}

#[test]
fn a_route_without_next_hop_has_no_gateway() {
    if !is_inside("a_route_without_next_hop_has_no_gateway") {
        return;
    }
    add_cable("ppp", "10.1.0.2/24");
    ip("route add default dev ppp");
    assert_eq!(internet(), Some((None, "10.1.0.2".to_owned())));
    // An IPv6 next hop is none that an IPv4 socket could ask.
    ip("-6 addr add fd00::2/64 dev ppp nodad");
    ip("route replace default via inet6 fd00::1 dev ppp");
    assert_eq!(internet(), Some((None, "10.1.0.2".to_owned())));
}

#[test]
fn a_gateway_on_this_very_host_is_the_next_hop() {
    if !is_inside("a_gateway_on_this_very_host_is_the_next_hop") {
        return;
    }
    add_cable("lan", "192.168.7.20/24");
    ip("addr add 192.168.7.21/24 dev lan");
    for own in ["192.168.7.20", "192.168.7.21"] {
        ip(&format!("route replace default via {own} dev lan"));
        assert_eq!(internet(), by(own, "192.168.7.20"));
    }
    // Of several routes that match it is the next hop of the one in use.
    ip("route replace default via 192.168.7.1 dev lan metric 0");
    ip("route add default via 192.168.7.20 dev lan metric 100");
    assert_eq!(internet(), by("192.168.7.1", "192.168.7.20"));
    ip("route del default metric 0");
    assert_eq!(internet(), by("192.168.7.20", "192.168.7.20"));
    ip("route add blackhole 192.0.2.0/24");
    assert_eq!(internet(), by("192.168.7.20", "192.168.7.20"));
    // What is on-link has none, whatever the default route says.
    for near in ["192.168.7.20", "192.168.7.77"] {
        assert_eq!(net::look_up_route(Some(address(near))).unwrap().gateway, None, "{near}");
    }
}

#[test]
fn a_neighbour_has_the_hardware_address_of_the_kernels_table() {
    if !is_inside("a_neighbour_has_the_hardware_address_of_the_kernels_table") {
        return;
    }
    add_cable("lan", "10.1.0.2/24");
    ip("neigh add 10.1.0.1 lladdr 02:00:00:00:00:09 dev lan nud stale");
    let find = |name, host| net::find_hardware_address(index(name), address(host));
    assert_eq!(find("lan", "10.1.0.1"), Some([2, 0, 0, 0, 0, 9]));
    assert_eq!(find("lanx", "10.1.0.1"), None, "another interface");
    assert_eq!(find("lan", "10.1.0.7"), None, "nothing is known of it");
    ip("neigh change 10.1.0.1 dev lan nud failed");
    assert_eq!(find("lan", "10.1.0.1"), None, "it does not answer");
}

#[test]
fn looks_up_ipv6_and_loopback() {
    if !is_inside("looks_up_ipv6_and_loopback") {
        return;
    }
    ip("link set lo up");
    add_cable("lan", "10.1.0.2/24");
    ip("-6 addr add fd00::2/64 dev lan nodad");
    ip("-6 route add default via fd00::1");
    let expected =
        Route { gateway: Some(address("fd00::1")), local: address("fd00::2"), interface: index("lan") };
    assert_eq!(net::look_up_route(Some(address("2001:db8::1"))), Some(expected));
    let loopback = Route { gateway: None, local: address("127.0.0.1"), interface: index("lo") };
    assert_eq!(net::look_up_route(Some(address("127.1.2.3"))), Some(loopback));
    let loopback = Route { gateway: None, local: address("::1"), interface: index("lo") };
    assert_eq!(net::look_up_route(Some(address("::1"))), Some(loopback));
}

/// A watch and what polls it.
struct Watching {
    watch: Watch,
    poll: Poll,
    events: Events,
}

impl Watching {
    fn start() -> Watching {
        let mut watch = Watch::open().expect("a netlink socket");
        let poll = Poll::new().expect("a poll");
        poll.registry().register(&mut watch, Token(7), Interest::READABLE).expect("registers");
        Watching { watch, poll, events: Events::with_capacity(8) }
    }

    /// Waits until a change is told that is not of IPv6 alone.
    fn expect_change(&mut self, after: &str) {
        self.expect(after, |notices| notices.changed);
    }

    /// Waits until notices are as expected.
    fn expect(&mut self, after: &str, is_expected: impl Fn(Notices) -> bool) {
        let deadline = clock::now() + PATIENCE;
        loop {
            let left = deadline.since(clock::now());
            assert!(!left.is_zero(), "no notice of a change after: {after}");
            self.poll.poll(&mut self.events, Some(left)).expect("polls");
            let token = self.events.iter().next().map(mio::event::Event::token);
            if token == Some(Token(7)) && is_expected(self.watch.drain()) {
                return;
            }
        }
    }

    /// Reads until the namespace has come to rest (IPv6 addresses of a new link take their time).
    fn settle(&mut self) {
        loop {
            self.poll.poll(&mut self.events, Some(Duration::from_millis(100))).expect("polls");
            if self.events.is_empty() {
                return;
            }
            while self.watch.drain().more {}
        }
    }
}

#[test]
fn tells_of_changed_links_addresses_and_routes() {
    if !is_inside("tells_of_changed_links_addresses_and_routes") {
        return;
    }
    // Without IPv6 no interface says anything of its own accord.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    add_cable("lan", "10.1.0.2/24");
    let mut watching = Watching::start();
    for change in [
        "addr add 10.1.0.3/24 dev lan",
        "addr del 10.1.0.3/24 dev lan",
        "route add default via 10.1.0.1",
        "route del default",
        // The far end of the cable: this side only loses its carrier.
        "link set lanx down",
        "link set lanx up",
        "link set lan down",
        "link add other type veth",
    ] {
        watching.settle();
        ip(change);
        watching.expect_change(change);
    }
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/lan/disable_ipv6", "0");
    ip("link set lan up");
    for change in [
        "-6 addr add fd00::2/64 dev lan nodad",
        "-6 route add 2001:db8::/32 dev lan",
        "-6 rule add from fd00::/8 table 100",
        "-6 route del 2001:db8::/32 dev lan",
        "-6 addr del fd00::2/64 dev lan",
    ] {
        watching.settle();
        ip(change);
        let of_ipv6 = Notices { ipv6_changed: true, ..Notices::default() };
        watching.expect(change, |notices| notices == of_ipv6);
    }
}

#[test]
fn a_burst_of_changes_is_told_once() {
    if !is_inside("a_burst_of_changes_is_told_once") {
        return;
    }
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    add_cable("lan", "10.1.0.2/24");
    let mut watching = Watching::start();
    let mut lines = String::new();
    for last in 10..30 {
        writeln!(lines, "addr add 10.1.0.{last}/24 dev lan").unwrap();
    }
    ip_batch(&lines);
    watching.expect_change("a burst");
    let notices = watching.watch.drain();
    assert!(!notices.changed && !notices.more);
}

#[test]
fn notices_that_were_lost_count_as_a_change() {
    if !is_inside("notices_that_were_lost_count_as_a_change") {
        return;
    }
    add_cable("lan", "10.1.0.2/24");
    let mut watching = Watching::start();
    // More than the socket's buffer holds (ENOBUFS), even where the machine allows much.
    let mut lines = String::new();
    for number in 0..20_000 {
        writeln!(lines, "route add 10.{}.{}.0/24 dev lan", 100 + number / 256, number % 256).unwrap();
    }
    ip_batch(&lines);
    watching.expect_change("a flood");
    watching.settle();
    // And the socket goes on telling.
    ip("addr add 10.1.0.3/24 dev lan");
    watching.expect_change("an address after the flood");
}

#[test]
fn a_listener_hears_its_group_on_its_interface_only() {
    if !is_inside("a_listener_hears_its_group_on_its_interface_only") {
        return;
    }
    add_cable("one", "10.1.0.2/24");
    add_cable("two", "10.2.0.2/24");
    let group: SocketAddr = "239.255.255.250:1900".parse().unwrap();
    let (one, two) = (address("10.1.0.2"), address("10.2.0.2"));
    let on_one = Udp::listening(group, one, index("one")).expect("a listener");
    let on_two = Udp::listening(group, two, index("two")).expect("another one of the same port");
    let also_on_one = Udp::listening(group, one, index("one")).expect("a third one");
    // The sender's own address may stand on another interface than the one it is to send from.
    let sender = Udp::unconnected(two, index("one"), 2, &Uplink::default()).expect("a sender");
    sender.send(group, b"hello").result.expect("sends");
    let from = sender.local_addr().unwrap();
    assert_eq!(from.ip(), two);
    let mut buffer = [0; 100];
    // On this machine the copies are there before the send returns.
    for listener in [&on_one, &also_on_one] {
        let interface = index("one");
        assert_eq!(listener.receive(&mut buffer), Received::Datagram { len: 5, from, interface });
        assert_eq!(listener.receive(&mut buffer), Received::Empty);
    }
    assert_eq!(on_two.receive(&mut buffer), Received::Empty);
    // Nor does it take what was sent to us alone.
    sender.send(SocketAddr::new(one, 1900), b"hello").result.expect("sends");
    assert_eq!(on_one.receive(&mut buffer), Received::Empty);
}

#[test]
fn a_listener_on_a_port_that_is_not_shared_is_an_error() {
    if !is_inside("a_listener_on_a_port_that_is_not_shared_is_an_error") {
        return;
    }
    ip("link set lo up");
    let taken = std::net::UdpSocket::bind("0.0.0.0:5350").expect("a socket");
    let group = SocketAddr::from(([224, 0, 0, 1], 5350));
    let listen = || Udp::listening(group, Ipv4Addr::LOCALHOST.into(), index("lo"));
    assert_eq!(listen().map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(taken);
    listen().expect("a listener");
}

#[test]
fn link_local_ipv6_addresses_get_their_link() {
    if !is_inside("link_local_ipv6_addresses_get_their_link") {
        return;
    }
    add_cable("lan", "10.1.0.2/24");
    ip("-6 addr add fe80::2/64 dev lan nodad");
    let local = address("fe80::2");
    let udp = Udp::connected(local, index("lan"), "[fe80::1]:5351".parse().unwrap(), &Uplink::default())
        .expect("a socket");
    assert_eq!(udp.local_addr().unwrap().ip(), local);
    let group = "[ff02::c]:1900".parse().unwrap();
    let listener = Udp::listening(group, local, index("lan")).expect("a listener");
    let sender = Udp::unconnected(local, index("lan"), 2, &Uplink::default()).expect("a sender");
    sender.send("[ff02::c]:1900".parse().unwrap(), b"hello").result.expect("sends");
    let received = listener.receive(&mut [0; 100]);
    assert!(matches!(received, Received::Datagram { len: 5, .. }), "{received:?}");
}

#[test]
fn a_socket_of_a_foreign_address_is_an_error() {
    // TEST-NET-3: nobody's.
    let foreign = address("203.0.113.7");
    let remote = SocketAddr::from((Ipv6Addr::LOCALHOST, 5351));
    assert!(Udp::connected(foreign, 1, "127.0.0.1:5351".parse().unwrap(), &Uplink::default()).is_err());
    assert!(Udp::connected(Ipv4Addr::LOCALHOST.into(), 1, remote, &Uplink::default()).is_err());
    assert!(Udp::unconnected(foreign, 1, 2, &Uplink::default()).is_err());
}

#[test]
fn the_clock_counts_from_the_start_of_the_machine_with_its_sleep() {
    let uptime = || {
        let text = std::fs::read_to_string("/proc/uptime").expect("procfs");
        text.split('.').next().and_then(|secs| secs.parse::<u64>().ok()).expect("whole seconds first")
    };
    let (before, now, after) = (uptime(), clock::now(), uptime());
    let secs = now.as_millis() / 1000;
    assert!(before <= secs && secs <= after, "{before} <= {secs} <= {after}");
}

#[test]
fn the_clocks_go_on_and_never_back() {
    for read in [clock::now, clock::monotonic] {
        let start = read();
        let mut last = start;
        let mut steps = 0;
        while last.since(start) < Duration::from_millis(5) {
            let now = read();
            assert!(now >= last);
            steps += u32::from(now > last);
            last = now;
        }
        assert!(steps > 1, "it has a resolution well below a millisecond");
    }
}

#[test]
fn randomness_is_not_twice_the_same() {
    let draw = || {
        let mut bytes = [0; 32];
        net::fill_random(&mut bytes).expect("randomness");
        bytes
    };
    let (one, two) = (draw(), draw());
    assert_ne!(one, two);
    assert_ne!(one, [0; 32]);
}

#[test]
fn reads_the_environment() {
    // In a process of its own: ours cannot be changed while other threads may read it.
    const NAME: &str = "PLUM_TEST_ENVIRONMENT";
    if std::env::var_os(NAME).is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "reads_the_environment"])
            .env(NAME, "[fe80::1]:5351")
            .output()
            .expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    assert_eq!(net::environment(c"PLUM_TEST_ENVIRONMENT").as_deref(), Some("[fe80::1]:5351"));
    assert_eq!(net::environment(c"PLUM_TEST_NO_SUCH_THING"), None);
}
