//! State of a process that its child must not use: the child of a fork has a copy, in which locks may be held and
//! threads counted that do not exist there.

use super::generation;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

/// A value for each process. In the child of a fork a new one is made; the parent's stays in its memory, unused.
pub struct PerProcess<T: 'static> {
    /// Null, or a leaked [`Box`].
    current: AtomicPtr<Owned<T>>,
}

struct Owned<T> {
    generation: u32,
    value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    /// A value that is made on first use.
    #[expect(clippy::new_without_default, reason = "it is for statics")]
    pub const fn new() -> PerProcess<T> {
        PerProcess { current: AtomicPtr::new(null_mut()) }
    }

    /// This process's value. `make` makes it from an ancestor's, if there is one, whose locks it must not take. Several
    /// threads may call it at once, of which one succeeds. Takes no lock.
    pub fn get(&'static self, make: impl Fn(Option<&T>) -> T) -> &'static T {
        let generation = generation();
        loop {
            let found = self.current.load(Ordering::Acquire);
            // SAFETY: null, or a box that was leaked below, by this process or by an ancestor, whose memory this is a copy of.
            let owned = unsafe { found.as_ref() };
            match owned {
                Some(owned) if owned.generation == generation => return &owned.value,
                _ => self.replace(found, Owned { generation, value: make(owned.map(|owned| &owned.value)) }),
            }
        }
    }

    /// Replaces the value that was found, unless another thread has replaced it.
    #[cold]
    fn replace(&self, found: *mut Owned<T>, new: Owned<T>) {
        let new = Box::into_raw(Box::new(new));
        if self.current.compare_exchange(found, new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: made by `into_raw` above, and not shared.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// A value that a process leaves to its children. A child can read it whatever the parent's threads did at the fork:
/// they hold no lock for it, and Linux copies the memory for a child in the order in which it was written (writers to
/// already copied pages wait until all are copied).
pub struct Inheritable<T> {
    /// The generation that has set it; 0: none.
    owner: AtomicU32,
    /// Null, or a box.
    value: AtomicPtr<T>,
}

impl<T: Send + Sync> Inheritable<T> {
    /// A value that is not set.
    #[expect(clippy::new_without_default, reason = "it is for what is made as a constant")]
    pub const fn new() -> Inheritable<T> {
        Inheritable { owner: AtomicU32::new(0), value: AtomicPtr::new(null_mut()) }
    }

    /// Sets the value for children forked from now on. An ancestor's value is not changed.
    pub fn set(&self, value: Option<T>) {
        let generation = generation();
        if ![0, generation].contains(&self.owner.load(Ordering::Relaxed)) {
            return;
        }
        self.owner.store(generation, Ordering::Relaxed);
        let new = value.map_or(null_mut(), |value| Box::into_raw(Box::new(value)));
        let old = self.value.swap(new, Ordering::AcqRel);
        // A child that finds the old value finds it whole: it is freed only after it was replaced.
        fence(Ordering::SeqCst);
        drop_boxed(old);
    }

    /// The value of an ancestor; `None` also in the process that has set it.
    pub fn inherited(&self) -> Option<&T> {
        if self.owner.load(Ordering::Relaxed) == generation() {
            return None;
        }
        // SAFETY: null, or a box that an ancestor has put there (without an owner it is null). No thread of this process
        // frees it: `set` does not, where the owner is an ancestor.
        unsafe { self.value.load(Ordering::Acquire).as_ref() }
    }
}

impl<T> Drop for Inheritable<T> {
    fn drop(&mut self) {
        if *self.owner.get_mut() == generation() {
            drop_boxed(*self.value.get_mut());
        }
    }
}

/// Frees what [`Inheritable`] has boxed.
fn drop_boxed<T>(value: *mut T) {
    if !value.is_null() {
        // SAFETY: not null, so from `Box::into_raw`; the caller was the last who had it.
        drop(unsafe { Box::from_raw(value) });
    }
}
