// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What stands before an opcode, and the widths that follow of it.
//!
//! Prefixes that do not matter here (LOCK, hints) are read and forgotten: the CPU
//! has found the instruction to be allowed before it asked for memory.
//!
//! Spec: AMD64 APM 3, "Instruction Prefixes", "VEX and XOP Prefixes".

use axvm::AccessWidth;

use super::{
    CodeSize, SegmentName,
    cursor::Cursor,
    vector::{Mandatory, Map},
};

/// The prefixes of an instruction, as far as they matter here.
#[derive(Clone, Copy, Default)]
pub(super) struct Prefixes {
    operand: bool,
    address: bool,
    /// The last of f2 and f3.
    pub(super) repeat: Option<u8>,
    pub(super) segment: Option<SegmentName>,
    rex: Option<u8>,
    pub(super) vex: Option<Vex>,
}

/// What a VEX prefix says besides what REX says.
#[derive(Clone, Copy)]
pub(super) struct Vex {
    pub(super) map: Map,
    pub(super) is_wide: bool,
    /// The register that is a third operand, or 0.
    pub(super) other: u8,
}

pub(super) const REX_W: u8 = 1 << 3;
pub(super) const REX_R: u8 = 1 << 2;
pub(super) const REX_X: u8 = 1 << 1;
pub(super) const REX_B: u8 = 1 << 0;
const VEX_SHORT: u8 = 0xc5;
const VEX_LONG: u8 = 0xc4;

impl Prefixes {
    /// Reads the prefixes and returns the first byte of the opcode.
    pub(super) fn take(&mut self, cursor: &mut Cursor<'_>, size: CodeSize) -> Option<u8> {
        loop {
            let byte = cursor.byte()?;
            match byte {
                0x26 => self.segment = Some(SegmentName::Es),
                0x2e => self.segment = Some(SegmentName::Cs),
                0x36 => self.segment = Some(SegmentName::Ss),
                0x3e => self.segment = Some(SegmentName::Ds),
                0x64 => self.segment = Some(SegmentName::Fs),
                0x65 => self.segment = Some(SegmentName::Gs),
                0x66 => self.operand = true,
                0x67 => self.address = true,
                0xf2 | 0xf3 => self.repeat = Some(byte),
                0xf0 => {}
                0x40..=0x4f if size == CodeSize::Bits64 => {
                    self.rex = Some(byte);
                    continue;
                }
                VEX_SHORT | VEX_LONG if size == CodeSize::Bits64 => {
                    return self.take_vex(byte, cursor);
                }
                opcode => return Some(opcode),
            }
            // REX counts only just before the opcode.
            self.rex = None;
        }
    }

    /// Reads a VEX prefix and returns the opcode.
    fn take_vex(&mut self, first: u8, cursor: &mut Cursor<'_>) -> Option<u8> {
        const OTHER: u8 = 0xf;
        let second = cursor.byte()?;
        let (inverted, map, last) = match first {
            VEX_SHORT => (second >> 5 & REX_R | REX_X | REX_B, 1, second),
            _ => (second >> 5, second & 0x1f, cursor.byte()?),
        };
        let wide = if first == VEX_LONG {
            last >> 4 & REX_W
        } else {
            0
        };
        self.rex = Some(!inverted & (REX_R | REX_X | REX_B) | wide);
        self.operand = last & 3 == 1;
        self.repeat = [None, None, Some(0xf3), Some(0xf2)]
            .get(usize::from(last & 3))
            .copied()?;
        let map = match map {
            1 => Map::Two,
            2 => Map::Three,
            _ => return None,
        };
        let is_wide = last & 1 << 2 != 0;
        let other = !last >> 3 & OTHER;
        self.vex = Some(Vex {
            map,
            is_wide,
            other,
        });
        cursor.byte()
    }

    /// Returns what is part of a vector instruction's opcode.
    pub(super) fn mandatory(&self) -> Mandatory {
        match (self.repeat, self.operand) {
            (Some(0xf3), _) => Mandatory::Repeat,
            (Some(_), _) => Mandatory::RepeatNot,
            (None, true) => Mandatory::Operand,
            (None, false) => Mandatory::None,
        }
    }

    pub(super) fn has_rex(&self, bit: u8) -> bool {
        self.rex.is_some_and(|rex| rex & bit != 0)
    }

    pub(super) fn has_any_rex(&self) -> bool {
        self.rex.is_some()
    }

    /// Returns the fourth bit of a register's number.
    pub(super) fn high(&self, bit: u8) -> u8 {
        if self.has_rex(bit) { 8 } else { 0 }
    }

    pub(super) fn address_width(&self, size: CodeSize) -> AccessWidth {
        match (size, self.address) {
            (size, false) => size.width(),
            (CodeSize::Bits32, true) => AccessWidth::Word,
            _ => AccessWidth::Dword,
        }
    }

    /// Returns the width of operands that the opcode does not say.
    pub(super) fn operand_width(&self, size: CodeSize) -> AccessWidth {
        if self.has_rex(REX_W) {
            return AccessWidth::Qword;
        }
        match (size, self.operand) {
            (CodeSize::Bits16, false) | (CodeSize::Bits32 | CodeSize::Bits64, true) => {
                AccessWidth::Word
            }
            _ => AccessWidth::Dword,
        }
    }
}
