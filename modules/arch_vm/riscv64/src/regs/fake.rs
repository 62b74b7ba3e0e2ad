// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers for machines that have none.
//!
//! In tests each thread has a set of its own, in which every bit can be
//! written, and behind vsireg what hstatus.VGEIN and vsiselect say; in other builds
//! nothing is kept, as no guest is ever entered.

pub(super) fn read<const NUMBER: u16>() -> u64 {
    store::replace(NUMBER, |old| old)
}

pub(super) fn write<const NUMBER: u16>(value: u64) {
    store::replace(NUMBER, |_| value);
}

pub(super) fn swap<const NUMBER: u16>(value: u64) -> u64 {
    store::replace(NUMBER, |_| value)
}

pub(super) fn set_bits<const NUMBER: u16>(bits: u64) -> u64 {
    store::replace(NUMBER, |old| old | bits)
}

pub(super) fn clear_bits<const NUMBER: u16>(bits: u64) -> u64 {
    store::replace(NUMBER, |old| old & !bits)
}

#[cfg(not(test))]
mod store {
    pub(super) fn replace(_number: u16, _change: impl FnOnce(u64) -> u64) -> u64 {
        0
    }
}

#[cfg(test)]
mod store {
    use core::cell::RefCell;
    use std::{collections::BTreeMap, thread_local};

    thread_local! {
        static REGISTERS: RefCell<BTreeMap<Key, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// A register's number; of one behind vsireg also the file and the selection.
    type Key = (u16, u64, u64);

    const HSTATUS: u16 = 0x600;
    const VSISELECT: u16 = 0x250;
    const VSIREG: u16 = 0x251;

    pub(super) fn replace(number: u16, change: impl FnOnce(u64) -> u64) -> u64 {
        REGISTERS.with_borrow_mut(|registers| {
            let plain = |number| registers.get(&(number, 0, 0)).copied().unwrap_or(0);
            let key = match number {
                VSIREG => (number, (plain(HSTATUS) >> 12) & 0x3f, plain(VSISELECT)),
                _ => (number, 0, 0),
            };
            let register = registers.entry(key).or_default();
            core::mem::replace(register, change(*register))
        })
    }
}
