//! Chance that can be had again.

use std::env;
use std::hash::{BuildHasher as _, RandomState};

/// `SplitMix64`: all that a storm needs of chance.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// That of `CCCI_STORM_SEED`, or of a seed that is told.
    pub fn of_a_storm() -> Self {
        let seed = env::var("CCCI_STORM_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        eprintln!("CCCI_STORM_SEED={seed}");
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// One of `choices`.
    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let choice = self.below(u64::try_from(choices.len()).expect("few choices"));
        &choices[usize::try_from(choice).expect("few choices")]
    }
}
