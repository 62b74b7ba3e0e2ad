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
pub(crate) use store::limit;

#[cfg(test)]
mod store {
    use core::cell::RefCell;
    use std::{boxed::Box, collections::BTreeMap, thread_local};

    thread_local! {
        static REGISTERS: RefCell<BTreeMap<Key, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// What a register becomes of what it was and of what is written.
    type Limit = Box<dyn Fn(u64, u64) -> u64>;

    thread_local! {
        static LIMITS: RefCell<BTreeMap<u16, Limit>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Lets a register of this thread's hart hold some values only.
    pub(crate) fn limit(number: u16, limit: impl Fn(u64, u64) -> u64 + 'static) {
        LIMITS.with_borrow_mut(|limits| limits.insert(number, Box::new(limit)));
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
            let (old, written) = (*register, change(*register));
            *register = LIMITS.with_borrow(|limits| match limits.get(&number) {
                Some(limit) => limit(old, written),
                None => written,
            });
            old
        })
    }
}
