// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! VMX where there is none: each VMCS is a map, one set for each test thread.
//!
//! Same functions as `cpu`, so that what is above is tested on any machine.

/// The instruction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// How much of the translations is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of one guest.
    One(u64),
    /// All.
    All,
}

/// What an exit restores of this CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Host {
    pub(super) cr0: u64,
    pub(super) cr3: u64,
    pub(super) cr4: u64,
    pub(super) selectors: [u16; 7],
    pub(super) gdt: u64,
    pub(super) idt: u64,
    pub(super) task: u64,
}

pub(super) fn switch_on(_region: u64) -> Result<(), Failed> {
    Ok(())
}

pub(super) fn switch_off() {}

pub(super) fn clear(_region: u64) -> Result<(), Failed> {
    Ok(())
}

pub(super) fn load(region: u64) -> Result<(), Failed> {
    store::load(region);
    Ok(())
}

pub(super) fn read(encoding: u32) -> u64 {
    store::read(encoding)
}

pub(super) fn write(encoding: u32, value: u64) {
    store::write(encoding, value);
}

pub(super) fn drop_extended(_scope: Scope) {}

/// Counts how often it is called.
pub(super) fn drop_linear(_scope: Scope) {
    store::count_drop();
}

#[cfg(test)]
pub(super) fn drops() -> u64 {
    store::drops()
}

pub(super) fn cr2() -> u64 {
    0
}

pub(super) fn set_cr2(_value: u64) {}

pub(super) fn dr6() -> u64 {
    0
}

pub(super) fn set_dr6(_value: u64) {}

pub(super) fn take_nmi() {}

pub(super) fn set_numeric_errors() {}

pub(super) fn host() -> Host {
    Host::default()
}

#[cfg(not(test))]
mod store {
    pub(super) fn load(_region: u64) {}

    pub(super) fn read(_encoding: u32) -> u64 {
        0
    }

    pub(super) fn write(_encoding: u32, _value: u64) {}

    pub(super) fn count_drop() {}
}

#[cfg(test)]
mod store {
    use core::cell::{Cell, RefCell};
    use std::{collections::BTreeMap, thread_local};

    thread_local! {
        static CURRENT: Cell<u64> = const { Cell::new(0) };
        static DROPS: Cell<u64> = const { Cell::new(0) };
        static FIELDS: RefCell<BTreeMap<(u64, u32), u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn load(region: u64) {
        CURRENT.set(region);
    }

    pub(super) fn read(encoding: u32) -> u64 {
        let key = (CURRENT.get(), encoding);
        FIELDS.with_borrow(|fields| fields.get(&key).copied().unwrap_or_default())
    }

    pub(super) fn write(encoding: u32, value: u64) {
        let key = (CURRENT.get(), encoding);
        FIELDS.with_borrow_mut(|fields| fields.insert(key, value));
    }

    pub(super) fn count_drop() {
        DROPS.set(DROPS.get() + 1);
    }

    pub(super) fn drops() -> u64 {
        DROPS.get()
    }
}
