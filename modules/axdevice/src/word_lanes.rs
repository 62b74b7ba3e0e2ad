// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! How the bus presents a device of 32-bit registers (the Arm PrimeCells).
//!
//! An aligned access of any width inside the region is decoded: a narrow one
//! carries the low bits of the register it falls on, a 64-bit one is two
//! accesses, the lower word first. QEMU treats its PrimeCell models so.

use crate::{AccessFault, AccessWidth, regs};

/// Makes an access a read of one or two registers.
pub fn read(
    offset: u64,
    width: AccessWidth,
    region_bytes: u64,
    mut register: impl FnMut(u64) -> u32,
) -> Result<u64, AccessFault> {
    check(offset, width, region_bytes)?;
    let low = register(offset);
    let high = match width {
        AccessWidth::Qword => register(offset.saturating_add(4)),
        _ => 0,
    };
    Ok(regs::truncate(regs::join(low, high), width))
}

/// Makes an access a write of one or two registers.
pub fn write(
    (offset, value): (u64, u64),
    width: AccessWidth,
    region_bytes: u64,
    mut register: impl FnMut(u64, u32),
) -> Result<(), AccessFault> {
    check(offset, width, region_bytes)?;
    register(offset, regs::low_half(regs::truncate(value, width)));
    if width == AccessWidth::Qword {
        register(offset.saturating_add(4), regs::high_half(value));
    }
    Ok(())
}

/// Aligned, and starting in the region: then it ends there too.
fn check(offset: u64, width: AccessWidth, region_bytes: u64) -> Result<(), AccessFault> {
    match regs::is_aligned(offset, width) && offset < region_bytes {
        true => Ok(()),
        false => Err(AccessFault),
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    #[test]
    fn a_narrow_read_is_the_low_bits_of_one_register() {
        let narrow = read(8, AccessWidth::Word, 16, |offset| {
            0x1234_0000 | offset as u32
        });
        assert_eq!(narrow, Ok(8));
    }

    #[test]
    fn a_wide_access_is_two_lower_first() {
        let wide = read(8, AccessWidth::Qword, 16, |offset| offset as u32);
        assert_eq!(wide, Ok(12 << 32 | 8));
        let mut writes = Vec::new();
        let value = 0x2222_2222_1111_1111;
        write((0, value), AccessWidth::Qword, 16, |at, v| {
            writes.push((at, v))
        })
        .unwrap();
        assert_eq!(writes, vec![(0, 0x1111_1111), (4, 0x2222_2222)]);
    }

    #[test]
    fn what_is_misaligned_or_outside_reaches_no_register() {
        let never = |_| -> u32 { panic!("a register was read") };
        assert_eq!(read(2, AccessWidth::Dword, 16, never), Err(AccessFault));
        assert_eq!(read(16, AccessWidth::Byte, 16, never), Err(AccessFault));
        let never = |_, _| panic!("a register was written");
        assert_eq!(
            write((12, 0), AccessWidth::Qword, 16, never),
            Err(AccessFault)
        );
        assert_eq!(
            write((u64::MAX, 0), AccessWidth::Byte, 16, never),
            Err(AccessFault)
        );
    }
}
