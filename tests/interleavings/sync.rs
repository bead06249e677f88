//! In place of crates/runtime/src/sync.rs: its names, made of what the checker schedules.

#[path = "../../crates/runtime/src/sync/locks.rs"]
#[allow(dead_code, reason = "the modules that are compiled here do not need all of it")]
mod locks;

pub use locks::{Condvar, Mutex};
use mio::{Events, Interest, Token};
use shuttle::sync as base;
pub use shuttle::sync::{MutexGuard, atomic};
pub use shuttle::thread;
pub use shuttle::thread_local;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

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
    /// Nobody asks for a receiver that is gone: `worker::inbox` holds both.
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
        items = self.0.changed.wait_while(items, |items| items.is_empty());
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

/// A poll to which nothing of the system's comes: only a wake ends a wait without a timeout.
pub struct Poll(Registry);
#[derive(Clone, Default)]
pub struct Registry(Arc<(Mutex<bool>, Condvar)>);
pub struct Waker(Registry);

impl Poll {
    pub fn new() -> io::Result<Poll> {
        Ok(Poll(Registry::default()))
    }

    pub fn registry(&self) -> &Registry {
        &self.0
    }

    /// Takes a wake, as the real one does. Time does not pass here, so one with a timeout does not wait.
    pub fn poll(&mut self, _: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let (is_woken, changed) = &*self.0.0;
        let mut is_woken = is_woken.lock();
        if timeout.is_none() {
            is_woken = changed.wait_while(is_woken, |is_woken| !*is_woken);
        }
        *is_woken = false;
        Ok(())
    }
}

/// The child of a fork has nothing to close.
impl AsRawFd for Poll {
    fn as_raw_fd(&self) -> RawFd {
        -1
    }
}

impl Registry {
    pub fn register<S>(&self, _: &mut S, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    pub fn deregister<S>(&self, _: &mut S) -> io::Result<()> {
        Ok(())
    }
}

impl Waker {
    pub fn new(registry: &Registry, _: Token) -> io::Result<Waker> {
        Ok(Waker(registry.clone()))
    }

    pub fn wake(&self) -> io::Result<()> {
        let (is_woken, changed) = &*self.0.0;
        *is_woken.lock() = true;
        changed.notify_all();
        Ok(())
    }
}
