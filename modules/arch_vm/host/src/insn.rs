// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The instruction set: sixteen bytes each, sixteen registers of 64 bits.
//!
//! ```text
//! byte   0     1     2     3        4..8       8..16
//!        op    a     b     mode     must be 0  imm (little endian)
//! ```
//!
//! `a` and `b` are registers, `mode` is the width of an access (the exponent of
//! its bytes, 0-3) or a selector, `imm` an address, an offset or a value. Bytes
//! of zero are no instruction, so that a jump into fresh RAM is noticed.

use axvm::AccessWidth;

/// The size of every instruction.
pub const INSN_BYTES: usize = 16;
/// How many registers there are.
pub const REGS: usize = 16;
/// The bit of `mode` that makes a load copy the sign.
const MODE_SIGNED: u8 = 1 << 2;

/// A register's number; numbers above 15 wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// Returns the place in the register file.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0) % REGS
    }
}

/// What an instruction does; `[b + imm]` is a guest physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Nothing.
    Nop = 1,
    /// `a = imm`
    Set,
    /// `a = b + imm`
    Add,
    /// `a = a + b`
    AddReg,
    /// `a = [b + imm]`, of width `mode`; leaves the guest where there is no RAM.
    Load,
    /// `[b + imm] = a`, of width `mode`; leaves the guest where there is no RAM.
    Store,
    /// `a = [b + imm]`, and the 8 bytes there grow by one, in one step.
    Count,
    /// `pc = imm`
    Jump,
    /// `if a == b then pc = imm`
    JumpEqual,
    /// `if a < b then pc = imm`
    JumpLess,
    /// `a = ` system register `imm`
    SysRead,
    /// system register `imm` ` = a`
    SysWrite,
    /// register 0 ` = ` port `imm`, of width `mode`
    PortIn,
    /// port `imm` ` = a`, of width `mode`
    PortOut,
    /// Calls the hypervisor: number `imm`, arguments registers 1-6, answer in 0.
    Hypercall,
    /// Waits until an interrupt is pending.
    Halt,
    /// Starts CPU `a` at `imm` with `b` as its argument; answer in register 0.
    CpuStart,
    /// Switches this CPU off.
    CpuStop,
    /// Sends interrupt `imm` to the mask `a` (mode 0), all others (1), all (2).
    Ipi,
    /// Ends the machine, all well.
    PowerOff,
    /// Ends the machine, reporting failure `imm`.
    PowerFail,
    /// Asks for a restart of the machine.
    Reset,
    /// Returns from the handler.
    Return,
    /// Reads (mode 0) or writes (1) `[b + imm]` in a way that hardware reports as
    /// a fault of stage 2 without more: no device can answer.
    Touch,
    /// Prints the low byte of `imm` by the firmware's console; register 0 ` = 0`.
    Print,
    /// Register 0 ` = ` a byte of the console's input; all ones if there is none.
    ConsoleGet,
    /// Prints `a` bytes from `[b + imm]`; how many were taken is in register 0.
    ConsoleWrite,
    /// Puts up to `a` bytes of input at `[b + imm]`; how many is in register 0.
    ConsoleRead,
    /// Behaves as hardware that refuses to enter the guest, for reason `imm`.
    FailEntry,
    /// Does what cannot be handled: code `imm`, detail `a`.
    Unhandled,
}

impl Op {
    /// Every operation, in the order of its number.
    pub const ALL: [Self; 30] = [
        Self::Nop,
        Self::Set,
        Self::Add,
        Self::AddReg,
        Self::Load,
        Self::Store,
        Self::Count,
        Self::Jump,
        Self::JumpEqual,
        Self::JumpLess,
        Self::SysRead,
        Self::SysWrite,
        Self::PortIn,
        Self::PortOut,
        Self::Hypercall,
        Self::Halt,
        Self::CpuStart,
        Self::CpuStop,
        Self::Ipi,
        Self::PowerOff,
        Self::PowerFail,
        Self::Reset,
        Self::Return,
        Self::Touch,
        Self::Print,
        Self::ConsoleGet,
        Self::ConsoleWrite,
        Self::ConsoleRead,
        Self::FailEntry,
        Self::Unhandled,
    ];

    fn from_number(number: u8) -> Option<Self> {
        let index = usize::from(number).checked_sub(1)?;
        Self::ALL.get(index).copied()
    }
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// What it does.
    pub op: Op,
    /// The first register.
    pub a: Reg,
    /// The second register.
    pub b: Reg,
    /// The width or selector.
    pub mode: u8,
    /// The address, offset or value.
    pub imm: u64,
}

impl Insn {
    /// Makes an instruction that needs only an operation.
    pub const fn new(op: Op) -> Self {
        Self {
            op,
            a: Reg(0),
            b: Reg(0),
            mode: 0,
            imm: 0,
        }
    }

    /// Returns the same with register `a`.
    #[must_use]
    pub const fn a(mut self, reg: Reg) -> Self {
        self.a = reg;
        self
    }

    /// Returns the same with register `b`.
    #[must_use]
    pub const fn b(mut self, reg: Reg) -> Self {
        self.b = reg;
        self
    }

    /// Returns the same with a value.
    #[must_use]
    pub const fn imm(mut self, imm: u64) -> Self {
        self.imm = imm;
        self
    }

    /// Returns the same with a selector.
    #[must_use]
    pub const fn mode(mut self, mode: u8) -> Self {
        self.mode = mode;
        self
    }

    /// Returns the same with a width.
    #[must_use]
    pub fn width(self, width: AccessWidth) -> Self {
        self.mode(match width {
            AccessWidth::Byte => 0,
            AccessWidth::Word => 1,
            AccessWidth::Dword => 2,
            AccessWidth::Qword => 3,
        })
    }

    /// Returns the same, a load that copies the sign.
    #[must_use]
    pub fn signed(mut self) -> Self {
        self.mode |= MODE_SIGNED;
        self
    }

    /// Returns the width of its access.
    pub(crate) fn access_width(self) -> AccessWidth {
        match self.mode & 3 {
            0 => AccessWidth::Byte,
            1 => AccessWidth::Word,
            2 => AccessWidth::Dword,
            _ => AccessWidth::Qword,
        }
    }

    /// Tells whether it is a load that copies the sign.
    pub(crate) fn is_signed(self) -> bool {
        self.mode & MODE_SIGNED != 0
    }

    /// Reads the two words of an instruction; `None` if they are none.
    pub fn decode(low: u64, imm: u64) -> Option<Self> {
        let [number, a, b, mode, rest @ ..] = low.to_le_bytes();
        if rest != [0; 4] {
            return None;
        }
        let op = Op::from_number(number)?;
        let (a, b) = (Reg(a), Reg(b));
        Some(Self {
            op,
            a,
            b,
            mode,
            imm,
        })
    }

    /// Returns the two words of this instruction.
    pub fn encode(self) -> (u64, u64) {
        let low = [self.op as u8, self.a.0, self.b.0, self.mode, 0, 0, 0, 0];
        (u64::from_le_bytes(low), self.imm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_operation_has_the_number_of_its_place() {
        for (place, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, place + 1);
        }
    }

    #[test]
    fn zeros_are_no_instruction() {
        assert_eq!(Insn::decode(0, 0), None);
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_words(low: u64, imm: u64) {
            if let Some(insn) = Insn::decode(low, imm) {
                prop_assert_eq!(insn.encode(), (low, imm));
            }
        }

        #[test]
        fn every_instruction_survives_encoding(
            op in 0..Op::ALL.len(), a: u8, b: u8, mode: u8, imm: u64,
        ) {
            let insn = Insn { op: Op::ALL[op], a: Reg(a), b: Reg(b), mode, imm };
            let (low, high) = insn.encode();
            prop_assert_eq!(Insn::decode(low, high), Some(insn));
        }
    }
}
