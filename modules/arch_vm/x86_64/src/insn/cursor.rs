// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Takes an instruction's bytes one field after the other.
//!
//! Spec: AMD64 APM 3, "ModRM and SIB Bytes", "Displacement Bytes".

use axvm::AccessWidth;

/// Bytes that are taken from the front.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    taken: usize,
}

/// The part of a ModRM byte that is not the memory operand.
#[derive(Clone, Copy)]
pub(super) struct ModRm {
    /// A register, or more of the opcode.
    pub(super) register: u8,
}

const IS_REGISTER: u8 = 3;
const HAS_SIB: u8 = 4;
const NO_BASE: u8 = 5;
const NO_BASE_16: u8 = 6;

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, taken: 0 }
    }

    /// Returns how many bytes were taken.
    pub(super) fn taken(&self) -> u8 {
        self.taken as u8
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.taken)?;
        self.taken = self.taken.saturating_add(1);
        Some(byte)
    }

    /// Takes a number, the lowest byte first.
    pub(super) fn number(&mut self, width: AccessWidth) -> Option<u64> {
        let mut bytes = [0; 8];
        for slot in bytes.iter_mut().take(width.size()) {
            *slot = self.byte()?;
        }
        Some(u64::from_le_bytes(bytes))
    }

    /// Takes a ModRM byte and all that belongs to its operand, which is memory.
    pub(super) fn memory_operand(&mut self, address_width: AccessWidth) -> Option<ModRm> {
        let modrm = self.byte()?;
        let (mode, register, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
        if mode == IS_REGISTER {
            return None;
        }
        let displacement = match address_width {
            AccessWidth::Word => displacement_16(mode, rm),
            _ => {
                let base = match rm {
                    HAS_SIB => self.byte()? & 7,
                    rm => rm,
                };
                displacement(mode, base)
            }
        };
        if let Some(width) = displacement {
            self.number(width)?;
        }
        Some(ModRm { register })
    }
}

fn displacement(mode: u8, base: u8) -> Option<AccessWidth> {
    match (mode, base) {
        (0, NO_BASE) | (2, _) => Some(AccessWidth::Dword),
        (1, _) => Some(AccessWidth::Byte),
        _ => None,
    }
}

fn displacement_16(mode: u8, rm: u8) -> Option<AccessWidth> {
    match (mode, rm) {
        (0, NO_BASE_16) | (2, _) => Some(AccessWidth::Word),
        (1, _) => Some(AccessWidth::Byte),
        _ => None,
    }
}
