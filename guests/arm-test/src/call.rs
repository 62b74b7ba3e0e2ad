// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Calls of the firmware as registers have them, by the machine's conduit.
//!
//! [`sleep`] makes a call that may lose the CPU's state: it comes back by the
//! entry point that it names, with the MMU off, and makes the state again.
//!
//! Spec: SMC Calling Convention; PSCI, "CPU_SUSPEND", "SYSTEM_SUSPEND".

use core::arch::{asm, naked_asm};

use rt::arch::power;
use rt::firmware::arm::Conduit;

/// What a call returned: x0 to x3.
pub type Answer = [u64; 4];

/// Makes a call by the conduit that the device tree names.
pub fn call(function: u64, args: [u64; 3]) -> Answer {
    match power::conduit() {
        Conduit::Hvc => call_hvc(function, args),
        Conduit::Smc => call_smc(function, args),
    }
}

/// Makes a call and returns x0, as a signed number.
pub fn ask(function: u64, args: [u64; 3]) -> i64 {
    let [answer, ..] = call(function, args);
    match function & 1 << 30 {
        0 => i64::from(answer as u32 as i32),
        _ => answer as i64,
    }
}

macro_rules! conduit {
    ($name:ident, $instruction:literal) => {
        /// Makes a call by this instruction.
        pub fn $name(function: u64, [a, b, c]: [u64; 3]) -> Answer {
            let (x0, x1, x2, x3);
            // SAFETY: the checks' calls write to no memory.
            unsafe {
                asm!(
                    $instruction,
                    inlateout("x0") function => x0,
                    inlateout("x1") a => x1,
                    inlateout("x2") b => x2,
                    inlateout("x3") c => x3,
                    clobber_abi("C"),
                );
            }
            [x0, x1, x2, x3]
        }
    };
}

conduit!(call_hvc, "hvc #0");
conduit!(call_smc, ".inst 0xd4000003");

/// What [`sleep`] returns after it woke by its entry point.
pub const SLEPT: i64 = 0x51ee9;

/// Sleeps by HVC with these x0 and x1; x2 or, for SYSTEM_SUSPEND, x1 is the entry.
pub fn sleep(function: u64, first: u64, entry_is_first: bool) -> i64 {
    // SAFETY: `sleep_on_stack` keeps to the calling convention.
    unsafe { sleep_on_stack(function, first, u64::from(entry_is_first)) }
}

/// # Safety
/// The call is one that sleeps, or that is refused.
#[unsafe(naked)]
unsafe extern "C" fn sleep_on_stack(function: u64, first: u64, entry_is_first: u64) -> i64 {
    naked_asm!(
        "sub    sp, sp, #176",
        "stp    x19, x20, [sp]",
        "stp    x21, x22, [sp, #16]",
        "stp    x23, x24, [sp, #32]",
        "stp    x25, x26, [sp, #48]",
        "stp    x27, x28, [sp, #64]",
        "stp    x29, x30, [sp, #80]",
        "mrs    x9, ttbr0_el1",
        "mrs    x10, tcr_el1",
        "mrs    x11, mair_el1",
        "mrs    x12, vbar_el1",
        "mrs    x13, tpidr_el1",
        "mrs    x14, cpacr_el1",
        "mrs    x15, sctlr_el1",
        "stp    x9, x10, [sp, #96]",
        "stp    x11, x12, [sp, #112]",
        "stp    x13, x14, [sp, #128]",
        "str    x15, [sp, #144]",
        "adr    x9, 2f",
        "mov    x10, sp",
        "cbnz   x2, 1f",
        "mov    x2, x9",
        "mov    x3, x10",
        "hvc    #0",
        "b      3f",
        "1: mov    x1, x9",
        "mov    x2, x10",
        "hvc    #0",
        "b      3f",
        // Here with nothing but x0: where the stack was.
        "2: mov    sp, x0",
        "ldp    x9, x10, [sp, #96]",
        "ldp    x11, x12, [sp, #112]",
        "ldp    x13, x14, [sp, #128]",
        "ldr    x15, [sp, #144]",
        "msr    ttbr0_el1, x9",
        "msr    tcr_el1, x10",
        "msr    mair_el1, x11",
        "msr    vbar_el1, x12",
        "msr    tpidr_el1, x13",
        "msr    cpacr_el1, x14",
        "isb",
        "tlbi   vmalle1",
        "dsb    sy",
        "isb",
        "msr    sctlr_el1, x15",
        "isb",
        "ldr    x0, ={slept}",
        "3: ldp    x29, x30, [sp, #80]",
        "ldp    x27, x28, [sp, #64]",
        "ldp    x25, x26, [sp, #48]",
        "ldp    x23, x24, [sp, #32]",
        "ldp    x21, x22, [sp, #16]",
        "ldp    x19, x20, [sp]",
        "add    sp, sp, #176",
        "ret",
        ".ltorg",
        slept = const SLEPT,
    )
}
