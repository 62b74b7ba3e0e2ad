// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Accesses to a device from code whose mapping is odd.
//!
//! Called with interrupts masked. A hypervisor that emulates an access fetches the
//! instruction by the guest's page tables: from a page that can only be executed,
//! and from one that is gone when it looks, which is the guest's own page fault then.
//!
//! Spec: RISC-V Privileged, "Sv39"; "H" extension, HLVX.

use core::{
    arch::asm,
    sync::atomic::{AtomicU64, Ordering},
};

use rt::{machine::Failure, say};

use crate::attempt::attempt;
use crate::call::Trap;

const SV39: usize = 8 << 60;
const VALID: u64 = 1 << 0;
const EXECUTE: u64 = 1 << 3;
/// Readable, writable, executable.
const ALL: u64 = 7 << 1;
const ACCESSED_AND_DIRTY: u64 = 3 << 6;
const FETCH_PAGE_FAULT: usize = 12;

const GIB: u64 = 1 << 30;
/// Where the page is seen, in a gibibyte where the machine has nothing.
const ALIAS: usize = 1 << 30;
const UART_STATUS: usize = 0x1000_0005;
/// lbu a0, 0(a0)
const LOAD_BYTE: u32 = 0x0005_4503;
/// ret
const RETURN: u32 = 0x0000_8067;

type Checked = Result<(), Failure>;

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn set(&self, index: usize, entry: u64) {
        self.0[index].store(entry, Ordering::SeqCst);
    }

    fn entry(&self) -> u64 {
        leaf(self.0.as_ptr().addr() as u64, 0)
    }
}

static ROOT: Table = Table::new();
static MIDDLE: Table = Table::new();
static LAST: Table = Table::new();

/// A function that loads a byte, on a page of its own.
#[repr(C, align(4096))]
struct Page([u32; 1024]);

static CODE: Page = Page({
    let mut words = [RETURN; 1024];
    words[0] = LOAD_BYTE;
    words
});

fn leaf(address: u64, flags: u64) -> u64 {
    (address >> 12 << 10) | flags | VALID
}

/// Runs all checks, with translation on meanwhile.
pub fn run() -> Checked {
    for gib in [0, 2] {
        let entry = leaf(gib * GIB, ALL | ACCESSED_AND_DIRTY);
        ROOT.set(gib as usize, entry);
    }
    ROOT.set(1, MIDDLE.entry());
    MIDDLE.set(0, LAST.entry());
    map(ALL);
    translate(SV39 | (ROOT.0.as_ptr().addr() >> 12));
    let result = checks();
    translate(0);
    if result.is_ok() {
        say!("device accesses from odd pages passed");
    }
    result
}

fn checks() -> Checked {
    let byte = 0x5a_u8;
    let memory = (&raw const byte).addr();
    let run = |pointer: usize| attempt!("jalr ra, 0(a1)", ALIAS, pointer);
    hold("a load from memory", run(memory) == Ok(0x5a))?;
    hold("a load from a device", run(UART_STATUS).is_ok())?;
    map(EXECUTE);
    forget();
    hold("a page to be executed only", run(UART_STATUS).is_ok())?;
    hold("that page again", run(memory) == Ok(0x5a))?;
    // This hart may remember the page, and the hypervisor does not.
    LAST.set(0, 0);
    let gone = Trap {
        cause: FETCH_PAGE_FAULT,
        value: ALIAS,
    };
    hold(
        "a page that goes",
        run(UART_STATUS).err().is_none_or(|trap| trap == gone),
    )?;
    forget();
    hold("a page that is gone", run(memory) == Err(gone))
}

fn hold(what: &'static str, is_true: bool) -> Checked {
    match is_true {
        true => Ok(()),
        false => Err(Failure(what)),
    }
}

/// Maps the function with these rights.
fn map(rights: u64) {
    let code = CODE.0.as_ptr().addr() as u64;
    LAST.set(0, leaf(code, rights | ACCESSED_AND_DIRTY));
}

fn translate(satp: usize) {
    // SAFETY: this program lies at the same addresses in both cases.
    unsafe { asm!("csrw satp, {}", in(reg) satp) };
    forget();
}

fn forget() {
    // SAFETY: a fence only drops what can be looked up again.
    unsafe { asm!("sfence.vma") };
}
