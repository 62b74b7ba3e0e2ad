// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt controller: priorities, nesting, and ends in two steps.
//!
//! Shared interrupts that no device raises are made pending by software, and taken
//! with interrupts masked: more of them than a hypervisor has list registers, all
//! pending at once and all active at once.
//!
//! Spec: Arm GIC Architecture Specification, "Interrupt handling and
//! prioritization".

use rt::arch::gic;
use rt::check::{Checked, same};
use rt::say;

/// The first of them; the others follow.
const FIRST: u32 = 64;
const COUNT: u32 = 12;
const ALL: u32 = (1 << COUNT) - 1;
const NOTHING: u32 = 1023;
/// Where the word of these interrupts is, in each array of single bits.
const WORD: usize = FIRST as usize / 8;

const GROUP: usize = 0x080;
const ENABLE: usize = 0x100;
const DISABLE: usize = 0x180;
const PEND: usize = 0x200;
const ACTIVE: usize = 0x300;
const PRIORITIES: usize = 0x400;
const TARGETS: usize = 0x800;

/// The distributor's registers.
#[derive(Clone, Copy)]
struct Distributor(usize);

impl Distributor {
    fn write(self, array: usize, value: u32) {
        // SAFETY: the distributor is here, and its registers touch no memory.
        unsafe { ((self.0 + array + WORD) as *mut u32).write_volatile(value) };
    }

    fn read(self, array: usize) -> u32 {
        // SAFETY: as for `write`.
        unsafe { ((self.0 + array + WORD) as *const u32).read_volatile() }
    }

    /// Writes a byte of an array of bytes.
    fn write_byte(self, array: usize, intid: u32, value: u8) {
        // SAFETY: as for `write`.
        unsafe { ((self.0 + array + intid as usize) as *mut u8).write_volatile(value) };
    }

    fn pend(self, intid: u32) {
        self.write(PEND, 1 << (intid - FIRST));
    }
}

/// Runs the checks.
pub fn run() -> Checked {
    gic::init_cpu(0)?;
    let distributor = Distributor(gic::distributor()?);
    if gic::is_v3()? {
        distributor.write(GROUP, ALL);
    }
    for intid in FIRST..FIRST + COUNT {
        distributor.write_byte(PRIORITIES, intid, priority_of(intid));
        if !gic::is_v3()? {
            distributor.write_byte(TARGETS, intid, 1);
        }
    }
    distributor.write(ENABLE, ALL);
    all_pending(distributor)?;
    all_active(distributor)?;
    masked(distributor)?;
    gic::set_split_end(true);
    let checked = split_end(distributor);
    gic::set_split_end(false);
    checked?;
    distributor.write(DISABLE, ALL);
    say!("interrupts passed");
    Ok(())
}

/// The last is the most urgent.
fn priority_of(intid: u32) -> u8 {
    0xd0 - 0x10 * (intid - FIRST) as u8
}

/// Takes what is most urgent, which must be `intid`.
fn take(what: &'static str, intid: u32) -> Checked {
    let acknowledged = gic::acknowledge();
    same(what, gic::id_of(acknowledged), intid)
}

/// All wait together, and come in the order of their priorities.
fn all_pending(distributor: Distributor) -> Checked {
    distributor.write(PEND, ALL);
    for intid in (FIRST..FIRST + COUNT).rev() {
        take("the most urgent", intid)?;
        gic::end(intid);
    }
    take("nothing behind the last", NOTHING)
}

/// Each interrupts the one before; their ends come in the other order.
fn all_active(distributor: Distributor) -> Checked {
    for intid in FIRST..FIRST + COUNT {
        distributor.pend(intid);
        take("a more urgent one", intid)?;
    }
    same("all are active", distributor.read(ACTIVE) & ALL, ALL)?;
    for intid in (FIRST..FIRST + COUNT).rev() {
        gic::end(intid);
        let below = (1 << (intid - FIRST)) - 1;
        same(
            "what is still active",
            distributor.read(ACTIVE) & ALL,
            below,
        )?;
        // It comes again, while all below it are being served.
        distributor.pend(intid);
        take("one that comes again", intid)?;
        gic::end(intid);
    }
    distributor.pend(FIRST + 1);
    take("one after all", FIRST + 1)?;
    distributor.pend(FIRST);
    take("one that is less urgent", NOTHING)?;
    gic::end(FIRST + 1);
    take("one that has waited", FIRST)?;
    gic::end(FIRST);
    take("nothing after all", NOTHING)
}

/// What the priority mask holds back comes when it is opened.
fn masked(distributor: Distributor) -> Checked {
    gic::set_priority_mask(priority_of(FIRST + 4));
    distributor.pend(FIRST + 4);
    take("one that is masked", NOTHING)?;
    distributor.pend(FIRST + 5);
    take("one above the mask", FIRST + 5)?;
    gic::end(FIRST + 5);
    gic::set_priority_mask(0xff);
    take("one that was masked", FIRST + 4)?;
    gic::end(FIRST + 4);
    take("nothing behind the mask", NOTHING)
}

/// The end drops the priority, and leaves the interrupt active.
fn split_end(distributor: Distributor) -> Checked {
    let (low, high) = (FIRST + 2, FIRST + 3);
    distributor.pend(high);
    take("one to drop", high)?;
    gic::end(high);
    same("it is active", distributor.read(ACTIVE) & ALL, 1 << 3)?;
    distributor.pend(low);
    take("one below it", low)?;
    gic::end(low);
    distributor.pend(high);
    take("one that is active", NOTHING)?;
    gic::deactivate(high);
    take("one that is active no more", high)?;
    gic::end(high);
    gic::deactivate(high);
    gic::deactivate(low);
    same("none is active", distributor.read(ACTIVE) & ALL, 0)?;
    take("nothing but these two", NOTHING)
}
