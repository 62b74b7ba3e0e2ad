// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Accesses that cross from one page into another that is something else, and page
//! faults of accesses to devices.
//!
//! Each pair of neighbours is looked at from both sides: RAM, the I/O APIC, whose
//! first register keeps what is written, and an HPET's page, whose end is nothing.
//!
//! Spec: AMD64 APM 2, "Page-Fault Error Code", "Supervisor-Mode Access Prevention".

use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rt::check::{Checked, hold, same};
use rt::{machine::Failure, say};

use crate::device::{HPET, IO_APIC, read, write};
use crate::execute::{
    DATA, NOTHING, PAGE_FAULT, RAX, RBX, RCX, RDI, RSI, Registers, Trap, UNDEFINED, Who,
    directory_entry, execute,
};

/// 2 MiB of addresses that get tables of their own.
const HERE: u64 = NOTHING + 0x20_0000;
const COUNTER: u64 = HPET + 0xf0;
const PAGE: u64 = 0x1000;
const PRESENT_WRITABLE: u64 = 3;
const LOAD: &[u8] = &[0x48, 0x8b, 0x03];
const STORE: &[u8] = &[0x48, 0x89, 0x03];
const OLD: u64 = 0x0000_0007_5544_3322;
const NEW: u64 = 0x0000_0012_8877_6655;
const HAS_SMAP: u32 = 1 << 20;
const AC: u64 = 1 << 18;

#[repr(align(4096))]
struct Table([AtomicU64; 512]);

static TABLE: Table = Table([const { AtomicU64::new(0) }; 512]);

/// Runs all of them.
pub fn run() -> Checked {
    let entry = directory_entry(HERE);
    let pages = [DATA, IO_APIC, DATA + PAGE, HPET, IO_APIC];
    for (slot, page) in TABLE.0.iter().zip(pages) {
        slot.store(page | PRESENT_WRITABLE, Relaxed);
    }
    let table = (&raw const TABLE).addr() as u64;
    set_entry(entry, table | PRESENT_WRITABLE);
    crossings()?;
    say!("accesses across pages passed");
    prevention()?;
    if is_axhive() {
        // A bare QEMU ends for these.
        no_memory(entry)?;
    }
    say!("page faults at devices passed");
    Ok(())
}

/// Code and page tables where there is only a bus.
fn no_memory(entry: *mut u64) -> Checked {
    const JUMP: &[u8] = &[0xff, 0xe3];
    let found = at(HERE + 3 * PAGE, JUMP).1;
    hold(
        "a jump to a device",
        found.is_some_and(|trap| trap.vector == UNDEFINED),
    )?;
    set_entry(entry, NOTHING | PRESENT_WRITABLE);
    let found = at(HERE + 8, LOAD).1;
    hold(
        "a page table that is not there",
        found.is_some_and(|trap| trap.vector == PAGE_FAULT && trap.address == HERE + 8),
    )
}

fn is_axhive() -> bool {
    __cpuid(0x4000_0000).ebx == u32::from_le_bytes(*b"AxHi")
}

/// Executes with an address in RBX; returns RAX, and what came.
fn at(address: u64, bytes: &[u8]) -> (u64, Option<Trap>) {
    let mut registers = Registers::default();
    registers.gprs[RAX] = NEW;
    registers.gprs[RBX] = address;
    let found = execute(bytes, Who::Kernel, &mut registers);
    (registers.gprs[RAX], found)
}

/// Loads or stores eight bytes of which four are in each page.
fn across(page: u64, bytes: &[u8]) -> Result<u64, Failure> {
    let (value, found) = at(HERE + page * PAGE - 4, bytes);
    match found {
        None => Ok(value),
        Some(trap) => {
            say!("across page {page}: {trap:x?}");
            Err(Failure("an access across pages"))
        }
    }
}

fn crossings() -> Checked {
    let [low, high] = [OLD as u32, (OLD >> 32) as u32];
    write(DATA + PAGE - 4, low);
    write(IO_APIC, high);
    same("RAM, then a device", across(1, LOAD)?, OLD)?;
    write(DATA + PAGE, low);
    same("a device, then RAM", across(2, LOAD)? >> 32, low.into())?;
    same("two devices", across(4, LOAD)? >> 32, high.into())?;
    let [low, high] = [NEW as u32, (NEW >> 32) as u32];
    across(2, STORE)?;
    same("a device, then RAM, written", read(DATA + PAGE), high)?;
    across(1, STORE)?;
    same("RAM, then a device, written", read(DATA + PAGE - 4), low)?;
    if is_axhive() {
        // A bare QEMU writes single bytes, which the I/O APIC does not take.
        same("the device", read(IO_APIC), high)?;
        write(IO_APIC, 0);
        across(4, STORE)?;
        same("the second of two devices", read(IO_APIC), high)?;
    }
    Ok(())
}

/// A kernel's copy from a device to a program's page.
fn prevention() -> Checked {
    if __cpuid_count(7, 0).ebx & HAS_SMAP == 0 {
        return Ok(());
    }
    // mov rcx, cr4; bts ecx, 21; mov cr4, rcx; movsd
    const COPY: [u8; 11] = [
        0x0f, 0x20, 0xe1, 0x0f, 0xba, 0xe9, 21, 0x0f, 0x22, 0xe1, 0xa5,
    ];
    write(COUNTER, 0x1234);
    for (flags, expected) in [(0, Some((PAGE_FAULT, 3, DATA))), (AC, None)] {
        write(DATA, 0);
        let mut registers = Registers::default();
        registers.gprs[RSI] = COUNTER;
        registers.gprs[RDI] = DATA;
        registers.flags = flags;
        let found = execute(&COPY, Who::Kernel, &mut registers);
        clear_smap(registers.gprs[RCX]);
        let found = found.map(|trap| (trap.vector, trap.error, trap.address));
        if found != expected {
            say!("SMAP with {flags:#x}: {found:x?}");
        }
        hold("SMAP", found == expected)?;
        let copied = if found.is_none() { 0x1234 } else { 0 };
        same("what was copied", read(DATA), copied)?;
    }
    Ok(())
}

fn clear_smap(cr4: u64) {
    const SMAP: u64 = 1 << 21;
    // SAFETY: CR4 as it was before.
    unsafe { asm!("mov cr4, {}", in(reg) cr4 & !SMAP, options(nostack)) };
}

/// Replaces an entry of a page directory, and what the CPU has of it.
fn set_entry(entry: *mut u64, value: u64) {
    // SAFETY: nobody uses the addresses behind it.
    unsafe { entry.write_volatile(value) };
    // SAFETY: drops what the CPU has of the tables.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack)) };
}
