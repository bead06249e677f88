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
use plum_interleavings::{Ground, Script, explore, success};
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
        let ground = Ground::start(lively());
        let (id, other) = (ground.create(), ground.create());
        // The books have an eye on it.
        all_at_once!(move || ground.destroy(id), move || ground.destroy(id), move || ground.destroy(other));
        ground.cleanup().expect("there is a session");
    });
}

#[test]
fn what_was_created_is_destroyed_when_cleanup_returns() {
    explore(|| {
        let ground = Ground::start(lively());
        let create = move || while ground.try_create().is_ok_and(|id| id < 5) {};
        all_at_once!(create, create, move || assert_eq!(ground.cleanup(), Ok(())));
        ground.check_ended();
    });
}

#[test]
fn a_second_cleanup_waits_for_the_first_and_fails() {
    explore(|| {
        let ground = Ground::start(lively());
        ground.create();
        let cleanups = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&cleanups);
        let cleanup = move || {
            let result = ground.cleanup();
            // Nobody begins another session.
            ground.check_ended();
            assert_eq!(ground.client.query(0).map(|_| ()), Err(Error::Failed));
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
        let ground = Ground::new(lively());
        let session = move || {
            let begun = ground.init();
            let created = ground.try_create();
            if begun.is_ok() && created.is_err() {
                // Somebody else's cleanup came between.
                let _ = ground.init();
            }
            let _ = ground.cleanup();
            if let Ok(id) = created {
                ground.check_destroyed(id);
            }
        };
        all_at_once!(session, session, move || {
            let _ = ground.cleanup();
        });
        let _ = ground.cleanup();
        ground.check_ended();
    });
}

#[test]
fn an_init_that_gets_no_thread_leaves_the_library_as_it_was() {
    explore(|| {
        let ground = Ground::new(lively());
        let init = move || {
            if ground.init().is_ok() {
                ground.create();
                ground.cleanup().expect("nobody else's cleanup ends it");
            }
        };
        all_at_once!(init, move || assert_eq!(ground.init_without_thread(), Err(Error::Failed)));
        assert_eq!(ground.init(), Ok(()));
        assert_eq!(ground.cleanup(), Ok(()));
        ground.check_ended();
    });
}

#[test]
fn callbacks_may_call_everything_but_cleanup() {
    explore(|| {
        let ground = Ground::new(lively());
        ground.inside(move |id, news| {
            assert_eq!(ground.client.cleanup(), Err(Error::Failed));
            assert_eq!(ground.init(), Err(Error::Failed));
            match news {
                News::Success(_) if id < 3 => {
                    let _ = ground.try_create();
                    assert_eq!(ground.client.destroy(id), Ok(()), "its own");
                    let _ = ground.client.destroy(id + 1);
                }
                News::Success(_) | News::Failure => assert!(ground.client.query(id).is_ok()),
                News::Destroyed => assert_eq!(ground.client.destroy(id), Err(Error::NotAvailable)),
            }
        });
        ground.init().expect("the first");
        let id = ground.create();
        all_at_once!(move || ground.destroy(id), move || assert_eq!(ground.cleanup(), Ok(())));
        ground.check_ended();
    });
}

#[test]
fn log_callbacks_may_call_everything_too() {
    explore(|| {
        let ground = Ground::new(lively());
        ground.log(Level::Verbose, move |_| {
            assert_eq!(ground.client.cleanup(), Err(Error::Failed));
            assert_eq!(ground.init(), Err(Error::Failed));
            // It does not wait, wherever it is called from.
            let _ = ground.client.destroy(0);
            let _ = ground.client.query(1);
            if ground.client.query(2).is_err() {
                let _ = ground.try_create();
            }
        });
        ground.init().expect("the first");
        let id = ground.create();
        all_at_once!(
            move || {
                let _ = ground.try_create();
            },
            move || ground.destroy(id + 1),
            move || assert_eq!(ground.cleanup(), Ok(())),
        );
        ground.check_ended();
    });
}

#[test]
fn the_log_of_a_session_is_open_until_its_own_cleanup() {
    explore(|| {
        let ground = Ground::new(lively());
        let messages = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&messages);
        ground.log(Level::Debug, move |_| {
            count.fetch_add(1, SeqCst);
        });
        let session = move || {
            // After that of the other.
            while ground.init().is_err() {
                thread::yield_now();
            }
            let before = messages.load(SeqCst);
            ground.create();
            assert!(messages.load(SeqCst) > before, "creating a mapping is logged");
            ground.cleanup().expect("nobody else's cleanup ends it");
        };
        all_at_once!(session.clone(), session);
        ground.check_ended();
    });
}

#[test]
fn a_worker_that_panicked_still_serves_destroy_and_cleanup() {
    explore(|| {
        let turns = thread_rng().gen_range(0..6);
        let ground = Ground::start(Script { turns: Some(turns), ..lively() });
        let id = ground.create();
        all_at_once!(
            move || ground.destroy(id),
            move || {
                let _ = ground.try_create();
            },
            move || assert_eq!(ground.cleanup(), Ok(())),
        );
        ground.check_ended();
    });
}

#[test]
fn three_threads_do_what_they_like() {
    explore(|| {
        let turns = thread_rng().gen_ratio(1, 4).then(|| thread_rng().gen_range(1..20));
        let ground = Ground::new(Script { turns, ..lively() });
        ground.inside(move |id, _| any_call(ground, id, true));
        ground.log(Level::Verbose, move |_| any_call(ground, 0, true));
        let body = move || {
            let mut last = 0;
            for _ in 0..5 {
                last = ground.latest().max(last);
                any_call(ground, last, false);
            }
        };
        all_at_once!(body, body, body);
        let _ = ground.cleanup();
        ground.check_ended();
    });
}

/// A call at random; from `inside` of a callback most calls do nothing, so that it ends.
fn any_call(ground: Ground, id: i32, inside: bool) {
    match thread_rng().gen_range(0..if inside { 40 } else { 8 }) {
        0 | 1 if ground.latest() < 12 => drop(ground.try_create()),
        2 if inside => drop(ground.client.destroy(id)),
        2 | 3 if !inside => ground.destroy(id),
        4 => drop(ground.client.query(id)),
        5 if inside => assert_eq!(ground.client.cleanup(), Err(Error::Failed)),
        5 => drop(ground.cleanup()),
        6 | 7 => assert!(ground.init().is_ok() <= !inside),
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
