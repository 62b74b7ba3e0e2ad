// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What an exit stores and an entry loads, and the floating-point registers.
//!
//! `entry` reads and writes both by offset; the assertions below are what it
//! relies on.
//!
//! Spec: Arm Architecture Reference Manual, "Registers in AArch64 state".

use core::mem::offset_of;

use tock_registers::LocalRegisterCopy;

use crate::regs::SPSR;

/// A guest's general registers, program counter and state.
#[repr(C, align(16))]
#[derive(Clone, Debug, Default)]
pub struct TrapFrame {
    pub(crate) x: [u64; 31],
    pub(crate) pc: u64,
    pub(crate) pstate: u64,
    /// The host's stack pointer while the guest runs.
    host_sp: u64,
}

const _: () = assert!(offset_of!(TrapFrame, x) == 0);
const _: () = assert!(offset_of!(TrapFrame, pc) == 248);
const _: () = assert!(offset_of!(TrapFrame, pstate) == 256);

impl TrapFrame {
    /// Where the program counter is, and the state behind it.
    #[cfg_attr(
        not(target_os = "none"),
        allow(dead_code, reason = "only the world switch uses it")
    )]
    pub(crate) const PC: usize = offset_of!(TrapFrame, pc);
    /// Where the host's stack pointer is.
    #[cfg_attr(
        not(target_os = "none"),
        allow(dead_code, reason = "only the world switch uses it")
    )]
    pub(crate) const HOST_SP: usize = offset_of!(TrapFrame, host_sp);

    /// Reads a general register; 31 is zero.
    pub(crate) fn get(&self, reg: usize) -> u64 {
        self.x.get(reg).copied().unwrap_or(0)
    }

    /// Writes a general register; 31 ignores it.
    pub(crate) fn set(&mut self, reg: usize, value: u64) {
        if let Some(slot) = self.x.get_mut(reg) {
            *slot = value;
        }
    }

    /// Lets the exception of a single step come next.
    pub(crate) fn end_step(&mut self) {
        let mut pstate = LocalRegisterCopy::<u64, SPSR::Register>::new(self.pstate);
        pstate.modify(SPSR::SS::CLEAR);
        self.pstate = pstate.get();
    }

    /// Goes on behind the instruction at the program counter.
    pub(crate) fn skip(&mut self) {
        self.pc = self.pc.wrapping_add(4);
    }
}

/// A guest's floating-point and SIMD registers.
#[repr(C, align(16))]
#[derive(Clone, Debug, Default)]
pub(crate) struct FloatRegisters {
    /// Two halves of each register, the low one first.
    pub(crate) v: [[u64; 2]; 32],
    pub(crate) fpcr: u64,
    pub(crate) fpsr: u64,
}

const _: () = assert!(offset_of!(FloatRegisters, v) == 0);
const _: () = assert!(offset_of!(FloatRegisters, fpcr) == 512);
const _: () = assert!(offset_of!(FloatRegisters, fpsr) == 520);

impl FloatRegisters {
    /// Reads half a register, by its number from the first low half on.
    pub(crate) fn get_half(&self, half: usize) -> u64 {
        let register = self.v.get(half >> 1);
        register
            .and_then(|halves| halves.get(half & 1))
            .copied()
            .unwrap_or(0)
    }

    /// Writes half a register; writing the low one clears the other.
    pub(crate) fn set_half(&mut self, half: usize, value: u64) {
        if let Some([low, high]) = self.v.get_mut(half >> 1) {
            match half & 1 {
                0 => (*low, *high) = (value, 0),
                _ => *high = value,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_31_is_zero() {
        let mut frame = TrapFrame::default();
        frame.set(31, 5);
        frame.set(30, 6);
        assert_eq!((frame.get(31), frame.get(30)), (0, 6));
    }

    #[test]
    fn a_low_half_clears_the_high_one() {
        let mut float = FloatRegisters::default();
        float.set_half(3, 9);
        assert_eq!(float.get_half(3), 9);
        float.set_half(2, 7);
        assert_eq!((float.get_half(2), float.get_half(3)), (7, 0));
        float.set_half(64, 1);
        assert_eq!(float.get_half(64), 0);
    }
}
