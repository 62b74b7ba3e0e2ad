// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupt enables, IPIs by SBI, and halting.
//!
//! Called by the steps and by `wait`. No device interrupt is used, so the PLIC
//! is left alone.
//!
//! Spec: RISC-V Privileged, "Supervisor Interrupt Registers (sip and sie)",
//! "Wait for Interrupt"; RISC-V SBI, "IPI Extension".

use core::arch::asm;

use super::{csr, timer};
use crate::cpu;
use crate::machine::Failure;
use sbi_rt::HartMask;

const SIE: usize = 1 << 1;
const SOFTWARE: usize = 1 << 1;
const TIMER: usize = 1 << 5;

/// Sets up what all CPUs share: nothing here.
pub fn init_machine() -> Result<(), Failure> {
    Ok(())
}

/// Enables this CPU's timer and software interrupts and unmasks.
pub fn init_cpu() -> Result<(), Failure> {
    timer::disarm();
    csr!("csrs", "sie", SOFTWARE | TIMER);
    unmask();
    Ok(())
}

/// Masks all interrupts of this CPU.
pub fn mask() {
    csr!("csrc", "sstatus", SIE);
}

/// Takes interrupts on this CPU.
pub fn unmask() {
    csr!("csrs", "sstatus", SIE);
}

/// Waits for an interrupt; masked ones end the wait, too.
pub fn halt() {
    // SAFETY: waits, and changes nothing.
    unsafe { asm!("wfi", options(nomem, nostack)) };
}

/// Sends an IPI to the CPU with this index.
pub fn send_ipi(index: usize) -> Result<(), Failure> {
    let hart = cpu::hardware_id(index).0 as usize;
    let sent = sbi_rt::send_ipi(HartMask::from_mask_base(1, hart));
    if sent.is_err() {
        return Err(Failure("SBI send_ipi"));
    }
    Ok(())
}

/// Counts an IPI and takes back its request.
pub fn on_ipi() {
    csr!("csrc", "sip", SOFTWARE);
    cpu::current().count_ipi();
}
