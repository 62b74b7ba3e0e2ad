// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The real registers, by their instructions.
//!
//! Only this crate reaches these functions, and only for what does not change
//! how the hypervisor itself executes: it uses neither floating point nor debug
//! registers, and its code runs the same with any extended state enabled.

use core::arch::{asm, x86_64};

use super::Msr;

/// What one CPUID leaf says: eax, ebx, ecx, edx.
pub(crate) type Leaf = [u32; 4];

/// Asks this CPU about itself.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
    let x86_64::CpuidResult { eax, ebx, ecx, edx } = x86_64::__cpuid_count(leaf, subleaf);
    [eax, ebx, ecx, edx]
}

/// Returns this CPU's time-stamp counter.
#[inline]
pub(crate) fn tsc() -> u64 {
    // SAFETY: every 64-bit CPU has the counter.
    unsafe { x86_64::_rdtsc() }
}

/// Reads a register that this CPU has.
pub(crate) fn read_msr(msr: Msr) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the registers that are named here has no effect, and each
    // caller has asked CPUID for those that not every CPU has.
    unsafe {
        asm!("rdmsr", in("ecx") msr.0, out("eax") low, out("edx") high, options(nomem, nostack))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a register that this CPU has.
pub(crate) fn write_msr(msr: Msr, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: what is written here switches SVM on or is the guest's alone.
    unsafe { asm!("wrmsr", in("ecx") msr.0, in("eax") low, in("edx") high, options(nostack)) };
}

/// Sets bits of CR4 that only add instructions.
pub(crate) fn set_cr4_bits(bits: u64) {
    let old: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) old, options(nomem, nostack)) };
    // SAFETY: the callers set the bits that enable FXSAVE and XSAVE.
    unsafe { asm!("mov cr4, {}", in(reg) old | bits, options(nostack)) };
}

/// Chooses the extended states that are in use.
pub(crate) fn write_xcr0(value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the callers pass what this CPU has; the hypervisor uses none of it.
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") low, in("edx") high, options(nostack)) };
}

/// Returns the extended states that are in use; CR4.OSXSAVE is set.
pub(crate) fn read_xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the callers have asked CPUID and have set CR4.OSXSAVE.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Stores every extended state that is enabled; without XSAVE, FXSAVE's part.
///
/// # Safety
///
/// 1. `area` is aligned to 64 bytes and as large as this CPU's states need.
/// 2. Nobody else uses it.
pub(crate) unsafe fn xsave(area: *mut u8, has_xsave: bool) {
    match has_xsave {
        // SAFETY: 1 and 2 are the caller's.
        true => unsafe {
            asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
        },
        // SAFETY: 1 and 2 are the caller's.
        false => unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack)) },
    }
}

/// Loads what [`xsave`] stored.
///
/// Some CPUs leave the address of the last x87 instruction as it is if no exception
/// is pending: another guest's, which FNINIT forgets.
///
/// # Safety
///
/// 1. `area` was stored by [`xsave`] or is zero but for a valid legacy part.
/// 2. The guest that it belongs to is the next to use these registers.
pub(crate) unsafe fn xrstor(area: *const u8, has_xsave: bool) {
    match has_xsave {
        // SAFETY: 1 is the caller's; 2 makes it no business of the hypervisor.
        true => unsafe {
            asm!("fninit", "xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
        },
        // SAFETY: as above.
        false => unsafe { asm!("fninit", "fxrstor64 [{}]", in(reg) area, options(nostack)) },
    }
}

/// Loads the addresses of breakpoints; DR7 stays, and with it all are off.
pub(crate) fn load_debug(addresses: &[u64; 4]) {
    let [dr0, dr1, dr2, dr3] = *addresses;
    // SAFETY: the hypervisor's DR7 enables none of them.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) dr0, in(reg) dr1, in(reg) dr2, in(reg) dr3, options(nostack));
    }
}

/// Returns the addresses of breakpoints.
pub(crate) fn store_debug() -> [u64; 4] {
    let (dr0, dr1, dr2, dr3);
    // SAFETY: only reads.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3",
            out(reg) dr0, out(reg) dr1, out(reg) dr2, out(reg) dr3, options(nostack));
    }
    [dr0, dr1, dr2, dr3]
}

/// Writes the host's task priority, which is 0, so that the local APIC tells the CPU
/// anew what is pending.
#[inline]
pub(crate) fn renew_task_priority() {
    // SAFETY: the host keeps no interrupt away by priority.
    unsafe { asm!("mov cr8, {}", in(reg) 0_u64, options(nomem, nostack, preserves_flags)) };
}

/// Closes interrupts and tells what they were before.
#[inline]
pub(crate) fn close_interrupts() -> u64 {
    let flags: u64;
    // SAFETY: the flags come back by `restore_interrupts`.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    flags
}

/// Opens interrupts again, if [`close_interrupts`] found them open.
#[inline]
pub(crate) fn restore_interrupts(flags: u64) {
    if super::bits::<super::RFLAGS::Register>(flags).is_set(super::RFLAGS::INTERRUPT) {
        // SAFETY: they were open before.
        unsafe { asm!("sti", options(nostack)) };
    }
}
