// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Takes an instruction apart: prefixes, opcode, operands.
//!
//! Spec: AMD64 APM 3, "Instruction Byte Order", "ModRM and SIB Bytes".

use axvm::AccessWidth;

use super::{
    CodeSize, Instruction, LENGTH_MAX, Operand, Operation, Repeat,
    address::{self, Address, High, IsLong, ModRm, Rm},
    cursor::Cursor,
    prefixes::{Prefixes, REX_B, REX_R, REX_W, REX_X},
    table::{self, Code, Row, Width},
    vector::{self, Half, Map, Size, Vector},
};
use crate::frame::{RAX, RCX, Reg, sign_extend};

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
    let opcode = decoder.take_prefixes()?;
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
    let opcode = [decoder.take_prefixes()?, decoder.cursor.byte()?];
    let from = decoder.cursor.byte()? & 7 | decoder.prefixes.high(REX_B);
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

    fn take_prefixes(&mut self) -> Option<u8> {
        self.prefixes.take(&mut self.cursor, self.size)
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
        let mandatory = self.prefixes.mandatory();
        let (size, is_store) = vector::row(map, mandatory, opcode)?;
        let vex = self.prefixes.vex;
        let half = match size {
            Size::Low => Some(Half::Low),
            Size::High => Some(Half::High),
            _ => None,
        };
        let other = vex.map_or(0, |vex| vex.other);
        let has_other = half.is_some() && !is_store;
        if other != 0 && !has_other || half.is_some() && vex.is_some_and(|vex| vex.is_wide) {
            return None;
        }
        let bytes = match size {
            Size::Whole if vex.is_some_and(|vex| vex.is_wide) => 32,
            Size::Whole => 16,
            Size::General if self.prefixes.has_rex(REX_W) => 8,
            Size::Four | Size::General => 4,
            Size::Eight | Size::Low | Size::High => 8,
        };
        let register = self.modrm()?.register | self.prefixes.high(REX_R);
        self.memory()?;
        let vector = Vector {
            register,
            bytes,
            is_store,
            is_vex: vex.is_some(),
            half,
            other: if vex.is_some() { other } else { register },
        };
        let operands = (Operand::None, Operand::Memory);
        let width = AccessWidth::Qword;
        Some(self.instruction(Operation::Vector(vector), operands, (width, width)))
    }

    fn general(&mut self, opcode: u8, (operation, to, from, width): Row) -> Option<Instruction> {
        let width = self.width(width, opcode);
        let to_width = match operation {
            Operation::MoveSigned | Operation::MoveZero => self.prefixes.operand_width(self.size),
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
            address_width: self.prefixes.address_width(self.size),
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
            Code::C => Operand::Register(Reg::new(RCX as u8)),
            Code::Z => Operand::Register(Reg::new(opcode & 7 | self.prefixes.high(REX_B))),
            Code::I => Operand::Immediate(self.immediate(width)?),
            Code::Ib => Operand::Immediate(self.immediate(AccessWidth::Byte)?),
            Code::One => Operand::Immediate(1),
            Code::O => {
                let at = self.cursor.number(self.prefixes.address_width(self.size))?;
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
                index: self.prefixes.high(REX_X),
                base: self.prefixes.high(REX_B),
            };
            let is_long = match self.size {
                CodeSize::Bits64 => IsLong::Yes,
                _ => IsLong::No,
            };
            let width = self.prefixes.address_width(self.size);
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
            width == AccessWidth::Byte && !self.prefixes.has_any_rex() && (4..8).contains(&low);
        Some(Reg {
            number: if is_high_byte {
                low & 3
            } else {
                low | self.prefixes.high(REX_R)
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

    fn width(&self, width: Width, opcode: u8) -> AccessWidth {
        let is_even = opcode & 1 == 0;
        match width {
            Width::Byte => AccessWidth::Byte,
            Width::Bit | Width::Narrow | Width::Port if is_even => AccessWidth::Byte,
            Width::Narrow => AccessWidth::Word,
            Width::Dword => AccessWidth::Dword,
            Width::Bit | Width::Full => self.prefixes.operand_width(self.size),
            Width::Port => match self.prefixes.operand_width(self.size) {
                AccessWidth::Qword => AccessWidth::Dword,
                other => other,
            },
            Width::Stack => match (self.size, self.prefixes.operand_width(self.size)) {
                (CodeSize::Bits64, AccessWidth::Dword) => AccessWidth::Qword,
                (_, other) => other,
            },
        }
    }
}
