// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Loads and stores whose syndrome does not say what they do.
//!
//! Decoded are pairs, write-back, acquire and release, floating point and SIMD
//! registers: each becomes up to four [`Element`]s of at most eight bytes.
//! Exclusives, atomics, and multiple-structure SIMD are not, because a device
//! cannot answer them: the guest gets its external abort.
//!
//! Spec: Arm Architecture Reference Manual, "Loads and Stores" (A64 encodings).

use axvm::AccessWidth;

use crate::exit::width_of;

/// The most elements: a pair of 128-bit registers.
const ELEMENTS_MAX: usize = 4;
/// Numbers from here on are halves of SIMD registers, low half first.
pub(crate) const SIMD_FIRST: usize = 32;

/// One access of at most eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// 0-30: general register; 31: zero; from [`SIMD_FIRST`] on: half a SIMD register.
    pub(crate) reg: usize,
    /// From the instruction's address.
    pub(crate) offset: u64,
}

/// A base register and what is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteBack {
    /// The register, 31 for the stack pointer.
    pub(crate) base: usize,
    /// What is added to it.
    pub(crate) offset: i64,
}

/// A load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadStore {
    pub(crate) is_store: bool,
    pub(crate) width: AccessWidth,
    pub(crate) is_signed: bool,
    pub(crate) reg_width: AccessWidth,
    elements: [Element; ELEMENTS_MAX],
    len: usize,
    /// The address, from the base register; known for pairs only.
    pub(crate) address: Option<WriteBack>,
    pub(crate) write_back: Option<WriteBack>,
}

impl LoadStore {
    /// Returns the element with this index.
    pub(crate) fn element(&self, index: usize) -> Option<Element> {
        self.elements.iter().take(self.len).nth(index).copied()
    }
}

/// Extracts `len` bits from `first` on.
fn field(word: u32, first: u32, len: u32) -> u32 {
    word.wrapping_shr(first) & 1_u32.wrapping_shl(len).wrapping_sub(1)
}

/// Extracts a signed field.
fn signed(word: u32, first: u32, len: u32) -> i64 {
    let up = 32_u32.wrapping_sub(len);
    i64::from((field(word, first, len).wrapping_shl(up) as i32).wrapping_shr(up))
}

/// Reads an instruction that caused a data abort.
pub(crate) fn decode(word: u32) -> Option<LoadStore> {
    match (field(word, 27, 3), field(word, 24, 2)) {
        (0b111, 0b00 | 0b01) => decode_single(word),
        (0b101, _) => decode_pair(word),
        (0b001, 0b00) if field(word, 26, 1) == 0 => decode_ordered(word),
        (0b011, 0b01) if field(word, 26, 1) == 0 => decode_unscaled_ordered(word),
        _ => None,
    }
}

/// One register: all addressing modes.
fn decode_single(word: u32) -> Option<LoadStore> {
    let is_unsigned_offset = field(word, 24, 1) == 1;
    let is_register_form = field(word, 21, 1) == 1;
    let mode = field(word, 10, 2);
    let write_back = match (is_unsigned_offset, is_register_form, mode) {
        (true, ..) | (false, true, 0b10) | (false, false, 0b00 | 0b10) => None,
        (false, false, _) => Some(WriteBack {
            base: field(word, 5, 5) as usize,
            offset: signed(word, 12, 9),
        }),
        // LDAPR is the one of the atomics that only loads.
        _ if word & 0x3fff_fc00 == 0x38bf_c000 => return Some(plain(word, false)),
        _ => return None,
    };
    let access = match field(word, 26, 1) {
        0 => general(word)?,
        _ => simd(word)?,
    };
    Some(LoadStore {
        write_back,
        ..access
    })
}

/// A general register, by size and opc.
fn general(word: u32) -> Option<LoadStore> {
    let size = field(word, 30, 2);
    let (is_store, is_signed, reg_width) = match (field(word, 22, 2), size) {
        (0b00, _) => (true, false, AccessWidth::Qword),
        (0b01, _) => (false, false, AccessWidth::Qword),
        (0b10, 0..=2) => (false, true, AccessWidth::Qword),
        (0b11, 0..=1) => (false, true, AccessWidth::Dword),
        _ => return None,
    };
    Some(LoadStore {
        is_store,
        is_signed,
        reg_width,
        ..one(width_of(size.into()), field(word, 0, 5) as usize)
    })
}

/// A SIMD register, by size and opc; the upper bit of opc makes it 128 bits.
fn simd(word: u32) -> Option<LoadStore> {
    let size = field(word, 30, 2);
    let is_store = field(word, 22, 1) == 0;
    let log2_bytes = match (field(word, 23, 1), size) {
        (0, size) => size,
        (_, 0) => 4,
        _ => return None,
    };
    let regs = [field(word, 0, 5), 0];
    Some(LoadStore {
        is_store,
        ..simd_elements(log2_bytes, &regs[..1])
    })
}

fn simd_elements(log2_bytes: u32, regs: &[u32]) -> LoadStore {
    let halves = if log2_bytes == 4 { 2 } else { 1 };
    let step = 1_u64.wrapping_shl(log2_bytes.min(3));
    let mut access = one(width_of(u64::from(log2_bytes.min(3))), 0);
    access.len = 0;
    for reg in regs {
        for half in 0..halves {
            let first = SIMD_FIRST.wrapping_add((*reg as usize) << 1);
            access.push(first.wrapping_add(half), step);
        }
    }
    access
}

impl LoadStore {
    fn push(&mut self, reg: usize, step: u64) {
        if let Some(slot) = self.elements.get_mut(self.len) {
            *slot = Element {
                reg,
                offset: step.wrapping_mul(self.len as u64),
            };
            self.len = self.len.saturating_add(1);
        }
    }
}

/// Two registers.
fn decode_pair(word: u32) -> Option<LoadStore> {
    let is_simd = field(word, 26, 1) == 1;
    let is_load = field(word, 22, 1) == 1;
    let regs = [field(word, 0, 5), field(word, 10, 5)];
    let opc = field(word, 30, 2);
    let mut access = match (is_simd, opc) {
        (true, 0..=2) => simd_elements(opc.wrapping_add(2), &regs),
        (false, 0) => general_pair(2, regs),
        (false, 1) if is_load => LoadStore {
            is_signed: true,
            ..general_pair(2, regs)
        },
        (false, 2) => general_pair(3, regs),
        _ => return None,
    };
    access.is_store = !is_load;
    let log2_bytes = if is_simd {
        opc.wrapping_add(2)
    } else {
        2 | opc >> 1
    };
    let scale = 1_i64.wrapping_shl(log2_bytes);
    let target = WriteBack {
        base: field(word, 5, 5) as usize,
        offset: signed(word, 15, 7).wrapping_mul(scale),
    };
    let is_post_indexed = field(word, 23, 2) == 0b01;
    let offset = if is_post_indexed { 0 } else { target.offset };
    access.address = Some(WriteBack { offset, ..target });
    access.write_back = (field(word, 23, 1) == 1).then_some(target);
    Some(access)
}

fn general_pair(log2_bytes: u32, regs: [u32; 2]) -> LoadStore {
    let mut access = one(width_of(log2_bytes.into()), 0);
    access.len = 0;
    for reg in regs {
        access.push(reg as usize, 1_u64.wrapping_shl(log2_bytes));
    }
    access
}

/// LDAR, STLR and their limited-ordering kin; exclusives are no business of devices.
fn decode_ordered(word: u32) -> Option<LoadStore> {
    let is_ordered = field(word, 23, 1) == 1 && field(word, 21, 1) == 0;
    is_ordered.then(|| plain(word, field(word, 22, 1) == 0))
}

/// LDAPUR and STLUR.
fn decode_unscaled_ordered(word: u32) -> Option<LoadStore> {
    let is_unscaled = field(word, 21, 1) == 0 && field(word, 10, 2) == 0;
    is_unscaled.then(|| general(word)).flatten()
}

fn plain(word: u32, is_store: bool) -> LoadStore {
    let width = width_of(field(word, 30, 2).into());
    LoadStore {
        is_store,
        ..one(width, field(word, 0, 5) as usize)
    }
}

/// An unsigned load of one register.
fn one(width: AccessWidth, reg: usize) -> LoadStore {
    let mut elements = [Element::default(); ELEMENTS_MAX];
    elements[0].reg = reg;
    LoadStore {
        is_store: false,
        width,
        is_signed: false,
        reg_width: AccessWidth::Qword,
        elements,
        len: 1,
        address: None,
        write_back: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn elements(access: &LoadStore) -> Vec<(usize, u64)> {
        (0..)
            .map_while(|i| access.element(i))
            .map(|element| (element.reg, element.offset))
            .collect()
    }

    #[test]
    fn pairs_are_two_accesses() {
        // ldp w1, w2, [x3, #8]!
        let access = decode(0x29c1_0861).unwrap();
        assert_eq!(elements(&access), [(1, 0), (2, 4)]);
        assert_eq!((access.is_store, access.width), (false, AccessWidth::Dword));
        assert_eq!(access.write_back, Some(WriteBack { base: 3, offset: 8 }));
        assert_eq!(access.address, access.write_back);
        // stp x4, x5, [sp], #-16
        let access = decode(0xa8bf_17e4).unwrap();
        assert_eq!(elements(&access), [(4, 0), (5, 8)]);
        assert!(access.is_store);
        assert_eq!(
            access.write_back,
            Some(WriteBack {
                base: 31,
                offset: -16
            })
        );
    }

    #[test]
    fn write_back_of_one_register_is_seen() {
        // ldr w0, [x1], #4
        let access = decode(0xb840_4420).unwrap();
        assert_eq!(access.write_back, Some(WriteBack { base: 1, offset: 4 }));
        // strb w2, [x3, #-1]!
        let access = decode(0x381f_fc62).unwrap();
        assert_eq!((access.is_store, access.width), (true, AccessWidth::Byte));
        assert_eq!(
            access.write_back,
            Some(WriteBack {
                base: 3,
                offset: -1
            })
        );
        // ldrsh x0, [x1, x2]
        let access = decode(0x78a2_6820).unwrap();
        assert!(access.is_signed && access.write_back.is_none());
    }

    #[test]
    fn simd_registers_come_in_halves() {
        // str q1, [x0]
        let access = decode(0x3d80_0001).unwrap();
        assert_eq!(elements(&access), [(34, 0), (35, 8)]);
        assert!(access.is_store);
        // ldp q0, q1, [x2]
        let access = decode(0xad40_0440).unwrap();
        assert_eq!(elements(&access), [(32, 0), (33, 8), (34, 16), (35, 24)]);
        // ldr s3, [x0]
        let access = decode(0xbd40_0003).unwrap();
        assert_eq!(elements(&access), [(38, 0)]);
        assert_eq!(access.width, AccessWidth::Dword);
    }

    #[test]
    fn acquire_and_release_are_plain() {
        // ldar w0, [x1]; stlr x0, [x1]; ldapr w0, [x1]
        assert!(!decode(0x88df_fc20).unwrap().is_store);
        assert!(decode(0xc89f_fc20).unwrap().is_store);
        assert!(!decode(0xb8bf_c020).unwrap().is_store);
    }

    #[test]
    fn what_a_device_cannot_answer_is_refused() {
        // ldxr, stxr, ldadd, swp, cas, dc zva, ld1 {v0.16b}
        for word in [
            0xc85f_7c20,
            0xc800_7c20,
            0xb820_0041,
            0xb820_8041,
            0xc8a0_7c41,
            0xd50b_7420,
            0x4c40_7000,
        ] {
            assert_eq!(decode(word), None, "{word:#x}");
        }
    }

    proptest! {
        #[test]
        fn no_instruction_panics_and_all_registers_exist(word: u32) {
            if let Some(access) = decode(word) {
                for i in 0..ELEMENTS_MAX {
                    let reg = access.element(i).map_or(0, |element| element.reg);
                    prop_assert!(reg < SIMD_FIRST + 64);
                }
                prop_assert!(access.element(ELEMENTS_MAX).is_none());
            }
        }
    }
}
