// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The instructions with which guests reach devices: decoded and carried out.
//!
//! Called with the bytes at the guest's RIP when nested paging refused an access
//! or a string instruction met a port. [`table`] has a row for each opcode that
//! compilers and kernels use on device memory, [`vector`] those of the vector
//! registers; what is in neither is `None`, as is what needs memory and has a
//! register there.
//!
//! Spec: AMD64 APM 3, "Instruction Encoding", "Opcode and Operand Encodings".

mod address;
mod alu;
mod cursor;
mod decoder;
mod execute;
mod operands;
mod prefixes;
mod shift;
mod span;
mod table;
#[cfg(test)]
mod tests;
mod vector;

use axvm::AccessWidth;

use crate::frame::{Frame, RCX, Reg, mask};
use address::Address;
pub(crate) use alu::Alu;
pub(crate) use decoder::{decode, move_to_control};
pub(crate) use execute::{Access, Bus, Progress, Refusal, State, execute};
pub(crate) use span::{PAGE_BYTES, Span, is_in_page};
pub(crate) use vector::Vector;

/// The longest instruction.
pub(crate) const LENGTH_MAX: usize = 15;

/// The size of the code that an instruction is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeSize {
    Bits16,
    Bits32,
    Bits64,
}

impl CodeSize {
    /// Returns the width of its addresses and of its stack pointer.
    pub(crate) fn width(self) -> AccessWidth {
        match self {
            Self::Bits16 => AccessWidth::Word,
            Self::Bits32 => AccessWidth::Dword,
            Self::Bits64 => AccessWidth::Qword,
        }
    }

    /// Cuts a linear address to what such code has.
    #[inline]
    pub(crate) fn cut(self, address: u64) -> u64 {
        match self {
            Self::Bits64 => address,
            _ => address & u64::from(u32::MAX),
        }
    }
}

/// A segment, as prefixes and instructions number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// Something that an instruction reads, writes, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    None,
    Register(Reg),
    Immediate(u64),
    /// An address, as a distance from the next instruction.
    Ahead(u64),
    /// What is at the instruction's address.
    Memory,
    /// A string's source, at RSI.
    Source,
    /// A string's target, at RDI.
    Target,
    /// The port in DX.
    Port,
    /// What is pushed, or popped.
    Stack,
    /// Where the guest goes on.
    Next,
}

/// What an instruction does with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Copies the second to the first.
    Move,
    /// The same, with the second's sign in the bits that the first has more.
    MoveSigned,
    /// The same, with zeros there.
    MoveZero,
    /// The same, with the bytes in the other order.
    MoveSwapped,
    /// The same, if a condition holds.
    MoveIf(u8),
    /// Writes whether a condition holds.
    SetIf(u8),
    /// Computes with both, and writes the result to the first.
    Compute(Alu),
    /// Swaps both.
    Exchange,
    /// Writes the sum to the first, and what it was to the second.
    ExchangeAdd,
    /// Writes the second to the first if that is what the accumulator has, which
    /// otherwise gets what the first is.
    CompareExchange,
    /// Pushes the address of the next instruction, and goes on at the second.
    Call,
    /// Moves a vector register.
    Vector(Vector),
}

/// A MOV between memory and a register, or of a number: what drivers do most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    Load(Reg, AccessWidth),
    Store(Reg),
    Put(u64),
}

/// When a string instruction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// After one element.
    Once,
    /// When RCX is zero, or two elements that are compared differ.
    WhileEqual,
    /// When RCX is zero, or two elements that are compared are the same.
    WhileDifferent,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// How many bytes it has.
    pub(crate) length: u8,
    pub(crate) operation: Operation,
    /// Its first operand.
    to: Operand,
    /// Its second operand.
    from: Operand,
    /// The width of its operands.
    pub(crate) width: AccessWidth,
    /// The width of a register that the second operand is extended to.
    to_width: AccessWidth,
    /// Where its operand in memory is.
    address: Address,
    /// The width of its addresses.
    address_width: AccessWidth,
    /// The segment of its operand in memory, or of a string's source.
    pub(crate) segment: SegmentName,
    /// The width of the stack pointer.
    stack_width: AccessWidth,
    repeat: Repeat,
}

impl Instruction {
    /// Tells whether a repeated instruction has no element left.
    fn is_over(&self, frame: &Frame) -> bool {
        self.is_string()
            && self.repeat != Repeat::Once
            && frame.get(RCX) & mask(self.address_width) == 0
    }

    fn is_string(&self) -> bool {
        let is_end = |operand| matches!(operand, Operand::Source | Operand::Target);
        is_end(self.to) || is_end(self.from)
    }

    /// Returns what it does if it is a plain MOV.
    #[inline]
    pub(crate) fn plain(&self) -> Option<Plain> {
        match (self.operation, self.to, self.from) {
            (Operation::Move, Operand::Register(reg), Operand::Memory) => {
                Some(Plain::Load(reg, self.to_width))
            }
            (Operation::Move, Operand::Memory, Operand::Register(reg)) => Some(Plain::Store(reg)),
            (Operation::Move, Operand::Memory, Operand::Immediate(value)) => {
                Some(Plain::Put(value))
            }
            _ => None,
        }
    }

    /// Returns where its operand in memory is in its segment.
    #[inline]
    pub(crate) fn offset(&self, frame: &Frame, next: u64) -> u64 {
        self.address.offset(frame, next, self.address_width)
    }

    /// Tells whether it moves strings between memory and a port.
    pub(crate) fn uses_port(&self) -> bool {
        self.to == Operand::Port || self.from == Operand::Port
    }

    /// Tells whether no more than one of its operands is in memory.
    pub(crate) fn has_one_place(&self) -> bool {
        let is_memory = |operand| {
            use Operand::{Memory, Source, Stack, Target};
            matches!(operand, Memory | Source | Target | Stack)
        };
        let both = is_memory(self.to) && is_memory(self.from);
        !both && self.operation != Operation::Call
    }
}
