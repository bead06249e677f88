//! The hammer: sixteen threads call all nine functions of the C API at random, init and cleanup against everything, and so
//! do the mapping callbacks and the log callback. What the contract promises is checked with the test's own books.
//!
//!   PLUM_HAMMER_SECS=60   how long (2 without)
//!   PLUM_HAMMER_SEED=7    which choices the threads make (the system's interleaving is its own)
//!
//! Much of the checking is left to sanitizers: what the callbacks use is freed as soon as the contract allows (on
//! DESTROYED, or when `plum_destroy_mapping` has returned), and what they count is not atomic. Under ThreadSanitizer
//! (tests/tsan/run) a callback too many, too late or at the same time as another is a report.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the report of a test")]
#![cfg(plum_abi = "0.6.2")]

mod books;
mod callbacks;
mod calls;

use books::Context;
use plum::*;
use plum_gateway::core::Chance;
use plum_gateway::server::Server;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const THREADS: u64 = 16;

/// How long the threads go on with one gateway before they are stopped and get another.
const SLICE: Duration = Duration::from_millis(400);

/// The same, while they leave sessions and mappings alone: at most, so that a mapping fails on a slow system too.
const CALM_SLICE: Duration = Duration::from_secs(10);

/// Whatever has not ended so long after its time hangs. Threads that are told to stop may be in a cleanup (5 s at most).
const PATIENCE: Duration = Duration::from_secs(120);

/// Who answers during a slice.
#[derive(Clone, Copy, Debug)]
enum GatewayKind {
    /// A gateway that makes mappings.
    Good,
    /// One that loses a third of the packets, and is late with the others.
    Bad,
    /// Nobody.
    Nobody,
}

impl GatewayKind {
    /// Starts it, and has the library find it. Only while no other thread runs that may read the environment.
    fn prepare(self) -> Option<Server> {
        let faults = |loss, delay| {
            let server = Server::start_on_own_address(|_| {}).expect("a gateway on loopback");
            server.with_core(|core| {
                core.faults.loss = Chance::both(loss);
                core.faults.delay = delay;
            });
            Some(server)
        };
        let server = match self {
            GatewayKind::Good => faults(0.0, Duration::ZERO),
            GatewayKind::Bad => faults(0.2, Duration::from_millis(20)),
            GatewayKind::Nobody => None,
        };
        // An address of loopback on which nothing listens.
        let address =
            server.as_ref().map_or_else(|| "127.87.3.1:5351".to_owned(), |one| one.pcp_address().to_string());
        // SAFETY: the callers of this promise that no other thread reads the environment.
        unsafe { std::env::set_var("PLUM_GATEWAY", address) };
        server
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Ends the process, as failed, when `body` does not come to its end: a thread that hangs cannot be joined.
fn within<T>(limit: Duration, body: impl FnOnce() -> T) -> T {
    let (ended, end) = channel::<()>();
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the hammer hangs: {}", books::tally());
            std::process::abort();
        }
    });
    let result = body();
    drop(ended);
    watch.join().expect("it only waits");
    result
}

#[test]
fn whatever_sixteen_threads_do_the_contract_holds() {
    let seconds = number("PLUM_HAMMER_SECS").unwrap_or(2);
    let seed = number("PLUM_HAMMER_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("PLUM_HAMMER_SEED={seed}, {seconds} s");
    let time = Duration::from_secs(seconds);
    within(time + PATIENCE, || hammer(time, seed));
    println!("{}", books::tally());
    books::check_that_everything_was_done();
}

fn hammer(time: Duration, seed: u64) {
    let begun = Instant::now();
    let mut slices = 0;
    // A hammer that missed is no test: it goes on until everything has happened. Where sessions end before anything fails (under
    // Wine nobody says that a port is closed), the threads calm down for that.
    loop {
        let calm = slices >= 3 && begun.elapsed() >= time;
        if calm && (books::is_everything_done() || begun.elapsed() >= time + PATIENCE / 2) {
            break;
        }
        let kind = [GatewayKind::Good, GatewayKind::Nobody, GatewayKind::Bad][slices % 3];
        let _gateway = kind.prepare();
        let stop = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let seed = seed ^ ((slices as u64) << 32) ^ (thread << 8);
                scope.spawn(move || calls::call_everything(fastrand::Rng::with_seed(seed), calm, stop));
            }
            go_on(calm);
            stop.store(true, Ordering::Relaxed);
        });
        // The last session, if it lives; it must not live on into another environment.
        calls::cleanup(Context::Program);
        books::check_all_destroyed();
        books::check_silence(|| {
            calls::query(Context::Program, 0);
            // SAFETY: any value is allowed.
            unsafe { plum_set_log_level(calls::int(0)) };
        });
        slices += 1;
    }
}

/// Lets the threads work: calm ones until everything has happened.
fn go_on(calm: bool) {
    let begun = Instant::now();
    loop {
        std::thread::sleep(SLICE);
        if !calm || books::is_everything_done() || begun.elapsed() >= CALM_SLICE {
            return;
        }
    }
}
