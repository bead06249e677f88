//! Randomness for the engine that is the same in every run.

use plum_engine::io::Random;

/// Pseudo-random, from a seed.
pub struct Seeded {
    generator: fastrand::Rng,
    nonces: usize,
}

impl Seeded {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Seeded {
        Seeded { generator: fastrand::Rng::with_seed(seed), nonces: usize::MAX }
    }

    /// With so many nonces, and then no more.
    #[must_use]
    pub fn with_nonces(self, nonces: usize) -> Seeded {
        Seeded { nonces, ..self }
    }
}

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.generator.fill(bytes);
    }

    fn nonce(&mut self) -> Option<[u8; 12]> {
        self.nonces = self.nonces.checked_sub(1)?;
        let mut nonce = [0; 12];
        self.fill(&mut nonce);
        Some(nonce)
    }

    fn fork(&mut self) -> Box<dyn Random> {
        Box::new(Seeded { generator: self.generator.fork(), nonces: self.nonces })
    }
}
