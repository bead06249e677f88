//! In place of src/sync.rs: its names, made of what the checker schedules.

pub use shuttle::sync::atomic;
pub use shuttle::thread;
pub use shuttle::thread_local;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub struct Mutex<T>(shuttle::sync::Mutex<T>);

/// It is given up during a wait only, in which nobody uses it.
pub struct MutexGuard<'a, T>(Option<shuttle::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Mutex<T> {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        // The locks that this stands in for do not poison.
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("nobody uses it during a wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("nobody uses it during a wait")
    }
}

pub struct Condvar(shuttle::sync::Condvar);

impl Condvar {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Condvar {
        Condvar(shuttle::sync::Condvar::new())
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let given = guard.0.take().expect("one wait at a time");
        guard.0 = Some(self.0.wait(given).unwrap_or_else(PoisonError::into_inner));
    }

    pub fn wait_while<T>(&self, guard: &mut MutexGuard<'_, T>, condition: impl Fn(&mut T) -> bool) {
        while condition(guard) {
            self.wait(guard);
        }
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    changed: Condvar,
}

pub struct Sender<T>(Arc<Queue<T>>);
pub struct Receiver<T>(Arc<Queue<T>>);

pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue { items: Mutex::new(VecDeque::new()), changed: Condvar::new() });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl<T> Sender<T> {
    /// Nobody asks for a receiver that is gone: `worker::notes` holds both.
    pub fn send(&self, item: T) -> Result<(), T> {
        self.0.items.lock().push_back(item);
        self.0.changed.notify_all();
        Ok(())
    }
}

/// There is nothing to receive.
#[derive(Debug)]
pub struct Empty;

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, Empty> {
        self.0.items.lock().pop_front().ok_or(Empty)
    }

    pub fn recv(&self) -> Result<T, Empty> {
        let mut items = self.0.items.lock();
        self.0.changed.wait_while(&mut items, |items| items.is_empty());
        items.pop_front().ok_or(Empty)
    }

    /// Time does not pass here: it is up to the caller's loop to come again.
    pub fn recv_timeout(&self, _timeout: Duration) -> Result<T, Empty> {
        thread::yield_now();
        self.try_recv()
    }

    pub fn is_empty(&self) -> bool {
        self.0.items.lock().is_empty()
    }
}
