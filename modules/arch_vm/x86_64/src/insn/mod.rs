// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Decodes the instructions with which guests reach devices.
//!
//! Called with the bytes at the guest's RIP when nested paging refused an access
//! or a string instruction met a port. Every integer form that Linux and the
//! compilers use for device memory is known; what is not (floating point,
//! vectors, far pointers) is `None`, as is anything without a memory operand.
//! The operand's address is not computed: the hardware reports it.
//!
//! Spec: AMD64 APM 3, "Instruction Encoding", "Opcode and Operand Encodings".

mod alu;
mod cursor;
mod emulate;
#[cfg(test)]
mod tests;

use axvm::AccessWidth;

use crate::frame::{Frame, RAX, RCX, Reg, mask, sign_extend};
pub(crate) use alu::Alu;
use cursor::{Cursor, ModRm};
pub(crate) use emulate::{Emulation, Place, Progress};

/// The longest instruction.
pub(crate) const LENGTH_MAX: usize = 15;

/// The size of the code that an instruction is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeSize {
    Bits16,
    Bits32,
    Bits64,
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

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Register(Reg),
    Immediate(u64),
}

/// Where a string instruction reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StringEnd {
    /// At the index register: RSI for the source, RDI for the destination.
    Memory,
    /// In RAX.
    Accumulator,
    /// At the port in DX.
    Port,
}

/// What an instruction does with its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Reads it into a register.
    Load {
        to: Reg,
        to_width: AccessWidth,
        is_signed: bool,
    },
    /// Writes it.
    Store { from: Source },
    /// Swaps it with a register.
    Exchange { with: Reg },
    /// Adds a register to it, which gets what it was.
    ExchangeAdd { with: Reg },
    /// Writes a register to it if it is what the accumulator has, which otherwise
    /// gets what it is.
    CompareExchange { with: Reg },
    /// Computes with it, and writes the result back to it.
    Modify { operation: Alu, with: Source },
    /// Computes with it, and writes the result to a register.
    Combine { operation: Alu, to: Reg },
    /// Moves one element of a string.
    String { from: StringEnd, to: StringEnd },
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// How many bytes it has.
    pub(crate) length: u8,
    /// What it does.
    pub(crate) operation: Operation,
    /// The width of its memory operand.
    pub(crate) width: AccessWidth,
    /// The width of its addresses.
    pub(crate) address_width: AccessWidth,
    /// The segment of a string's source.
    pub(crate) segment: SegmentName,
    /// Whether a string instruction repeats.
    pub(crate) repeats: bool,
}

impl Instruction {
    /// Tells whether a repeated instruction has no element left.
    pub(crate) fn is_over(&self, frame: &Frame) -> bool {
        self.repeats && frame.get(RCX) & mask(self.address_width) == 0
    }
}

/// The prefixes of an instruction, as far as they matter here.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    operand: bool,
    address: bool,
    repeats: bool,
    segment: Option<SegmentName>,
    rex: Option<u8>,
}

const REX_W: u8 = 1 << 3;
const REX_R: u8 = 1 << 2;
const REX_B: u8 = 1 << 0;

/// Everything but the opcode.
struct Decoder<'a> {
    cursor: Cursor<'a>,
    size: CodeSize,
    prefixes: Prefixes,
}

/// Decodes the instruction at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8], size: CodeSize) -> Option<Instruction> {
    let mut decoder = Decoder::new(bytes, size);
    let opcode = decoder.prefixes()?;
    let (operation, width) = match opcode {
        0x0f => decoder.two_bytes(),
        _ => decoder.one_byte(opcode),
    }?;
    Some(Instruction {
        length: decoder.cursor.taken(),
        operation,
        width,
        address_width: decoder.address_width(),
        segment: decoder.prefixes.segment.unwrap_or(SegmentName::Ds),
        repeats: decoder.prefixes.repeats,
    })
}

/// Decodes MOV to a control register; returns the register that it is from and how
/// many bytes it has. Which control register it is the hardware knows.
pub(crate) fn move_to_control(bytes: &[u8], size: CodeSize) -> Option<(usize, u8)> {
    let mut decoder = Decoder::new(bytes, size);
    let opcode = [decoder.prefixes()?, decoder.cursor.byte()?];
    let from = decoder.cursor.byte()? & 7;
    let high = if decoder.has_rex(REX_B) { 8 } else { 0 };
    (opcode == [0x0f, 0x22]).then(|| (usize::from(from | high), decoder.cursor.taken()))
}

type Decoded = Option<(Operation, AccessWidth)>;

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8], size: CodeSize) -> Self {
        Self {
            cursor: Cursor::new(bytes.get(..LENGTH_MAX).unwrap_or(bytes)),
            size,
            prefixes: Prefixes::default(),
        }
    }

    /// Reads the prefixes and returns the first byte of the opcode.
    fn prefixes(&mut self) -> Option<u8> {
        loop {
            let byte = self.cursor.byte()?;
            let segment = match byte {
                0x26 => SegmentName::Es,
                0x2e => SegmentName::Cs,
                0x36 => SegmentName::Ss,
                0x3e => SegmentName::Ds,
                0x64 => SegmentName::Fs,
                0x65 => SegmentName::Gs,
                0x40..=0x4f if self.size == CodeSize::Bits64 => {
                    self.prefixes.rex = Some(byte);
                    continue;
                }
                0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 => {
                    self.prefix(byte);
                    continue;
                }
                opcode => return Some(opcode),
            };
            self.prefixes.segment = Some(segment);
            self.prefixes.rex = None;
        }
    }

    fn prefix(&mut self, byte: u8) {
        match byte {
            0x66 => self.prefixes.operand = true,
            0x67 => self.prefixes.address = true,
            0xf2 | 0xf3 => self.prefixes.repeats = true,
            _ => {}
        }
        // REX counts only just before the opcode.
        self.prefixes.rex = None;
    }

    fn has_rex(&self, bit: u8) -> bool {
        self.prefixes.rex.is_some_and(|rex| rex & bit != 0)
    }

    fn address_width(&self) -> AccessWidth {
        match (self.size, self.prefixes.address) {
            (CodeSize::Bits64, false) => AccessWidth::Qword,
            (CodeSize::Bits64, true) | (CodeSize::Bits32, false) | (CodeSize::Bits16, true) => {
                AccessWidth::Dword
            }
            (CodeSize::Bits32, true) | (CodeSize::Bits16, false) => AccessWidth::Word,
        }
    }

    /// Returns the width of operands that the opcode does not say.
    fn operand_width(&self) -> AccessWidth {
        if self.has_rex(REX_W) {
            return AccessWidth::Qword;
        }
        match (self.size, self.prefixes.operand) {
            (CodeSize::Bits16, false) | (CodeSize::Bits32 | CodeSize::Bits64, true) => {
                AccessWidth::Word
            }
            _ => AccessWidth::Dword,
        }
    }

    /// Returns the width that the lowest bit of an opcode chooses.
    fn width_of(&self, opcode: u8) -> AccessWidth {
        match opcode & 1 {
            0 => AccessWidth::Byte,
            _ => self.operand_width(),
        }
    }

    /// Reads the operand bytes; the operand must be memory.
    fn memory(&mut self) -> Option<ModRm> {
        self.cursor.memory_operand(self.address_width())
    }

    /// Returns the register that a ModRM byte names besides the operand.
    fn register(&self, modrm: ModRm, width: AccessWidth) -> Reg {
        let low = modrm.register;
        let is_high_byte =
            width == AccessWidth::Byte && self.prefixes.rex.is_none() && (4..8).contains(&low);
        let high = if self.has_rex(REX_R) { 8 } else { 0 };
        Reg {
            number: if is_high_byte { low & 3 } else { low | high },
            is_high_byte,
        }
    }

    /// Reads an immediate for an operand of this width: at most 32 bits, extended.
    fn immediate(&mut self, width: AccessWidth) -> Option<u64> {
        let stored = match width {
            AccessWidth::Qword => AccessWidth::Dword,
            other => other,
        };
        Some(sign_extend(self.cursor.number(stored)?, stored))
    }

    fn one_byte(&mut self, opcode: u8) -> Decoded {
        let width = self.width_of(opcode);
        match opcode {
            0x00..=0x3f => self.arithmetic(opcode),
            0x63 if self.size == CodeSize::Bits64 => {
                let (to_width, source) = (self.operand_width(), AccessWidth::Dword);
                self.load(source, to_width, true)
            }
            0x6c..=0x6f => self.port_string(opcode),
            0x80 | 0x81 | 0x83 => self.arithmetic_immediate(opcode),
            0x84 | 0x85 => self.modify(Alu::Test, width),
            0x86 | 0x87 => self.exchange(opcode, |with| Operation::Exchange { with }),
            0x88 | 0x89 => self.store(width),
            0x8a | 0x8b => self.load(width, width, false),
            0xa0..=0xa3 => self.absolute(opcode),
            0xa4 | 0xa5 => self.string(StringEnd::Memory, StringEnd::Memory, width),
            0xaa | 0xab => self.string(StringEnd::Accumulator, StringEnd::Memory, width),
            0xac | 0xad => self.string(StringEnd::Memory, StringEnd::Accumulator, width),
            0xc6 | 0xc7 => self.store_immediate(width),
            0xf6 | 0xf7 => self.unary(width),
            0xfe | 0xff => self.increment(width),
            _ => None,
        }
    }

    fn two_bytes(&mut self) -> Decoded {
        let opcode = self.cursor.byte()?;
        let width = self.operand_width();
        let narrow = match opcode & 1 {
            0 => AccessWidth::Byte,
            _ => AccessWidth::Word,
        };
        match opcode {
            0xa3 => self.bit_of_register(Alu::BitTest),
            0xab => self.bit_of_register(Alu::BitSet),
            0xb3 => self.bit_of_register(Alu::BitReset),
            0xbb => self.bit_of_register(Alu::BitComplement),
            0xb6 | 0xb7 => self.load(narrow, width, false),
            0xbe | 0xbf => self.load(narrow, width, true),
            0xba => self.bit_of_immediate(),
            0xb0 | 0xb1 => self.exchange(opcode, |with| Operation::CompareExchange { with }),
            0xc0 | 0xc1 => self.exchange(opcode, |with| Operation::ExchangeAdd { with }),
            0xc3 if !self.prefixes.operand => self.store(width),
            _ => None,
        }
    }

    fn memory_and_register(&mut self, width: AccessWidth) -> Option<Reg> {
        let modrm = self.memory()?;
        Some(self.register(modrm, width))
    }

    fn exchange(&mut self, opcode: u8, operation: impl Fn(Reg) -> Operation) -> Decoded {
        let width = self.width_of(opcode);
        Some((operation(self.memory_and_register(width)?), width))
    }

    fn load(&mut self, width: AccessWidth, to_width: AccessWidth, is_signed: bool) -> Decoded {
        let to = self.memory_and_register(to_width)?;
        let operation = Operation::Load {
            to,
            to_width,
            is_signed,
        };
        Some((operation, width))
    }

    fn store(&mut self, width: AccessWidth) -> Decoded {
        let from = Source::Register(self.memory_and_register(width)?);
        Some((Operation::Store { from }, width))
    }

    fn store_immediate(&mut self, width: AccessWidth) -> Decoded {
        if self.memory()?.register != 0 {
            return None;
        }
        let from = Source::Immediate(self.immediate(width)?);
        Some((Operation::Store { from }, width))
    }

    /// MOV between the accumulator and an address in the instruction.
    fn absolute(&mut self, opcode: u8) -> Decoded {
        let width = self.width_of(opcode);
        self.cursor.number(self.address_width())?;
        let accumulator = Reg::new(RAX as u8);
        let operation = match opcode {
            0xa0 | 0xa1 => Operation::Load {
                to: accumulator,
                to_width: width,
                is_signed: false,
            },
            _ => Operation::Store {
                from: Source::Register(accumulator),
            },
        };
        Some((operation, width))
    }

    /// The eight operations in their four forms with a ModRM byte.
    fn arithmetic(&mut self, opcode: u8) -> Decoded {
        let operation = Alu::of_group(opcode >> 3);
        let width = self.width_of(opcode);
        match opcode & 7 {
            0 | 1 => self.modify(operation, width),
            2 | 3 => {
                let to = self.memory_and_register(width)?;
                Some((Operation::Combine { operation, to }, width))
            }
            _ => None,
        }
    }

    fn modify(&mut self, operation: Alu, width: AccessWidth) -> Decoded {
        let with = Source::Register(self.memory_and_register(width)?);
        Some((Operation::Modify { operation, with }, width))
    }

    fn arithmetic_immediate(&mut self, opcode: u8) -> Decoded {
        let width = self.width_of(opcode);
        let operation = Alu::of_group(self.memory()?.register);
        let stored = match opcode {
            0x83 => AccessWidth::Byte,
            _ => width,
        };
        let with = Source::Immediate(self.immediate(stored)?);
        Some((Operation::Modify { operation, with }, width))
    }

    fn unary(&mut self, width: AccessWidth) -> Decoded {
        let (operation, with) = match self.memory()?.register {
            0 | 1 => (Alu::Test, self.immediate(width)?),
            2 => (Alu::Not, 0),
            3 => (Alu::Negate, 0),
            _ => return None,
        };
        let with = Source::Immediate(with);
        Some((Operation::Modify { operation, with }, width))
    }

    fn increment(&mut self, width: AccessWidth) -> Decoded {
        let operation = match self.memory()?.register {
            0 => Alu::Increment,
            1 => Alu::Decrement,
            _ => return None,
        };
        let with = Source::Immediate(1);
        Some((Operation::Modify { operation, with }, width))
    }

    fn bit_of_register(&mut self, operation: Alu) -> Decoded {
        let width = self.operand_width();
        self.modify(operation, width)
    }

    fn bit_of_immediate(&mut self) -> Decoded {
        let width = self.operand_width();
        let operation = match self.memory()?.register {
            4 => Alu::BitTest,
            5 => Alu::BitSet,
            6 => Alu::BitReset,
            7 => Alu::BitComplement,
            _ => return None,
        };
        let with = Source::Immediate(self.cursor.byte()?.into());
        Some((Operation::Modify { operation, with }, width))
    }

    fn string(&mut self, from: StringEnd, to: StringEnd, width: AccessWidth) -> Decoded {
        Some((Operation::String { from, to }, width))
    }

    fn port_string(&mut self, opcode: u8) -> Decoded {
        // Ports have at most 32 bits, whatever REX says.
        let width = match self.width_of(opcode) {
            AccessWidth::Qword => AccessWidth::Dword,
            other => other,
        };
        match opcode {
            0x6c | 0x6d => self.string(StringEnd::Port, StringEnd::Memory, width),
            _ => self.string(StringEnd::Memory, StringEnd::Port, width),
        }
    }
}
