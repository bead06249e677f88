//! The Rust API against the simulated gateway: sessions, their end, their log, what they count.
#![allow(
    clippy::disallowed_types,
    reason = "tests wait by the clock, and no child of a fork takes their locks"
)]

mod harness;

use harness::{
    LONG, builder, gateway, made_again, map, map_all, next, order, session, table, wait_until,
    wait_until_empty,
};
use plum::{Builder, Change, Error, Level, MappedPort, Mapping, Request, Session, State};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

#[test]
fn what_is_done_is_counted() {
    let server = gateway();
    // So that its restart shows.
    order(&server, "set epoch 1000");
    let session = session(&server);
    let mut events = session.events();
    assert_eq!(session.counters(), plum::Counters::default());
    let mapping = map(&session, Request::tcp(80));
    mapping.wait(LONG).expect("it is made");
    let counted = mapping.counters();
    assert_eq!((counted.requests, counted.renewals, counted.losses), (1, 0, 0));
    assert!(counted.round_trip.is_some());
    assert!(matches!(next(&mut events, &mapping), Change::Mapped(_)));
    order(&server, "restart-without-memory");
    session.recheck();
    made_again(&mut events, &mapping);
    let counted = mapping.counters();
    assert_eq!((counted.requests, counted.losses, counted.restarts), (2, 1, 0));
    assert!(mapping.remove());
    let counted = session.counters();
    assert_eq!((counted.requests, counted.losses, counted.restarts), (2, 1, 1), "what is gone counts");
}

#[test]
fn closing_the_session_removes_everything_and_leaves_harmless_mappings() {
    let server = gateway();
    let session = session(&server);
    let mut events = session.events();
    let mappings = map_all(&session, 1..=20);
    assert_eq!(table(&server).len(), 20);
    let closed = session.close().expect("its outcome");
    assert_eq!(table(&server), [0u16; 0], "removed when it is closed");
    let mut removed: Vec<u16> = closed.removed.iter().map(|port| port.internal_port).collect();
    removed.sort_unstable();
    assert_eq!(removed, (1..=20).collect::<Vec<u16>>());
    assert_eq!(closed.unconfirmed, []);
    for mapping in &mappings {
        assert_eq!(mapping.state(), State::Removed);
        assert_eq!(mapping.renewal(), None);
        assert_eq!(mapping.obstacle(), None);
        assert!(matches!(mapping.wait(LONG), Err(Error::Removed)));
    }
    for mapping in mappings {
        assert!(mapping.remove(), "there is nothing left to be answered");
    }
    assert_eq!(
        (&mut events).into_iter().next(),
        None,
        "what is removed has no events any more, and no other will come"
    );
    assert!(events.is_over());
}

#[test]
fn closing_tells_what_the_gateway_may_still_have() {
    let server = gateway();
    let session = session(&server);
    let [kept, dropped] = [80, 81].map(|port| map(&session, Request::tcp(port)));
    for mapping in [&kept, &dropped] {
        mapping.wait(LONG).expect("it is made");
    }
    order(&server, "silence pcp always");
    drop(dropped);
    let closed = session.close().expect("its outcome");
    let mut left: Vec<String> = closed.unconfirmed.iter().map(MappedPort::to_string).collect();
    left.sort();
    assert_eq!((left, closed.removed), (vec!["TCP 80".to_owned(), "TCP 81".to_owned()], vec![]));
}

/// Whether the end goes on when the drop has returned shows only if this thread is not held up for as long as the end takes.
#[test]
fn dropping_the_session_does_not_wait_for_the_gateway() {
    let begun = Instant::now();
    loop {
        let server = gateway();
        let session = session(&server);
        let mapping = map(&session, Request::tcp(80));
        mapping.wait(LONG).expect("it is made");
        let mut events = session.events();
        order(&server, "silence pcp always");
        drop(session);
        let goes_on = !events.is_over();
        assert_eq!(mapping.state(), State::Removed);
        assert_eq!((&mut events).into_iter().next(), None, "the events end with the session");
        if goes_on {
            return;
        }
        assert!(begun.elapsed() < LONG, "each drop waited for the end");
    }
}

#[test]
fn dropping_the_session_has_sent_the_removals() {
    let server = gateway();
    let session = session(&server);
    map_all(&session, 1..=3);
    drop(session);
    wait_until_empty(&server);
}

#[test]
fn a_recheck_finds_what_the_gateway_has_lost() {
    let server = gateway();
    // So that its restart shows.
    order(&server, "set epoch 1000");
    let session = session(&server);
    let mut events = session.events();
    session.recheck();
    let mapping = map(&session, Request::tcp(80));
    assert!(matches!(next(&mut events, &mapping), Change::Mapped(_)));
    order(&server, "restart-without-memory");
    session.recheck();
    assert!(matches!(made_again(&mut events, &mapping), Change::Mapped(_)));
    assert_eq!(table(&server), [80]);
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
    first.close().expect("its outcome");
    assert_eq!(table(&servers[0]), [0u16; 0]);
    assert_eq!(mappings[0].state(), State::Removed);
    for (mapping, server) in mappings[1..].iter().zip(&servers[1..]) {
        assert!(matches!(mapping.state(), State::Mapped(_)));
        assert_eq!(table(server), [80]);
    }
    drop(rest);
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
    other.close().expect("its outcome");
    let before = count.load(Ordering::SeqCst);
    map(&logged, Request::tcp(61001)).wait(LONG).expect("it is made");
    // It may have been lost to the end of another test's session; not every time.
    wait_until(|| {
        map(&logged, Request::tcp(61001)).wait(LONG).expect("it is made");
        count.load(Ordering::SeqCst) > before
    });
    assert_eq!(other_count.load(Ordering::SeqCst), 0, "no message after the end of its session");
    logged.close().expect("its outcome");
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
                assert!(matches!(session.close(), Err(Error::NotClosed)), "nor does one end here");
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
    assert_eq!((&mut events).into_iter().find(|_| false), None, "the events end with the session");
    drop(noise);
    wait_until_empty(&server);
}
