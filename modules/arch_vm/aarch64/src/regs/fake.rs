// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers for machines that have none.
//!
//! In tests each thread has a set of its own, in which every bit can be
//! written; in other builds nothing is kept, as no guest is ever entered.

pub(super) fn read<const ID: u16>() -> u64 {
    store::read(ID)
}

pub(super) fn write<const ID: u16>(value: u64) {
    store::write(ID, value);
}

/// There are no random numbers.
pub(crate) fn random_word() -> Option<u64> {
    None
}

/// There is no firmware.
pub(crate) fn firmware_call(_function: u32, _argument: u64) -> i64 {
    -1
}

/// Nothing has to be waited for.
pub(crate) fn synchronize() {}

/// There are no translations.
pub(crate) fn flush_all_guests() {}

/// There are no translations.
pub(crate) fn flush_vmid() {}

/// There are no instructions.
pub(crate) fn invalidate_instructions() {}

/// No address translates: the F bit of PAR_EL1 is set.
pub(crate) fn translate_read(_address: u64) -> u64 {
    1
}

#[cfg(test)]
mod store {
    use core::cell::RefCell;
    use std::{collections::BTreeMap, thread_local};

    thread_local! {
        static REGISTERS: RefCell<BTreeMap<u16, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn read(id: u16) -> u64 {
        REGISTERS.with_borrow(|registers| registers.get(&id).copied().unwrap_or_default())
    }

    pub(super) fn write(id: u16, value: u64) {
        REGISTERS.with_borrow_mut(|registers| registers.insert(id, value));
    }
}

#[cfg(not(test))]
mod store {
    pub(super) fn read(_id: u16) -> u64 {
        0
    }

    pub(super) fn write(_id: u16, _value: u64) {}
}
