// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A guest's wide vectors: what SVE adds to the floating-point registers.
//!
//! `vcpu` loads and stores them beside [`FloatRegisters`], from a guest's first
//! use of them on. They are kept at the greatest length that the CPU has,
//! whatever a guest has set for itself. Their low 128 bits are the
//! floating-point registers; both copies are the same while they are here.
//!
//! Spec: Arm Architecture Reference Manual, "SVE registers", ZCR_EL1.

#[cfg_attr(all(target_arch = "aarch64", target_os = "none"), path = "hardware.rs")]
#[cfg_attr(
    not(all(target_arch = "aarch64", target_os = "none")),
    path = "fake.rs"
)]
mod hardware;

use alloc::boxed::Box;

use tock_registers::interfaces::{Readable, Writeable};

use crate::{frame::FloatRegisters, regs::ZCR_EL12};

const REGISTERS: usize = 32;
/// The longest vector that the architecture has.
const LENGTH_MAX_BYTES: usize = 256;
/// Vectors, then predicates and the first-fault register, an eighth as long.
const IMAGE_WORDS: usize = (REGISTERS * LENGTH_MAX_BYTES + 17 * LENGTH_MAX_BYTES / 8) / 8;
const WORDS_OF_FLOAT: usize = 2;

/// The registers as they are stored, one behind the other.
#[repr(C, align(16))]
#[derive(Clone, Debug)]
struct Image([u64; IMAGE_WORDS]);

/// One vCPU's wide vectors.
#[derive(Clone, Debug)]
pub(crate) struct VectorRegisters {
    image: Box<Image>,
    /// ZCR_EL1.
    control: u64,
    length_bytes: usize,
    /// Whether the guest has used them.
    is_used: bool,
}

impl VectorRegisters {
    /// Makes registers that are zero.
    pub(crate) fn new() -> Self {
        Self {
            image: Box::new(Image([0; IMAGE_WORDS])),
            control: 0,
            length_bytes: 0,
            is_used: false,
        }
    }

    /// Zeroes them; the guest has not used them yet.
    pub(crate) fn clear(&mut self) {
        self.image.0.fill(0);
        self.control = 0;
        self.is_used = false;
    }

    /// Tells whether the guest uses them.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Begins their use: they are wide floating-point registers until now.
    ///
    /// They do not trap any more.
    pub(crate) fn begin(&mut self, float: &FloatRegisters) {
        self.is_used = true;
        self.length_bytes = hardware::length_bytes().min(LENGTH_MAX_BYTES);
        for (register, halves) in float.v.iter().enumerate() {
            self.set_low(register, *halves);
        }
    }

    /// Loads them into the CPU; they do not trap now.
    pub(crate) fn load(&self) {
        ZCR_EL12.set(self.control);
        hardware::load(&self.image.0);
    }

    /// Stores them; they do not trap now.
    pub(crate) fn store(&mut self) {
        self.control = ZCR_EL12.get();
        hardware::store(&mut self.image.0);
    }

    /// Gives a register a new low part, and zeroes what is above.
    pub(crate) fn set_low(&mut self, register: usize, halves: [u64; WORDS_OF_FLOAT]) {
        let words = self.length_bytes >> 3;
        let first = register.saturating_mul(words);
        let vector = self.image.0.iter_mut().skip(first).take(words);
        let values = halves.into_iter().chain(core::iter::repeat(0));
        vector.zip(values).for_each(|(word, value)| *word = value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_begins_with_the_floating_point_registers() {
        let mut vectors = VectorRegisters::new();
        let mut float = FloatRegisters::default();
        float.v[3] = [5, 6];
        vectors.image.0.fill(u64::MAX);
        vectors.begin(&float);
        let words = hardware::length_bytes() / 8;
        assert!(vectors.is_used());
        let third = &vectors.image.0[3 * words..4 * words];
        assert_eq!(third[..2], [5, 6]);
        assert!(third[2..].iter().all(|word| *word == 0));
        vectors.clear();
        assert!(!vectors.is_used());
    }

    #[test]
    fn registers_of_the_greatest_length_fit_and_further_ones_are_ignored() {
        let mut vectors = VectorRegisters::new();
        vectors.length_bytes = LENGTH_MAX_BYTES;
        vectors.set_low(31, [1, 2]);
        assert_eq!(vectors.image.0[31 * 32..31 * 32 + 3], [1, 2, 0]);
        vectors.set_low(usize::MAX, [3, 4]);
    }
}
