//! Locks whose guards survive a panic, made of those that stand in `super::base`: std's, or the checker's.

#![forbid(unsafe_code)]

use super::base::{self, MutexGuard};
use std::sync::PoisonError;
use std::time::Duration;

/// A lock that does not poison: what it guards is changed in steps that each leave it valid.
#[derive(Debug, Default)]
pub struct Mutex<T>(base::Mutex<T>);

impl<T> Mutex<T> {
    /// Not const: a thread that the child of a fork does not have may hold a lock that is a `static`.
    pub fn new(value: T) -> Mutex<T> {
        Mutex(base::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to wait on for a change of what a [`Mutex`] guards.
#[derive(Debug, Default)]
pub struct Condvar(base::Condvar);

impl Condvar {
    pub fn new() -> Condvar {
        Condvar(base::Condvar::new())
    }

    /// Waits as long as `condition` holds.
    pub fn wait_while<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        self.0.wait_while(guard, condition).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as `condition` holds, but not longer than `timeout`.
    pub fn wait_while_for<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        self.0.wait_timeout_while(guard, timeout, condition).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for a notification, or none, but not longer than `timeout`.
    pub fn wait_for<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> MutexGuard<'a, T> {
        self.0.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
