// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A trap vector in front of ArceOS's, on harts whose interrupt files serve guests.
//!
//! A message for a guest that does not run is an interrupt of the hypervisor's,
//! number 12, which ArceOS's own vector takes for an unknown trap. This one turns
//! it into the software interrupt by which CPUs call each other, and masks it until
//! the handler of that has looked; everything else goes on to ArceOS's vector as it
//! came. sscratch is 0 in ArceOS, and again when this is left.
//!
//! Spec: RISC-V Privileged, "H" extension, hgeip, hgeie, hie.SGEIE.

use core::arch::{asm, global_asm};

/// The interrupt, where hie has it and in scause.
const GUEST_EXTERNAL: u64 = 12;
const SOFTWARE: u64 = 1 << 1;

global_asm!("
    .section .text
    .option push
    .option norelax
    .balign 4
guest_external_front:
    csrw    sscratch, t0
    csrr    t0, scause
    bgez    t0, 1f                      // not an interrupt
    slli    t0, t0, 1
    addi    t0, t0, -2 * {cause}
    beqz    t0, 2f
1:
    csrrw   t0, sscratch, zero
    j       trap_vector_base
2:
    li      t0, 1 << {cause}
    csrc    0x604, t0                   // hie
    csrsi   sip, {software}
    csrrw   t0, sscratch, zero
    sret
    .option pop",
    cause = const GUEST_EXTERNAL,
    software = const SOFTWARE,
);

unsafe extern "C" {
    fn guest_external_front();
}

/// Puts it in front on this hart; interrupts are closed.
pub(super) fn install() {
    let address = guest_external_front as *const () as usize;
    // SAFETY: the vector keeps all registers and ends where ArceOS's begins.
    unsafe { asm!("csrw stvec, {}", in(reg) address, options(nostack)) };
}
