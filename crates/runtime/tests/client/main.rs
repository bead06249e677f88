//! The callbacks' contract and the life of a session, against the real worker and a machine that the tests script.
#![allow(
    clippy::disallowed_types,
    reason = "tests wait by the clock, and no child of a fork takes their locks"
)]

mod dummytls;
mod harness;

use harness::{Harness, LONG, made, success};
use plum_engine::io::{Event, MappingId, OnCleanup};
use plum_runtime::client::{Error, News, QueriedState, Settings};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// A callback that says that it runs, and runs until it is told to end.
struct Slow {
    begun: Receiver<()>,
    end: Sender<()>,
    ended: Arc<AtomicBool>,
}

/// The slow callback's two halves; only SUCCESS and FAILURE are slow.
fn slow() -> (Slow, impl Fn(MappingId, &News) + Send + Sync + 'static) {
    let (begin, begun) = channel();
    let (end, until) = channel::<()>();
    let ended = Arc::new(AtomicBool::new(false));
    let until = Mutex::new(until);
    let flag = Arc::clone(&ended);
    let callback = move |_, news: &News| {
        if *news != News::Destroyed {
            begin.send(()).expect("the test listens");
            until.lock().expect("not poisoned").recv_timeout(LONG).expect("the test ends the callback");
            flag.store(true, Ordering::SeqCst);
        }
    };
    (Slow { begun, end, ended }, callback)
}

impl Slow {
    fn wait_until_begun(&self) {
        self.begun.recv_timeout(LONG).expect("the callback begins");
    }

    fn end(&self) {
        self.end.send(()).expect("the callback waits");
    }
}

/// Waits for what another thread is about to do and nobody can be told of.
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("it never came to pass that {what}");
}

#[test]
fn init_fails_without_a_thread_and_can_be_called_again() {
    let harness = Harness::before_init();
    let system = Arc::new(plum_runtime::dummytls::RealSystem);
    let no_thread =
        |_, _: plum_runtime::client::MakeProgram<'_>| Err(std::io::Error::other("no threads today"));
    assert_eq!(harness.client.init_with(Some(Settings::default()), system, no_thread), Err(Error::Failed));
    assert_eq!(harness.client.check_running(), Err(Error::Failed));
    assert_eq!(harness.init(), Ok(()));
    assert_eq!(harness.end(), []);
}

#[test]
fn create_fails_when_the_ids_are_used_up() {
    let harness = Harness::with_first_id(MappingId::MAX - 1);
    harness.init().expect("init");
    assert_eq!(harness.create(), MappingId::MAX - 1);
    assert_eq!(harness.create(), MappingId::MAX);
    for _ in 0..2 {
        assert_eq!(harness.create_with(|_, _| panic!("no news comes of it")), Err(Error::Failed));
    }
    assert_eq!(harness.end(), [(MappingId::MAX - 1, News::Destroyed), (MappingId::MAX, News::Destroyed)]);
}

#[test]
fn a_query_shows_every_state() {
    let harness = Harness::new();
    let id = harness.create();
    let state = || harness.client.query(id).expect("the mapping is known").state;
    assert_eq!(state(), QueriedState::Pending);
    harness.event(id, success("203.0.114.7", 4000));
    assert_eq!(harness.next(), (id, made("203.0.114.7", 4000)));
    let News::Success(external) = made("203.0.114.7", 4000) else { unreachable!() };
    assert_eq!(state(), QueriedState::Success(external));
    harness.event(id, Event::Pending);
    wait_until("the mapping is pending again", || state() == QueriedState::Pending);
    harness.event(id, Event::Failure);
    assert_eq!(harness.next(), (id, News::Failure));
    assert_eq!(state(), QueriedState::Failure);
    harness.hold_destroyed();
    harness.client.destroy(id).expect("destroy");
    assert_eq!(state(), QueriedState::Destroying);
    harness.release_destroyed();
    assert_eq!(harness.next(), (id, News::Destroyed));
    assert_eq!(harness.client.query(id).map(|_| ()), Err(Error::NotAvailable));
    assert_eq!(harness.end(), []);
}

#[test]
fn callbacks_come_on_one_thread_which_is_not_the_programs() {
    let harness = Harness::new();
    let callers = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let callers = Arc::clone(&callers);
        let overlap = move |_, _: &News| {
            assert_eq!(callers.fetch_add(1, Ordering::SeqCst), 0, "callbacks overlap");
            thread::yield_now();
            callers.fetch_sub(1, Ordering::SeqCst);
        };
        let id = harness.create_with(overlap).expect("create");
        harness.event(id, success("203.0.114.7", 4000));
        harness.event(id, Event::Failure);
    }
    let mut threads: Vec<_> = (0..6).map(|_| harness.told.recv_timeout(LONG).expect("news").2).collect();
    harness.client.destroy(1).expect("destroy");
    threads.push(harness.told.recv_timeout(LONG).expect("news").2);
    harness.client.cleanup().expect("cleanup");
    // The DESTROYED that cleanup waits for as well.
    threads.extend(harness.told.try_iter().map(|(_, _, thread)| thread));
    assert_eq!(threads.len(), 6 + 3);
    assert!(threads.iter().all(|one| *one == threads[0] && *one != thread::current().id()));
}

#[test]
fn success_is_told_each_time_and_failure_once() {
    let harness = Harness::new();
    let id = harness.create();
    let events = [
        success("203.0.114.7", 4000),
        success("203.0.114.7", 4001),
        Event::Failure,
        Event::Failure,
        success("203.0.114.7", 4000),
    ];
    for event in events {
        harness.event(id, event);
    }
    let news =
        [made("203.0.114.7", 4000), made("203.0.114.7", 4001), News::Failure, made("203.0.114.7", 4000)];
    for news in news {
        assert_eq!(harness.next(), (id, news));
    }
    assert_eq!(harness.end(), [(id, News::Destroyed)]);
}

#[test]
fn a_mapping_is_destroyed_once_however_often_it_is_asked_for() {
    let harness = Harness::new();
    let id = harness.create();
    harness.hold_destroyed();
    // The machine asserts that it hears of it once.
    for _ in 0..3 {
        assert_eq!(harness.client.destroy(id), Ok(()));
    }
    harness.release_destroyed();
    assert_eq!(harness.end(), [(id, News::Destroyed)]);
}

#[test]
fn no_news_but_destroyed_after_destroy_has_returned() {
    let harness = Harness::new();
    let id = harness.create();
    harness.hold_destroyed();
    harness.client.destroy(id).expect("destroy");
    for event in [success("203.0.114.7", 4000), Event::Failure, Event::Pending] {
        harness.event(id, event);
        assert_eq!(harness.client.query(id).expect("known").state, QueriedState::Destroying);
    }
    harness.release_destroyed();
    assert_eq!(harness.next(), (id, News::Destroyed));
    assert_eq!(harness.end(), []);
}

#[test]
fn destroy_waits_for_the_running_callback_of_that_mapping_only() {
    for event in [success("203.0.114.7", 4000), Event::Failure] {
        let harness = Harness::new();
        let (slow, callback) = slow();
        let busy = harness.create_with(callback).expect("create");
        let other = harness.create();
        harness.event(busy, event);
        slow.wait_until_begun();

        // So that the mapping stays known to whoever of the two below is late.
        harness.hold_destroyed();
        harness.client.destroy(other).expect("it does not wait");
        let client = harness.client;
        let ended = Arc::clone(&slow.ended);
        let (report, reported) = channel();
        // The second call finds it DESTROYING already, and has to wait all the same.
        let threads = [(); 2].map(|()| {
            let (ended, report) = (Arc::clone(&ended), report.clone());
            thread::spawn(move || {
                let result = client.destroy(busy);
                report.send((result, ended.load(Ordering::SeqCst))).expect("the test listens");
            })
        });
        wait_until("the mapping is to be destroyed", || {
            client.query(busy).expect("known").state == QueriedState::Destroying
        });
        assert!(reported.try_recv().is_err(), "destroy returned while the callback was running");
        slow.end();
        for _ in 0..2 {
            assert_eq!(reported.recv_timeout(LONG), Ok((Ok(()), true)));
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
        harness.release_destroyed();
        harness.client.cleanup().expect("cleanup");
    }
}

#[test]
fn destroy_does_not_wait_for_a_running_destroyed() {
    let harness = Harness::new();
    let (begin, begun) = channel();
    let (end, until) = channel::<()>();
    let until = Mutex::new(until);
    let id = harness
        .create_with(move |_, _| {
            begin.send(()).expect("the test listens");
            until.lock().expect("not poisoned").recv_timeout(LONG).expect("the test ends the callback");
        })
        .expect("create");
    harness.client.destroy(id).expect("destroy");
    begun.recv_timeout(LONG).expect("DESTROYED begins");
    assert_eq!(harness.client.destroy(id), Err(Error::NotAvailable));
    assert_eq!(harness.client.query(id).map(|_| ()), Err(Error::NotAvailable));
    end.send(()).expect("the callback waits");
    assert_eq!(harness.end(), [(id, News::Destroyed)]);
}

#[test]
fn inside_a_callback_everything_works_but_cleanup() {
    let harness = Harness::new();
    let client = harness.client;
    let other = harness.create();
    let id = harness
        .create_with(move |id, news| {
            assert_eq!(client.cleanup(), Err(Error::Failed));
            assert_eq!(client.init(Some(Settings::default())), Err(Error::Failed));
            match news {
                News::Destroyed => assert_eq!(client.query(id).map(|_| ()), Err(Error::NotAvailable)),
                News::Success(_) => {
                    // Its own mapping and another one; both DESTROYED come after this.
                    assert_eq!(client.destroy(id), Ok(()));
                    assert_eq!(client.destroy(id), Ok(()));
                    assert_eq!(client.destroy(other), Ok(()));
                    assert_eq!(client.query(id).expect("known").state, QueriedState::Destroying);
                    let listener = client.query(other).expect("known").listener;
                    assert_eq!(client.create(harness::wanted(), listener), Ok(id + 1));
                }
                News::Failure => unreachable!("it does not fail"),
            }
        })
        .expect("create");
    harness.event(id, success("203.0.114.7", 4000));
    assert_eq!(harness.next(), (id, made("203.0.114.7", 4000)));
    assert_eq!(harness.next(), (id, News::Destroyed));
    assert_eq!(harness.next(), (other, News::Destroyed));
    assert_eq!(harness.end(), [(id + 1, News::Destroyed)]);
}

#[test]
fn during_cleanup_nothing_is_created_and_ids_stay_known_until_they_are_destroyed() {
    let harness = Harness::new();
    let client = harness.client;
    let (begin, begun) = channel();
    let (end, until) = channel::<()>();
    let until = Mutex::new(until);
    let first = harness
        .create_with(move |id, news| {
            assert_eq!(*news, News::Destroyed);
            assert_eq!(client.query(id).map(|_| ()), Err(Error::NotAvailable));
            assert_eq!(client.cleanup(), Err(Error::Failed));
            begin.send(()).expect("the test listens");
            until.lock().expect("not poisoned").recv_timeout(LONG).expect("the test ends the callback");
        })
        .expect("create");
    let second = harness.create();
    let cleanup = thread::spawn(move || client.cleanup());
    begun.recv_timeout(LONG).expect("the first is destroyed");
    assert_eq!(harness.create_with(|_, _| {}), Err(Error::Failed));
    assert_eq!(harness.init(), Err(Error::Failed));
    assert_eq!(client.query(second).expect("known").state, QueriedState::Destroying);
    // The machine asserts that it hears of no destroy now.
    assert_eq!(client.destroy(second), Ok(()));
    assert_eq!(client.destroy(first), Err(Error::NotAvailable));

    let (call, called) = channel();
    let another = thread::spawn(move || {
        call.send(()).expect("the test listens");
        // It returns after the first, when nothing is known any more.
        (client.cleanup(), client.query(second).map(|_| ()))
    });
    called.recv_timeout(LONG).expect("the second is about to be called");
    // Time to return too early; that it has not yet been called can only hide a defect, not show one that is not there.
    thread::sleep(std::time::Duration::from_millis(30));
    assert!(!another.is_finished());
    end.send(()).expect("the callback waits");
    assert_eq!(cleanup.join().expect("no panic"), Ok(()));
    assert_eq!(another.join().expect("no panic"), (Err(Error::Failed), Err(Error::Failed)));
    assert_eq!(client.query(second).map(|_| ()), Err(Error::Failed));
    let news: Vec<_> = harness.told.try_iter().map(|(id, news, _)| (id, news)).collect();
    assert_eq!(news, [(first, News::Destroyed), (second, News::Destroyed)]);
}

#[test]
fn mappings_fail_when_the_worker_panics_and_cleanup_still_destroys_them() {
    let harness = Harness::new();
    let ids: Vec<MappingId> = (0..3).map(|_| harness.create()).collect();
    harness.event(ids[0], success("203.0.114.7", 4000));
    harness.event(ids[1], Event::Failure);
    assert_eq!(harness.next(), (ids[0], made("203.0.114.7", 4000)));
    assert_eq!(harness.next(), (ids[1], News::Failure));
    harness.panic();
    // The one that had failed before is not told again.
    assert_eq!(harness.next(), (ids[0], News::Failure));
    assert_eq!(harness.next(), (ids[2], News::Failure));
    let late = harness.create();
    assert_eq!(harness.next(), (late, News::Failure));
    harness.client.destroy(late).expect("destroy");
    assert_eq!(harness.next(), (late, News::Destroyed));
    assert_eq!(harness.end(), ids.into_iter().map(|id| (id, News::Destroyed)).collect::<Vec<_>>());
}

#[test]
fn a_cleanup_that_keeps_what_is_made_keeps_what_a_query_shows_as_made() {
    let harness = Harness::before_init();
    let settings = Settings { on_cleanup: OnCleanup::Keep, ..Settings::default() };
    harness.init_with(settings, Arc::new(plum_runtime::dummytls::RealSystem)).expect("init");
    let [made_one, failed, destroyed, _pending] = [0; 4].map(|_| harness.create());
    harness.event(made_one, success("203.0.114.7", 4000));
    harness.event(failed, Event::Failure);
    assert_eq!(harness.next(), (made_one, made("203.0.114.7", 4000)));
    assert_eq!(harness.next(), (failed, News::Failure));
    harness.client.destroy(destroyed).expect("destroy");
    harness.client.cleanup().expect("cleanup");
    assert_eq!(harness.left_to_cleanup(), [made_one]);
    assert_eq!(harness.told.try_iter().filter(|(_, news, _)| *news == News::Destroyed).count(), 4);
}

#[test]
fn every_mapping_is_destroyed_exactly_once_whatever_races() {
    race(false);
}

#[test]
fn every_mapping_is_destroyed_exactly_once_also_when_the_worker_panics() {
    race(true);
}

/// Creates, queries, destroys and cleans up from many threads; in the midst of it the machine may panic.
fn race(panics: bool) {
    let harness = Harness::before_init();
    let client = harness.client;
    let news: Arc<Mutex<BTreeMap<MappingId, Vec<News>>>> = Arc::default();
    let mut created_in_all = 0;
    for _ in 0..if panics { 5 } else { 20 } {
        harness.init().expect("init");
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let news = Arc::clone(&news);
                let listener = harness.create_with(move |id, one| {
                    news.lock().expect("not poisoned").entry(id).or_default().push(one.clone());
                });
                let template = listener.and_then(|id| client.query(id)).expect("known").listener;
                thread::spawn(move || {
                    let mut created = 1;
                    // Until cleanup begins.
                    while let Ok(id) = client.create(harness::wanted(), template.clone()) {
                        created += 1;
                        let _ = client.query(id);
                        if id % 3 == 0 {
                            // Destroyed already, or cleaned up: whoever comes first.
                            let _ = client.destroy(id);
                        }
                    }
                    created
                })
            })
            .collect();
        for id in 0..20 {
            harness.event(id, success("203.0.114.7", 4000));
        }
        if panics {
            harness.panic();
        }
        wait_until("there are many mappings", || news.lock().expect("not poisoned").len() > created_in_all);
        assert_eq!(client.cleanup(), Ok(()));
        let after = news.lock().expect("not poisoned").len();
        created_in_all += workers.into_iter().map(|worker| worker.join().expect("no panic")).sum::<usize>();
        assert_eq!(after, created_in_all, "all had their DESTROYED when cleanup returned");
    }
    for (id, news) in news.lock().expect("not poisoned").iter() {
        let destroyed = news.iter().filter(|one| **one == News::Destroyed).count();
        assert_eq!((destroyed, news.last()), (1, Some(&News::Destroyed)), "mapping {id}: {news:?}");
        // It says that the machine panicked: if not by the test's wish, it was asked for what cannot be.
        assert!(panics || !news.contains(&News::Failure), "mapping {id}: {news:?}");
        assert!(news.iter().filter(|one| **one == News::Failure).count() <= 1, "mapping {id}: {news:?}");
    }
}
