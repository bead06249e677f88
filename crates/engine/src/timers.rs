//! Deadlines by key: set, cancel and take the due ones in O(log n), whatever the number of keys.

use crate::ordered::{Map, Tree, Word};
use crate::time::Time;

/// At most one deadline for each key. Of equal deadlines, that of the lower key comes first.
#[derive(Debug)]
pub struct Timers<K> {
    /// By deadline, then key; the values are not used.
    order: Tree,
    deadlines: Map<K, Time>,
}

impl<K> Default for Timers<K> {
    fn default() -> Timers<K> {
        Timers { order: Tree::new(), deadlines: Map::new() }
    }
}

impl<K: Word> Timers<K> {
    /// Sets the deadline of `key`, in place of any it had.
    pub fn set(&mut self, key: K, at: Time) {
        if let Some(old) = self.deadlines.insert(key, at) {
            self.order.remove(number(old, key.word()));
        }
        self.order.insert(number(at, key.word()), 0);
    }

    /// Sets the deadline of `key`, unless it has a sooner one.
    pub fn set_sooner(&mut self, key: K, at: Time) {
        if self.get(key).is_none_or(|set| at < set) {
            self.set(key, at);
        }
    }

    /// Sets the deadline of `key`, or forgets it.
    pub fn replace(&mut self, key: K, at: Option<Time>) {
        match at {
            Some(at) => self.set(key, at),
            None => self.cancel(key),
        }
    }

    /// Forgets the deadline of `key`.
    pub fn cancel(&mut self, key: K) {
        if let Some(old) = self.deadlines.remove(&key) {
            self.order.remove(number(old, key.word()));
        }
    }

    /// The deadline of `key`.
    pub fn get(&self, key: K) -> Option<Time> {
        self.deadlines.get(&key).copied()
    }

    /// The next deadline of all.
    pub fn next(&self) -> Option<Time> {
        self.order.first().map(|(number, _)| at(number))
    }

    /// Takes the key with the earliest deadline, if that is not after `now`.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        let (first, _) = self.order.first()?;
        if at(first) > now {
            return None;
        }
        self.order.remove(first);
        // The lower half is the key's word.
        self.deadlines.take(first as u64).map(|(key, _)| key)
    }
}

/// A deadline and a key in one number, ordered by the deadline first.
fn number(at: Time, word: u64) -> u128 {
    u128::from(at.as_micros()) << 64 | u128::from(word)
}

fn at(number: u128) -> Time {
    Time::from_micros((number >> 64) as u64)
}
