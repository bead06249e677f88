//! Maps and sets in the order of their keys, with little code.
//!
//! A `BTreeMap` is compiled anew for every pair of types, five kilobytes a time. Here a key is ordered by a number, so
//! that one tree of numbers serves all types: it says where in a vector the value stands. Everything costs what it
//! costs in a `BTreeMap`.
//!
//! However many entries there are, memory is asked for in pieces of [`PIECE_BYTES`] at most: where it is scarce, and in pieces, a
//! table can still grow, and none is moved as a whole.

mod pieces;

pub use pieces::{PIECE_BYTES, Pieces};

use std::collections::{BTreeMap, TryReserveError, btree_map};

/// A key that is ordered by a number.
pub trait Word: Copy {
    /// The number: equal for equal keys only, greater for the greater key.
    fn word(self) -> u64;
}

impl Word for u64 {
    fn word(self) -> u64 {
        self
    }
}

impl Word for u32 {
    fn word(self) -> u64 {
        self.into()
    }
}

impl Word for i32 {
    fn word(self) -> u64 {
        // The negative ones come first.
        u64::from(self.cast_unsigned() ^ 1 << 31)
    }
}

/// A rank, and a number below 2^56 within the rank.
impl Word for (u8, u64) {
    fn word(self) -> u64 {
        u64::from(self.0) << 56 | self.1
    }
}

/// The tree that all maps share the code of: from a number to a place.
#[derive(Clone, Debug, Default)]
pub struct Tree(BTreeMap<u128, usize>);

// Never inlined: that is what this module is for.
impl Tree {
    /// An empty tree.
    pub const fn new() -> Tree {
        Tree(BTreeMap::new())
    }

    /// The place at a number.
    #[inline(never)]
    pub fn get(&self, number: u128) -> Option<usize> {
        self.0.get(&number).copied()
    }

    /// Sets the place at a number.
    #[inline(never)]
    pub fn insert(&mut self, number: u128, place: usize) {
        self.0.insert(number, place);
    }

    /// The place at a number, which is set if there is none; `None`: it was set.
    #[inline(never)]
    fn get_or_insert(&mut self, number: u128, place: usize) -> Option<usize> {
        match self.0.entry(number) {
            btree_map::Entry::Occupied(entry) => Some(*entry.get()),
            btree_map::Entry::Vacant(entry) => {
                entry.insert(place);
                None
            }
        }
    }

    /// Takes a number out.
    #[inline(never)]
    pub fn remove(&mut self, number: u128) -> Option<usize> {
        self.0.remove(&number)
    }

    /// The lowest number, and its place.
    #[inline(never)]
    pub fn first(&self) -> Option<(u128, usize)> {
        self.0.first_key_value().map(|(&number, &place)| (number, place))
    }

    /// Takes all numbers out.
    #[inline(never)]
    pub fn clear(&mut self) {
        self.0.clear();
    }

    #[inline(never)]
    fn places(&self) -> Places<'_> {
        Places(self.0.values())
    }
}

/// The places of a tree, in the order of their numbers.
struct Places<'a>(btree_map::Values<'a, u128, usize>);

impl Iterator for Places<'_> {
    type Item = usize;

    #[inline(never)]
    fn next(&mut self) -> Option<usize> {
        self.0.next().copied()
    }
}

/// A map in the order of its keys. Its methods are those of `BTreeMap`, but that keys are given out by value.
#[derive(Clone, Debug)]
pub struct Map<K, V> {
    tree: Tree,
    /// In no order; what is removed is replaced by the last.
    entries: Pieces<(K, V)>,
}

impl<K, V> Map<K, V> {
    /// An empty map.
    pub const fn new() -> Map<K, V> {
        Map { tree: Tree::new(), entries: Pieces::new() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.tree.clear();
        self.entries = Pieces::new();
    }

    /// The values, in no order: for what does not depend on it.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// The values, in no order: for what does not depend on it.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, value)| value)
    }
}

impl<K: Word, V> Map<K, V> {
    /// Whether there is an entry of `key`.
    pub fn contains_key(&self, key: &K) -> bool {
        self.tree.get(key.word().into()).is_some()
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        let place = self.tree.get(key.word().into())?;
        self.entries.get(place).map(|(_, value)| value)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.tree.get(key.word().into())?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// Makes room for one more entry, but for the few hundred bytes that the tree may need.
    ///
    /// # Errors
    ///
    /// There is no memory for it.
    pub fn try_reserve(&mut self) -> Result<(), TryReserveError> {
        self.entries.try_reserve()
    }

    /// Sets the value of `key`; gives back the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.tree.get_or_insert(key.word().into(), self.entries.len()) {
            None => {
                self.entries.push((key, value));
                None
            }
            Some(place) => self.entries.get_mut(place).map(|(_, present)| std::mem::replace(present, value)),
        }
    }

    /// The value of `key`, to be changed; if it has none, one is made.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = match self.tree.get(key.word().into()) {
            Some(place) => place,
            None => {
                let value = make();
                let place = self.entries.len();
                self.tree.insert(key.word().into(), place);
                self.entries.push((key, value));
                place
            }
        };
        match self.entries.get_mut(place) {
            Some((_, value)) => value,
            // What is in the tree has a place.
            None => unreachable!(),
        }
    }

    /// Removes the entry of `key`; gives back its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.take(key.word()).map(|(_, value)| value)
    }

    /// Takes out the entry of the key that is ordered by `word`.
    pub fn take(&mut self, word: u64) -> Option<(K, V)> {
        let place = self.tree.remove(word.into())?;
        let taken = self.entries.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            self.tree.insert(moved.word().into(), place);
        }
        taken
    }

    /// The entry of the lowest key.
    pub fn first_key_value(&self) -> Option<(K, &V)> {
        let (_, place) = self.tree.first()?;
        self.entries.get(place).map(|(key, value)| (*key, value))
    }

    /// Takes the entry of the lowest key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let (key, _) = self.first_key_value()?;
        self.take(key.word())
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let entries = &self.entries;
        self.tree.places().filter_map(|place| entries.get(place)).map(|(key, value)| (*key, value))
    }

    /// The keys, in their order.
    pub fn keys(&self) -> Pieces<K> {
        self.keys_where(|_, _| true)
    }

    /// The keys of those entries for which `wanted` is `true`, in their order.
    pub fn keys_where(&self, mut wanted: impl FnMut(K, &V) -> bool) -> Pieces<K> {
        let mut keys = Pieces::new();
        for (key, value) in self.iter() {
            if wanted(key, value) {
                keys.push(key);
            }
        }
        keys
    }

    /// Calls `change` with each entry, in the order of the keys.
    pub fn for_each_mut(&mut self, mut change: impl FnMut(K, &mut V)) {
        for place in self.tree.places() {
            if let Some((key, value)) = self.entries.get_mut(place) {
                change(*key, value);
            }
        }
    }

    /// Calls `keep` with each entry, in the order of the keys, and then removes those for which it was `false`.
    pub fn retain(&mut self, mut keep: impl FnMut(K, &mut V) -> bool) {
        let mut unwanted = Pieces::new();
        self.for_each_mut(|key, value| {
            if !keep(key, value) {
                unwanted.push(key);
            }
        });
        for key in unwanted {
            self.remove(&key);
        }
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Map<K, V> {
        Map::new()
    }
}

impl<K: Word, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Map<K, V> {
        let mut map = Map::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

/// A set in the order of its members. Its methods are those of `BTreeSet`, but that members are given out by value.
#[derive(Clone, Debug)]
pub struct Set<K>(Map<K, ()>);

impl<K: Word> Set<K> {
    /// An empty set.
    pub const fn new() -> Set<K> {
        Set(Map::new())
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `key`; `false`: it was a member already.
    pub fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    /// Removes `key`; `false`: it was no member.
    pub fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    /// The members, in their order.
    pub fn iter(&self) -> impl Iterator<Item = K> {
        self.0.iter().map(|(key, ())| key)
    }
}

impl<K> Default for Set<K> {
    fn default() -> Set<K> {
        Set(Map::new())
    }
}

impl<K: Word> Extend<K> for Set<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, members: I) {
        for key in members {
            self.insert(key);
        }
    }
}

/// The members, in their order.
impl<K: Word> IntoIterator for Set<K> {
    type Item = K;
    type IntoIter = <Pieces<K> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        self.0.keys().into_iter()
    }
}

impl<K: Word> FromIterator<K> for Set<K> {
    fn from_iter<I: IntoIterator<Item = K>>(members: I) -> Set<K> {
        Set(members.into_iter().map(|key| (key, ())).collect())
    }
}

#[cfg(test)]
mod tests;
