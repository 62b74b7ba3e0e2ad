// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Everything that must be assembly: the world switch, guest fetches, fences.
//!
//! ArceOS runs in HS-mode with sscratch 0 and its own stvec; both change only
//! between [`enter`]'s first instruction and its last, and for the one access of
//! [`fetch`] and its kind, always with interrupts closed. Those point stvec at
//! the instruction behind the access, so that a fault simply falls through with
//! its flag set.
//!
//! Spec: RISC-V Privileged, "H" extension, "Hypervisor Virtual-Machine
//! Load and Store Instructions", "Trap Entry", "Trap Return".

use core::arch::{asm, naked_asm};

use axvm::AxVMHal;

use crate::{
    exit, fast,
    frame::{FloatRegisters, Frame},
    run,
    vcpu::RiscvVCpu,
};

/// hstatus.SPV.
const SPV: u64 = 1 << 7;
/// sstatus.SIE.
const SIE: u64 = 1 << 1;

/// Runs the guest until a trap comes after which [`run::take_exit`] does not let it
/// go on; those that [`fast::finish_call`] finishes do not even get there.
///
/// # Safety
/// 1. `vcpu` is valid, and nobody else uses it.
/// 2. Interrupts are closed, and the vCPU's CSRs are loaded on this CPU.
/// 3. sscratch is 0.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn enter<H: AxVMHal>(vcpu: *mut RiscvVCpu<H>) {
    naked_asm!(
        include_str!("entry.S"),
        sepc = const Frame::PC,
        sstatus = const Frame::SSTATUS,
        host_sstatus = const Frame::HOST_SSTATUS,
        host_stvec = const Frame::HOST_STVEC,
        host_sp = const Frame::HOST_SP,
        spv = const SPV,
        supervisor_ecall = const exit::SUPERVISOR_ECALL,
        finish_call = sym fast::finish_call::<H>,
        take_exit = sym run::take_exit::<H>,
    )
}

/// A guarded access's result: the value, and whether it trapped.
#[repr(C)]
struct Guarded {
    value: u64,
    trapped: u64,
}

macro_rules! guarded {
    ($(#[$doc:meta])* $name:ident, $access:literal) => {
        $(#[$doc])*
        #[unsafe(naked)]
        unsafe extern "C" fn $name(address: u64) -> Guarded {
            naked_asm!(
                ".option push",
                ".option norelax",
                ".option arch, +h",
                "la      t0, 1f",
                "csrrw   t0, stvec, t0",
                "mv      t1, a0",
                "li      a0, 0",
                "li      a1, 1",
                $access,
                "li      a1, 0",
                ".balign 4",
                "1:",
                "csrw    stvec, t0",
                "ret",
                ".option pop",
            )
        }
    };
}

guarded!(
    /// Reads guest code as the guest would fetch it, by halves: the second only if
    /// the first says that there is one.
    ///
    /// # Safety
    /// Interrupts are closed, and a guest's CSRs are loaded.
    fetch_halves,
    "hlvx.hu a0, (t1)
     not     t2, a0
     andi    t2, t2, 3
     bnez    t2, 2f
     addi    t1, t1, 2
     hlvx.hu t2, (t1)
     slli    t2, t2, 16
     or      a0, a0, t2
     2:"
);
guarded!(
    /// Reads four aligned bytes of guest code as the guest would fetch them.
    ///
    /// # Safety
    /// Interrupts are closed, and a guest's CSRs are loaded.
    fetch_word,
    "hlvx.wu a0, (t1)"
);
guarded!(
    /// Reads eight bytes of guest memory as the guest would load them.
    ///
    /// # Safety
    /// Interrupts are closed, and a guest's CSRs are loaded.
    load_word,
    "hlv.d   a0, (t1)"
);
guarded!(
    /// Reads hgatp, which traps where the H extension is missing.
    ///
    /// # Safety
    /// Interrupts are closed.
    read_hgatp,
    "csrr    a0, 0x680"
);

guarded!(
    /// Reads vsiselect, which traps where AIA is missing or is not let through.
    ///
    /// # Safety
    /// Interrupts are closed.
    read_vsiselect,
    "csrr    a0, 0x250"
);

guarded!(
    /// Reads vlenb, which traps where there are no vectors or they are off.
    ///
    /// # Safety
    /// Interrupts are closed.
    read_vlenb,
    "csrr    a0, 0xc22"
);

fn result(guarded: Guarded) -> Option<u64> {
    (guarded.trapped == 0).then_some(guarded.value)
}

/// Fetches an instruction of two or four bytes; `None` if that trapped.
///
/// Called between a guest's exit and the opening of interrupts.
pub(crate) fn fetch(address: u64) -> Option<u32> {
    // SAFETY: the caller is between an exit and the opening of interrupts.
    result(unsafe { fetch_halves(address) }).map(|word| word as u32)
}

/// Fetches four bytes of guest code at a multiple of four; `None` if that trapped.
///
/// Called as [`fetch`] is.
pub(crate) fn fetch_aligned(address: u64) -> Option<u32> {
    // SAFETY: the caller is between an exit and the opening of interrupts.
    result(unsafe { fetch_word(address) }).map(|word| word as u32)
}

/// Loads eight bytes of guest memory; `None` if that trapped, and scause, stval
/// tell why.
///
/// Called between a guest's exit and the opening of interrupts.
pub(crate) fn load(address: u64) -> Option<u64> {
    // SAFETY: the caller is between an exit and the opening of interrupts.
    result(unsafe { load_word(address) })
}

/// Tells whether this CPU has the H extension.
pub(crate) fn has_hypervisor() -> bool {
    let were_open = close_interrupts();
    // SAFETY: interrupts are closed.
    let found = result(unsafe { read_hgatp(0) }).is_some();
    restore_interrupts(were_open);
    found
}

/// Tells whether this CPU has AIA's CSRs for guests.
pub(crate) fn has_aia() -> bool {
    let were_open = close_interrupts();
    // SAFETY: interrupts are closed.
    let found = result(unsafe { read_vsiselect(0) }).is_some();
    restore_interrupts(were_open);
    found
}

/// Returns the bytes of a vector register, if vectors are there and on.
///
/// QEMU 7.2 lets sstatus.VS be set where there are none.
pub(crate) fn vector_bytes() -> Option<u64> {
    let were_open = close_interrupts();
    // SAFETY: interrupts are closed.
    let found = result(unsafe { read_vlenb(0) });
    restore_interrupts(were_open);
    found
}

/// Closes interrupts, and returns what [`restore_interrupts`] needs.
#[inline]
pub(crate) fn close_interrupts() -> u64 {
    let before: u64;
    // SAFETY: closing interrupts is always allowed.
    unsafe { asm!("csrrc {}, sstatus, {}", out(reg) before, in(reg) SIE, options(nostack)) };
    before & SIE
}

/// Opens interrupts again if they were open.
#[inline]
pub(crate) fn restore_interrupts(were_open: u64) {
    // SAFETY: whoever closed them holds nothing that an interrupt may not see.
    unsafe { asm!("csrs sstatus, {}", in(reg) were_open, options(nostack)) };
}

macro_rules! hfence {
    ($instruction:literal $(, $operand:expr)*) => {
        // SAFETY: a fence only drops what can be looked up again.
        unsafe {
            asm!(
                ".option push",
                ".option arch, +h",
                $instruction,
                ".option pop",
                $(in(reg) $operand,)*
                options(nostack)
            )
        }
    };
}

/// HFENCE.VVMA of everything of the loaded VMID.
pub(crate) fn fence_tables() {
    hfence!("hfence.vvma zero, zero");
}

/// HFENCE.VVMA of one page.
pub(crate) fn fence_page(address: u64) {
    hfence!("hfence.vvma {}, zero", address);
}

/// HFENCE.VVMA of one address space.
pub(crate) fn fence_asid(asid: u64) {
    hfence!("hfence.vvma zero, {}", asid);
}

/// HFENCE.VVMA of one page of one address space.
pub(crate) fn fence_page_of(address: u64, asid: u64) {
    hfence!("hfence.vvma {}, {}", address, asid);
}

/// HFENCE.GVMA of all guests, and HFENCE.VVMA of the loaded VMID.
pub(crate) fn fence_all_guests() {
    hfence!("hfence.gvma zero, zero");
    fence_tables();
}

/// FENCE.I.
pub(crate) fn fence_instructions() {
    // SAFETY: a fence has no effect but order.
    unsafe { asm!("fence.i", options(nostack)) };
}

/// Assembles one instruction on each double-precision register.
///
/// Assembly outside functions does not know the target's extensions.
macro_rules! on_each_double {
    ($instruction:literal, $($tail:literal),+) => {
        naked_asm!(
            ".option push",
            ".option arch, +d",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            concat!($instruction, " f\\n, 8*\\n(a0)"),
            ".endr",
            ".irp n, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            concat!($instruction, " f\\n, 8*\\n(a0)"),
            ".endr",
            $($tail,)+
            "ret",
            ".option pop",
        )
    };
}

/// Saves the floating-point registers.
///
/// # Safety
/// sstatus.FS is not off.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn save_float(to: *mut FloatRegisters) {
    on_each_double!("fsd", "csrr t0, fcsr", "sd t0, 256(a0)")
}

/// Saves fcsr alone.
///
/// # Safety
/// sstatus.FS is not off.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn save_float_control(to: *mut FloatRegisters) {
    naked_asm!("csrr t0, fcsr", "sd t0, 256(a0)", "ret")
}

/// Loads the floating-point registers.
///
/// # Safety
/// sstatus.FS is not off, and what is there belongs to nobody.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn load_float(from: *const FloatRegisters) {
    on_each_double!("fld", "ld t0, 256(a0)", "csrw fcsr, t0")
}
