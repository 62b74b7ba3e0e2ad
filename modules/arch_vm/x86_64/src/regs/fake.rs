// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers for builds that run no guests.
//!
//! In tests each thread has a set of its own; in other builds nothing is kept.

use super::Msr;

/// What one CPUID leaf says: eax, ebx, ecx, edx.
pub(crate) type Leaf = [u32; 4];

pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
    store::cpuid(leaf, subleaf)
}

#[cfg(test)]
pub(crate) fn set_cpuid(leaf: u32, subleaf: u32, values: Leaf) {
    store::set_cpuid(leaf, subleaf, values);
}

pub(crate) fn tsc() -> u64 {
    read_msr(Msr::TSC)
}

pub(crate) fn read_msr(msr: Msr) -> u64 {
    store::replace(msr.0, |old| old)
}

pub(crate) fn write_msr(msr: Msr, value: u64) {
    store::replace(msr.0, |_| value);
}

pub(crate) fn set_cr4_bits(_bits: u64) {}

/// Numbers that no model-specific register has.
const XCR0: u32 = u32::MAX;
const RENEWALS: u32 = u32::MAX - 1;
const LOADS: u32 = u32::MAX - 6;

pub(crate) fn read_xcr0() -> u64 {
    store::replace(XCR0, |old| old)
}

pub(crate) fn write_xcr0(value: u64) {
    store::replace(XCR0, |_| value);
}

/// Stores nothing.
///
/// # Safety
///
/// None is needed here; the real one has duties.
pub(crate) unsafe fn xsave(_area: *mut u8, _has_xsave: bool) {}

/// Counts how often it is called.
///
/// # Safety
///
/// None is needed here; the real one has duties.
pub(crate) unsafe fn xrstor(_area: *const u8, _has_xsave: bool) {
    store::replace(LOADS, |count| count.wrapping_add(1));
}

#[cfg(test)]
pub(crate) fn loads() -> u64 {
    store::replace(LOADS, |count| count)
}

/// Numbers that no model-specific registers have, either.
const DEBUG: [u32; 4] = [u32::MAX - 5, u32::MAX - 4, u32::MAX - 3, u32::MAX - 2];

pub(crate) fn load_debug(addresses: &[u64; 4]) {
    for (number, address) in DEBUG.into_iter().zip(addresses) {
        store::replace(number, |_| *address);
    }
}

pub(crate) fn store_debug() -> [u64; 4] {
    DEBUG.map(|number| store::replace(number, |old| old))
}

/// Counts how often it is called.
pub(crate) fn renew_task_priority() {
    store::replace(RENEWALS, |count| count.wrapping_add(1));
}

#[cfg(test)]
pub(crate) fn renewals() -> u64 {
    store::replace(RENEWALS, |count| count)
}

pub(crate) fn close_interrupts() -> u64 {
    0
}

pub(crate) fn restore_interrupts(_flags: u64) {}

#[cfg(not(test))]
mod store {
    use super::Leaf;

    pub(super) fn replace(_number: u32, _change: impl FnOnce(u64) -> u64) -> u64 {
        0
    }

    pub(super) fn cpuid(_leaf: u32, _subleaf: u32) -> Leaf {
        [0; 4]
    }
}

#[cfg(test)]
mod store {
    use core::cell::RefCell;
    use std::{collections::BTreeMap, thread_local};

    use super::Leaf;

    thread_local! {
        static REGISTERS: RefCell<BTreeMap<u32, u64>> = const { RefCell::new(BTreeMap::new()) };
        static LEAVES: RefCell<BTreeMap<(u32, u32), Leaf>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn replace(number: u32, change: impl FnOnce(u64) -> u64) -> u64 {
        REGISTERS.with_borrow_mut(|registers| {
            let register = registers.entry(number).or_default();
            core::mem::replace(register, change(*register))
        })
    }

    pub(super) fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
        LEAVES.with_borrow(|leaves| leaves.get(&(leaf, subleaf)).copied().unwrap_or_default())
    }

    pub(super) fn set_cpuid(leaf: u32, subleaf: u32, values: Leaf) {
        LEAVES.with_borrow_mut(|leaves| leaves.insert((leaf, subleaf), values));
    }
}
