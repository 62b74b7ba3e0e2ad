// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! An operand's address, as an instruction's ModRM and SIB bytes say it.
//!
//! Spec: AMD64 APM 3, "ModRM and SIB Bytes", "RIP-Relative Addressing"; APM 1,
//! "Segment Registers", for the segment that goes with a base.

use axvm::AccessWidth;

use super::{SegmentName, cursor::Cursor};
use crate::frame::{Frame, RBP, RBX, RDI, RSI, RSP, mask, sign_extend};

/// What an address begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Nothing,
    Register(u8),
    /// The next instruction.
    Next,
}

/// The sum that is an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    base: Base,
    /// A register, and how far it is shifted.
    index: Option<(u8, u8)>,
    displacement: u64,
}

/// A ModRM byte and what belongs to it.
#[derive(Clone, Copy)]
pub(super) struct ModRm {
    /// A register, or more of the opcode.
    pub(super) register: u8,
    pub(super) operand: Rm,
}

/// The operand that a ModRM byte names.
#[derive(Clone, Copy)]
pub(super) enum Rm {
    Register(u8),
    Memory(Address),
}

/// The fourth bits of the registers of an address: index and base.
#[derive(Clone, Copy)]
pub(super) struct High {
    pub(super) index: u8,
    pub(super) base: u8,
}

const IS_REGISTER: u8 = 3;
const HAS_SIB: u8 = 4;
const NO_INDEX: u8 = 4;
const NO_BASE: u8 = 5;
const NO_BASE_16: u8 = 6;

impl Address {
    /// An address that is all in the instruction.
    pub(super) const fn absolute(displacement: u64) -> Self {
        Self {
            base: Base::Nothing,
            index: None,
            displacement,
        }
    }

    /// Returns the segment that it is in if no prefix says another.
    pub(super) fn segment(&self) -> SegmentName {
        match self.base {
            Base::Register(base) if matches!(base.into(), RSP | RBP) => SegmentName::Ss,
            _ => SegmentName::Ds,
        }
    }

    /// Returns the offset in its segment.
    pub(super) fn offset(&self, frame: &Frame, next: u64, width: AccessWidth) -> u64 {
        let base = match self.base {
            Base::Nothing => 0,
            Base::Register(register) => frame.get(register.into()),
            Base::Next => next,
        };
        let index = self.index.map_or(0, |(register, shift)| {
            frame.get(register.into()).wrapping_shl(shift.into())
        });
        base.wrapping_add(index).wrapping_add(self.displacement) & mask(width)
    }

    /// Moves it on.
    pub(super) fn plus(self, distance: u64) -> Self {
        let displacement = self.displacement.wrapping_add(distance);
        Self {
            displacement,
            ..self
        }
    }
}

/// Takes a ModRM byte and all that belongs to its operand.
pub(super) fn take(
    cursor: &mut Cursor<'_>,
    width: AccessWidth,
    high: High,
    is_long: IsLong,
) -> Option<ModRm> {
    let byte = cursor.byte()?;
    let (mode, register, rm) = (byte >> 6, byte >> 3 & 7, byte & 7);
    let operand = match (mode, width) {
        (IS_REGISTER, _) => Rm::Register(rm | high.base),
        (_, AccessWidth::Word) => Rm::Memory(short(cursor, mode, rm)?),
        _ => Rm::Memory(long(cursor, mode, rm, high, is_long)?),
    };
    Some(ModRm { register, operand })
}

/// Whether an address without base is one from the next instruction on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IsLong {
    Yes,
    No,
}

fn long(cursor: &mut Cursor<'_>, mode: u8, rm: u8, high: High, is_long: IsLong) -> Option<Address> {
    let (base, index) = match rm {
        HAS_SIB => {
            let sib = cursor.byte()?;
            let number = sib >> 3 & 7 | high.index;
            let index = (number != NO_INDEX).then_some((number, sib >> 6));
            (sib & 7, index)
        }
        _ => (rm, None),
    };
    let (base, stored) = match (mode, base) {
        (0, NO_BASE) if rm == NO_BASE && is_long == IsLong::Yes => {
            (Base::Next, Some(AccessWidth::Dword))
        }
        (0, NO_BASE) => (Base::Nothing, Some(AccessWidth::Dword)),
        (0, base) => (Base::Register(base | high.base), None),
        (1, base) => (Base::Register(base | high.base), Some(AccessWidth::Byte)),
        (_, base) => (Base::Register(base | high.base), Some(AccessWidth::Dword)),
    };
    Some(Address {
        base,
        index,
        displacement: displacement(cursor, stored)?,
    })
}

fn short(cursor: &mut Cursor<'_>, mode: u8, rm: u8) -> Option<Address> {
    let (base, index) = match rm {
        0 => (RBX, Some(RSI)),
        1 => (RBX, Some(RDI)),
        2 => (RBP, Some(RSI)),
        3 => (RBP, Some(RDI)),
        4 => (RSI, None),
        5 => (RDI, None),
        6 => (RBP, None),
        _ => (RBX, None),
    };
    let (base, stored) = match (mode, rm) {
        (0, NO_BASE_16) => (Base::Nothing, Some(AccessWidth::Word)),
        (0, _) => (Base::Register(base as u8), None),
        (1, _) => (Base::Register(base as u8), Some(AccessWidth::Byte)),
        _ => (Base::Register(base as u8), Some(AccessWidth::Word)),
    };
    Some(Address {
        base,
        index: index.map(|register| (register as u8, 0)),
        displacement: displacement(cursor, stored)?,
    })
}

fn displacement(cursor: &mut Cursor<'_>, stored: Option<AccessWidth>) -> Option<u64> {
    match stored {
        Some(width) => Some(sign_extend(cursor.number(width)?, width)),
        None => Some(0),
    }
}
