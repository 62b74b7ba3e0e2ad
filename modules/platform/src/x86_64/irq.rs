// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupts: vectors of the local APIC, and the I/O APIC's inputs.
//!
//! An interrupt's number is its vector. Input n of the I/O APIC is vector
//! 0x20 + n, always delivered to CPU 0. The old 8259 pair is masked.
//! Spec: Intel SDM volume 3, "Local APIC"; 82093AA I/O APIC datasheet.

use axconfig::devices::{IOAPIC_PADDR, TIMER_IRQ};
use kspin::SpinNoIrq;
use x86_64::instructions::port::Port;

use super::{apic, calibrate};
use crate::{init::machine, irq::dispatch, machine::Machine, mem::linear};

const FIRST_VECTOR: usize = 0x20;
const INPUTS: usize = 24;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;
const PIC_DATA: [u16; 2] = [0x21, 0xa1];

/// The index register selects what the window shows: use them together.
static IOAPIC: SpinNoIrq<()> = SpinNoIrq::new(());

/// Returns the place of `irq` in the handler table.
pub(crate) const fn slot(irq: usize) -> usize {
    irq
}

/// Silences the old controllers, sets this CPU's APIC up and measures its timer.
pub(crate) fn init_primary(machine: &Machine) {
    for port in PIC_DATA {
        // SAFETY: masking all inputs of an 8259 affects nothing else.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
    init_secondary(machine);
    calibrate::measure_apic_timer();
}

/// Sets this CPU's APIC up.
pub(crate) fn init_secondary(_machine: &Machine) {
    apic::enable();
}

/// Lets `irq` through.
pub(crate) fn set_enabled(irq: usize) {
    let cpu_0 = machine().hardware_id(0).unwrap_or(0);
    match input_of(irq) {
        Some(input) => redirect(input, irq as u32, (cpu_0 as u32) << 24),
        None if irq == TIMER_IRQ => apic::unmask_timer(irq as u8),
        None => {}
    }
}

/// Masks `irq`.
pub(crate) fn set_disabled(irq: usize) {
    match input_of(irq) {
        Some(input) => redirect(input, MASKED, 0),
        None if irq == TIMER_IRQ => apic::mask_timer(),
        None => {}
    }
}

fn input_of(irq: usize) -> Option<u32> {
    let input = irq
        .checked_sub(FIRST_VECTOR)
        .filter(|&input| input < INPUTS)?;
    u32::try_from(input).ok()
}

fn redirect(input: u32, low: u32, high: u32) {
    let _together = IOAPIC.lock();
    write_ioapic(REDIRECTION + 2 * input, MASKED);
    write_ioapic(REDIRECTION + 2 * input + 1, high);
    write_ioapic(REDIRECTION + 2 * input, low);
}

fn write_ioapic(register: u32, value: u32) {
    let index = linear(IOAPIC_PADDR) as *mut u32;
    let window = linear(IOAPIC_PADDR + 0x10) as *mut u32;
    // SAFETY: the page is mapped as device memory.
    unsafe { index.write_volatile(register) };
    // SAFETY: the page is mapped as device memory; vectors written are handled.
    unsafe { window.write_volatile(value) };
}

/// Handles the interrupt of `vector`.
pub(crate) fn handle(vector: usize) -> Option<usize> {
    dispatch(vector);
    apic::end_of_interrupt();
    Some(vector)
}

/// Sends `vector` to the CPU with APIC id `target`.
pub(crate) fn send_ipi(vector: usize, target: usize) {
    apic::send(vector as u8, target);
}
