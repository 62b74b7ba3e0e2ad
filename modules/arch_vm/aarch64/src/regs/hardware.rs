// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The real registers, by MRS and MSR, and the instructions beside them.
//!
//! Only this crate reaches these functions, and only for registers that do not
//! change how the hypervisor itself executes, but for VBAR_EL2, which `vcpu`
//! sets around a guest's run with interrupts closed.

use core::arch::asm;

use super::SysRegId;

#[inline]
pub(super) fn read<const ID: u16>() -> u64 {
    let value;
    // SAFETY: reading a register named by `regs` has no effect but those that
    // the GIC's acknowledge registers are read for.
    unsafe {
        asm!(
            "mrs {}, S{}_{}_C{}_C{}_{}",
            out(reg) value,
            const SysRegId(ID).op0(),
            const SysRegId(ID).op1(),
            const SysRegId(ID).crn(),
            const SysRegId(ID).crm(),
            const SysRegId(ID).op2(),
            options(nostack)
        );
    };
    value
}

#[inline]
pub(super) fn write<const ID: u16>(value: u64) {
    // SAFETY: the registers that `regs` names affect guests, not the hypervisor.
    unsafe {
        asm!(
            "msr S{}_{}_C{}_C{}_{}, {}",
            const SysRegId(ID).op0(),
            const SysRegId(ID).op1(),
            const SysRegId(ID).crn(),
            const SysRegId(ID).crm(),
            const SysRegId(ID).op2(),
            in(reg) value,
            options(nostack)
        );
    };
}

/// Returns a random number of the CPU's, which has RNDR, unless it has none now.
pub(crate) fn random_word() -> Option<u64> {
    let (word, is_good): (u64, u64);
    // SAFETY: reading RNDR changes nothing but the flags.
    unsafe {
        asm!(
            "mrs {word}, S3_3_C2_C4_0",
            "cset {is_good}, ne",
            word = out(reg) word,
            is_good = out(reg) is_good,
            options(nostack)
        );
    };
    (is_good != 0).then_some(word)
}

/// Calls the real firmware, which is there.
pub(crate) fn firmware_call(function: u32, argument: u64) -> i64 {
    let answer;
    // SAFETY: `mitigations` names the functions: they keep all registers but
    // those that the convention gives to calls, and no memory changes.
    unsafe {
        asm!(
            "smc #0",
            inlateout("x0") u64::from(function) => answer,
            inlateout("x1") argument => _,
            inlateout("x2") 0_u64 => _,
            inlateout("x3") 0_u64 => _,
            clobber_abi("C"),
            options(nostack)
        );
    };
    answer
}

/// Makes what was written to registers count for what follows.
#[inline]
pub(crate) fn synchronize() {
    // SAFETY: a barrier.
    unsafe { asm!("isb", options(nostack)) };
}

/// Drops this CPU's translations of every guest, and its instructions.
pub(crate) fn flush_all_guests() {
    // SAFETY: guests' translations are made again from their tables.
    unsafe {
        asm!(
            "dsb nshst",
            "tlbi alle1",
            "ic iallu",
            "dsb nsh",
            "isb",
            options(nostack)
        );
    };
}

/// Drops this CPU's translations of the VMID that is loaded.
pub(crate) fn flush_vmid() {
    // SAFETY: as for `flush_all_guests`.
    unsafe {
        asm!(
            "dsb nshst",
            "tlbi vmalls12e1",
            "dsb nsh",
            "isb",
            options(nostack)
        );
    };
}

/// Drops what this CPU holds of instructions.
pub(crate) fn invalidate_instructions() {
    // SAFETY: instructions are fetched again.
    unsafe { asm!("ic iallu", "dsb nsh", "isb", options(nostack)) };
}

/// Translates a virtual address of the guest whose registers are loaded, as
/// its EL1 would for a read, and returns PAR_EL1.
#[inline]
pub(crate) fn translate_read(address: u64) -> u64 {
    let par;
    // SAFETY: translates; the guest's own PAR_EL1 is put back.
    unsafe {
        asm!(
            "mrs {saved}, par_el1",
            "at s1e1r, {address}",
            "isb",
            "mrs {par}, par_el1",
            "msr par_el1, {saved}",
            saved = out(reg) _,
            address = in(reg) address,
            par = out(reg) par,
            options(nostack)
        );
    };
    par
}
