//! Randomness for the engine that is the same in every run.

pub use crate::world::Seeded;

use plum_engine::io::Random;

/// The longest of every random span, so that times are exact; bytes that count up, so that nonces differ.
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest(u8);

impl Random for Longest {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }

    fn in_range(&mut self, _low: u64, high: u64) -> u64 {
        high
    }
}
