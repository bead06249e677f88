//! The self-test of tests/tsan/run: what ThreadSanitizer must and must not report. `planted race` has a data race,
//! `planted std` only what std's own synchronisation orders (which an uninstrumented std would make look like races).

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, Once};
use std::thread;

struct Plain(UnsafeCell<u32>);

// SAFETY: it is not, where `race` uses it: that is the point.
unsafe impl Sync for Plain {}

impl Plain {
    fn add(&self) {
        // SAFETY: as above.
        unsafe { *self.0.get() += 1 };
    }
}

/// Two threads write without anything between them but a relaxed atomic, which orders nothing.
fn race() {
    static PLAIN: Plain = Plain(UnsafeCell::new(0));
    static STEPS: AtomicU32 = AtomicU32::new(0);
    let other = thread::spawn(|| {
        PLAIN.add();
        STEPS.store(1, Ordering::Relaxed);
    });
    // After the other one, as time goes: a tool that looks at time alone sees nothing.
    while STEPS.load(Ordering::Relaxed) == 0 {
        thread::yield_now();
    }
    PLAIN.add();
    other.join().expect("no panic");
}

/// Everything here is in order, by the fences of Arc, by channels, by what a thread hands back, by Once and Mutex.
fn orderly() {
    static ONCE: Once = Once::new();
    let total = Arc::new(Mutex::new(0));
    let (sender, receiver) = channel::<Box<u32>>();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (total, sender) = (Arc::clone(&total), sender.clone());
            thread::spawn(move || {
                ONCE.call_once(|| ());
                *total.lock().expect("not poisoned") += number;
                sender.send(Box::new(number)).expect("it is received");
                vec![number; 100]
            })
        })
        .collect();
    drop(sender);
    let received: u32 = receiver.iter().map(|boxed| *boxed).sum();
    let returned: u32 = threads.into_iter().map(|one| one.join().expect("no panic")[0]).sum();
    assert_eq!((received, returned, *total.lock().expect("not poisoned")), (6, 6, 6));
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("race") => race(),
        Some("std") => orderly(),
        other => panic!("race or std, not {other:?}"),
    }
}
