// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What of a guest is in memory while its hypervisor runs.
//!
//! [`Frame`] is what `entry.S` saves and loads on each exit and entry;
//! [`FloatRegisters`] changes only when the vCPU is put away. The
//! assembly takes their layout from here.

use tock_registers::LocalRegisterCopy;

use crate::{
    regs::SSTATUS,
    sbi::{Call, Ret},
};

/// The registers that each exit saves.
#[repr(C)]
#[derive(Clone)]
pub(crate) struct Frame {
    /// x0 to x31; x0 stays zero.
    gprs: [u64; 32],
    /// Where the guest goes on.
    pub(crate) pc: u64,
    /// sstatus while in the guest: SPP is the guest's mode, FS and VS tell whether
    /// its floating point and vectors are in the hardware, and written since.
    pub(crate) sstatus: LocalRegisterCopy<u64, SSTATUS::Register>,
    /// What the host had, while in the guest.
    host_sstatus: u64,
    host_stvec: u64,
    host_sp: u64,
}

/// The number of a0, where calls have their first argument and their result.
pub(crate) const A0: usize = 10;
/// The number of a1.
pub(crate) const A1: usize = 11;
/// The number of a6, a call's function.
pub(crate) const A6: usize = 16;
/// The number of a7, a call's extension.
pub(crate) const A7: usize = 17;

#[cfg(all(target_arch = "riscv64", target_os = "none"))]
impl Frame {
    pub(crate) const PC: usize = core::mem::offset_of!(Self, pc);
    pub(crate) const SSTATUS: usize = core::mem::offset_of!(Self, sstatus);
    pub(crate) const HOST_SSTATUS: usize = core::mem::offset_of!(Self, host_sstatus);
    pub(crate) const HOST_STVEC: usize = core::mem::offset_of!(Self, host_stvec);
    pub(crate) const HOST_SP: usize = core::mem::offset_of!(Self, host_sp);
}

/// `entry.S` has the registers at the start.
const _: () = assert!(core::mem::offset_of!(Frame, gprs) == 0);

impl Frame {
    /// Makes a frame of zeros, in supervisor mode.
    pub(crate) fn new() -> Self {
        let status = SSTATUS::SPP::Supervisor + SSTATUS::UXL::Xlen64;
        Self {
            gprs: [0; 32],
            pc: 0,
            sstatus: LocalRegisterCopy::new(status.value),
            host_sstatus: 0,
            host_stvec: 0,
            host_sp: 0,
        }
    }

    /// Returns a register.
    pub(crate) fn gpr(&self, register: usize) -> u64 {
        self.gprs.get(register).copied().unwrap_or(0)
    }

    /// Sets a register, but not x0.
    pub(crate) fn set_gpr(&mut self, register: usize, value: u64) {
        if let Some(slot) = self.gprs.get_mut(register).filter(|_| register != 0) {
            *slot = value;
        }
    }

    /// Returns the call that the guest makes.
    #[inline]
    pub(crate) fn call(&self) -> Call {
        Call {
            extension: self.gpr(A7),
            function: self.gpr(A6),
            args: core::array::from_fn(|i| self.gpr(A0.wrapping_add(i))),
        }
    }

    /// Answers a call.
    #[inline]
    pub(crate) fn set_return(&mut self, ret: Ret) {
        self.set_gpr(A0, ret.error);
        self.set_gpr(A1, ret.value);
    }

    /// Moves the guest on behind an instruction.
    pub(crate) fn skip(&mut self, length: u64) {
        self.pc = self.pc.wrapping_add(length);
    }
}

/// The floating-point registers.
#[repr(C)]
#[derive(Clone)]
pub(crate) struct FloatRegisters {
    values: [u64; 32],
    fcsr: u64,
}

/// `entry` has fcsr behind the registers.
const _: () = assert!(core::mem::offset_of!(FloatRegisters, fcsr) == 256);

impl FloatRegisters {
    /// Makes registers as they are after a reset.
    pub(crate) fn new() -> Self {
        Self {
            values: [0; 32],
            fcsr: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x0_stays_zero_and_registers_that_do_not_exist_are_ignored() {
        let mut frame = Frame::new();
        frame.set_gpr(0, 1);
        frame.set_gpr(31, 2);
        frame.set_gpr(32, 3);
        assert_eq!((frame.gpr(0), frame.gpr(31), frame.gpr(32)), (0, 2, 0));
    }
}
