// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The general registers of a guest while it is out of the CPU.
//!
//! Written by `entry` on each exit and loaded on each entry; in the order in
//! which instructions number them. The backend keeps RIP and RFLAGS.
//!
//! Spec: AMD64 APM 3, "Encoding Syntax", register numbers.

use axvm::AccessWidth;

/// How many general registers there are.
pub(crate) const GPRS: usize = 16;
pub(crate) const RAX: usize = 0;
pub(crate) const RCX: usize = 1;
pub(crate) const RDX: usize = 2;
pub(crate) const RBX: usize = 3;
pub(crate) const RSP: usize = 4;
pub(crate) const RBP: usize = 5;
pub(crate) const RSI: usize = 6;
pub(crate) const RDI: usize = 7;

/// A register of an instruction, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reg {
    /// Its number.
    pub(crate) number: u8,
    /// Bits 8 to 15 rather than the lowest: AH, CH, DH, BH.
    pub(crate) is_high_byte: bool,
}

impl Reg {
    pub(crate) const fn new(number: u8) -> Self {
        Self {
            number,
            is_high_byte: false,
        }
    }
}

/// The general registers.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(crate) struct Frame {
    gprs: [u64; GPRS],
}

impl Frame {
    /// Reads a whole register.
    #[inline]
    pub(crate) fn get(&self, reg: usize) -> u64 {
        self.gprs.get(reg).copied().unwrap_or(0)
    }

    /// Writes a whole register.
    #[inline]
    pub(crate) fn set(&mut self, reg: usize, value: u64) {
        if let Some(slot) = self.gprs.get_mut(reg) {
            *slot = value;
        }
    }

    /// Reads the low half of a register.
    #[inline]
    pub(crate) fn get_32(&self, reg: usize) -> u32 {
        self.get(reg) as u32
    }

    /// Reads a part of a register.
    pub(crate) fn read(&self, reg: Reg, width: AccessWidth) -> u64 {
        let whole = self.get(reg.number.into());
        let shift = if reg.is_high_byte { 8 } else { 0 };
        whole.wrapping_shr(shift) & mask(width)
    }

    /// Writes a part of a register: 32 bits clear the upper half, less keeps the rest.
    pub(crate) fn write(&mut self, reg: Reg, width: AccessWidth, value: u64) {
        let number = reg.number.into();
        let whole = self.get(number);
        let value = value & mask(width);
        self.set(
            number,
            match width {
                AccessWidth::Qword | AccessWidth::Dword => value,
                AccessWidth::Byte if reg.is_high_byte => whole & !0xff00 | value << 8,
                _ => whole & !mask(width) | value,
            },
        );
    }

    /// Returns all registers.
    pub(crate) fn all(&self) -> &[u64; GPRS] {
        &self.gprs
    }
}

/// Returns the bits of a value of this width.
#[inline]
pub(crate) fn mask(width: AccessWidth) -> u64 {
    match width {
        AccessWidth::Byte => 0xff,
        AccessWidth::Word => 0xffff,
        AccessWidth::Dword => 0xffff_ffff,
        AccessWidth::Qword => u64::MAX,
    }
}

/// Copies the sign of a value of this width into all bits above it.
pub(crate) fn sign_extend(value: u64, width: AccessWidth) -> u64 {
    match width {
        AccessWidth::Byte => value as i8 as u64,
        AccessWidth::Word => value as i16 as u64,
        AccessWidth::Dword => value as i32 as u64,
        AccessWidth::Qword => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: u64 = 0x1111_2222_3333_4444;

    #[test]
    fn narrow_writes_keep_the_rest_and_32_bits_clear_it() {
        let written = |reg, width| {
            let mut frame = Frame::default();
            frame.set(RBX, OLD);
            frame.write(reg, width, 0xffff_ffff_ffff_ffaa);
            frame.get(RBX)
        };
        let rbx = Reg::new(3);
        let bh = Reg {
            number: 3,
            is_high_byte: true,
        };
        assert_eq!(written(rbx, AccessWidth::Byte), 0x1111_2222_3333_44aa);
        assert_eq!(written(bh, AccessWidth::Byte), 0x1111_2222_3333_aa44);
        assert_eq!(written(rbx, AccessWidth::Word), 0x1111_2222_3333_ffaa);
        assert_eq!(written(rbx, AccessWidth::Dword), 0xffff_ffaa);
        assert_eq!(written(rbx, AccessWidth::Qword), 0xffff_ffff_ffff_ffaa);
    }

    #[test]
    fn a_high_byte_is_read_from_its_place() {
        let mut frame = Frame::default();
        frame.set(RAX, OLD);
        let ah = Reg {
            number: 0,
            is_high_byte: true,
        };
        assert_eq!(frame.read(ah, AccessWidth::Byte), 0x44);
        assert_eq!(frame.read(Reg::new(0), AccessWidth::Dword), 0x3333_4444);
    }

    #[test]
    fn a_sign_is_copied_upwards() {
        assert_eq!(sign_extend(0x80, AccessWidth::Byte), 0xffff_ffff_ffff_ff80);
        assert_eq!(sign_extend(0x7fff, AccessWidth::Word), 0x7fff);
        assert_eq!(
            sign_extend(0x8000_0000, AccessWidth::Dword),
            0xffff_ffff_8000_0000
        );
    }
}
