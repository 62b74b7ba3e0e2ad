// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Shifts and rotations of a device's register.
//!
//! A function of a value, a count and the flags, called by `alu`. A count of zero
//! changes no flag; of others the flags that are left undefined are cleared.
//!
//! Spec: AMD64 APM 3, RCL, RCR, ROL, ROR, SAL, SAR, SHR.

use axvm::AccessWidth;

use super::alu::{Flags, show};
use crate::{frame::sign_extend, regs::RFLAGS};

/// Where bits go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    RotateLeft,
    RotateRight,
    RotateLeftByCarry,
    RotateRightByCarry,
    Left,
    Right,
    RightSigned,
}

impl Shift {
    /// Returns the operation that an opcode's field says.
    pub(super) fn of_group(number: u8) -> Self {
        match number & 7 {
            0 => Self::RotateLeft,
            1 => Self::RotateRight,
            2 => Self::RotateLeftByCarry,
            3 => Self::RotateRightByCarry,
            5 => Self::Right,
            7 => Self::RightSigned,
            _ => Self::Left,
        }
    }

    /// Shifts a value of this width by a count, of which its lowest bits matter.
    pub(super) fn compute(
        self,
        flags: &mut Flags,
        width: AccessWidth,
        (value, count): (u64, u64),
    ) -> u64 {
        let bits = (width.size() as u32).wrapping_mul(8);
        let most = if bits == u64::BITS { 63 } else { 31 };
        let count = count as u32 & most;
        if count == 0 {
            return value;
        }
        let carry = flags.is_set(RFLAGS::CARRY);
        let (result, carry) = match self {
            Self::Left | Self::Right | Self::RightSigned => self.shift(value, count, width),
            Self::RotateLeft | Self::RotateRight => {
                let result = self.rotate(value.into(), count, bits);
                let last = if self == Self::RotateLeft {
                    0
                } else {
                    bits.wrapping_sub(1)
                };
                (result as u64, is_set(result, last))
            }
            // The carry is one bit more of what goes round.
            Self::RotateLeftByCarry | Self::RotateRightByCarry => {
                let given = u128::from(carry).wrapping_shl(bits) | u128::from(value);
                let result = self.rotate(given, count, bits.wrapping_add(1));
                (result as u64, is_set(result, bits))
            }
        };
        self.tell(flags, width, (result, carry), count);
        result
    }

    /// Shifts; returns the result and the last bit that went out.
    fn shift(self, value: u64, count: u32, width: AccessWidth) -> (u64, bool) {
        let bits = (width.size() as u32).wrapping_mul(8);
        let signed = match self {
            Self::RightSigned => sign_extend(value, width) as i64,
            _ => value as i64,
        };
        let last = count.wrapping_sub(1);
        match self {
            Self::Left => {
                let wide = u128::from(value).wrapping_shl(count);
                (wide as u64, is_set(wide, bits))
            }
            Self::Right => (value.wrapping_shr(count), is_set(value.into(), last)),
            _ => (
                signed.wrapping_shr(count) as u64,
                is_set(signed as u128, last),
            ),
        }
    }

    /// Rotates so many bits.
    fn rotate(self, value: u128, count: u32, bits: u32) -> u128 {
        let count = count.checked_rem(bits).unwrap_or(0);
        let other = bits.wrapping_sub(count);
        let (left, right) = match self {
            Self::RotateLeft | Self::RotateLeftByCarry => (count, other),
            _ => (other, count),
        };
        let all = 1_u128.wrapping_shl(bits).wrapping_sub(1);
        (value.wrapping_shl(left) | value.wrapping_shr(right)) & all
    }

    /// Sets the flags.
    fn tell(self, flags: &mut Flags, width: AccessWidth, (result, carry): (u64, bool), count: u32) {
        let top = (width.size() as u32).wrapping_mul(8).wrapping_sub(1);
        let is_left = matches!(
            self,
            Self::Left | Self::RotateLeft | Self::RotateLeftByCarry
        );
        let [sign, next] = [top, top.wrapping_sub(1)].map(|bit| is_set(result.into(), bit));
        let overflows = count == 1 && sign != if is_left { carry } else { next };
        flags.modify(
            RFLAGS::CARRY.val(u64::from(carry)) + RFLAGS::OVERFLOW.val(u64::from(overflows)),
        );
        if matches!(self, Self::Left | Self::Right | Self::RightSigned) {
            flags.modify(RFLAGS::ADJUST::CLEAR);
            show(flags, width, result);
        }
    }
}

fn is_set(value: u128, bit: u32) -> bool {
    value.wrapping_shr(bit) & 1 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::regs::bits;

    const CARRY: u64 = 1 << 0;
    const OVERFLOW: u64 = 1 << 11;
    const BYTE: AccessWidth = AccessWidth::Byte;

    /// Returns the result, the carry and the overflow.
    fn shifted(
        shift: Shift,
        width: AccessWidth,
        pair: (u64, u64),
        carry: bool,
    ) -> (u64, bool, bool) {
        let mut flags = bits::<RFLAGS::Register>(u64::from(carry));
        let result = shift.compute(&mut flags, width, pair) & crate::frame::mask(width);
        let flags = flags.get();
        (result, flags & CARRY != 0, flags & OVERFLOW != 0)
    }

    #[test]
    fn one_bit_goes_where_the_manual_says() {
        let by_one = |shift| shifted(shift, BYTE, (0x81, 1), true);
        assert_eq!(by_one(Shift::Left), (0x02, true, true));
        assert_eq!(by_one(Shift::Right), (0x40, true, true));
        assert_eq!(by_one(Shift::RightSigned), (0xc0, true, false));
        assert_eq!(by_one(Shift::RotateLeft), (0x03, true, true));
        assert_eq!(by_one(Shift::RotateRight), (0xc0, true, false));
        assert_eq!(by_one(Shift::RotateLeftByCarry), (0x03, true, true));
        assert_eq!(by_one(Shift::RotateRightByCarry), (0xc0, true, false));
    }

    #[test]
    fn a_count_of_zero_changes_nothing() {
        for shift in (0..8).map(Shift::of_group) {
            let mut flags = bits::<RFLAGS::Register>(u64::MAX);
            assert_eq!(shift.compute(&mut flags, BYTE, (0x81, 32)), 0x81);
            assert_eq!(flags.get(), u64::MAX);
        }
    }

    proptest! {
        #[test]
        fn bits_are_shifted_one_by_one(value: u64, count in 0u64..64, carry: bool, field in 0u8..8) {
            let shift = Shift::of_group(field);
            for width in [BYTE, AccessWidth::Word, AccessWidth::Dword, AccessWidth::Qword] {
                let value = value & crate::frame::mask(width);
                let most = if width == AccessWidth::Qword { 63 } else { 31 };
                let mut step = (value, carry, false);
                for _ in 0..count & most {
                    step = shifted(shift, width, (step.0, 1), step.1);
                }
                let whole = shifted(shift, width, (value, count), carry);
                prop_assert_eq!(whole.0, step.0);
                // A carry of more than all bits is not defined.
                if count & most <= 8 * width.size() as u64 || field < 4 {
                    prop_assert_eq!(whole.1, step.1, "{:?}", shift);
                }
            }
        }
    }
}
