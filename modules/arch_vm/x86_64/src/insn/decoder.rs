// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Takes an instruction apart: prefixes, opcode, operands.
//!
//! Prefixes that do not matter here (LOCK, hints) are read and forgotten: the CPU
//! has found the instruction to be allowed before it asked for memory.
//!
//! Spec: AMD64 APM 3, "Instruction Prefixes", "VEX and XOP Prefixes".

use axvm::AccessWidth;

use super::{
    CodeSize, Instruction, LENGTH_MAX, Operand, Operation, Repeat, SegmentName,
    address::{self, Address, High, IsLong, ModRm, Rm},
    cursor::Cursor,
    table::{self, Code, Row, Width},
    vector::{self, Mandatory, Map, Size, Vector},
};
use crate::frame::{RAX, Reg, sign_extend};

/// The prefixes of an instruction, as far as they matter here.
#[derive(Clone, Copy, Default)]
struct Prefixes {
    operand: bool,
    address: bool,
    /// The last of f2 and f3.
    repeat: Option<u8>,
    segment: Option<SegmentName>,
    rex: Option<u8>,
    vex: Option<Vex>,
}

/// What a VEX prefix says besides what REX says.
#[derive(Clone, Copy)]
struct Vex {
    map: Map,
    is_wide: bool,
}

const REX_W: u8 = 1 << 3;
const REX_R: u8 = 1 << 2;
const REX_X: u8 = 1 << 1;
const REX_B: u8 = 1 << 0;
const VEX_SHORT: u8 = 0xc5;
const VEX_LONG: u8 = 0xc4;

/// Everything but the opcode.
struct Decoder<'a> {
    cursor: Cursor<'a>,
    size: CodeSize,
    prefixes: Prefixes,
    modrm: Option<ModRm>,
    address: Option<Address>,
}

/// Decodes the instruction at the start of `bytes`.
pub(crate) fn decode(bytes: &[u8], size: CodeSize) -> Option<Instruction> {
    let mut decoder = Decoder::new(bytes, size);
    let opcode = decoder.prefixes()?;
    match (opcode, decoder.prefixes.vex) {
        (opcode, Some(vex)) => decoder.vector(vex.map, opcode),
        (0x0f, None) => decoder.two_bytes(),
        (opcode, None) => {
            let row = table::one_byte(opcode, decoder.group(), size)?;
            decoder.general(opcode, row)
        }
    }
}

/// Decodes MOV to a control register; returns the register that it is from and how
/// many bytes it has. Which control register it is the hardware knows.
pub(crate) fn move_to_control(bytes: &[u8], size: CodeSize) -> Option<(usize, u8)> {
    let mut decoder = Decoder::new(bytes, size);
    let opcode = [decoder.prefixes()?, decoder.cursor.byte()?];
    let from = decoder.cursor.byte()? & 7 | decoder.high(REX_B);
    (opcode == [0x0f, 0x22]).then(|| (from.into(), decoder.cursor.taken()))
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8], size: CodeSize) -> Self {
        Self {
            cursor: Cursor::new(bytes.get(..LENGTH_MAX).unwrap_or(bytes)),
            size,
            prefixes: Prefixes::default(),
            modrm: None,
            address: None,
        }
    }

    /// Reads the prefixes and returns the first byte of the opcode.
    fn prefixes(&mut self) -> Option<u8> {
        loop {
            let byte = self.cursor.byte()?;
            match byte {
                0x26 => self.prefixes.segment = Some(SegmentName::Es),
                0x2e => self.prefixes.segment = Some(SegmentName::Cs),
                0x36 => self.prefixes.segment = Some(SegmentName::Ss),
                0x3e => self.prefixes.segment = Some(SegmentName::Ds),
                0x64 => self.prefixes.segment = Some(SegmentName::Fs),
                0x65 => self.prefixes.segment = Some(SegmentName::Gs),
                0x66 => self.prefixes.operand = true,
                0x67 => self.prefixes.address = true,
                0xf2 | 0xf3 => self.prefixes.repeat = Some(byte),
                0xf0 => {}
                0x40..=0x4f if self.size == CodeSize::Bits64 => {
                    self.prefixes.rex = Some(byte);
                    continue;
                }
                VEX_SHORT | VEX_LONG if self.size == CodeSize::Bits64 => return self.vex(byte),
                opcode => return Some(opcode),
            }
            // REX counts only just before the opcode.
            self.prefixes.rex = None;
        }
    }

    /// Reads a VEX prefix and returns the opcode. There is none of three operands here.
    fn vex(&mut self, first: u8) -> Option<u8> {
        const UNUSED: u8 = 0xf;
        let second = self.cursor.byte()?;
        let (inverted, map, last) = match first {
            VEX_SHORT => (second >> 5 & REX_R | REX_X | REX_B, 1, second),
            _ => (second >> 5, second & 0x1f, self.cursor.byte()?),
        };
        let wide = if first == VEX_LONG {
            last >> 4 & REX_W
        } else {
            0
        };
        self.prefixes.rex = Some(!inverted & (REX_R | REX_X | REX_B) | wide);
        self.prefixes.operand = last & 3 == 1;
        self.prefixes.repeat = [None, None, Some(0xf3), Some(0xf2)]
            .get(usize::from(last & 3))
            .copied()?;
        let map = match map {
            1 => Map::Two,
            2 => Map::Three,
            _ => return None,
        };
        let is_wide = last & 1 << 2 != 0;
        self.prefixes.vex = Some(Vex { map, is_wide });
        (last >> 3 & UNUSED == UNUSED).then(|| self.cursor.byte())?
    }

    fn two_bytes(&mut self) -> Option<Instruction> {
        let opcode = self.cursor.byte()?;
        if opcode == 0x38 {
            let opcode = self.cursor.byte()?;
            return match table::three_bytes(opcode) {
                Some(row) => self.general(opcode, row),
                None => self.vector(Map::Three, opcode),
            };
        }
        match table::two_bytes(opcode, self.group()) {
            Some(row) => self.general(opcode, row),
            None => self.vector(Map::Two, opcode),
        }
    }

    fn vector(&mut self, map: Map, opcode: u8) -> Option<Instruction> {
        let mandatory = match (self.prefixes.repeat, self.prefixes.operand) {
            (Some(0xf3), _) => Mandatory::Repeat,
            (Some(_), _) => Mandatory::RepeatNot,
            (None, true) => Mandatory::Operand,
            (None, false) => Mandatory::None,
        };
        let (size, is_store) = vector::row(map, mandatory, opcode)?;
        let vex = self.prefixes.vex;
        let bytes = match size {
            Size::Whole if vex.is_some_and(|vex| vex.is_wide) => 32,
            Size::Whole => 16,
            Size::General if self.has_rex(REX_W) => 8,
            Size::Four | Size::General => 4,
            Size::Eight => 8,
        };
        let register = self.modrm()?.register | self.high(REX_R);
        self.memory()?;
        let vector = Vector {
            register,
            bytes,
            is_store,
            is_vex: vex.is_some(),
        };
        let operands = (Operand::None, Operand::Memory);
        let width = AccessWidth::Qword;
        Some(self.instruction(Operation::Vector(vector), operands, (width, width)))
    }

    fn general(&mut self, opcode: u8, (operation, to, from, width): Row) -> Option<Instruction> {
        let width = self.width(width, opcode);
        let to_width = match operation {
            Operation::MoveSigned | Operation::MoveZero => self.operand_width(),
            _ => width,
        };
        let to = self.operand(to, opcode, to_width)?;
        let from = self.operand(from, opcode, width)?;
        Some(self.instruction(operation, (to, from), (width, to_width)))
    }

    fn instruction(
        &self,
        operation: Operation,
        (to, from): (Operand, Operand),
        (width, to_width): (AccessWidth, AccessWidth),
    ) -> Instruction {
        let address = self.address.unwrap_or(Address::absolute(0));
        Instruction {
            length: self.cursor.taken(),
            operation,
            to,
            from,
            width,
            to_width,
            address,
            address_width: self.address_width(),
            segment: self.prefixes.segment.unwrap_or(address.segment()),
            stack_width: self.size.width(),
            repeat: match self.prefixes.repeat {
                None => Repeat::Once,
                Some(0xf3) => Repeat::WhileEqual,
                Some(_) => Repeat::WhileDifferent,
            },
        }
    }

    fn operand(&mut self, code: Code, opcode: u8, width: AccessWidth) -> Option<Operand> {
        Some(match code {
            Code::None => Operand::None,
            Code::M => self.memory()?,
            Code::E => match self.modrm()?.operand {
                Rm::Register(number) => Operand::Register(Reg::new(number)),
                Rm::Memory(_) => self.memory()?,
            },
            Code::G => Operand::Register(self.register(width)?),
            Code::A => Operand::Register(Reg::new(RAX as u8)),
            Code::Z => Operand::Register(Reg::new(opcode & 7 | self.high(REX_B))),
            Code::I => Operand::Immediate(self.immediate(width)?),
            Code::Ib => Operand::Immediate(self.immediate(AccessWidth::Byte)?),
            Code::One => Operand::Immediate(1),
            Code::O => {
                let at = self.cursor.number(self.address_width())?;
                self.address = Some(Address::absolute(at));
                Operand::Memory
            }
            Code::X => Operand::Source,
            Code::Y => Operand::Target,
            Code::Dx => Operand::Port,
            Code::J => Operand::Ahead(self.immediate(width)?),
            Code::Stack => Operand::Stack,
            Code::Next => Operand::Next,
        })
    }

    /// Returns the field of the next byte that is more of the opcode in some.
    fn group(&self) -> u8 {
        self.cursor.peek().map_or(0, |byte| byte >> 3 & 7)
    }

    /// Reads the ModRM byte, once.
    fn modrm(&mut self) -> Option<ModRm> {
        if self.modrm.is_none() {
            let high = High {
                index: self.high(REX_X),
                base: self.high(REX_B),
            };
            let is_long = match self.size {
                CodeSize::Bits64 => IsLong::Yes,
                _ => IsLong::No,
            };
            let width = self.address_width();
            self.modrm = address::take(&mut self.cursor, width, high, is_long);
        }
        self.modrm
    }

    /// Takes the operand that must be memory.
    fn memory(&mut self) -> Option<Operand> {
        let Rm::Memory(address) = self.modrm()?.operand else {
            return None;
        };
        self.address = Some(address);
        Some(Operand::Memory)
    }

    /// Returns the register that a ModRM byte names besides the operand.
    fn register(&mut self, width: AccessWidth) -> Option<Reg> {
        let low = self.modrm()?.register;
        let is_high_byte =
            width == AccessWidth::Byte && self.prefixes.rex.is_none() && (4..8).contains(&low);
        Some(Reg {
            number: if is_high_byte {
                low & 3
            } else {
                low | self.high(REX_R)
            },
            is_high_byte,
        })
    }

    /// Reads an immediate for an operand of this width: at most 32 bits, extended.
    fn immediate(&mut self, width: AccessWidth) -> Option<u64> {
        let stored = match width {
            AccessWidth::Qword => AccessWidth::Dword,
            other => other,
        };
        Some(sign_extend(self.cursor.number(stored)?, stored))
    }

    fn has_rex(&self, bit: u8) -> bool {
        self.prefixes.rex.is_some_and(|rex| rex & bit != 0)
    }

    /// Returns the fourth bit of a register's number.
    fn high(&self, bit: u8) -> u8 {
        if self.has_rex(bit) { 8 } else { 0 }
    }

    fn address_width(&self) -> AccessWidth {
        match (self.size, self.prefixes.address) {
            (size, false) => size.width(),
            (CodeSize::Bits32, true) => AccessWidth::Word,
            _ => AccessWidth::Dword,
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

    fn width(&self, width: Width, opcode: u8) -> AccessWidth {
        let is_even = opcode & 1 == 0;
        match width {
            Width::Byte => AccessWidth::Byte,
            Width::Bit | Width::Narrow | Width::Port if is_even => AccessWidth::Byte,
            Width::Narrow => AccessWidth::Word,
            Width::Dword => AccessWidth::Dword,
            Width::Bit | Width::Full => self.operand_width(),
            Width::Port => match self.operand_width() {
                AccessWidth::Qword => AccessWidth::Dword,
                other => other,
            },
            Width::Stack => match (self.size, self.operand_width()) {
                (CodeSize::Bits64, AccessWidth::Dword) => AccessWidth::Qword,
                (_, other) => other,
            },
        }
    }
}
