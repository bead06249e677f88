//! The handshake between the program's threads and the worker, over its interleavings.
//!
//! What runs is the library's own client, log and worker. The worker carries a machine with a script, and waits in a
//! poll of sync.rs, to which the kernel sends nothing. Locks, condition variables, atomics and threads are shuttle's: it
//! runs one thread at a time and chooses at each step which goes on, at random and by
//! PCT ("A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", Burckhardt et al., 2010). A deadlock
//! fails the test, and a failure prints the schedule, which `shuttle::replay` repeats.
//!
//!   tests/interleavings/run [SCHEDULES]
//!
//!   PLUM_SCHEDULES=100000   schedules a test, half of them by each scheduler (2000 without)
//!   PLUM_SCHEDULE_SEED=7    of both schedulers
#![cfg(shuttle)]

use plum_engine::io::Event;
use plum_interleavings::client::{Error, News};
use plum_interleavings::log::Level;
use plum_interleavings::{Harness, Script, explore, success};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Runs these on a thread each, and waits for them.
fn all_at_once(bodies: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = bodies.into_iter().map(thread::spawn).collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
}

macro_rules! all_at_once {
    ($($body:expr),* $(,)?) => { all_at_once(vec![$(Box::new($body)),*]) };
}

fn lively() -> Script {
    Script { events: vec![success(), Event::Failure, Event::Pending, success()], turns: None }
}

#[test]
fn destroy_returns_when_no_callback_of_its_mapping_runs_or_will() {
    explore(|| {
        let harness = Harness::start(lively());
        let (id, last) = (harness.create(), harness.create());
        // The books check it.
        all_at_once!(move || harness.destroy(id), move || harness.destroy(id), move || harness.destroy(last));
        harness.cleanup().expect("there is a session");
    });
}

#[test]
fn what_was_created_is_destroyed_when_cleanup_returns() {
    explore(|| {
        let harness = Harness::start(lively());
        let create = move || while harness.try_create().is_ok_and(|id| id < 5) {};
        all_at_once!(create, create, move || assert_eq!(harness.cleanup(), Ok(())));
        harness.check_ended();
    });
}

#[test]
fn a_second_cleanup_waits_for_the_first_and_fails() {
    explore(|| {
        let harness = Harness::start(lively());
        harness.create();
        let cleanups = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&cleanups);
        let cleanup = move || {
            let result = harness.cleanup();
            // Nobody begins another session.
            harness.check_ended();
            assert_eq!(harness.client.query(0).map(|_| ()), Err(Error::Failed));
            if result == Ok(()) {
                count.fetch_add(1, SeqCst);
            }
        };
        all_at_once!(cleanup.clone(), cleanup.clone(), cleanup);
        assert_eq!(cleanups.load(SeqCst), 1);
    });
}

#[test]
fn sessions_begin_and_end_one_after_the_other_whoever_asks_for_them() {
    explore(|| {
        let harness = Harness::new(lively());
        let session = move || {
            let begun = harness.init();
            let created = harness.try_create();
            if begun.is_ok() && created.is_err() {
                // Somebody else's cleanup came between.
                let _ = harness.init();
            }
            let _ = harness.cleanup();
            if let Ok(id) = created {
                harness.check_destroyed(id);
            }
        };
        all_at_once!(session, session, move || {
            let _ = harness.cleanup();
        });
        let _ = harness.cleanup();
        harness.check_ended();
    });
}

#[test]
fn an_init_that_gets_no_thread_leaves_the_library_as_it_was() {
    explore(|| {
        let harness = Harness::new(lively());
        let init = move || {
            if harness.init().is_ok() {
                harness.create();
                harness.cleanup().expect("nobody else's cleanup ends it");
            }
        };
        all_at_once!(init, move || assert_eq!(harness.init_without_thread(), Err(Error::Failed)));
        assert_eq!(harness.init(), Ok(()));
        assert_eq!(harness.cleanup(), Ok(()));
        harness.check_ended();
    });
}

#[test]
fn callbacks_may_call_everything_but_cleanup() {
    explore(|| {
        let harness = Harness::new(lively());
        harness.inside(move |id, news| {
            assert_eq!(harness.client.cleanup(), Err(Error::Failed));
            assert_eq!(harness.init(), Err(Error::Failed));
            match news {
                News::Success(_) if id < 3 => {
                    let _ = harness.try_create();
                    assert_eq!(harness.client.destroy(id), Ok(()), "its own");
                    let _ = harness.client.destroy(id + 1);
                }
                News::Success(_) | News::Failure => assert!(harness.client.query(id).is_ok()),
                News::Destroyed => assert_eq!(harness.client.destroy(id), Err(Error::NotAvailable)),
            }
        });
        harness.init().expect("the first");
        let id = harness.create();
        all_at_once!(move || harness.destroy(id), move || assert_eq!(harness.cleanup(), Ok(())));
        harness.check_ended();
    });
}

#[test]
fn log_callbacks_may_call_everything_too() {
    explore(|| {
        let harness = Harness::new(lively());
        harness.log(Level::Verbose, move |_| {
            assert_eq!(harness.client.cleanup(), Err(Error::Failed));
            assert_eq!(harness.init(), Err(Error::Failed));
            // It does not wait, wherever it is called from.
            let _ = harness.client.destroy(0);
            let _ = harness.client.query(1);
            if harness.client.query(2).is_err() {
                let _ = harness.try_create();
            }
        });
        harness.init().expect("the first");
        let id = harness.create();
        all_at_once!(
            move || {
                let _ = harness.try_create();
            },
            move || harness.destroy(id + 1),
            move || assert_eq!(harness.cleanup(), Ok(())),
        );
        harness.check_ended();
    });
}

#[test]
fn the_log_of_a_session_is_open_until_its_own_cleanup() {
    explore(|| {
        let harness = Harness::new(lively());
        let messages = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&messages);
        harness.log(Level::Debug, move |_| {
            count.fetch_add(1, SeqCst);
        });
        let session = move || {
            // After that of the other.
            while harness.init().is_err() {
                thread::yield_now();
            }
            let before = messages.load(SeqCst);
            harness.create();
            assert!(messages.load(SeqCst) > before, "creating a mapping is logged");
            harness.cleanup().expect("nobody else's cleanup ends it");
        };
        all_at_once!(session.clone(), session);
        harness.check_ended();
    });
}

#[test]
fn a_worker_that_panicked_still_serves_destroy_and_cleanup() {
    explore(|| {
        let turns = thread_rng().gen_range(0..6);
        let harness = Harness::start(Script { turns: Some(turns), ..lively() });
        let id = harness.create();
        all_at_once!(
            move || harness.destroy(id),
            move || {
                let _ = harness.try_create();
            },
            move || assert_eq!(harness.cleanup(), Ok(())),
        );
        harness.check_ended();
    });
}

#[test]
fn three_threads_do_what_they_like() {
    explore(|| {
        let turns = thread_rng().gen_ratio(1, 4).then(|| thread_rng().gen_range(1..20));
        let harness = Harness::new(Script { turns, ..lively() });
        harness.inside(move |id, _| any_call(harness, id, true));
        harness.log(Level::Verbose, move |_| any_call(harness, 0, true));
        let body = move || {
            let mut last = 0;
            for _ in 0..5 {
                last = harness.latest().max(last);
                any_call(harness, last, false);
            }
        };
        all_at_once!(body, body, body);
        let _ = harness.cleanup();
        harness.check_ended();
    });
}

/// A call at random; from `inside` of a callback most calls do nothing, so that it ends.
fn any_call(harness: Harness, id: i32, inside: bool) {
    match thread_rng().gen_range(0..if inside { 40 } else { 8 }) {
        0 | 1 if harness.latest() < 12 => drop(harness.try_create()),
        2 if inside => drop(harness.client.destroy(id)),
        2 | 3 if !inside => harness.destroy(id),
        4 => drop(harness.client.query(id)),
        5 if inside => assert_eq!(harness.client.cleanup(), Err(Error::Failed)),
        5 => drop(harness.cleanup()),
        6 | 7 => assert!(harness.init().is_ok() <= !inside),
        _ => {}
    }
}

#[test]
fn no_wake_is_lost() {
    use plum_engine::io::MappingId;
    use plum_engine::time::Time;
    use plum_interleavings::worker::{Command, Program, Wake};

    /// Counts how often it was called because of a wake.
    #[derive(Clone, Default)]
    struct Wakes(Arc<(Mutex<usize>, Condvar)>);
    impl Program for Wakes {
        fn handle_event(&mut self, _: Time, _: MappingId, _: Event) {}
        fn poll_timeout(&self) -> Option<Time> {
            None
        }
        fn handle_timeout(&mut self, _: Time) -> bool {
            *self.0.0.lock().expect("not poisoned") += 1;
            self.0.1.notify_all();
            false
        }
        fn handle_finished(&mut self, _: Time) {}
        fn handle_panic(&mut self) {}
    }

    explore(|| {
        let wakes = Wakes::default();
        let mut wake: Option<Wake> = None;
        let turns = thread_rng().gen_ratio(1, 2).then(|| thread_rng().gen_range(0..3));
        let worker = Script { events: Vec::new(), turns }.start(|its| {
            wake = Some(its);
            Box::new(wakes.clone())
        });
        let (worker, wake) = (worker.expect("a model starts"), wake.expect("it was made"));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (wakes, wake) = (wakes.clone(), wake.clone());
                thread::spawn(move || {
                    let (count, changed) = &*wakes.0;
                    let before = *count.lock().expect("not poisoned");
                    wake.wake();
                    // If it is lost, this is a deadlock.
                    drop(changed.wait_while(count.lock().expect("not poisoned"), |now| *now <= before));
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        worker.send(Command::Cleanup);
        worker.join();
    });
}
