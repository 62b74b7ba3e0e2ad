// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One instruction, and the trap that it may end with.
//!
//! Used by checks of what must fault: interrupts are masked, and the trap vector is
//! a label behind the instruction for as long as that.

/// Executes an instruction with a value in a0 and an address in a1; returns what a0
/// is then, or the trap that came instead.
macro_rules! attempt {
    ($instruction:literal, $address:expr, $value:expr) => {{
        let (value, trapped, cause, told): (usize, usize, usize, usize);
        // SAFETY: a trap at the instruction goes to the label behind it, where the
        // vector is put back; interrupts are masked, and the caller knows the address.
        unsafe {
            core::arch::asm!(
                "la     {old}, 2f",
                "csrrw  {old}, stvec, {old}",
                "li     {trapped}, 1",
                $instruction,
                "li     {trapped}, 0",
                ".balign 4",
                "2:",
                "csrw   stvec, {old}",
                "csrr   {cause}, scause",
                "csrr   {told}, stval",
                old = out(reg) _,
                trapped = out(reg) trapped,
                cause = out(reg) cause,
                told = out(reg) told,
                inlateout("a0") $value => value,
                in("a1") $address,
                lateout("ra") _,
            );
        }
        match trapped {
            0 => Ok(value),
            _ => Err($crate::call::Trap { cause, value: told }),
        }
    }};
}

pub(crate) use attempt;
