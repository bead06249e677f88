//! The log callbacks of all sessions. The library's log is the process's, so each callback gets the messages of all of them.

use plum_runtime::log::{self, Level};
use plum_runtime::net::PerProcess;
use plum_runtime::sync::Mutex;
use std::ffi::CStr;
use std::sync::Arc;

/// A session's log function.
pub(super) type Callback = Arc<dyn Fn(Level, &str) + Send + Sync>;

/// The log callback of a session, and its lowest level.
#[derive(Clone)]
pub(super) struct Subscription {
    pub(super) level: Level,
    pub(super) callback: Callback,
}

struct Subscriber {
    number: u64,
    subscription: Subscription,
}

struct Subscribers {
    next_number: u64,
    /// In the order in which they came.
    live: Vec<Subscriber>,
}

/// Never locked while the log writes a message, which locks it. The child of a fork has none.
fn subscribers() -> &'static Mutex<Subscribers> {
    static SUBSCRIBERS: PerProcess<Mutex<Subscribers>> = PerProcess::new();
    SUBSCRIBERS.get(|_| Mutex::new(Subscribers { next_number: 0, live: Vec::new() }))
}

/// What [`unsubscribe`] takes.
#[derive(Debug)]
pub(super) struct Number(u64);

/// Adds a callback. The log has to be opened with [`threshold`] and [`tell_all`], or [`reopen`]ed.
pub(super) fn subscribe(subscription: Subscription) -> Number {
    let mut all = subscribers().lock();
    let number = all.next_number;
    all.next_number += 1;
    all.live.push(Subscriber { number, subscription });
    Number(number)
}

/// Removes a callback. It may still be running until the log is closed or reopened.
pub(super) fn unsubscribe(number: &Number) {
    // Dropped after the lock is released, since it is the program's code.
    let _removed = {
        let mut all = subscribers().lock();
        let place = all.live.iter().position(|subscriber| subscriber.number == number.0);
        place.map(|place| all.live.remove(place))
    };
}

/// The lowest level of all subscribers; `None`: there is none.
pub(super) fn threshold() -> Option<Level> {
    subscribers().lock().live.iter().map(|subscriber| subscriber.subscription.level).min()
}

/// Reopens the log for the remaining sessions, after the end of one has closed it. Waits for a message that is being
/// written.
pub(super) fn reopen() {
    if let Some(threshold) = threshold() {
        log::open(Some(threshold), Some(tell_all()));
    }
}

/// The callback of the log, which calls those of the sessions.
pub(super) fn tell_all() -> log::Callback {
    Arc::new(|level: Level, message: &CStr| {
        let callbacks: Vec<Callback> = subscribers()
            .lock()
            .live
            .iter()
            .filter(|subscriber| level >= subscriber.subscription.level)
            .map(|subscriber| Arc::clone(&subscriber.subscription.callback))
            .collect();
        let message = message.to_string_lossy();
        for callback in callbacks {
            callback(level, &message);
        }
    })
}
