//! Dice that fall the same way for the same seed, whatever order the actors run in.
//!
//! Every kind of throw has its own row of numbers, so that two actors that swap places do not change each other's luck. It must
//! never read a clock or the machine's own randomness.

use std::collections::HashMap;
use std::sync::Mutex;

pub(crate) struct Dice {
    seed: u64,
    thrown: Mutex<HashMap<String, u64>>,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, thrown: Mutex::default() }
    }

    /// The next number of a row.
    pub(crate) fn next(&self, row: &str) -> u64 {
        let mut thrown = self.thrown.lock().expect("nobody panics with the dice in hand");
        let n = thrown.entry(row.to_owned()).or_default();
        *n += 1;
        let name = row.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        mix(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(name ^ n.wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }
    /// `low..=high`
    pub(crate) fn between(&self, row: &str, low: u64, high: u64) -> u64 {
        low + self.next(row) % (high - low + 1)
    }
    /// True so often in a thousand.
    pub(crate) fn per_mille(&self, row: &str, often: u64) -> bool {
        self.next(row) % 1000 < often
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
