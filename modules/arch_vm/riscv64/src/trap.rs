// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Traps that the guest takes without its hardware having seen one.
//!
//! [`deliver`] does to the guest's registers what a hart does when it takes an
//! exception into supervisor mode. Pure; called by the vCPU, which loads the
//! result.
//!
//! Spec: RISC-V Privileged, "Supervisor-Level ISA", sstatus, stvec; "H"
//! extension, "Trap Entry".

use tock_registers::LocalRegisterCopy;

use crate::regs::{SSTATUS, TVEC};

/// An exception's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Cause {
    /// A fetch that no memory answers.
    FetchAccessFault = 1,
    /// An instruction that does not exist.
    IllegalInstruction = 2,
    /// A load that nothing answers.
    LoadAccessFault = 5,
    /// A store or atomic that nothing answers.
    StoreAccessFault = 7,
    /// A fetch that the page tables do not allow.
    FetchPageFault = 12,
    /// A load that the page tables do not allow.
    LoadPageFault = 13,
}

/// An exception and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub cause: Cause,
    /// The address or the instruction.
    pub value: u64,
}

/// The guest's registers that a trap changes.
#[derive(Clone, Copy)]
pub(crate) struct TrapRegisters {
    pub(crate) status: LocalRegisterCopy<u64, SSTATUS::Register>,
    pub(crate) vector: LocalRegisterCopy<u64, TVEC::Register>,
    pub(crate) pc: u64,
    pub(crate) exception_pc: u64,
    pub(crate) cause: u64,
    pub(crate) value: u64,
}

/// Lets the guest take an exception; `mode` is the SPP of where it was.
///
/// Afterwards it is in supervisor mode.
pub(crate) fn deliver(registers: &mut TrapRegisters, fault: Fault, mode: u64) {
    let were_open = registers.status.read(SSTATUS::SIE);
    registers
        .status
        .modify(SSTATUS::SPP.val(mode) + SSTATUS::SPIE.val(were_open) + SSTATUS::SIE::CLEAR);
    registers.exception_pc = registers.pc;
    registers.cause = fault.cause as u64;
    registers.value = fault.value;
    // Exceptions go to the base in every mode of the vector.
    registers.pc = registers.vector.get() & !TVEC::MODE.mask;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(status: u64) -> TrapRegisters {
        TrapRegisters {
            status: LocalRegisterCopy::new(status),
            vector: LocalRegisterCopy::new(0xffff_0001),
            pc: 0x8000_1234,
            exception_pc: 0,
            cause: 0,
            value: 0,
        }
    }

    #[test]
    fn a_fault_from_user_mode_with_interrupts_open_is_taken_as_hardware_does() {
        let mut guest = registers((1 << 1) | (1 << 8) | (1 << 18));
        let fault = Fault {
            cause: Cause::LoadAccessFault,
            value: 0x55,
        };
        deliver(&mut guest, fault, 0);
        assert_eq!(guest.status.get(), (1 << 5) | (1 << 18));
        assert_eq!((guest.pc, guest.exception_pc), (0xffff_0000, 0x8000_1234));
        assert_eq!((guest.cause, guest.value), (5, 0x55));
    }

    #[test]
    fn a_fault_from_supervisor_mode_with_interrupts_closed_remembers_both() {
        let mut guest = registers(1 << 5);
        let fault = Fault {
            cause: Cause::IllegalInstruction,
            value: 0,
        };
        deliver(&mut guest, fault, 1);
        assert_eq!(guest.status.get(), 1 << 8);
    }
}
