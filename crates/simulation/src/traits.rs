//! Odd habits that a gateway of a story has from its beginning to its end, several at once.

use crate::gateways::percent;
use plum_gateway::core::Gateway;
use plum_gateway::odd::traits::{GROUPS, Trait};
use std::fmt;

/// The traits of one gateway.
#[derive(Clone, Default)]
pub struct Traits(Vec<(Trait, usize)>);

impl Traits {
    /// Draws some, at most one of each group; half of all gateways have none.
    pub fn draw(rng: &mut fastrand::Rng) -> Traits {
        if percent(rng, 50) {
            return Traits::default();
        }
        let mut drawn = Vec::new();
        for group in GROUPS {
            let real: Vec<Trait> = group.iter().copied().filter(|odd| !odd.name.is_empty()).collect();
            if percent(rng, 20) {
                drawn.push((real[rng.usize(..real.len())], rng.usize(..1000)));
            }
        }
        Traits(drawn)
    }

    /// Makes a gateway so.
    pub fn give_to(&self, gateway: &mut Gateway) {
        for (odd, number) in &self.0 {
            (odd.make_odd)(gateway, *number);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names and variants.
impl fmt::Debug for Traits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(odd, number)| (odd.name, number))).finish()
    }
}
