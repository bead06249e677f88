//! The options of requests and sessions against the simulated gateway.
#![allow(
    clippy::disallowed_types,
    reason = "tests wait by the clock, and no child of a fork takes their locks"
)]

mod harness;

use harness::{LONG, builder, gateway, map, order, session, table};
use plum::{Builder, Error, Obstacle, Protocols, Request};
use plum_gateway::core::Kind;
use plum_gateway::server::Server;
use std::time::Duration;

/// The lifetimes that mappings were asked for with.
fn asked(server: &Server, kind: Kind) -> Vec<Option<u32>> {
    server.with_core(|core| {
        let of_kind = core.counts.received.iter().filter(|received| received.kind == kind);
        of_kind.map(|received| received.lifetime).collect()
    })
}

#[test]
fn a_lifetime_is_asked_for_in_whole_seconds() {
    for (lifetime, secs) in [
        (Duration::ZERO, 1),
        (Duration::from_nanos(1), 1),
        (Duration::from_millis(600_001), 601),
        (Duration::from_secs(3600), 3600),
        (Duration::MAX, u32::MAX),
    ] {
        let server = gateway();
        let session = session(&server);
        let mapping = map(&session, Request::tcp(80).lifetime(lifetime));
        mapping.wait(LONG).expect("it is made");
        assert_eq!(asked(&server, Kind::PcpMap).first(), Some(&Some(secs)));
        let expires_in = mapping.renewal().expect("it is made").expires_in.expect("it ends");
        let lasts = Duration::from_secs(secs.into());
        assert!(expires_in <= lasts && expires_in + LONG > lasts, "{expires_in:?} of {secs} s");
    }
}

#[test]
fn a_permanent_mapping_does_not_expire() {
    let server = gateway();
    let plum = session(&server);
    let mapping = map(&plum, Request::tcp(80).permanent());
    mapping.wait(LONG).expect("it is made");
    let renewal = mapping.renewal().expect("it is made");
    assert_eq!((renewal.renews_in, renewal.expires_in), (None, None));
    assert!(server.with_core(|core| core.table().iter().all(|entry| entry.expires_at.is_none())));
    assert!(matches!(plum.map(Request::tcp(80).permanent().ipv6()), Err(Error::PermanentPinhole)));

    let by_pcp = builder(&server).protocols(Protocols::Pcp).start().expect("a session");
    map(&by_pcp, Request::tcp(81).permanent()).wait(LONG).expect_err("PCP has none");
}

#[test]
fn a_session_may_leave_what_is_mapped() {
    for is_closed in [true, false] {
        let server = gateway();
        let plum = builder(&server).leave_mappings().start().expect("a session");
        let left = map(&plum, Request::tcp(80));
        let removed = map(&plum, Request::tcp(81));
        left.wait(LONG).expect("it is made");
        removed.wait(LONG).expect("it is made");
        assert!(removed.remove());
        order(&server, "refuse pcp-map 2 port 82");
        order(&server, "refuse natpmp-map 2 port 82");
        order(&server, "refuse AddPortMapping 606 port 82");
        let refused = map(&plum, Request::tcp(82));
        refused.wait(LONG).expect_err("it is refused");
        match is_closed {
            true => drop(plum.close().expect("it ends")),
            false => drop(plum),
        }
        assert_eq!(table(&server), [80]);
        // They are the session's no more.
        drop((left, refused));
        let next = session(&server);
        let other = map(&next, Request::tcp(90));
        other.wait(LONG).expect("it is made");
        assert_eq!(table(&server), [80, 90]);
    }
}

#[test]
fn an_interface_is_named_by_what_can_be_a_name() {
    if !cfg!(target_os = "linux") {
        let refused = Builder::new().interface("eth0").start();
        return assert!(matches!(refused, Err(Error::InterfaceUnsupported)));
    }
    for bad in ["", "sixteen-letters!", "a b", "a/b"] {
        let refused = Builder::new().interface(bad).start().expect_err("it is no name");
        assert!(matches!(&refused, Error::BadInterface(text) if text == bad), "{refused}");
    }
    let plum = Builder::new().interface("no-such-one").start().expect("a session");
    let missing = Obstacle::NoInterface { interface: "no-such-one".to_owned() };
    for request in [Request::tcp(80), Request::tcp(80).ipv6()] {
        let error = map(&plum, request).wait(LONG).expect_err("there is none");
        assert!(matches!(&error, Error::NotMapped(obstacle) if *obstacle == missing), "{error}");
        assert_eq!(error.code(), "no-interface");
    }
}

#[test]
fn the_loopback_interface_leads_to_gateways_of_this_machine() {
    let server = gateway();
    if cfg!(target_os = "linux") {
        let plum = builder(&server).interface("lo").start().expect("a session");
        map(&plum, Request::tcp(80)).wait(LONG).expect("it is made");
        assert_eq!(table(&server), [80]);
    }
}

#[test]
fn upnp_entries_are_called_as_the_request_says() {
    let server = gateway();
    let plum = builder(&server).protocols(Protocols::Upnp).start().expect("a session");
    let request = Request::tcp(80).description(" Photos & more ").expect("a description");
    let (named, unnamed) = (map(&plum, request), map(&plum, Request::tcp(81)));
    named.wait(LONG).expect("it is made");
    unnamed.wait(LONG).expect("it is made");
    let names =
        server.with_core(|core| core.table().iter().map(|e| e.description.clone()).collect::<Vec<_>>());
    assert_eq!(names, ["Photos & more", "libplum"]);
    for bad in ["", "a\nb", &"x".repeat(64)] {
        let error = Request::tcp(80).description(bad).expect_err("it is none");
        assert!(matches!(&error, Error::BadDescription(text) if text == bad), "{error}");
    }
}
