//! Descriptors that the child of a fork closes at once: it does not use them, and an open copy of a socket would hold
//! the port and buffer unread datagrams for the life of the child.
//!
//! Closing affects only the child's copy, whereas removing a descriptor from an epoll instance, for example, would
//! affect the parent, too. Only the handler of pthread_atfork(3) closes them: later the program may have closed the
//! numbers and reused them for its own files. So a child made by clone(2) keeps them.

use std::ops::{Deref, DerefMut};

#[cfg(unix)]
use unix::Place;
#[cfg(unix)]
pub(super) use unix::close_those_of;

/// No process is forked here.
#[cfg(not(unix))]
struct Place;

#[cfg(not(unix))]
impl Place {
    fn of<T>(_: &T) -> Place {
        Place
    }
}

/// An owner of a descriptor, whose copy the child of a fork closes.
pub struct ClosedInChild<T> {
    /// Dropped first: once the descriptor is closed, its number may be reused.
    _place: Place,
    inner: T,
}

impl<#[cfg(unix)] T: std::os::fd::AsRawFd, #[cfg(not(unix))] T> ClosedInChild<T> {
    /// Wraps an owner whose descriptor is open and does not change.
    pub fn new(inner: T) -> ClosedInChild<T> {
        ClosedInChild { _place: Place::of(&inner), inner }
    }
}

impl<T> Deref for ClosedInChild<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for ClosedInChild<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for ClosedInChild<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(unix)]
mod unix {
    use super::super::generation;
    use std::os::fd::{AsRawFd, RawFd};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// More than a session uses, and few enough to scan. Further descriptors stay open in children.
    const PLACES: usize = 128;

    /// How many bits of a word are the descriptor's, plus one; the others are the generation's. 0: free.
    const DESCRIPTOR_BITS: u32 = 20;

    static OPEN: [AtomicU32; PLACES] = [const { AtomicU32::new(0) }; PLACES];

    /// The part of a word that is the generation's. (It comes round after some thousand forks in a row.)
    fn generation_bits(generation: u32) -> u32 {
        generation << DESCRIPTOR_BITS
    }

    fn is_of(entry: u32, generation: u32) -> bool {
        entry >> DESCRIPTOR_BITS << DESCRIPTOR_BITS == generation_bits(generation)
    }

    /// As long as it lives, a child that is forked closes its copy of a descriptor.
    pub struct Place {
        entry: u32,
        word: Option<&'static AtomicU32>,
    }

    impl Place {
        pub fn of(descriptor: &impl AsRawFd) -> Place {
            let generation = generation();
            let number = u32::try_from(descriptor.as_raw_fd()).map_or(0, |number| number + 1);
            if number == 0 || number >> DESCRIPTOR_BITS != 0 {
                return Place { entry: 0, word: None };
            }
            let entry = generation_bits(generation) | number;
            let word = OPEN.iter().find(|word| {
                let found = word.load(Ordering::Relaxed);
                // Entries of an ancestor are free.
                (found == 0 || !is_of(found, generation))
                    && word.compare_exchange(found, entry, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            });
            Place { entry, word }
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            if let Some(word) = self.word {
                // In a child the entry may be free, or reused.
                let _ = word.compare_exchange(self.entry, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// In a child, in the handler: closes the copies of what its parent, of this generation, had open.
    pub fn close_those_of(parent: u32) {
        for word in &OPEN {
            let entry = word.swap(0, Ordering::AcqRel);
            let number = entry & ((1 << DESCRIPTOR_BITS) - 1);
            if number > 0 && is_of(entry, parent) {
                // SAFETY: close(2): it was open, and ours, when the process was forked, since it is taken out of here before it is
                // closed; and nothing has happened in this process since. It cannot fail in a way that matters.
                unsafe { libc::close((number - 1) as RawFd) };
            }
        }
    }
}
