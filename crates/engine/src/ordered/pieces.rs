//! Lists that ask for memory in pieces.

use std::collections::TryReserveError;

/// The most memory that is asked for at once.
pub const PIECE_BYTES: usize = 16 * 1024;

/// A list in pieces of limited size.
#[derive(Clone, Debug)]
pub struct Pieces<T> {
    /// All but the last are full, and none is empty.
    pieces: Vec<Vec<T>>,
    len: usize,
}

impl<T> Pieces<T> {
    /// How many values a piece has: a power of two, as a vector doubles its room until it has that.
    const LENGTH: usize = match size_of::<T>() {
        0 => PIECE_BYTES,
        size if size > PIECE_BYTES => 1,
        size => 1 << (PIECE_BYTES / size).ilog2(),
    };

    /// An empty list.
    pub const fn new() -> Pieces<T> {
        Pieces { pieces: Vec::new(), len: 0 }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        // (`flatten` is some kilobytes for all lists together.)
        (0..self.len).filter_map(|place| self.get(place))
    }

    /// The values, in their order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pieces.iter_mut().flatten()
    }

    /// The value at a place.
    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.pieces.get(place / Self::LENGTH)?.get(place % Self::LENGTH)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.pieces.get_mut(place / Self::LENGTH)?.get_mut(place % Self::LENGTH)
    }

    /// Makes room for one more value, but for the first of a piece, which are some hundred bytes.
    pub(super) fn try_reserve(&mut self) -> Result<(), TryReserveError> {
        match self.pieces.last_mut() {
            Some(last) if last.len() < Self::LENGTH => last.try_reserve(1),
            _ => self.pieces.try_reserve(1),
        }
    }

    /// Adds a value behind the last.
    pub fn push(&mut self, value: T) {
        if self.len.is_multiple_of(Self::LENGTH) {
            self.pieces.push(Vec::new());
        }
        if let Some(last) = self.pieces.last_mut() {
            last.push(value);
            self.len += 1;
        }
    }

    /// Takes a value out; the last one takes its place.
    pub(super) fn swap_remove(&mut self, place: usize) -> Option<T> {
        let last = self.pieces.last_mut()?.pop()?;
        self.len -= 1;
        if self.len.is_multiple_of(Self::LENGTH) {
            self.pieces.pop();
        }
        match self.get_mut(place) {
            Some(value) => Some(std::mem::replace(value, last)),
            None => Some(last),
        }
    }
}

impl<T> Default for Pieces<T> {
    fn default() -> Pieces<T> {
        Pieces::new()
    }
}

/// The values, in their order.
impl<T: Copy> IntoIterator for Pieces<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { list: self, next: 0 }
    }
}

/// Iterates over the values of a list.
#[derive(Debug)]
pub struct IntoIter<T> {
    list: Pieces<T>,
    next: usize,
}

impl<T: Copy> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.next += 1;
        self.list.get(self.next - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_asks_for_no_more_than_a_piece_at_once() {
        let mut list = Pieces::new();
        for number in 0..100_000_u64 {
            list.push(number);
        }
        assert!(list.pieces.iter().all(|piece| piece.capacity() * size_of::<u64>() <= PIECE_BYTES));
        assert!(list.len() == 100_000 && !list.is_empty() && list.iter().copied().eq(0..100_000));
        let lengths = (
            Pieces::<[u8; 2 * PIECE_BYTES]>::LENGTH,
            Pieces::<[u64; PIECE_BYTES / 32]>::LENGTH,
            Pieces::<()>::LENGTH,
        );
        assert_eq!(lengths, (1, 4, PIECE_BYTES));
    }
}
