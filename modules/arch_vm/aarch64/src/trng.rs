// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Random numbers for one VM, behind Arm's TRNG calls.
//!
//! They are the host's, whose generator begins with the machine's own seed, and
//! what RNDR says is added where the CPU has it. Where there is neither, there is
//! no entropy, and the calls are not there: a guest that asks for entropy must
//! not be given a counter.
//!
//! Spec: Arm True Random Number Generator Firmware Interface (DEN 0098) 1.0.

use axvm::AxVCpuHal;

use crate::regs::random_word;

/// Words that one call answers.
pub(crate) const WORDS: usize = 3;
const WORD_BYTES: usize = size_of::<u64>();

/// One VM's sources of random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random {
    has_host: bool,
    has_rndr: bool,
}

impl Random {
    /// Finds out whether the host has some; the CPU may have RNDR.
    pub(crate) fn new<H: AxVCpuHal>(hal: &H, has_rndr: bool) -> Self {
        Self {
            has_host: host_words(hal).is_some(),
            has_rndr,
        }
    }

    /// Tells whether there is any entropy.
    pub(crate) fn is_there(self) -> bool {
        self.has_host || self.has_rndr
    }

    /// Returns random words, unless there are none now.
    pub(crate) fn words<H: AxVCpuHal>(self, hal: &H) -> Option<[u64; WORDS]> {
        let host = host_words(hal);
        let own = self.has_rndr.then(own_words).flatten();
        let Some((host, own)) = host.zip(own) else {
            return host.or(own);
        };
        let mut mixed = host;
        let pairs = mixed.iter_mut().zip(own);
        pairs.for_each(|(word, own)| *word ^= own);
        Some(mixed)
    }
}

fn host_words<H: AxVCpuHal>(hal: &H) -> Option<[u64; WORDS]> {
    let mut bytes = [[0; WORD_BYTES]; WORDS];
    hal.fill_random(bytes.as_flattened_mut())
        .then(|| bytes.map(u64::from_ne_bytes))
}

fn own_words() -> Option<[u64; WORDS]> {
    let mut words = [0; WORDS];
    for word in &mut words {
        *word = random_word()?;
    }
    Some(words)
}

/// Cuts words to `bits` bits in all, the most significant first.
pub(crate) fn cut(words: [u64; WORDS], bits: u64, bits_of_word: u64) -> [u64; WORDS] {
    let mut left = bits;
    let mut cut = words;
    for word in cut.iter_mut().rev() {
        let kept = left.min(bits_of_word);
        left = left.saturating_sub(kept);
        *word &= u64::MAX
            .checked_shr(64_u64.saturating_sub(kept) as u32)
            .unwrap_or(0);
    }
    cut
}

#[cfg(test)]
mod tests {
    use arch_vm_host::testing::StdHost;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_entropy_there_are_no_random_numbers() {
        let host = StdHost::default();
        let none = Random::new(&host, false);
        assert!(!none.is_there() && none.words(&host).is_none());
        // The tests' CPU has an RNDR that never answers: there are none now.
        let silent = Random::new(&host, true);
        assert!(silent.is_there() && silent.words(&host).is_none());
    }

    proptest! {
        #[test]
        fn no_bit_above_what_was_asked_for_is_set(words: [u64; 3], bits in 1_u64..=192) {
            let cut = cut(words, bits, 64);
            let set_from = |word: usize| (u64::BITS - cut[word].leading_zeros()) as u64;
            let highest = [2, 1, 0].map(set_from);
            for (i, highest) in highest.into_iter().enumerate() {
                prop_assert!(highest <= bits.saturating_sub(64 * i as u64));
            }
        }
    }

    #[test]
    fn whole_words_are_kept_as_they_are() {
        assert_eq!(cut([1, 2, 3], 192, 64), [1, 2, 3]);
        assert_eq!(cut([u64::MAX; 3], 65, 64), [0, 1, u64::MAX]);
        assert_eq!(cut([u64::MAX; 3], 96, 32), [0xffff_ffff; 3]);
        assert_eq!(cut([u64::MAX; 3], 33, 32), [0, 1, 0xffff_ffff]);
    }
}
