// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Sets of the 256 vectors that many write at once.
//!
//! Spec: Intel SDM vol. 3, "Interrupt Acceptance for Fixed Interrupts".

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub(super) const WORDS: usize = 4;

/// Returns the word of a vector and its bit there.
fn place(vector: u8) -> (usize, u64) {
    (usize::from(vector >> 6), 1_u64.wrapping_shl(vector.into()))
}

/// Returns the highest vector of four words, lowest first.
pub(super) fn highest(words: [u64; WORDS]) -> Option<u8> {
    let (index, word) = words
        .into_iter()
        .enumerate()
        .rev()
        .find(|(_, word)| *word != 0)?;
    Some((index as u8) << 6 | 63_u8.wrapping_sub(word.leading_zeros() as u8))
}

/// Returns the register that shows 32 vectors.
fn register(words: [u64; WORDS], index: usize) -> u32 {
    let word = words.get(index >> 1).copied().unwrap_or(0);
    match index & 1 {
        0 => word as u32,
        _ => (word >> 32) as u32,
    }
}

/// A set that everybody may add to.
///
/// All accesses are sequentially consistent, so that of one who adds a vector
/// and then looks whether it is wanted, and of one who changes what is wanted
/// and then looks for vectors, at least one sees what the other did.
#[derive(Debug, Default)]
pub(super) struct SharedVectorSet([AtomicU64; WORDS]);

impl SharedVectorSet {
    /// Adds a vector; tells whether it is new.
    pub(super) fn insert(&self, vector: u8) -> bool {
        let (index, bit) = place(vector);
        self.0
            .get(index)
            .is_some_and(|word| word.fetch_or(bit, SeqCst) & bit == 0)
    }

    /// Takes a vector out; a set that does not have it is not written.
    pub(super) fn remove(&self, vector: u8) {
        let (index, bit) = place(vector);
        if let Some(word) = self.0.get(index)
            && word.load(SeqCst) & bit != 0
        {
            word.fetch_and(!bit, SeqCst);
        }
    }

    pub(super) fn contains(&self, vector: u8) -> bool {
        let (index, bit) = place(vector);
        self.0
            .get(index)
            .is_some_and(|word| word.load(SeqCst) & bit != 0)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.words().into_iter().fold(0, |all, word| all | word) == 0
    }

    /// Takes out all vectors, and returns them; a word that is empty is not written.
    pub(super) fn take(&self) -> [u64; WORDS] {
        let [a, b, c, d] = &self.0;
        [a, b, c, d].map(|word| match word.load(SeqCst) {
            0 => 0,
            _ => word.swap(0, SeqCst),
        })
    }

    /// Adds vectors.
    pub(super) fn add(&self, vectors: [u64; WORDS]) {
        for (word, bits) in self.0.iter().zip(vectors) {
            word.fetch_or(bits, SeqCst);
        }
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, SeqCst));
    }

    /// Returns the set, 64 vectors a word.
    pub(super) fn words(&self) -> [u64; WORDS] {
        let [a, b, c, d] = &self.0;
        [a, b, c, d].map(|word| word.load(SeqCst))
    }

    pub(super) fn highest(&self) -> Option<u8> {
        highest(self.words())
    }

    /// Returns one of the eight registers that show the set.
    pub(super) fn register(&self, index: usize) -> u32 {
        register(self.words(), index)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_hold_what_was_put_in(steps in prop::collection::vec(any::<(u8, bool)>(), 0..100)) {
            let mut model = BTreeSet::new();
            let shared = SharedVectorSet::default();
            for (vector, adds) in steps {
                match adds {
                    true => {
                        prop_assert_eq!(shared.insert(vector), model.insert(vector));
                    }
                    false => {
                        shared.remove(vector);
                        model.remove(&vector);
                    }
                }
                prop_assert_eq!(shared.highest(), model.last().copied());
                prop_assert_eq!(shared.contains(vector), adds);
                let bit = shared.register(usize::from(vector / 32)) >> (vector % 32) & 1;
                prop_assert_eq!(bit == 1, adds);
            }
            let all = shared.take();
            prop_assert_eq!(shared.highest(), None);
            shared.add(all);
            prop_assert_eq!(shared.highest(), model.last().copied());
            shared.clear();
            prop_assert_eq!(shared.highest(), None);
        }
    }
}
