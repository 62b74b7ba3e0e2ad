// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One row for each opcode: what it does, with which operands, of which width.
//!
//! Operands are written as the manual's opcode maps write them. Left out is what
//! nobody does with a device: far pointers, multiplications, x87 and MMX; and what
//! is the guest's own affair before it reaches memory, such as I/O instructions
//! without strings.
//!
//! Spec: AMD64 APM 3, appendix A, "Opcode and Operand Encodings".

use super::{Alu, CodeSize, Operation, shift::Shift};

/// Where an operand is written in an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    None,
    /// Memory, by the ModRM byte.
    M,
    /// Memory or a general register, by the ModRM byte.
    E,
    /// A general register, by the ModRM byte.
    G,
    /// The accumulator.
    A,
    /// The counter.
    C,
    /// A general register, by the opcode's low bits.
    Z,
    /// A number of the operands' width, of at most 32 bits.
    I,
    /// A number of one byte.
    Ib,
    /// The number 1.
    One,
    /// An address in the instruction.
    O,
    /// A string's source.
    X,
    /// A string's target.
    Y,
    /// The port in DX.
    Dx,
    /// A distance from the next instruction.
    J,
    Stack,
    Next,
}

/// How wide operands are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// A byte if the opcode is even, else what the prefixes say.
    Bit,
    /// What the prefixes say.
    Full,
    /// A byte if the opcode is even, else two.
    Narrow,
    Byte,
    Dword,
    /// What is pushed and popped.
    Stack,
    /// As [`Width::Bit`], but at most four bytes.
    Port,
}

pub(super) type Row = (Operation, Code, Code, Width);

/// Returns the row of an opcode of one byte; `group` is the next byte's field.
pub(super) fn one_byte(opcode: u8, group: u8, size: CodeSize) -> Option<Row> {
    use Code::{A, C, Dx, E, G, I, Ib, J, M, Next, None as Nothing, O, One, Stack, X, Y, Z};
    use Operation::{Call, Compute, Exchange, Move, MoveSigned};
    use Width::{Bit, Dword, Full, Port, Stack as Pushed};
    Some(match (opcode, group) {
        (0x00..=0x3f, _) => {
            let alu = Compute(Alu::of_group(opcode >> 3));
            match opcode & 7 {
                0 | 1 => (alu, M, G, Bit),
                2 | 3 => (alu, G, M, Bit),
                _ => return None,
            }
        }
        (0x50..=0x57, _) => (Move, Stack, Z, Pushed),
        (0x58..=0x5f, _) => (Move, Z, Stack, Pushed),
        (0x63, _) if size == CodeSize::Bits64 => (MoveSigned, G, M, Dword),
        (0x68, _) => (Move, Stack, I, Pushed),
        (0x6a, _) => (Move, Stack, Ib, Pushed),
        (0x6c | 0x6d, _) => (Move, Y, Dx, Port),
        (0x6e | 0x6f, _) => (Move, Dx, X, Port),
        (0x80 | 0x81, _) => (Compute(Alu::of_group(group)), M, I, Bit),
        (0x83, _) => (Compute(Alu::of_group(group)), M, Ib, Full),
        (0x84 | 0x85, _) => (Compute(Alu::Test), M, G, Bit),
        (0x86 | 0x87, _) => (Exchange, M, G, Bit),
        (0x88 | 0x89, _) => (Move, M, G, Bit),
        (0x8a | 0x8b, _) => (Move, G, M, Bit),
        (0x8f, 0) => (Move, E, Stack, Pushed),
        (0xa0 | 0xa1, _) => (Move, A, O, Bit),
        (0xa2 | 0xa3, _) => (Move, O, A, Bit),
        (0xa4 | 0xa5, _) => (Move, Y, X, Bit),
        (0xa6 | 0xa7, _) => (Compute(Alu::Compare), X, Y, Bit),
        (0xaa | 0xab, _) => (Move, Y, A, Bit),
        (0xac | 0xad, _) => (Move, A, X, Bit),
        (0xae | 0xaf, _) => (Compute(Alu::Compare), A, Y, Bit),
        (0xc0 | 0xc1, _) => (shift(group), M, Ib, Bit),
        (0xc3, _) => (Move, Next, Stack, Pushed),
        (0xc6 | 0xc7, 0) => (Move, M, I, Bit),
        (0xd0 | 0xd1, _) => (shift(group), M, One, Bit),
        (0xd2 | 0xd3, _) => (shift(group), M, C, Bit),
        (0xe8, _) => (Call, Nothing, J, Pushed),
        (0xf6 | 0xf7, 0 | 1) => (Compute(Alu::Test), M, I, Bit),
        (0xf6 | 0xf7, 2) => (Compute(Alu::Not), M, One, Bit),
        (0xf6 | 0xf7, 3) => (Compute(Alu::Negate), M, One, Bit),
        (0xfe | 0xff, 0) => (Compute(Alu::Increment), M, One, Bit),
        (0xfe | 0xff, 1) => (Compute(Alu::Decrement), M, One, Bit),
        (0xff, 2) => (Call, Nothing, E, Pushed),
        (0xff, 4) => (Move, Next, M, Pushed),
        (0xff, 6) => (Move, Stack, E, Pushed),
        _ => return None,
    })
}

fn shift(group: u8) -> Operation {
    Operation::Compute(Alu::Shift(Shift::of_group(group)))
}

/// Returns the row of an opcode behind 0f.
pub(super) fn two_bytes(opcode: u8, group: u8) -> Option<Row> {
    use Code::{G, Ib, M, None as Nothing};
    use Operation::{
        CompareExchange, Compute, ExchangeAdd, Move, MoveIf, MoveSigned, MoveZero, SetIf,
    };
    use Width::{Bit, Byte, Full, Narrow};
    Some(match (opcode, group) {
        (0x40..=0x4f, _) => (MoveIf(opcode), G, M, Full),
        (0x90..=0x9f, _) => (SetIf(opcode), M, Nothing, Byte),
        (0xa3, _) => (Compute(Alu::BitTest), M, G, Full),
        (0xab, _) => (Compute(Alu::BitSet), M, G, Full),
        (0xb3, _) => (Compute(Alu::BitReset), M, G, Full),
        (0xbb, _) => (Compute(Alu::BitComplement), M, G, Full),
        (0xb6 | 0xb7, _) => (MoveZero, G, M, Narrow),
        (0xbe | 0xbf, _) => (MoveSigned, G, M, Narrow),
        (0xba, 4) => (Compute(Alu::BitTest), M, Ib, Full),
        (0xba, 5) => (Compute(Alu::BitSet), M, Ib, Full),
        (0xba, 6) => (Compute(Alu::BitReset), M, Ib, Full),
        (0xba, 7) => (Compute(Alu::BitComplement), M, Ib, Full),
        (0xb0 | 0xb1, _) => (CompareExchange, M, G, Bit),
        (0xc0 | 0xc1, _) => (ExchangeAdd, M, G, Bit),
        // MOVNTI.
        (0xc3, _) => (Move, M, G, Full),
        _ => return None,
    })
}

/// Returns the row of an opcode behind 0f 38.
pub(super) fn three_bytes(opcode: u8) -> Option<Row> {
    use Code::{G, M};
    use Operation::{Move, MoveSwapped};
    Some(match opcode {
        // MOVBE.
        0xf0 => (MoveSwapped, G, M, Width::Full),
        0xf1 => (MoveSwapped, M, G, Width::Full),
        // MOVDIRI.
        0xf9 => (Move, M, G, Width::Full),
        _ => return None,
    })
}
