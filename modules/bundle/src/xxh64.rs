// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! XXH64 with seed 0, read one aligned 64-bit word at a time.
//!
//! Called by the writer and by every check of a body. The crates that offer
//! XXH64 read through unaligned pointers, which a compiler for a machine that
//! need not support them (rv64gc, aarch64 with strict alignment) turns into
//! eight byte loads each. Bodies are page-aligned, so whole words
//! can be loaded: about one instruction per byte. Bytes that happen not to be
//! aligned give the same result, slower.
//!
//! Spec: "XXH64 Algorithm Description" of the xxHash fast digest algorithm.

use zerocopy::FromBytes;
use zerocopy::little_endian::{U32, U64};

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// One 32-byte stripe, in the four lanes that are hashed side by side.
type Lanes = [u64; 4];

/// Returns the XXH64 of `bytes` with seed 0.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let (start, rest) = match <[Lanes]>::ref_from_prefix(bytes) {
        Ok((stripes, rest)) => (stripes_start(stripes, u64::from_le), rest),
        Err(_) => unaligned_start(bytes),
    };
    finish(start.wrapping_add(bytes.len() as u64), rest)
}

#[cold]
fn unaligned_start(bytes: &[u8]) -> (u64, &[u8]) {
    match <[[U64; 4]]>::ref_from_prefix(bytes) {
        Ok((stripes, rest)) => (stripes_start(stripes, U64::get), rest),
        Err(_) => (PRIME_5, bytes),
    }
}

fn stripes_start<W: Copy>(stripes: &[[W; 4]], load: impl Fn(W) -> u64) -> u64 {
    if stripes.is_empty() {
        return PRIME_5;
    }
    let mut lanes: Lanes = [
        PRIME_1.wrapping_add(PRIME_2),
        PRIME_2,
        0,
        0u64.wrapping_sub(PRIME_1),
    ];
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe) {
            *lane = round(*lane, load(*word));
        }
    }
    let [a, b, c, d] = lanes;
    let sum = [
        a.rotate_left(1),
        b.rotate_left(7),
        c.rotate_left(12),
        d.rotate_left(18),
    ]
    .iter()
    .fold(0, |sum: u64, term| sum.wrapping_add(*term));
    lanes.iter().fold(sum, |hash, lane| merge(hash, *lane))
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2))
        .rotate_left(31)
        .wrapping_mul(PRIME_1)
}

fn merge(hash: u64, lane: u64) -> u64 {
    (hash ^ round(0, lane))
        .wrapping_mul(PRIME_1)
        .wrapping_add(PRIME_4)
}

/// Mixes in the last bytes, fewer than 32.
fn finish(mut hash: u64, mut rest: &[u8]) -> u64 {
    while let Ok((word, after)) = U64::read_from_prefix(rest) {
        hash = (hash ^ round(0, word.get()))
            .rotate_left(27)
            .wrapping_mul(PRIME_1)
            .wrapping_add(PRIME_4);
        rest = after;
    }
    if let Ok((word, after)) = U32::read_from_prefix(rest) {
        hash = (hash ^ u64::from(word.get()).wrapping_mul(PRIME_1))
            .rotate_left(23)
            .wrapping_mul(PRIME_2)
            .wrapping_add(PRIME_3);
        rest = after;
    }
    let hash = rest.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte).wrapping_mul(PRIME_5))
            .rotate_left(11)
            .wrapping_mul(PRIME_1)
    });
    avalanche(hash)
}

fn avalanche(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::digest;

    #[test]
    fn the_empty_digest_is_the_published_one() {
        assert_eq!(digest(b""), 0xEF46_DB37_51D8_E999);
    }

    #[test]
    fn every_short_length_agrees_with_the_reference_at_every_alignment() {
        let bytes: Vec<u8> = (0..=255)
            .cycle()
            .map(|n: u8| n.wrapping_mul(37))
            .take(300)
            .collect();
        for start in 0..8 {
            for end in start..bytes.len() {
                let part = &bytes[start..end];
                assert_eq!(digest(part), xxhash_rust::xxh64::xxh64(part, 0));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_agree_with_the_reference(bytes: Vec<u8>, skip in 0usize..8) {
            let part = bytes.get(skip..).unwrap_or(&[]);
            prop_assert_eq!(digest(part), xxhash_rust::xxh64::xxh64(part, 0));
        }
    }
}
