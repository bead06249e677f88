//! SUCCESS waits for the DummyTLS name of its address, a second at most; nothing else does.

use super::harness::{Harness, LONG, made, success};
use plum_engine::io::Event;
use plum_engine::time::Time;
use plum_runtime::client::{News, QueriedState, Settings};
use plum_runtime::dummytls::System;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limit on resolving threads is the process's: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A resolver that answers when the test does; without an answer to come, it finds nothing at once.
#[derive(Default)]
struct Resolver(Mutex<BTreeMap<String, Receiver<&'static str>>>);

impl Resolver {
    fn answer_later(&self, host: &str) -> Sender<&'static str> {
        let (sender, receiver) = channel();
        self.0.lock().expect("not poisoned").insert(host.to_owned(), receiver);
        sender
    }
}

impl System for Resolver {
    fn resolve(&self, host: &str) -> Vec<IpAddr> {
        let answer = self.0.lock().expect("not poisoned").remove(host);
        let text = answer.and_then(|answer| answer.recv_timeout(LONG).ok());
        text.map(|text| text.parse().expect("an address")).into_iter().collect()
    }

    fn now(&self) -> Time {
        plum_runtime::net::clock::now()
    }

    fn port(&self) -> u16 {
        0
    }
}

fn harness() -> (MutexGuard<'static, ()>, Harness, Arc<Resolver>) {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let harness = Harness::before_init();
    let resolver = Arc::new(Resolver::default());
    let settings = Settings { dummytls_domain: Some(b"tls.example".to_vec()), ..Settings::default() };
    harness.init_with(settings, resolver.clone()).expect("init");
    (alone, harness, resolver)
}

#[test]
fn success_waits_for_the_name() {
    let (_alone, harness, resolver) = harness();
    let answer = resolver.answer_later("203-0-114-7.tls.example");
    let ids = [harness.create(), harness.create()];
    for id in ids {
        harness.event(id, success("203.0.114.7", 4000));
    }
    // Another address, whose name does not resolve, is told first; the first ones wait.
    let other = harness.create();
    harness.event(other, success("203.0.114.8", 4001));
    assert_eq!(harness.next(), (other, made("203.0.114.8", 4001)));
    for id in ids {
        assert_eq!(harness.client.query(id).expect("known").state, QueriedState::Pending);
    }
    answer.send("203.0.114.7").expect("it waits");
    for id in ids {
        assert_eq!(harness.next(), (id, made("203-0-114-7.tls.example", 4000)));
    }
    // Now it is known.
    harness.event(other, success("203.0.114.7", 4002));
    assert_eq!(harness.next(), (other, made("203-0-114-7.tls.example", 4002)));
    let rest = harness.end();
    assert_eq!(rest.len(), 3, "{rest:?}");
}

#[test]
fn success_waits_a_second_at_most() {
    let (_alone, harness, resolver) = harness();
    let answer = resolver.answer_later("203-0-114-7.tls.example");
    let id = harness.create();
    let begun_at = plum_runtime::net::clock::now();
    harness.event(id, success("203.0.114.7", 4000));
    assert_eq!(harness.next(), (id, made("203.0.114.7", 4000)));
    let waited = plum_runtime::net::clock::now().since(begun_at).as_millis();
    assert!((1000..5000).contains(&waited), "{waited} ms");
    answer.send("203.0.114.7").expect("it still waits");
    harness.end();
}

#[test]
fn a_later_event_replaces_the_success_that_is_held_back() {
    let (_alone, harness, resolver) = harness();
    let answer = resolver.answer_later("203-0-114-7.tls.example");
    let id = harness.create();
    harness.event(id, success("203.0.114.7", 4000));
    harness.event(id, Event::Failure);
    assert_eq!(harness.next(), (id, News::Failure));
    harness.event(id, success("203.0.114.7", 4001));
    harness.event(id, success("203.0.114.8", 4002));
    assert_eq!(harness.next(), (id, made("203.0.114.8", 4002)));
    answer.send("203.0.114.7").expect("it waits");
    assert_eq!(harness.end(), [(id, News::Destroyed)]);
}

#[test]
fn destroyed_never_waits() {
    let (_alone, harness, resolver) = harness();
    let answer = resolver.answer_later("203-0-114-7.tls.example");
    let ids = [harness.create(), harness.create()];
    for id in ids {
        harness.event(id, success("203.0.114.7", 4000));
    }
    harness.client.destroy(ids[0]).expect("destroy");
    assert_eq!(harness.next(), (ids[0], News::Destroyed));
    // Nor does the end of the session; and the next one knows nothing of what the thread that resolves finds then.
    harness.client.cleanup().expect("cleanup");
    assert_eq!(harness.next(), (ids[1], News::Destroyed));
    harness.init().expect("init");
    let id = harness.create();
    answer.send("203.0.114.7").expect("it still waits");
    assert_eq!(harness.end(), [(id, News::Destroyed)]);
}
