//! The Rust API against the simulated gateway, a session and a gateway of its own for each test: mappings and their events.
#![allow(
    clippy::disallowed_types,
    reason = "tests wait by the clock, and no child of a fork takes their locks"
)]

mod harness;

use harness::{
    LONG, builder, external, gateway, made_again, map, next, order, session, table, wait_until_empty,
};
use plum::{
    Builder, Change, Error, Event, Gateway, Mapping, Obstacle, Protocol, Protocols, Request, State, Transport,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

#[test]
fn mapping_is_made_and_removed_when_it_is_dropped() {
    let server = gateway();
    let session = session(&server);
    assert_eq!(session.gateway(), None, "nobody has been asked for anything");
    let mapping = map(&session, Request::tcp(8080));
    let made = external("203.0.113.7:8080", Protocol::Pcp);
    assert_eq!(mapping.wait(LONG).expect("it is made"), made);
    assert_eq!(mapping.state(), State::Mapped(made));
    assert_eq!(mapping.external(), Some(made));
    assert_eq!(mapping.obstacle(), None);
    assert_eq!((mapping.transport(), mapping.internal_port()), (Transport::Tcp, 8080));
    assert_eq!(session.gateway(), Some(server.address()));
    assert_eq!(table(&server), [8080]);
    drop(mapping);
    wait_until_empty(&server);
}

#[test]
fn wishes_are_suggested() {
    let server = gateway();
    let session = session(&server);
    let address = IpAddr::from([203, 0, 113, 7]);
    let mapping = map(&session, Request::udp(6881).external_port(16881).external_address(address));
    assert_eq!(mapping.wait(LONG).expect("it is made").address, SocketAddr::new(address, 16881));
}

#[test]
fn an_exact_port_is_had_or_nothing_is_left_behind() {
    for protocols in [Protocols::Pcp, Protocols::Upnp] {
        let server = gateway();
        let taken = builder(&server).protocols(protocols).start().expect("a session");
        let neighbour = map(&taken, Request::tcp(7001).exact_external_port(9000));
        let made = neighbour.wait(LONG).expect("it is free").address;
        assert_eq!(made.port(), 9000);
        let session = builder(&server).protocols(protocols).start().expect("a session");
        let mut events = session.events();
        let mapping = map(&session, Request::tcp(7002).exact_external_port(9000));
        let error = mapping.wait(LONG).expect_err("it is taken");
        assert!(matches!(error, Error::NotMapped(Obstacle::Refused { .. })), "{error}");
        assert_eq!(next(&mut events, &mapping), Change::Failed);
        assert_eq!(mapping.external(), None);
        let is_left =
            |core: &plum_gateway::core::Gateway| core.table().iter().any(|e| e.internal.port() == 7002);
        assert!(server.wait_until(LONG, |core| !is_left(core)), "what was assigned is removed again");
        let sharing = map(&taken, Request::tcp(7001).exact_external_port(9001));
        let error = sharing.wait(LONG).expect_err("the other is at 9000");
        assert!(
            matches!(error, Error::NotMapped(Obstacle::OtherPort { external }) if external.address == made)
        );
        assert_eq!(sharing.state(), State::Failed);
        assert!(matches!(session.map(Request::tcp(1).exact_external_port(0)), Err(Error::PortZero)));
    }
}

#[test]
fn each_protocol_is_named() {
    for (protocols, commands, protocol) in [
        (Protocols::Any, &[][..], Protocol::Pcp),
        (Protocols::Pcp, &["natpmp-only"], Protocol::NatPmp),
        (Protocols::Upnp, &[], Protocol::UpnpIgd),
        (Protocols::Any, &["close pcp", "close natpmp"], Protocol::UpnpIgd),
    ] {
        let server = gateway();
        commands.iter().for_each(|command| order(&server, command));
        let session = builder(&server).protocols(protocols).start().expect("a session");
        assert_eq!(map(&session, Request::tcp(80)).wait(LONG).expect("it is made").protocol, protocol);
    }
}

#[test]
fn mappings_of_one_port_share_it_and_the_last_takes_it_along() {
    let server = gateway();
    let session = session(&server);
    let (first, second) = (map(&session, Request::tcp(80)), map(&session, Request::tcp(80)));
    assert_eq!(first.wait(LONG).expect("it is made"), second.wait(LONG).expect("it is made"));
    assert_ne!(first.id(), second.id());
    assert!(first.remove());
    assert_eq!(table(&server), [80]);
    assert!(second.remove());
    assert_eq!(table(&server), [0u16; 0]);
}

#[test]
fn wait_says_what_is_in_the_way() {
    let server = gateway();
    order(&server, "close all");
    let dead = session(&server);
    let error = map(&dead, Request::tcp(80)).wait(LONG).expect_err("nobody is there");
    let gateway = Some(server.address());
    assert!(
        matches!(error, Error::NotMapped(Obstacle::NoAnswer { gateway: named }) if named == gateway),
        "{error}"
    );
    assert!(error.to_string().contains("switch on UPnP"), "{error}");

    order(&server, "open all");
    for kind in ["pcp-map", "natpmp-map", "AddPortMapping"] {
        order(&server, &format!("refuse {kind} {}", if kind == "AddPortMapping" { 606 } else { 2 }));
    }
    let alive = session(&server);
    let mapping = map(&alive, Request::tcp(80));
    let error = mapping.wait(LONG).expect_err("it is refused");
    assert!(
        matches!(error, Error::NotMapped(Obstacle::Refused { gateway: named, .. }) if named == gateway),
        "{error}"
    );
    assert_eq!(mapping.state(), State::Failed);
    assert_eq!(mapping.renewal(), None);
    let next_try = mapping.next_try_in().expect("it is tried again");
    assert!(next_try <= Duration::from_secs(300), "{next_try:?}");
}

#[test]
fn wait_ends_with_its_time() {
    let server = gateway();
    order(&server, "silence pcp always");
    order(&server, "silence natpmp always");
    order(&server, "silence ssdp always");
    let session = session(&server);
    let mapping = map(&session, Request::tcp(80));
    assert!(matches!(mapping.wait(Duration::ZERO), Err(Error::TimedOut)));
    assert!(matches!(mapping.wait(Duration::from_millis(20)), Err(Error::TimedOut)));
    assert_eq!(mapping.state(), State::Pending);
    assert_eq!(mapping.obstacle(), None, "nothing is decided");
}

#[test]
fn removal_that_is_not_answered_is_not_confirmed() {
    let server = gateway();
    let session = session(&server);
    let mapping = map(&session, Request::tcp(80));
    mapping.wait(LONG).expect("it is made");
    order(&server, "silence pcp always");
    assert!(!mapping.remove());
    order(&server, "silence pcp never");
    drop(session);
}

#[test]
fn renewal_is_within_the_lifetime_that_was_granted() {
    let server = gateway();
    order(&server, "set lifetime 1000");
    let session = session(&server);
    let mapping = map(&session, Request::tcp(80));
    mapping.wait(LONG).expect("it is made");
    let renewal = mapping.renewal().expect("it is made");
    // Between 1/2 and 5/8 of the lifetime, less what this test takes.
    let renews_in = renewal.renews_in.expect("it is to be renewed");
    assert!((400..=625).contains(&renews_in.as_secs()), "{renews_in:?}");
    let expires_in = renewal.expires_in.expect("it has a lifetime");
    assert!((900..=1000).contains(&expires_in.as_secs()), "{expires_in:?}");
    // It comes nearer, in steps of the system's clock (up to 16 ms on Windows).
    let begun = Instant::now();
    loop {
        let later = mapping.renewal().and_then(|renewal| renewal.renews_in).expect("it is to be renewed");
        assert!(later <= renews_in, "{later:?} after {renews_in:?}");
        if later < renews_in {
            break;
        }
        assert!(begun.elapsed() < LONG, "it stays {renews_in:?}");
    }
}

#[test]
fn permanent_mapping_is_never_renewed() {
    let server = gateway();
    order(&server, "set permanent-leases-only on");
    let session = builder(&server).protocols(Protocols::Upnp).start().expect("a session");
    let mapping = map(&session, Request::tcp(80));
    mapping.wait(LONG).expect("it is made");
    let renewal = mapping.renewal().expect("it is made");
    assert_eq!((renewal.renews_in, renewal.expires_in), (None, None));
}

#[test]
fn events_tell_of_what_is_made_lost_and_moved() {
    let server = gateway();
    // So that its restart shows.
    order(&server, "set epoch 1000");
    let session = builder(&server).recheck_interval(Duration::from_millis(100)).start().expect("a session");
    let mut events = session.events();
    let mapping = map(&session, Request::tcp(80));
    assert_eq!(next(&mut events, &mapping), Change::Mapped(external("203.0.113.7:80", Protocol::Pcp)));
    order(&server, "set external-address 198.51.100.9");
    order(&server, "restart-without-memory");
    assert_eq!(made_again(&mut events, &mapping), Change::Mapped(external("198.51.100.9:80", Protocol::Pcp)));
    assert_eq!(events.next_within(Duration::ZERO), None);
}

#[test]
fn whoever_falls_behind_gets_the_newest_of_each_mapping_once() {
    let server = gateway();
    // So that its restart shows.
    order(&server, "set epoch 1000");
    let session = builder(&server).recheck_interval(Duration::from_millis(100)).start().expect("a session");
    let mut late = session.events();
    let mut prompt = session.events();
    let [first, second] = [80, 81].map(|port| map(&session, Request::tcp(port)));
    for mapping in [&first, &second] {
        mapping.wait(LONG).expect("it is made");
    }
    for _ in 0..2 {
        prompt.next_within(LONG).expect("both are made");
    }
    order(&server, "set external-address 198.51.100.9");
    order(&server, "restart-without-memory");
    let is_moved = |event: &Event| matches!(event.change, Change::Mapped(external) if external.address.ip() == Ipv4Addr::new(198, 51, 100, 9));
    let moved = prompt.into_iter().filter(is_moved).take(2).count();
    assert_eq!(moved, 2);
    assert!(first.remove(), "the gateway confirms it");
    let event = late.next_within(LONG).expect("what is left has news");
    assert_eq!(event.mapping, second.id());
    assert!(is_moved(&event));
    assert_eq!(event.missed, 2, "made and lost");
    assert_eq!(late.missed(), 5, "two of this, three of what was removed");
    assert_eq!(
        late.next_within(Duration::ZERO),
        None,
        "the older news are gone, and those of what was removed"
    );
}

#[test]
fn nonsense_is_refused() {
    let server = gateway();
    let session = session(&server);
    assert!(matches!(session.map(Request::tcp(0)), Err(Error::PortZero)));
    for text in ["", "gateway", "192.168.1.1:0", "0.0.0.0", "224.0.0.1", "255.255.255.255", "[fd00::1"] {
        assert!(matches!(text.parse::<Gateway>(), Err(Error::BadGateway(_))), "{text}");
    }
    let v6: Gateway = "[fd00::1]:15351".parse().expect("a gateway");
    assert_eq!((v6.address.to_string(), v6.port), ("fd00::1".into(), Some(15351)));
    for text in ["fe80::1%eth0", "[fe80::1%2]:5351", "192.168.1.1:5351", "fd00::1"] {
        assert_eq!(text.parse::<Gateway>().expect("a gateway").to_string(), text);
    }
    let scoped: SocketAddr = "[fe80::1%7]:5351".parse().expect("an address");
    assert_eq!(Gateway::from(scoped).zone.as_deref(), Some("7"));
    let elsewhere: SocketAddr = "[fd00::1%7]:5351".parse().expect("an address");
    assert!(matches!(Builder::new().gateway(elsewhere).start(), Err(Error::BadGateway(_))));
    for bad in [[0, 0, 0, 0], [224, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 255]].map(IpAddr::from) {
        assert!(matches!(Builder::new().gateway(bad).start(), Err(Error::BadGateway(_))));
    }
    let no_port = SocketAddr::from(([192, 168, 1, 1], 0));
    assert!(matches!(Builder::new().gateway(no_port).start(), Err(Error::BadGateway(_))));
}

#[test]
fn a_named_gateway_is_for_one_family_alone() {
    let server = gateway();
    let session = session(&server);
    let [by_ipv4, by_ipv6] =
        [Request::tcp(80), Request::tcp(80).ipv6()].map(|request| map(&session, request));
    let is_failure = |mapping: &Mapping| {
        matches!(mapping.wait(LONG), Err(Error::NotMapped(Obstacle::OtherFamily)))
            && mapping.renewal().is_none()
    };
    assert!(is_failure(&by_ipv6) && by_ipv6.is_ipv6());
    assert_eq!(by_ipv4.wait(LONG).expect("it is made"), external("203.0.113.7:80", Protocol::Pcp));
    assert!(!by_ipv4.is_ipv6());
    assert!(by_ipv6.remove(), "nothing has to be confirmed");
    assert_eq!(table(&server), [80], "the other mapping of the port stays");

    let named: Gateway = "fe80::1%none".parse().expect("a gateway");
    let session = Builder::new().gateway(named).start().expect("a session");
    assert!(is_failure(&map(&session, Request::udp(80))));
}
