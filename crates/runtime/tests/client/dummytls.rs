//! SUCCESS waits for the DummyTLS name of its address, a second at most; nothing else does.

use super::ground::{Ground, LONG, made, success};
use plum_engine::io::Event;
use plum_engine::time::Time;
use plum_runtime::client::{News, QueriedState, Settings};
use plum_runtime::dummytls::System;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

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

fn ground() -> (Ground, Arc<Resolver>) {
    let ground = Ground::before_init();
    let resolver = Arc::new(Resolver::default());
    let settings = Settings { dummytls_domain: Some(b"tls.example".to_vec()), ..Settings::default() };
    ground.init_with(settings, resolver.clone()).expect("init");
    (ground, resolver)
}

#[test]
fn success_waits_for_the_name() {
    let (ground, resolver) = ground();
    let answer = resolver.answer_later("203-0-114-7.tls.example");
    let ids = [ground.create(), ground.create()];
    for id in ids {
        ground.event(id, success("203.0.114.7", 4000));
    }
    // Another address, whose name does not resolve, is told first; the first ones wait.
    let other = ground.create();
    ground.event(other, success("203.0.114.8", 4001));
    assert_eq!(ground.next(), (other, made("203.0.114.8", 4001)));
    for id in ids {
        assert_eq!(ground.client.query(id).expect("known").state, QueriedState::Pending);
    }
    answer.send("203.0.114.7").expect("it waits");
    for id in ids {
        assert_eq!(ground.next(), (id, made("203-0-114-7.tls.example", 4000)));
    }
    // Now it is known.
    ground.event(other, success("203.0.114.7", 4002));
    assert_eq!(ground.next(), (other, made("203-0-114-7.tls.example", 4002)));
    let rest = ground.end();
    assert_eq!(rest.len(), 3, "{rest:?}");
}

#[test]
fn success_waits_a_second_at_most() {
    let (ground, resolver) = ground();
    let answer = resolver.answer_later("203-0-114-7.tls.example");
    let id = ground.create();
    let begun_at = plum_runtime::net::clock::now();
    ground.event(id, success("203.0.114.7", 4000));
    assert_eq!(ground.next(), (id, made("203.0.114.7", 4000)));
    let waited = plum_runtime::net::clock::now().since(begun_at).as_millis();
    assert!((1000..5000).contains(&waited), "{waited} ms");
    answer.send("203.0.114.7").expect("it still waits");
    ground.end();
}

#[test]
fn a_later_event_replaces_the_success_that_is_held_back() {
    let (ground, resolver) = ground();
    let answer = resolver.answer_later("203-0-114-7.tls.example");
    let id = ground.create();
    ground.event(id, success("203.0.114.7", 4000));
    ground.event(id, Event::Failure);
    assert_eq!(ground.next(), (id, News::Failure));
    ground.event(id, success("203.0.114.7", 4001));
    ground.event(id, success("203.0.114.8", 4002));
    assert_eq!(ground.next(), (id, made("203.0.114.8", 4002)));
    answer.send("203.0.114.7").expect("it waits");
    assert_eq!(ground.end(), [(id, News::Destroyed)]);
}

#[test]
fn destroyed_never_waits() {
    let (ground, resolver) = ground();
    let answer = resolver.answer_later("203-0-114-7.tls.example");
    let ids = [ground.create(), ground.create()];
    for id in ids {
        ground.event(id, success("203.0.114.7", 4000));
    }
    ground.client.destroy(ids[0]).expect("destroy");
    assert_eq!(ground.next(), (ids[0], News::Destroyed));
    // Nor does the end of the session; and the next one knows nothing of what the thread that resolves finds then.
    ground.client.cleanup().expect("cleanup");
    assert_eq!(ground.next(), (ids[1], News::Destroyed));
    ground.init().expect("init");
    let id = ground.create();
    answer.send("203.0.114.7").expect("it still waits");
    assert_eq!(ground.end(), [(id, News::Destroyed)]);
}
