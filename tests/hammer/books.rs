//! What the hammer knows of each id, and how often what happened.
//!
//! Nothing here may order the threads that the library is to order: all atomics are relaxed, which ThreadSanitizer does not
//! take for synchronisation, and there is no lock.

use std::ffi::c_int;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Where a call comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A thread of the program's.
    Program,
    /// A mapping callback.
    Mapping,
    /// The log callback, whichever thread that is on.
    Log,
}

/// `plum_create_mapping` has returned the id, or a callback came of it.
const GIVEN: u8 = 1;
/// `plum_create_mapping` has returned it.
const RETURNED: u8 = 2;
/// It had its DESTROYED.
const DESTROYED: u8 = 4;
/// `plum_destroy_mapping` has returned SUCCESS to a thread of the program's: no SUCCESS or FAILURE comes any more.
const QUIET: u8 = 8;
/// It has no callback.
const DEAF: u8 = 16;

/// Ids a block, and blocks: room for a hundred million.
const BLOCK: usize = 1 << 16;
static IDS: [OnceLock<Box<[AtomicU8]>>; 1600] = [const { OnceLock::new() }; 1600];

/// The highest id seen so far, and one.
static END: AtomicUsize = AtomicUsize::new(0);

fn of(id: c_int) -> &'static AtomicU8 {
    let id = usize::try_from(id).expect("ids are not negative");
    let block = IDS[id / BLOCK].get_or_init(|| (0..BLOCK).map(|_| AtomicU8::new(0)).collect());
    &block[id % BLOCK]
}

/// The id was given out.
pub fn given(id: c_int, deaf: bool) {
    let deaf = if deaf { DEAF } else { 0 };
    let before = of(id).fetch_or(GIVEN | RETURNED | deaf, Relaxed);
    assert_eq!(before & RETURNED, 0, "id {id} was given out twice");
    END.fetch_max(id as usize + 1, Relaxed);
}

/// A SUCCESS or FAILURE begins or ends.
pub fn told(id: c_int) {
    let before = of(id).fetch_or(GIVEN, Relaxed);
    assert_eq!(before & DESTROYED, 0, "a callback of {id} after its DESTROYED");
    assert_eq!(before & QUIET, 0, "a callback of {id} after plum_destroy_mapping has returned");
}

pub fn destroyed(id: c_int) {
    let before = of(id).fetch_or(GIVEN | DESTROYED, Relaxed);
    assert_eq!(before & DESTROYED, 0, "a second DESTROYED of {id}");
    END.fetch_max(id as usize + 1, Relaxed);
}

/// `plum_destroy_mapping` has returned SUCCESS to a thread of the program's.
pub fn quiet(id: c_int) {
    of(id).fetch_or(QUIET, Relaxed);
}

/// What holds for an id of an earlier session.
pub fn check_destroyed(id: c_int) {
    let state = of(id).load(Relaxed);
    assert!(state & (DESTROYED | DEAF) != 0, "{id} had no DESTROYED when plum_cleanup returned");
}

/// What holds when no session is: every id from 0 on was given out to somebody, and destroyed.
pub fn check_all_destroyed() {
    for id in 0..END.load(Relaxed) as c_int {
        let state = of(id).load(Relaxed);
        assert!(state & RETURNED != 0, "{id} was not given out, but a higher one");
        assert!(state & DEAF != 0 || state & DESTROYED != 0, "{id} had no DESTROYED");
    }
}

/// How many ids have been given out so far.
pub fn ids() -> c_int {
    END.load(Relaxed) as c_int
}

/// Created and not destroyed, roughly: to keep it from growing.
pub static LIVE: AtomicUsize = AtomicUsize::new(0);

macro_rules! tallies {
    ($($name:ident)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug)]
        pub enum Tally { $($name),* }
        const TALLIES: &[Tally] = &[$(Tally::$name),*];
        static COUNTS: [AtomicU64; TALLIES.len()] = [const { AtomicU64::new(0) }; TALLIES.len()];
    };
}

tallies! {
    Inits InitsRefused Cleanups CleanupsRefused Creates CreatesInCallbacks CreatesInLog Queries Destroys DestroysInCallbacks
    DestroysInLog DestroysOfOthers LocalAddresses Certificates Hosts Levels Successes Failures DestroyedCallbacks SlowCallbacks
    Messages
}

pub fn count(what: Tally) {
    COUNTS[what as usize].fetch_add(1, Relaxed);
}

fn counted(what: Tally) -> u64 {
    COUNTS[what as usize].load(Relaxed)
}

pub fn tally() -> String {
    TALLIES.iter().fold(String::new(), |mut text, &what| {
        let _ = write!(text, "{what:?} {} ", counted(what));
        text
    })
}

pub fn is_everything_done() -> bool {
    TALLIES.iter().all(|&what| counted(what) > 0)
}

pub fn check_that_everything_was_done() {
    for &what in TALLIES {
        assert!(counted(what) > 0, "there were no {what:?}: {}", tally());
    }
}

/// Nothing is told while there is no session, whatever `body` calls.
pub fn check_silence(body: impl FnOnce()) {
    let told =
        || [Tally::Successes, Tally::Failures, Tally::DestroyedCallbacks, Tally::Messages].map(counted);
    let before = told();
    body();
    assert_eq!(told(), before, "something was told after plum_cleanup had returned");
}
