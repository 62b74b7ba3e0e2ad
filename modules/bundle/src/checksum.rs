// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The checksum of a bundle: words mixed into four lanes, a line at a time.
//!
//! Called by the writer and by every check of a body. It finds damage, not
//! malice. Each step is a bijection of its lane, so that one damaged word is
//! always found. It is made for a boot, which checks tens of megabytes: a third
//! of an instruction per byte on rv64gc, where a byte-wise checksum takes four and
//! more. Bodies are page-aligned, so whole words can be loaded; bytes that
//! happen not to be aligned give the same result, slower.
//!
//! Spec: docs/bundle.md, "Checksum".

use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

const LANES: usize = 4;
const LANE_WORDS: usize = 4;
const LINE_WORDS: usize = LANE_WORDS * LANES;
const LINE_BYTES: usize = LINE_WORDS * size_of::<u64>();
/// An odd number with its bits well spread: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// What the lanes begin with.
const START: [u64; LANES] = [1, 2, 3, 4];

/// Returns the checksum of `bytes`.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let (lanes, rest) = match <[[u64; LINE_WORDS]]>::ref_from_prefix(bytes) {
        Ok((lines, rest)) => (lanes(lines, u64::from_le), rest),
        Err(_) => unaligned_lanes(bytes),
    };
    let mut last = [0; LINE_BYTES];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let last = <[U64; LINE_WORDS]>::read_from_bytes(&last).unwrap_or_default();
    let words = lanes.into_iter().chain(last.into_iter().map(U64::get));
    words.fold(mix(0, bytes.len() as u64), |hash, word| {
        spread(mix(hash, word))
    })
}

#[cold]
fn unaligned_lanes(bytes: &[u8]) -> ([u64; LANES], &[u8]) {
    match <[[U64; LINE_WORDS]]>::ref_from_prefix(bytes) {
        Ok((lines, rest)) => (lanes(lines, U64::get), rest),
        Err(_) => (START, bytes),
    }
}

fn lanes<W: Copy>(lines: &[[W; LINE_WORDS]], load: impl Fn(W) -> u64) -> [u64; LANES] {
    let mut lanes = START;
    for line in lines {
        let ([a, b, c, d], []) = line.as_chunks::<LANES>() else {
            break;
        };
        let words = a.iter().zip(b).zip(c).zip(d);
        for (lane, (((a, b), c), d)) in lanes.iter_mut().zip(words) {
            let sum = lane.wrapping_add(load(*a)) ^ load(*b);
            *lane = spread(mix(sum.wrapping_add(load(*c)), load(*d)));
        }
    }
    lanes
}

fn mix(lane: u64, word: u64) -> u64 {
    (lane ^ word).wrapping_mul(FACTOR)
}

/// Lets the high bits, which a product does not carry down, count below as well.
fn spread(lane: u64) -> u64 {
    lane ^ (lane >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::digest;

    /// The description in docs/bundle.md, word by word.
    fn reference(bytes: &[u8]) -> u64 {
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        let whole = bytes.len() / 128 * 128;
        let mut padded = bytes.to_vec();
        padded.resize(whole + 128, 0);
        let words: Vec<u64> = padded
            .chunks(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let mut lanes = [1u64, 2, 3, 4];
        for (n, word) in words[..whole / 8].iter().enumerate() {
            let lane = &mut lanes[n % 4];
            *lane = match n / 4 % 4 {
                0 | 2 => lane.wrapping_add(*word),
                _ => *lane ^ word,
            };
            if n % 16 >= 12 {
                *lane = lane.wrapping_mul(FACTOR);
                *lane ^= *lane >> 32;
            }
        }
        let mut hash = (bytes.len() as u64).wrapping_mul(FACTOR);
        for word in lanes.iter().chain(&words[whole / 8..]) {
            hash = (hash ^ word).wrapping_mul(FACTOR);
            hash ^= hash >> 32;
        }
        hash
    }

    #[test]
    fn every_short_length_agrees_with_the_description_at_every_alignment() {
        let bytes: Vec<u8> = (0..=255)
            .cycle()
            .map(|n: u8| n.wrapping_mul(37))
            .take(600)
            .collect();
        for start in 0..8 {
            for end in start..bytes.len() {
                let part = &bytes[start..end];
                assert_eq!(digest(part), reference(part));
            }
        }
    }

    #[test]
    fn a_length_counts_though_what_is_added_is_zero() {
        assert_ne!(digest(&[]), digest(&[0]));
        assert_ne!(digest(&[0; 128]), digest(&[0; 256]));
    }

    proptest! {
        #[test]
        fn any_bytes_agree_with_the_description(bytes: Vec<u8>, skip in 0usize..8) {
            let part = bytes.get(skip..).unwrap_or(&[]);
            prop_assert_eq!(digest(part), reference(part));
        }

        #[test]
        fn a_damaged_word_is_found(
            mut bytes in prop::collection::vec(any::<u8>(), 1..400),
            at: prop::sample::Index,
            flip in 1u8..,
        ) {
            let before = digest(&bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_ne!(digest(&bytes), before);
        }
    }
}
