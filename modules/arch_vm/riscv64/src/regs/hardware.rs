// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The real registers, by the CSR instructions.
//!
//! Only this crate reaches these functions, and only for registers that do not
//! change how the hypervisor itself executes (`regs` names no `stvec`, `satp`
//! or `sscratch`): `entry` swaps those, in assembly.

use core::arch::asm;

#[inline]
pub(super) fn read<const NUMBER: u16>() -> u64 {
    let value;
    // SAFETY: reading a CSR named by `regs` has no effect.
    unsafe { asm!("csrr {}, {}", out(reg) value, const NUMBER, options(nostack)) };
    value
}

#[inline]
pub(super) fn write<const NUMBER: u16>(value: u64) {
    // SAFETY: the CSRs that `regs` names affect guests, not the hypervisor.
    unsafe { asm!("csrw {}, {}", const NUMBER, in(reg) value, options(nostack)) };
}

#[inline]
pub(super) fn swap<const NUMBER: u16>(value: u64) -> u64 {
    let old;
    // SAFETY: as for `write`.
    unsafe {
        asm!("csrrw {}, {}, {}", out(reg) old, const NUMBER, in(reg) value, options(nostack));
    }
    old
}

#[inline]
pub(super) fn set_bits<const NUMBER: u16>(bits: u64) -> u64 {
    let old;
    // SAFETY: as for `write`.
    unsafe {
        asm!("csrrs {}, {}, {}", out(reg) old, const NUMBER, in(reg) bits, options(nostack));
    }
    old
}

#[inline]
pub(super) fn clear_bits<const NUMBER: u16>(bits: u64) -> u64 {
    let old;
    // SAFETY: as for `write`.
    unsafe {
        asm!("csrrc {}, {}, {}", out(reg) old, const NUMBER, in(reg) bits, options(nostack));
    }
    old
}
