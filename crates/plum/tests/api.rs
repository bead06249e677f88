//! The Rust API against the simulated gateway, a session and a gateway of its own for each test.
#![allow(
    clippy::disallowed_types,
    reason = "tests wait by the clock, and no child of a fork takes their locks"
)]

use plum::{
    Builder, Change, Error, Events, External, Gateway, Level, Mapping, Obstacle, Protocol, Protocols,
    Request, Session, State, Transport,
};
use plum_gateway::control::carry_out;
use plum_gateway::core::TableEntry;
use plum_gateway::server::Server;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Whatever has not happened after this long never will.
const LONG: Duration = Duration::from_secs(20);

fn gateway() -> Server {
    Server::start_on_own_address(|_| {}).expect("a gateway on loopback")
}

fn order(server: &Server, command: &str) {
    server.with_core(|core| carry_out(core, command)).expect("a command of the gateway's");
}

fn builder(server: &Server) -> Builder {
    Builder::new().gateway(server.address())
}

fn session(server: &Server) -> Session {
    builder(server).start().expect("a session")
}

fn map(session: &Session, request: Request) -> Mapping {
    session.map(request).expect("a mapping can be asked for")
}

fn external(text: &str, protocol: Protocol) -> External {
    External { address: text.parse().expect("an address"), protocol }
}

/// The internal ports of what the gateway has mapped.
fn table(server: &Server) -> Vec<u16> {
    server.with_core(|core| core.table().iter().map(|entry: &TableEntry| entry.internal.port()).collect())
}

fn wait_until_empty(server: &Server) {
    assert!(server.wait_until(LONG, |core| core.table().is_empty()), "the gateway's mappings are removed");
}

/// The next event of this mapping.
fn next(events: &mut Events, mapping: &Mapping) -> Change {
    let event = events.next_within(LONG).expect("something happens");
    assert_eq!(event.mapping, mapping.id());
    event.change
}

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
fn dropping_the_session_removes_everything_and_leaves_harmless_mappings() {
    let server = gateway();
    let session = session(&server);
    let mut events = session.events();
    let mappings: Vec<Mapping> = (1..=20).map(|port| map(&session, Request::udp(port))).collect();
    for mapping in &mappings {
        mapping.wait(LONG).expect("it is made");
    }
    assert_eq!(table(&server).len(), 20);
    drop(session);
    assert_eq!(table(&server), [0u16; 0], "removed when the drop returns");
    for mapping in &mappings {
        assert_eq!(mapping.state(), State::Removed);
        assert_eq!(mapping.renewal(), None);
        assert_eq!(mapping.obstacle(), None);
        assert!(matches!(mapping.wait(LONG), Err(Error::Removed)));
    }
    for mapping in mappings {
        assert!(mapping.remove(), "there is nothing left to be answered");
    }
    assert_eq!(events.next(), None, "what is removed has no events any more, and no other will come");
    assert!(events.is_over());
}

#[test]
fn mappings_of_an_ended_session_do_nothing_to_the_next() {
    let server = gateway();
    let mut stale = Vec::new();
    for _ in 0..3 {
        let session = session(&server);
        let mapping = map(&session, Request::tcp(80));
        mapping.wait(LONG).expect("it is made");
        // The clients of ended sessions are used again.
        for old in stale.drain(..) {
            let old: Mapping = old;
            assert_eq!(old.state(), State::Removed);
            assert!(old.remove());
        }
        assert!(matches!(mapping.state(), State::Mapped(_)));
        stale.push(mapping);
    }
}

#[test]
fn sessions_know_nothing_of_each_other() {
    let servers = [gateway(), gateway(), gateway()];
    let sessions = servers.each_ref().map(session);
    let mappings = sessions.each_ref().map(|session| map(session, Request::tcp(80)));
    for mapping in &mappings {
        mapping.wait(LONG).expect("it is made");
    }
    let [first, rest @ ..] = sessions;
    drop(first);
    assert_eq!(table(&servers[0]), [0u16; 0]);
    assert_eq!(mappings[0].state(), State::Removed);
    for (mapping, server) in mappings[1..].iter().zip(&servers[1..]) {
        assert!(matches!(mapping.state(), State::Mapped(_)));
        assert_eq!(table(server), [80]);
    }
    drop(rest);
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
    assert_eq!(next(&mut events, &mapping), Change::Mapped(external("198.51.100.9:80", Protocol::Pcp)));
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
    for _ in 0..2 {
        let event = prompt.next_within(LONG).expect("both are moved");
        assert!(
            matches!(event.change, Change::Mapped(external) if external.address.ip() == Ipv4Addr::new(198, 51, 100, 9))
        );
    }
    assert!(first.remove(), "the gateway confirms it");
    let event = late.next_within(LONG).expect("what is left has news");
    assert_eq!(event.mapping, second.id());
    assert!(
        matches!(event.change, Change::Mapped(external) if external.address.ip() == Ipv4Addr::new(198, 51, 100, 9))
    );
    assert_eq!(
        late.next_within(Duration::ZERO),
        None,
        "the older news are gone, and those of what was removed"
    );
}

/// Waits for what the worker does after its gateway has answered.
fn wait_until(condition: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < until, "it never came to pass");
        std::thread::sleep(Duration::from_millis(1));
    }
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
    for bad in [[0, 0, 0, 0], [224, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 255]].map(IpAddr::from) {
        assert!(matches!(Builder::new().gateway(bad).start(), Err(Error::BadGateway(_))));
    }
    let no_port = SocketAddr::from(([192, 168, 1, 1], 0));
    assert!(matches!(Builder::new().gateway(no_port).start(), Err(Error::BadGateway(_))));
}

#[test]
fn handles_can_be_shared_among_threads() {
    fn shared<T: Send + Sync>(value: T) -> Arc<T> {
        Arc::new(value)
    }
    let server = gateway();
    let session = shared(session(&server));
    let mapping = shared(map(&session, Request::tcp(80)));
    std::thread::scope(|scope| {
        for port in 1..=8 {
            let (session, mapping) = (&session, &mapping);
            scope.spawn(move || {
                let own = map(session, Request::udp(port));
                own.wait(LONG).expect("it is made");
                mapping.wait(LONG).expect("it is made");
                assert!(mapping.renewal().is_some());
                own.remove()
            });
        }
    });
    assert_eq!(table(&server), [80]);
}

/// A log that counts the messages that say this.
fn counting(needle: &'static str) -> (Arc<AtomicUsize>, impl Fn(Level, &str) + Send + Sync + 'static) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let log = move |_: Level, message: &str| {
        if message.contains(needle) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    };
    (count, log)
}

#[test]
fn log_goes_on_when_another_session_ends_and_ends_with_its_own() {
    let server = gateway();
    // Of the ports of this test alone: other tests log, too.
    let (count, log) = counting("TCP 61001");
    let (other_count, other_log) = counting("TCP 61001");
    let logged = builder(&server).log(Level::Debug, log).start().expect("a session");
    let other = builder(&server).log(Level::Debug, other_log).start().expect("a session");
    drop(other);
    let before = count.load(Ordering::SeqCst);
    map(&logged, Request::tcp(61001)).wait(LONG).expect("it is made");
    // It may have been lost to the end of another test's session; not every time.
    wait_until(|| {
        map(&logged, Request::tcp(61001)).wait(LONG).expect("it is made");
        count.load(Ordering::SeqCst) > before
    });
    assert_eq!(other_count.load(Ordering::SeqCst), 0, "no message after the end of its session");
    drop(logged);
    let after = count.load(Ordering::SeqCst);
    let quiet = session(&server);
    map(&quiet, Request::tcp(61001)).wait(LONG).expect("it is made");
    assert_eq!(count.load(Ordering::SeqCst), after);
}

#[test]
fn session_can_be_dropped_in_its_log_callback() {
    let server = gateway();
    let slot: Arc<Mutex<Option<(Session, Mapping)>>> = Arc::default();
    let in_callback = Arc::clone(&slot);
    let session = builder(&server)
        .log(Level::Verbose, move |_, _| {
            // The test has put it there; every message from then on finds it, whoever logs it.
            let taken = in_callback.try_lock().ok().and_then(|mut slot| slot.take());
            if let Some((session, mapping)) = taken {
                assert!(matches!(mapping.wait(LONG), Ok(_) | Err(Error::TimedOut)), "it does not wait here");
                assert_eq!(mapping.renewal(), None, "nor here");
                assert!(Builder::new().start().is_err(), "no session is started here");
                drop(session);
                drop(mapping);
            }
        })
        .start()
        .expect("a session");
    let mapping = map(&session, Request::tcp(80));
    mapping.wait(LONG).expect("it is made");
    let mut events = session.events();
    *slot.lock().expect("not poisoned") = Some((session, mapping));
    // A restart makes the library log.
    order(&server, "restart-without-memory");
    order(&server, "announce");
    let noise = builder(&server).start().expect("another session");
    wait_until(|| {
        map(&noise, Request::udp(81)).wait(LONG).expect("it is made");
        slot.lock().expect("not poisoned").is_none()
    });
    assert_eq!(events.by_ref().find(|_| false), None, "the events end with the session");
    drop(noise);
    wait_until_empty(&server);
}
