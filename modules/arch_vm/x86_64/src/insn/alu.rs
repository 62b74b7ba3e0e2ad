// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Arithmetic of instructions that compute with a device's register.
//!
//! A function of two values and the flags; the flags that an operation leaves
//! undefined are cleared.
//!
//! Spec: AMD64 APM 3, the instructions' "rFLAGS Affected".

use axvm::AccessWidth;
use tock_registers::LocalRegisterCopy;

use super::shift::Shift;
use crate::{
    frame::mask,
    regs::{RFLAGS, bits},
};

/// An operation on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alu {
    Add,
    Or,
    AddCarry,
    SubtractBorrow,
    And,
    Subtract,
    Xor,
    Compare,
    Test,
    Not,
    Negate,
    Increment,
    Decrement,
    BitTest,
    BitSet,
    BitReset,
    BitComplement,
    Shift(Shift),
}

pub(super) type Flags = LocalRegisterCopy<u64, RFLAGS::Register>;

impl Alu {
    /// Returns the operation that the low three bits of an opcode's field say.
    pub(super) fn of_group(number: u8) -> Self {
        match number & 7 {
            0 => Self::Add,
            1 => Self::Or,
            2 => Self::AddCarry,
            3 => Self::SubtractBorrow,
            4 => Self::And,
            5 => Self::Subtract,
            6 => Self::Xor,
            _ => Self::Compare,
        }
    }

    /// Tells whether the result goes anywhere but into the flags.
    pub(super) fn has_result(self) -> bool {
        !matches!(self, Self::Compare | Self::Test | Self::BitTest)
    }

    /// Tells whether it is of one bit, by its number.
    pub(super) fn is_of_bits(self) -> bool {
        use Alu::{BitComplement, BitReset, BitSet, BitTest};
        matches!(self, BitTest | BitSet | BitReset | BitComplement)
    }

    /// Computes `one` with `other`; returns the result and the flags.
    pub(super) fn compute(
        self,
        (one, other): (u64, u64),
        width: AccessWidth,
        flags: u64,
    ) -> (u64, u64) {
        let mut flags = bits::<RFLAGS::Register>(flags);
        let carry = u64::from(flags.is_set(RFLAGS::CARRY));
        let (one, other) = (one & mask(width), other & mask(width));
        let result = match self {
            Self::Add => add(&mut flags, width, [one, other, 0]),
            Self::AddCarry => add(&mut flags, width, [one, other, carry]),
            Self::Subtract | Self::Compare => subtract(&mut flags, width, [one, other, 0]),
            Self::SubtractBorrow => subtract(&mut flags, width, [one, other, carry]),
            Self::Negate => subtract(&mut flags, width, [0, one, 0]),
            Self::Increment => keep_carry(&mut flags, |f| add(f, width, [one, 1, 0])),
            Self::Decrement => keep_carry(&mut flags, |f| subtract(f, width, [one, 1, 0])),
            Self::Or => logic(&mut flags, width, one | other),
            Self::Xor => logic(&mut flags, width, one ^ other),
            Self::And | Self::Test => logic(&mut flags, width, one & other),
            Self::Not => !one,
            Self::Shift(shift) => shift.compute(&mut flags, width, (one, other)),
            Self::BitTest | Self::BitSet | Self::BitReset | Self::BitComplement => {
                self.bit(&mut flags, one, bit_of(other, width))
            }
        };
        (result & mask(width), flags.get())
    }

    fn bit(self, flags: &mut Flags, value: u64, bit: u64) -> u64 {
        flags.modify(RFLAGS::CARRY.val(u64::from(value & bit != 0)));
        match self {
            Self::BitSet => value | bit,
            Self::BitReset => value & !bit,
            Self::BitComplement => value ^ bit,
            _ => value,
        }
    }
}

/// Returns the bit that an offset means within an operand.
fn bit_of(offset: u64, width: AccessWidth) -> u64 {
    let bits = (width.size() as u64).saturating_mul(8);
    1_u64.wrapping_shl((offset & bits.wrapping_sub(1)) as u32)
}

fn sign_bit(width: AccessWidth) -> u64 {
    mask(width) ^ mask(width) >> 1
}

/// Sets what follows from a result alone.
pub(super) fn show(flags: &mut Flags, width: AccessWidth, result: u64) {
    let result = result & mask(width);
    let is_even = (result as u8).count_ones() & 1 == 0;
    flags.modify(
        RFLAGS::ZERO.val(u64::from(result == 0))
            + RFLAGS::SIGN.val(u64::from(result & sign_bit(width) != 0))
            + RFLAGS::PARITY.val(u64::from(is_even)),
    );
}

fn logic(flags: &mut Flags, width: AccessWidth, result: u64) -> u64 {
    flags.modify(RFLAGS::CARRY::CLEAR + RFLAGS::OVERFLOW::CLEAR + RFLAGS::ADJUST::CLEAR);
    show(flags, width, result);
    result
}

fn add(flags: &mut Flags, width: AccessWidth, [one, other, carry]: [u64; 3]) -> u64 {
    let result = one.wrapping_add(other).wrapping_add(carry);
    // The carry out of each bit.
    let carries = one & other | (one | other) & !result;
    let overflows = (one ^ result) & (other ^ result);
    show_carries(flags, width, carries, overflows);
    show(flags, width, result);
    result
}

fn subtract(flags: &mut Flags, width: AccessWidth, [one, other, borrow]: [u64; 3]) -> u64 {
    let result = one.wrapping_sub(other).wrapping_sub(borrow);
    // The borrow into each bit's left neighbour.
    let borrows = !one & other | (!one | other) & result;
    let overflows = (one ^ other) & (one ^ result);
    show_carries(flags, width, borrows, overflows);
    show(flags, width, result);
    result
}

fn show_carries(flags: &mut Flags, width: AccessWidth, carries: u64, overflows: u64) {
    const LOW_DIGIT: u64 = 1 << 3;
    flags.modify(
        RFLAGS::CARRY.val(u64::from(carries & sign_bit(width) != 0))
            + RFLAGS::ADJUST.val(u64::from(carries & LOW_DIGIT != 0))
            + RFLAGS::OVERFLOW.val(u64::from(overflows & sign_bit(width) != 0)),
    );
}

fn keep_carry(flags: &mut Flags, compute: impl FnOnce(&mut Flags) -> u64) -> u64 {
    let carry = u64::from(flags.is_set(RFLAGS::CARRY));
    let result = compute(flags);
    flags.modify(RFLAGS::CARRY.val(carry));
    result
}
