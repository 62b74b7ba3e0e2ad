// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupt masks, IPIs by the local APIC, and halting.
//!
//! Called by the steps and by `wait`. The 8259s are masked for good.
//!
//! Spec: Intel SDM 3, "Issuing Interprocessor Interrupts"; SDM 2, STI, HLT.

use core::arch::asm;

use super::apic::{self, Command};
use super::{port, timer, trap};
use crate::cpu;
use crate::machine::Failure;

const FIRST_8259_MASK: u16 = 0x21;
const SECOND_8259_MASK: u16 = 0xa1;

/// Masks the 8259s, and finds out how fast the clocks run.
pub fn init_machine() -> Result<(), Failure> {
    port::write_u8(FIRST_8259_MASK, 0xff);
    port::write_u8(SECOND_8259_MASK, 0xff);
    apic::init_machine()?;
    apic::init_cpu();
    timer::calibrate();
    Ok(())
}

/// Enables this CPU's APIC and unmasks.
pub fn init_cpu() -> Result<(), Failure> {
    apic::init_cpu();
    timer::init_cpu();
    unmask();
    Ok(())
}

/// Masks all interrupts of this CPU.
pub fn mask() {
    // SAFETY: only clears the interrupt flag.
    unsafe { asm!("cli", options(nostack)) };
}

/// Takes interrupts on this CPU.
pub fn unmask() {
    // SAFETY: the handlers keep all that the interrupted code uses.
    unsafe { asm!("sti", options(nostack)) };
}

/// Waits for an interrupt and takes it, also one that was masked until now.
pub fn halt() {
    // No interrupt comes between these two instructions.
    // SAFETY: as for `unmask`.
    unsafe { asm!("sti", "hlt", options(nostack)) };
}

/// Stops this CPU but for non-maskable interrupts.
pub fn halt_masked() {
    // SAFETY: waits, and changes nothing.
    unsafe { asm!("cli", "hlt", options(nostack)) };
}

/// Sends an IPI to the CPU with this index.
pub fn send_ipi(index: usize) -> Result<(), Failure> {
    apic::send(Command::Fixed(trap::IPI), cpu::hardware_id(index))
}

/// Counts an IPI and ends it.
pub fn on_ipi() {
    cpu::current().count_ipi();
    apic::write(apic::END_OF_INTERRUPT, 0);
}
