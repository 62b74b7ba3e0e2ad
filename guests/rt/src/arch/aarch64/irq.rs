// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupt masks, IPIs by SGI, and halting.
//!
//! Called by the steps, by `wait`, and by `trap` for each interrupt.
//!
//! Spec: Arm ARM, "Wait for Interrupt"; server base system architecture for the
//! number of the virtual timer's PPI.

use core::arch::asm;

use super::gic::{self, InterruptId};
use super::timer;
use crate::cpu;
use crate::machine::Failure;

/// The SGI that is used as IPI.
pub const IPI: InterruptId = 1;
/// The virtual timer's PPI.
pub const VIRTUAL_TIMER: InterruptId = 27;

/// Sets up what all CPUs share.
pub fn init_machine() -> Result<(), Failure> {
    gic::init_machine()
}

/// Enables this CPU's timer interrupt and IPI and unmasks.
pub fn init_cpu() -> Result<(), Failure> {
    timer::disarm();
    gic::init_cpu(1 << IPI | 1 << VIRTUAL_TIMER)?;
    unmask();
    Ok(())
}

/// Masks all interrupts of this CPU.
pub fn mask() {
    // SAFETY: only sets the interrupt masks.
    unsafe { asm!("msr daifset, #3", options(nostack)) };
}

/// Takes interrupts on this CPU.
pub fn unmask() {
    // SAFETY: the handlers keep all that the interrupted code uses.
    unsafe { asm!("msr daifclr, #3", options(nostack)) };
}

/// Waits for an interrupt; masked ones end the wait, too.
pub fn halt() {
    // SAFETY: waits, and changes nothing.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
}

/// Sends an IPI to the CPU with this index.
pub fn send_ipi(index: usize) -> Result<(), Failure> {
    gic::send(IPI, index)
}

/// Deals with the interrupt that is pending.
pub fn on_interrupt() {
    let acknowledged = gic::acknowledge();
    match gic::id_of(acknowledged) {
        VIRTUAL_TIMER => timer::on_interrupt(),
        IPI => cpu::current().count_ipi(),
        gic::SPECIAL.. => return,
        _ => {}
    }
    gic::end(acknowledged);
}
