//! Hostile answers to searches.

use crate::harness::{
    GATEWAY_HTTP, ROGUE, WAN, addr, answer, bare_harness, description, ip, page, redirect, secs, service,
    silence, upnp_harness,
};
use crate::memory::peak_of;
use crate::rogues::beside;
use crate::world::{GATEWAY, LOCAL};
use plum_engine::io::{Arrival, Socket};
use plum_engine::upnp::{Network, may_answer};
use plum_gateway::core::Times;
use plum_wire::Transport::Tcp;
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// What no answer may make us fetch, from nobody.
const NOWHERE: [&str; 21] = [
    "",
    "http://",
    "http:///etc/passwd",
    "https://192.168.1.1/x",
    "https://192.168.1.66/x",
    "file:///etc/passwd",
    "file://192.168.1.1/etc/passwd",
    "ftp://192.168.1.1/x",
    "gopher://192.168.1.1:25/_HELO",
    "javascript:alert(1)",
    "data:text/xml,<root/>",
    "//192.168.1.1/x",
    "/x",
    "x",
    "http://user@192.168.1.1/x",
    "http://user:password@192.168.1.66/x",
    "http://192.168.1.1@evil/",
    "http://192.168.1.1@93.184.216.34/",
    "http://192.168.1.1:80@93.184.216.34/",
    "http://192.168.1.1\\@93.184.216.34/",
    "http://192.168.1.1:99999/x",
];

/// What names other hosts, or none: it is fetched from whoever sent it.
const ELSEWHERE: [&str; 23] = [
    "http://192.168.1.9/x",
    "http://93.184.216.34/x",
    "http://127.0.0.1/x",
    "http://127.1/x",
    "http://localhost/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    "http://0.0.0.0/x",
    "http://0/x",
    "http://[::1]/x",
    "http://[::]/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://[::127.0.0.1]/x",
    "http://[fe80::1]/x",
    "http://[fe80::1%eth0]/x",
    "http://[fe80::1%25eth0]/x",
    "http://192.168.1.1.evil.example/",
    "http://192.168.1.1./x",
    "http://0300.0250.01.01/x",
    "http://0xc0.0xa8.1.1/x",
    "http://3232235777/x",
    "http://192.168.257/x",
    "http://１９２.168.1.1/x",
];

#[test]
fn locations_that_lead_elsewhere_are_not_fetched() {
    for from in [
        SocketAddr::new(GATEWAY, 1900),
        SocketAddr::new(ROGUE, 1900),
        SocketAddr::new(ROGUE, 80),
        SocketAddr::new(LOCAL, 1900),
    ] {
        let mut harness = bare_harness();
        for location in NOWHERE {
            harness.answers_with(from, location);
        }
        let id = harness.create(Tcp, 8000);
        harness.assert_fails(id, secs(4));
        harness.run_for(secs(700));
        assert_eq!(harness.connected_to(), []);
        harness.assert_ends();
    }
}

#[test]
fn locations_that_name_other_hosts_are_fetched_from_their_sender() {
    for from in [GATEWAY, ROGUE] {
        for location in ELSEWHERE {
            let mut harness = bare_harness();
            harness.answers_with(SocketAddr::new(from, 1900), location);
            let id = harness.create(Tcp, 8000);
            // A description of the gateway's own is waited for.
            harness.assert_fails(id, secs(11));
            harness.run_for(secs(100));
            let connects = harness.connected_to();
            assert!(!connects.is_empty(), "{location}");
            assert!(connects.iter().all(|to| to.ip() == from), "{location}: {connects:?}");
            harness.assert_ends();
        }
    }
}

#[test]
fn answers_of_hosts_that_cannot_be_here_are_not_followed() {
    // Whoever can forge the source of a datagram can answer in anybody's name. These no gateway has.
    for forged in [
        "127.0.0.1",
        "127.0.0.53",
        "169.254.169.254",
        "169.254.1.1",
        "0.0.0.0",
        "0.1.2.3",
        "255.255.255.255",
        "224.0.0.1",
        "239.255.255.250",
        "8.8.8.8",
        "203.0.113.7",
        "::1",
        "::ffff:127.0.0.1",
        "2001:db8::1",
    ] {
        let mut harness = upnp_harness();
        let forged = ip(forged);
        harness.forbid(forged.to_canonical());
        harness.answers_with(
            SocketAddr::new(forged, 1900),
            &format!("http://{}/x", SocketAddr::new(forged, 80)),
        );
        harness.answers_with(
            SocketAddr::new(forged, 1900),
            &format!("http://{}/x", SocketAddr::new(forged.to_canonical(), 80)),
        );
        let id = harness.create(Tcp, 8000);
        harness.assert_made_by_the_gateway(id, secs(1));
        assert!(harness.connected_to().iter().all(|&to| to == GATEWAY_HTTP), "{forged}");
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn a_datagram_counts_from_the_gateway_and_from_the_link_of_our_interface() {
    const OURS: u32 = 2;
    const OTHER: u32 = 7;
    let network = Network { gateway: Some(GATEWAY), local: LOCAL, interface: OURS, named: false };
    let counts = |network: Network, from: &str, interface: u32, prefix: Option<u8>| {
        may_answer(
            &network,
            Arrival { from: SocketAddr::new(ip(from), 1900), interface, prefix, is_on_link: false },
        )
    };
    let (near, own) = ("192.168.1.66", "192.168.1.100");
    for (from, interface, prefix, expected) in [
        (near, OURS, Some(24), true),
        (near, OTHER, Some(24), false),
        ("192.168.2.66", OURS, Some(24), false),
        ("192.168.2.66", OURS, Some(16), true),
        ("10.9.9.9", OURS, Some(24), false),
        ("100.64.1.1", OURS, Some(24), false),
        ("172.17.0.1", OURS, Some(24), false),
        ("169.254.169.254", OURS, Some(24), false),
        // No network is as large as that.
        ("169.254.169.254", OURS, Some(0), false),
        ("::1", 0, Some(24), false),
        ("::ffff:192.168.1.66", OURS, Some(24), true),
        // A gateway that runs on this host, under our own address.
        (own, OURS, Some(24), true),
        (own, 0, Some(24), true),
        (own, OTHER, Some(24), false),
        // Of two interfaces on one network the gateway's answer may come by the other.
        ("192.168.1.1", OTHER, Some(24), true),
        // Point to point: nobody else is on the link.
        (near, OURS, Some(32), false),
        (own, 0, Some(32), true),
        ("192.168.1.1", OURS, Some(32), true),
        // No length that there is.
        (near, OURS, Some(200), false),
        // What the system does not tell cannot be judged.
        (near, 0, None, true),
        ("192.168.2.66", 0, None, true),
        ("10.9.9.9", 0, None, false),
        ("10.9.9.9", 0, Some(24), false),
        (near, OTHER, None, false),
        ("169.254.169.254", 0, None, false),
        ("127.0.0.1", 0, None, false),
    ] {
        assert_eq!(counts(network, from, interface, prefix), expected, "{from} by {interface}, {prefix:?}");
    }
    assert!(counts(Network { interface: 0, ..network }, near, OTHER, Some(24)), "ours is not known");
    let named = Network { named: true, ..network };
    assert!(counts(named, "192.168.1.1", OURS, Some(24)));
    assert!(![near, own].iter().any(|other| counts(named, other, OURS, Some(24))), "nobody else is asked");
    let v6 = Network { local: ip("fd00::2"), gateway: None, ..network };
    assert!(!counts(v6, "fd00::1", OURS, None), "there is no search by IPv6");
}

#[test]
fn a_machine_with_a_link_local_address_finds_its_neighbours() {
    // What keeps metadata services out of it must not keep out networks without DHCP.
    let link_local = |last| IpAddr::V4(Ipv4Addr::new(169, 254, 7, last));
    let mut harness = crate::harness::set_up(|setup| {
        setup.gateways[0].igd = None;
        let route = setup.route.as_mut().expect("a route");
        (route.local, route.gateway) = (link_local(2), None);
    });
    let at = SocketAddr::new(link_local(9), 80);
    harness.answers_with(at, "http://169.254.7.9:80/x");
    harness.serve_answers(at, service("203.0.113.9".into()));
    let id = harness.create(Tcp, 8000);
    assert!(harness.runs_until(secs(5), |harness| harness.is_success(id)), "{:?}", harness.timeline(id));
}

#[test]
fn ten_thousand_answers_of_ten_thousand_devices_cost_next_to_nothing() {
    let mut harness = upnp_harness();
    let id = harness.create(Tcp, 8000);
    let (peak, ()) = peak_of(|| {
        for n in 0..10_000u32 {
            let host = IpAddr::V4(Ipv4Addr::from(0xc0a8_0200 + n));
            let location = format!("http://{host}:80/{}", "x".repeat(if n % 10 == 0 { 1900 } else { 10 }));
            harness.inject(Socket::Ssdp, SocketAddr::new(host, 1900), &answer(&location));
        }
        harness.assert_made_by_the_gateway(id, secs(1));
    });
    // 16 devices of some 10 kB, and this test's own list of who has answered.
    assert!(peak < 2 << 20, "{peak} bytes");
    let strangers = harness.connected_to().iter().filter(|to| to.ip() != GATEWAY).count();
    // At most 12 strangers, two at a time; nobody is at home there.
    assert!(strangers <= 2, "{strangers} connections to strangers");
    harness.run_for(secs(600));
    assert!(harness.connected_to().iter().filter(|to| to.ip() != GATEWAY).count() <= 12);
    assert!(harness.wire(|wired| wired.most_open) <= 4);
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn a_stranger_that_names_the_gateway_does_not_crowd_it_out() {
    // LOCATIONs on the gateway's address are allowed to everyone: they are fetched there and nowhere else.
    for path in ["missing", "silent"] {
        let mut harness = upnp_harness();
        let id = harness.create(Tcp, 8000);
        for n in 0..1000 {
            // On another port there is nobody, or somebody who never answers: a name server, a file server.
            let location = if path == "missing" {
                format!("http://192.168.1.1:5000/missing/{n}")
            } else {
                format!("http://192.168.1.1:53/{n}")
            };
            harness.inject(Socket::Ssdp, SocketAddr::new(ROGUE, 1900), &answer(&location));
        }
        harness.serve_answers(SocketAddr::new(GATEWAY, 53), |_| silence());
        harness.assert_made_by_the_gateway(id, secs(1));
        let connects = harness.connected_to().len();
        assert!(connects <= 20, "{connects} connections");
        harness.assert_ends();
        harness.assert_nothing_left();
    }
}

#[test]
fn a_stranger_that_names_the_gateways_own_description_takes_nothing_over() {
    let mut harness = upnp_harness();
    let id = harness.create(Tcp, 8000);
    for uuid in 0..20 {
        let text = String::from_utf8(answer("http://192.168.1.1:5000/rootDesc.xml")).expect("text");
        let text = text.replace("uuid:rogue", &format!("uuid:rogue-{uuid}"));
        harness.inject(Socket::Ssdp, SocketAddr::new(ROGUE, 1900), text.as_bytes());
    }
    harness.assert_made_by_the_gateway(id, secs(1));
    harness.run_for(secs(10));
    let before = harness.connected_to().len();
    // The gateway's own notifications are still heard, those of the stranger are not.
    let usn = plum_gateway::core::Igd::default().uuid;
    let bye = |uuid: &str| {
        format!("NOTIFY * HTTP/1.1\r\nNTS: ssdp:byebye\r\nNT: {WAN}\r\nUSN: uuid:{uuid}::{WAN}\r\n\r\n")
            .into_bytes()
    };
    harness.inject(Socket::Notifications, SocketAddr::new(ROGUE, 1900), &bye("rogue-0"));
    harness.run_for(secs(6));
    assert_eq!(harness.connected_to().len(), before);
    harness.inject(Socket::Notifications, SocketAddr::new(GATEWAY, 1900), &bye(&usn));
    harness.run_for(secs(6));
    assert!(harness.connected_to().len() > before, "the gateway says goodbye and nobody looks");
}

#[test]
fn redirects_lead_nowhere_else_and_not_in_circles() {
    for (target, most) in [
        // What names another host is taken with that of the one who sends it.
        ("http://127.0.0.1:80/x", 4),
        ("http://192.168.1.9:80/x", 4),
        ("http://192.168.1.100:80/x", 4),
        ("http://93.184.216.34/x", 4),
        ("http://169.254.169.254/x", 4),
        ("//93.184.216.34/x", 4),
        // There is nobody at this port of his.
        ("http://192.168.1.1:5000/rootDesc.xml", 1),
        ("https://192.168.1.66/x", 1),
        ("file:///etc/passwd", 1),
        ("http://192.168.1.66:80@93.184.216.34/x", 1),
        ("", 1),
        ("/x", 4),
        ("http://192.168.1.66:80/x", 4),
        ("?again", 4),
    ] {
        let fetches = Rc::new(Cell::new(0));
        let count = Rc::clone(&fetches);
        let mut harness = beside(ROGUE, move |_| {
            count.set(count.get() + 1);
            redirect(target)
        });
        harness.gateway().faults.silence.ssdp = Times::Always;
        let id = harness.create(Tcp, 8000);
        harness.assert_fails(id, secs(11));
        // Three fetches of one device at most, each with three redirects at most.
        let fetches = fetches.get();
        assert!((1..=3 * most).contains(&fetches), "{target}: {fetches}");
        harness.gateway().faults.silence.ssdp = Times::Never;
        harness.assert_made_by_the_gateway(id, secs(310));
        harness.assert_ends();
    }
}

#[test]
fn ten_thousand_redirects_are_not_followed() {
    let fetches = Rc::new(Cell::new(0));
    let count = Rc::clone(&fetches);
    let mut harness = beside(ROGUE, move |_| {
        count.set(count.get() + 1);
        redirect(&format!("/x{}", count.get()))
    });
    let id = harness.create(Tcp, 8000);
    harness.assert_made_by_the_gateway(id, secs(1));
    harness.run_for(secs(3600));
    assert!(fetches.get() <= 12, "{} fetches", fetches.get());
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn control_urls_of_a_rogue_stay_on_the_rogue() {
    for (base, control) in [
        ("", "http://127.0.0.1/ctl"),
        ("", "http://192.168.1.1:5000/ctl/0"),
        ("", "http://93.184.216.34/ctl"),
        ("", "//93.184.216.34/ctl"),
        ("", "http://192.168.1.66@93.184.216.34/ctl"),
        ("", "https://192.168.1.66/ctl"),
        ("", "file:///etc/passwd"),
        ("", "http://localhost:631/printers"),
        ("<URLBase>http://127.0.0.1/</URLBase>", "http://127.0.0.1/ctl"),
        ("<URLBase>http://93.184.216.34/</URLBase>", "//93.184.216.34/ctl"),
    ] {
        let xml = description("Rogue", base, &[(WAN, control)]);
        let mut harness = beside(ROGUE, move |_| page(&xml));
        harness.gateway().faults.silence.ssdp = Times::Always;
        let id = harness.create(Tcp, 8000);
        // The time for answers to the search, and `mapping_timeout`.
        harness.assert_fails(id, secs(12));
        harness.run_for(secs(1000));
        assert!(harness.connected_to().iter().all(|to| to.ip() == ROGUE), "{base}{control}");
        harness.assert_ends();
    }
}

#[test]
fn datagrams_of_all_sizes_and_shapes_are_survived() {
    let mut harness = upnp_harness();
    let id = harness.create(Tcp, 8000);
    let (peak, ()) = peak_of(|| {
        for bytes in [
            vec![],
            vec![0; 65_507],
            vec![b'\n'; 65_507],
            vec![b':'; 65_507],
            b"LOCATION: ".repeat(6000),
            b"A: b\r\n".repeat(10_000),
            [&b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.66/"[..], &[b'x'; 60_000], b"\r\n\r\n"]
                .concat(),
            [
                &b"HTTP/1.1 200 OK\r\n"[..],
                &b"X: \xff\xfe\r\n".repeat(5000),
                b"LOCATION: http://192.168.1.66/\r\n\r\n",
            ]
            .concat(),
            b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.66/\0\x1b[2J\r\nUSN: \x1b]0;pwned\x07\r\n\r\n"
                .to_vec(),
        ] {
            for from in [SocketAddr::new(ROGUE, 1900), SocketAddr::new(GATEWAY, 1900), addr("192.168.1.77:0")]
            {
                for socket in
                    [Socket::Ssdp, Socket::Announcements, Socket::Notifications, Socket::Pcp, Socket::NatPmp]
                {
                    harness.inject(socket, from, &bytes);
                }
            }
        }
    });
    assert!(peak < 2 << 20, "{peak} bytes");
    harness.assert_made_by_the_gateway(id, secs(2));
    harness.assert_ends();
    harness.assert_nothing_left();
}

#[test]
fn any_bytes_are_survived() {
    let mut harness = upnp_harness();
    let mut random = fastrand::Rng::with_seed(harness.seed());
    let usn = plum_gateway::core::Igd::default().uuid;
    let good: [Vec<u8>; 3] = [
        answer("http://192.168.1.1:5000/rootDesc.xml"),
        answer("http://192.168.1.66:80/x").repeat(2),
        format!("NOTIFY * HTTP/1.1\r\nNTS: ssdp:alive\r\nNT: {WAN}\r\nUSN: uuid:{usn}\r\nLOCATION: http://192.168.1.1:5000/\r\n\r\n")
            .into_bytes(),
    ];
    let id = harness.create(Tcp, 8000);
    for _ in 0..5000 {
        let mut bytes = good[random.usize(0..good.len())].clone();
        for _ in 0..random.usize(0..8) {
            let place = random.usize(0..bytes.len());
            match random.u8(0..3) {
                0 => bytes[place] = random.u8(..),
                1 => bytes.truncate(place.max(1)),
                _ => bytes.insert(place, random.u8(..)),
            }
        }
        if random.u8(0..8) == 0 {
            bytes = vec![0; random.usize(0..1500)];
            random.fill(&mut bytes);
        }
        let from = [GATEWAY, ROGUE][random.usize(0..2)];
        let socket = [Socket::Ssdp, Socket::Notifications][random.usize(0..2)];
        harness.inject(socket, SocketAddr::new(from, 1900), &bytes);
        harness.run_for(Duration::from_millis(random.u64(0..4)));
    }
    harness.run_for(secs(700));
    assert!(harness.is_success(id), "{:?}", harness.timeline(id));
    harness.assert_ends();
    harness.assert_nothing_left();
}
