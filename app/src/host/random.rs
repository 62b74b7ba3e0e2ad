// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Random bytes for guests: what their kernels begin with, and what they ask for.
//!
//! One generator for all, begun with the machine's own seed (firmware's, or the
//! CPU's). A machine without one has no random bytes, and its guests are told
//! so rather than given what can be guessed.

use kspin::SpinNoIrq;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
use spin::Lazy;

static GENERATOR: Lazy<SpinNoIrq<Option<ChaCha20Rng>>> =
    Lazy::new(|| SpinNoIrq::new(platform::machine().seed.map(ChaCha20Rng::from_seed)));

/// Fills `to`, or says that the machine has nothing random.
pub(super) fn fill(to: &mut [u8]) -> bool {
    let mut generator = GENERATOR.lock();
    let Some(generator) = generator.as_mut() else {
        return false;
    };
    generator.fill_bytes(to);
    true
}
