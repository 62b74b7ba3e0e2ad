// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The registers of a local APIC, as a page laid out like the one in memory.
//!
//! The owner of the local APIC keeps them here, and nowhere else. Hardware that
//! virtualizes the local APIC is given this page and works on it while its guest
//! runs: what the owner reads afterwards is what the guest and the hardware left.
//!
//! Spec: Intel SDM 3, "Local APIC Register Address Map", "Virtual-APIC Page".

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use axvm::{AxVCpuHal, Result};

use super::registers::{CLASS, number};
use crate::{
    frames::{Frames, PAGE_BYTES},
    irqchip::vectors::WORDS,
};

/// Words from one register to the next.
const STRIDE: usize = 4;
const PAGE_WORDS: usize = PAGE_BYTES / size_of::<AtomicU32>();
/// Registers of a set of vectors, and the vectors of each.
const REGISTERS_PER_SET: u32 = 8;
const VECTORS_SHIFT: u32 = 5;

/// The registers of one local APIC, shared by all clones.
#[derive(Clone)]
pub(crate) struct Page<H: AxVCpuHal> {
    frames: Arc<Frames<H>>,
    /// Where the hypervisor sees it.
    address: usize,
}

/// A set of vectors among the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    InService = number::IN_SERVICE as isize,
    Levels = number::LEVELS as isize,
    Requests = number::REQUESTS as isize,
}

/// Returns the register of a vector, and its bit there.
fn place(set: Set, vector: u8) -> (u32, u32) {
    let vector = u32::from(vector);
    let register = (set as u32).wrapping_add(vector >> VECTORS_SHIFT);
    (register, 1_u32.wrapping_shl(vector))
}

impl<H: AxVCpuHal> Page<H> {
    /// Makes registers that are all zero.
    pub(crate) fn new(hal: &H) -> Result<Self> {
        let frames = Frames::new(hal, 1)?;
        let address = frames.pointer(0) as usize;
        Ok(Self {
            frames: Arc::new(frames),
            address,
        })
    }

    /// Returns the page's physical address.
    pub(crate) fn physical(&self) -> u64 {
        self.frames.physical(0)
    }

    #[inline]
    fn words(&self) -> &[AtomicU32; PAGE_WORDS] {
        let words = self.address as *const [AtomicU32; PAGE_WORDS];
        // SAFETY: the frame is that of this value and its clones, and is reached by atomic accesses alone.
        unsafe { &*words }
    }

    /// Returns a register's word; numbers are those of the page, so that it exists.
    #[inline]
    fn word(&self, number: u32) -> &AtomicU32 {
        let [first, ..] = self.words();
        let index = (number as usize).wrapping_mul(STRIDE);
        self.words().get(index).unwrap_or(first)
    }

    /// Reads a register.
    #[inline]
    pub(crate) fn read(&self, number: u32) -> u32 {
        self.word(number).load(Relaxed)
    }

    /// Writes a register.
    #[inline]
    pub(crate) fn write(&self, number: u32, value: u32) {
        self.word(number).store(value, Relaxed);
    }

    /// Makes all registers zero.
    pub(super) fn clear(&self) {
        self.words().iter().for_each(|word| word.store(0, Relaxed));
    }

    /// Returns a set, 64 vectors a word.
    pub(super) fn vectors(&self, set: Set) -> [u64; WORDS] {
        core::array::from_fn(|index| {
            let low = (set as u32).wrapping_add((index as u32).wrapping_mul(2));
            let high = u64::from(self.read(low.wrapping_add(1)));
            high << u32::BITS | u64::from(self.read(low))
        })
    }

    /// Adds vectors to a set.
    pub(super) fn add_vectors(&self, set: Set, vectors: [u64; WORDS]) {
        for (word, low) in vectors.into_iter().zip((set as u32..).step_by(2)) {
            if word != 0 {
                let high = low.wrapping_add(1);
                self.write(low, self.read(low) | word as u32);
                self.write(high, self.read(high) | (word >> u32::BITS) as u32);
            }
        }
    }

    /// Makes a set of other vectors.
    pub(super) fn set_vectors(&self, set: Set, vectors: [u64; WORDS]) {
        for (word, low) in vectors.into_iter().zip((set as u32..).step_by(2)) {
            self.write(low, word as u32);
            self.write(low.wrapping_add(1), (word >> u32::BITS) as u32);
        }
    }

    /// Returns the class of the task priority, which is CR8.
    #[inline]
    pub(crate) fn task_class(&self) -> u8 {
        self.read(number::TASK_PRIORITY) as u8 >> CLASS.trailing_zeros()
    }

    /// Sets CR8; a task priority of that class stays as it is.
    #[inline]
    pub(crate) fn set_task_class(&self, class: u8) {
        if class != self.task_class() {
            let priority = class.wrapping_shl(CLASS.trailing_zeros());
            self.write(number::TASK_PRIORITY, priority.into());
        }
    }

    /// Adds a vector to a set.
    #[inline]
    pub(super) fn insert(&self, set: Set, vector: u8) {
        let (register, bit) = place(set, vector);
        self.write(register, self.read(register) | bit);
    }

    /// Takes a vector out of a set.
    #[inline]
    pub(super) fn remove(&self, set: Set, vector: u8) {
        let (register, bit) = place(set, vector);
        self.write(register, self.read(register) & !bit);
    }

    /// Returns the highest vector of a set.
    #[inline]
    pub(super) fn highest(&self, set: Set) -> Option<u8> {
        (0..REGISTERS_PER_SET).rev().find_map(|index| {
            let word = self.read((set as u32).wrapping_add(index));
            let bit = word.checked_ilog2()?;
            Some((index << VECTORS_SHIFT | bit) as u8)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::host;

    proptest! {
        #[test]
        fn sets_hold_what_was_put_in(steps in prop::collection::vec(any::<(u8, bool)>(), 0..100)) {
            let page = Page::new(&host()).unwrap();
            let set = Set::InService;
            let mut model = BTreeSet::new();
            for (vector, adds) in steps {
                match adds {
                    true => {
                        page.insert(set, vector);
                        model.insert(vector);
                    }
                    false => {
                        page.remove(set, vector);
                        model.remove(&vector);
                    }
                }
                prop_assert_eq!(page.highest(set), model.last().copied());
                let register = page.read(number::IN_SERVICE + u32::from(vector / 32));
                prop_assert_eq!(register >> (vector % 32) & 1 == 1, adds);
            }
            let all = page.vectors(set);
            page.set_vectors(set, all);
            prop_assert_eq!(page.highest(set), model.last().copied());
            prop_assert_eq!(page.highest(Set::Levels).or(page.highest(Set::Requests)), None);
            page.clear();
            prop_assert_eq!(page.highest(set), None);
        }
    }

    #[test]
    fn a_register_is_where_the_page_in_memory_has_it() {
        let page = Page::new(&host()).unwrap();
        page.write(number::TASK_PRIORITY, 0x20);
        let words = page.words();
        assert_eq!(words[0x80 / 4].load(Relaxed), 0x20);
        page.set_vectors(Set::Requests, [1, 0, 0, 1 << 63]);
        assert_eq!(words[0x200 / 4].load(Relaxed), 1);
        assert_eq!(words[0x270 / 4].load(Relaxed), 1 << 31);
        assert_eq!(page.read(u32::MAX), 0, "no number is out of the page");
    }
}
