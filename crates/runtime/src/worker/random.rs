//! The engine's randomness.

#![forbid(unsafe_code)]

use crate::log::log;
use crate::net;
use plum_engine::io::Random;
use std::io;

/// Times and ports come from a generator, which still works in a sandbox that was entered since the start and refuses
/// randomness. Nonces come from the operating system.
pub(super) struct OsRandom {
    state: u64,
    has_warned: bool,
}

impl OsRandom {
    /// A generator with a seed from the operating system.
    ///
    /// # Errors
    ///
    /// The operating system gives no randomness.
    pub(super) fn new() -> io::Result<OsRandom> {
        let mut seed = [0; 8];
        net::fill_random(&mut seed)?;
        Ok(OsRandom { state: u64::from_ne_bytes(seed), has_warned: false })
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Random for OsRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_ne_bytes()[..chunk.len()]);
        }
    }

    fn nonce(&mut self) -> Option<[u8; 12]> {
        let mut nonce = [0; 12];
        if let Err(error) = net::fill_random(&mut nonce) {
            if !std::mem::replace(&mut self.has_warned, true) {
                log!(Warn, "PCP: the system gives no random numbers, no new mapping is made: {error}");
            }
            return None;
        }
        Some(nonce)
    }

    fn fork(&mut self) -> Box<dyn Random> {
        Box::new(OsRandom { state: self.next(), has_warned: self.has_warned })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_numbers_of_splitmix64() {
        let mut random = OsRandom { state: 1_234_567, has_warned: false };
        // As its authors' reference implementation gives them.
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn fills_every_byte_and_never_the_same_way() {
        let mut random = OsRandom::new().expect("randomness");
        let mut seen = [0; 19];
        for _ in 0..64 {
            let mut bytes = [0; 19];
            random.fill(&mut bytes);
            seen.iter_mut().zip(bytes).for_each(|(seen, byte)| *seen |= byte);
        }
        assert_eq!(seen, [0xff; 19]);
        assert_ne!(random.nonce(), random.nonce());
    }
}
